"""The mazes of D4RL share their cells, a goal, and the circle around it that counts."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from synther.envs.mujoco210 import MuJoCo210
from synther.envs.simulators import require

GOAL_RADIUS = 0.5
"""D4RL's; gymnasium-robotics has 0.45."""


class GoalMaze(MuJoCo210):
    """A ``MujocoEnv`` that observes its whole state and has a goal in the plane.

    Args:
        layout: rows of ``#`` wall, ``.`` free, ``S`` start and ``G`` goal cells.
        model_path: the model without walls.
        frame_skip: simulation steps for each environment step.
        render_fps: environment steps in a second.
        observation_dim: O, positions and velocities together.
    """

    hidden_positions = 0  # of the state, in an observation; see states.py

    def __init__(
        self,
        layout: tuple[str, ...],
        model_path: str,
        frame_skip: int,
        render_fps: int,
        observation_dim: int,
        **kwargs: Any,
    ) -> None:
        self.layout = layout
        modes = ["human", "rgb_array", "depth_array"]
        self.metadata = {"render_modes": modes, "render_fps": render_fps}
        self.target: NDArray[np.float64] = np.zeros(2)
        space = require("gymnasium.spaces").Box(-np.inf, np.inf, (observation_dim,), np.float64)
        super().__init__(model_path, frame_skip, observation_space=space, **kwargs)

    def cells(self, kinds: str) -> list[tuple[int, int]]:
        """(row, column) of the cells of these kinds."""
        return [
            (row, column)
            for row, line in enumerate(self.layout)
            for column, kind in enumerate(line)
            if kind in kinds
        ]

    def set_target(self, position: ArrayLike) -> None:
        """Move the goal to ``position`` (x, y), in the coordinates of the observation."""
        target = np.array(position, np.float64)
        if target.shape != (2,) or not np.isfinite(target).all():
            raise ValueError(f"a target is two finite numbers (x, y), not {position!r}")
        self.target = target

    def distance_to_target(self) -> float:
        return float(np.linalg.norm(self.data.qpos[:2] - self.target))

    def _get_obs(self) -> NDArray[np.float64]:
        return np.concatenate([self.data.qpos, self.data.qvel])
