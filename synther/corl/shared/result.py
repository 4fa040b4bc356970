"""The outcome of an offline run: scores, ``result.json``, and the one line at the end."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synther.corl.shared.config import RunConfig
from synther.envs import normalized_score, reference_scores
from synther.learning.journal import Evaluation
from synther.runs.settings import as_dict


def evaluation_of(returns: NDArray[np.float64], env_id: str | None) -> Evaluation:
    """The record, metrics and summary of an evaluation, as the loop keeps them.

    Args:
        returns: undiscounted ``[S, episodes]``.
        env_id: of the reference scores; None for none, as of an environment that was changed by
            arguments.

    Returns:
        ``return``, the mean over episodes, ``return_std``, and, where the environment has reference
        scores, ``score``: lists of S numbers.
    """
    means = returns.mean(axis=1)
    record: dict[str, Any] = {"return": means.tolist(), "return_std": returns.std(axis=1).tolist()}
    if env_id is not None and reference_scores(env_id) is not None:
        record["score"] = normalized_score(env_id, means).tolist()
    key = "score" if "score" in record else "return"
    metrics = {f"eval_{name}": np.asarray(values) for name, values in record.items()}
    return Evaluation(record, metrics, f"{key} {np.mean(record[key]):.1f}")


def result_of(
    config: RunConfig, env_id: str, evaluations: Sequence[dict[str, Any]], seconds: float
) -> dict[str, Any]:
    """The content of ``result.json``.

    Returns:
        ``name env eval_env seeds steps seconds config``; per seed ``last_return best_return`` and,
        with reference scores, ``last_score best_score`` (else None); ``mean`` and
        ``standard_error`` over seeds of the last score (of the last return without reference
        scores; the error is None for one seed).
    """
    scored = "score" in evaluations[-1]
    result: dict[str, Any] = {
        "name": config.name,
        "env": config.env,
        "eval_env": env_id,
        "seeds": config.seeds,
        "steps": evaluations[-1]["step"],
        "seconds": round(seconds, 1),
    }
    for key in ("score", "return"):
        curves = [each[key] for each in evaluations] if key == "return" or scored else None
        result[f"last_{key}"] = None if curves is None else curves[-1]
        result[f"best_{key}"] = None if curves is None else np.max(curves, axis=0).tolist()
    last = np.asarray(result["last_score"] if scored else result["last_return"])
    several = len(last) > 1
    result["mean"] = float(last.mean())
    result["standard_error"] = float(last.std(ddof=1) / math.sqrt(len(last))) if several else None
    result["config"] = as_dict(config)
    return result


def summary(result: dict[str, Any]) -> str:
    """The result in one line."""
    key = "return" if result["last_score"] is None else "score"
    error = result["standard_error"]
    spread = "" if error is None else f" +- {error:.1f} (s.e., {len(result['seeds'])} seeds)"
    config = result["config"]
    source = config["diffusion.path"] or "the data set"
    if mix := config["diffusion.mix"]:
        source = "the data set" if mix == 1 else f"{source} and {mix:g} of the data set"
    episodes = config["n_episodes"]
    return (
        f"{result['name']} on {result['eval_env']}, trained on {source} ({result['env']}): "
        f"{key} {result['mean']:.1f}{spread}, best {np.mean(result[f'best_{key}']):.1f}; "
        f"{episodes} episodes, {result['steps']} updates, {result['seconds']:.0f} s"
    )
