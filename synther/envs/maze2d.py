"""In D4RL's ``maze2d-{umaze,medium,large}[-dense]-v1`` a ball is pushed through a maze to a goal.

Observation ``[x, y, vx, vy]`` in cells (and cells a second), action a force in x and y. x counts
the rows of the layout and y its columns. Reward 1 within 0.5 of the goal, else 0; ``-dense``:
``exp(-distance)``. The task continues at the goal: an episode only ends by its time limit.

Speeds are clipped to 5 before each step of 0.01 s. A reset puts the ball in a random free cell (the
goal's among them), +-0.1, with velocities from N(0, 0.1^2). As in D4RL the walls stand 0.2 off the
grid that resets and goals lie on.

Measured against the real ones: one step from each of 200 recorded states of all six (mujoco 3.17,
``tests/envs/test_maze2d.py``). Largest error 1e-14, rewards and terminals equal; some 60 of the
1200 rows touch a wall.
"""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from synther.envs.mazes import GOAL_RADIUS, GoalMaze
from synther.envs.mujoco210 import on_base
from synther.envs.simulators import require

if TYPE_CHECKING:
    import gymnasium

LAYOUTS = {
    "umaze": (
        "#####",
        "#G..#",
        "###.#",
        "#...#",
        "#####",
    ),
    "medium": (
        "########",
        "#..##..#",
        "#..#...#",
        "##...###",
        "#..#...#",
        "#.#..#.#",
        "#...#.G#",
        "########",
    ),
    "large": (
        "############",
        "#....#.....#",
        "#.##.#.#.#.#",
        "#......#...#",
        "#.####.###.#",
        "#..#.#.....#",
        "##.#.#.#.###",
        "#..#...#.G.#",
        "############",
    ),
}
_STEPS = {"umaze": 300, "medium": 600, "large": 800}
MAX_EPISODE_STEPS = {
    f"maze2d-{size}{reward}-v1": steps
    for size, steps in _STEPS.items()
    for reward in ("", "-dense")
}
MAX_SPEED = 5.0


def make_maze2d(env_id: str, **kwargs: Any) -> gymnasium.Env[Any, Any]:
    """One of the keys of ``MAX_EPISODE_STEPS``, without time limit, observations float64."""
    base = require("gymnasium.envs.mujoco").MujocoEnv
    size = env_id.split("-")[1]
    return on_base(PointMaze, base)(LAYOUTS[size], dense="-dense" in env_id, **kwargs)


class PointMaze(GoalMaze):
    """The methods of a maze2d environment; ``make_maze2d`` adds a ``MujocoEnv``."""

    def __init__(self, layout: tuple[str, ...], dense: bool, **kwargs: Any) -> None:
        self._dense = dense
        model = resources.files("synther.envs").joinpath("assets", "point.xml")
        super().__init__(
            layout, str(model), frame_skip=1, render_fps=100, observation_dim=4, **kwargs
        )
        self.set_target(self.cells("G")[0])

    def _model_spec(self) -> Any:
        spec = super()._model_spec()
        box = require("mujoco").mjtGeom.mjGEOM_BOX
        for row, column in self.cells("#"):
            spec.worldbody.add_geom(
                type=box,
                pos=[row + 1, column + 1, 0],
                size=[0.5, 0.5, 0.2],
                rgba=[0.7, 0.5, 0.3, 1],
            )
        return spec

    def set_target(self, position: Any) -> None:
        super().set_target(position)
        self.model.site("target").pos[:2] = self.target + self.model.body("point").pos[:2]

    def step(
        self, action: NDArray[Any]
    ) -> tuple[NDArray[np.float64], Any, bool, bool, dict[str, Any]]:
        self.set_state(self.data.qpos, np.clip(self.data.qvel, -MAX_SPEED, MAX_SPEED))
        self.do_simulation(np.clip(action, -1, 1), self.frame_skip)
        distance = self.distance_to_target()
        success = distance <= GOAL_RADIUS
        reward = float(np.exp(-distance)) if self._dense else float(success)
        if self.render_mode == "human":
            self.render()
        return self._get_obs(), reward, False, False, {"success": success}

    def reset_model(self) -> NDArray[np.float64]:
        cells = self.cells(".G")
        cell = np.array(cells[self.np_random.integers(len(cells))])
        qpos = cell + self.np_random.uniform(-0.1, 0.1, 2)
        self.set_state(qpos, 0.1 * self.np_random.standard_normal(2))
        return self._get_obs()
