"""Episodes of a behaviour are recorded as transitions, which say how good the behaviour was."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synther.action_bounds import ActionBounds
from synther.datasets.digest import hash_of
from synther.datasets.episodes import episode_returns
from synther.envs import make_env, normalized_score, reference_scores
from synther.envs.evaluation import episode_seed
from synther.envs.faults import checked_observation, checked_step
from synther.runs.loggers import progress_bar
from synther.transitions import FIELDS, Transitions

Policy = Callable[[NDArray[np.float32]], NDArray[Any]]
"""An observation ``[O]`` -> an action ``[A]``, which is clipped to [-1, 1]."""
Behaviour = Callable[[np.random.Generator], Policy]
"""The policy of one episode, out of the random numbers of that episode."""


def record_episodes(
    env_name: str,
    behaviour: Behaviour,
    *,
    rows: int,
    seed: int,
    max_episode_steps: int | None = None,
    env_kwargs: Mapping[str, Any] | None = None,
) -> Transitions:
    """Play whole episodes until they have ``rows`` steps or more.

    An episode depends on ``seed`` and its own number alone. ``timeouts`` are set where the time
    limit cut an episode off; metadata hold ``env_id``, and ``env_kwargs`` where there are any.

    Args:
        env_name: of ``make_env``; an environment without a time limit might never end an episode.
        behaviour: gives each episode its policy.
        rows: 1 or more.
        seed: 0 or more.
        max_episode_steps: the time limit; None for the environment's own.
        env_kwargs: arguments of the environment.

    Raises:
        EnvironmentFaultError: the environment gave something that is not finite.
    """
    given = dict(env_kwargs or {})
    columns: dict[str, list[Any]] = {name: [] for name in (*FIELDS, "timeouts")}
    done = 0
    with (
        contextlib.closing(make_env(env_name, max_episode_steps=max_episode_steps, **given)) as env,
        progress_bar(rows, f"{env_name}, recording", unit="row") as bar,
    ):
        episode = 0
        while done < rows:
            begun = done
            policy = behaviour(np.random.default_rng([seed, episode]))
            observation = checked_observation(
                env, env.reset(seed=episode_seed(seed, episode))[0], "the start of an episode"
            )
            ended = False
            while not ended:
                action = np.clip(policy(observation), -1, 1).astype(np.float32)
                following, reward, terminated, truncated = checked_step(
                    env, env.step(action), f"step {done + 1}"
                )
                ended = terminated or truncated
                step = (observation, action, reward, following, terminated, truncated)
                for column, value in zip(columns.values(), step, strict=True):
                    column.append(value)
                observation, done = following, done + 1
            episode += 1
            bar.update(done - begun)
    arrays = {name: np.asarray(column, np.float32) for name, column in columns.items()}
    # In the units of make_env, whatever those of the environment are.
    units = ActionBounds.unit(arrays["actions"].shape[1]).to_plain()
    described = {"env_id": env_name, **({"env_kwargs": given} if given else {}), **units}
    return Transitions.from_arrays(arrays, metadata=described, source=env_name)


def behaviour_of(transitions: Transitions) -> dict[str, Any]:
    """The number of whole episodes in the data, their returns, and D4RL's score of the mean return
    where the environment has reference scores: what an agent's score is to be read beside.

    Raises:
        TransitionError: rows that do not lie in the order of their episodes.
    """
    returns = episode_returns(transitions)
    if not len(returns):
        return {"episodes": 0}
    summary = {
        "mean": returns.mean(),
        "std": returns.std(),
        "min": returns.min(),
        "max": returns.max(),
    }
    found: dict[str, Any] = {
        "episodes": len(returns),
        "episode_return": {name: round(float(value), 2) for name, value in summary.items()},
    }
    env_id = str(transitions.metadata.get("env_id"))
    if reference_scores(env_id) is not None:
        found["score"] = round(float(normalized_score(env_id, returns.mean())), 2)
    return found


def content_hash(transitions: Transitions) -> str:
    """SHA-256 over the names, shapes and bytes of the arrays: equal where the rows are."""
    arrays: dict[str, NDArray[Any]] = dict(transitions.arrays())
    if transitions.timeouts is not None:
        arrays["timeouts"] = transitions.timeouts
    return hash_of(arrays)
