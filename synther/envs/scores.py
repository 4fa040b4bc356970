"""D4RL's normalised score is 0 for a random policy and 100 for the reference expert.

The reference returns are those of ``d4rl/infos.py`` (d4rl 1.1), kept by environment: every data set
of an environment has the same two.
"""

from __future__ import annotations

import functools
import json
from importlib import resources

import numpy as np
from numpy.typing import ArrayLike, NDArray

from synther.envs.names import env_id_of


@functools.cache
def _table() -> dict[str, tuple[float, float]]:
    text = resources.files("synther.envs").joinpath("reference_scores.json").read_text("utf-8")
    return {env_id: (low, high) for env_id, (low, high) in json.loads(text).items()}


def reference_scores(name: str) -> tuple[float, float] | None:
    """Returns of the random and of the expert reference policy; None where D4RL has none.

    Args:
        name: a D4RL data set (``hopper-medium-v2``) or an environment (``Hopper-v2``).
    """
    return _table().get(env_id_of(name))


def normalized_score(name: str, returns: ArrayLike) -> NDArray[np.float64]:
    """``100 * (return - min) / (max - min)``, in the shape of ``returns``.

    Raises:
        ValueError: no reference scores for this name.
    """
    scores = reference_scores(name)
    if scores is None:
        raise ValueError(
            f"'{name}' has no reference scores; there are some for {', '.join(_table())} and their "
            "D4RL data sets"
        )
    low, high = scores
    return 100 * (np.asarray(returns, np.float64) - low) / (high - low)
