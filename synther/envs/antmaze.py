"""In D4RL's ``antmaze-{umaze,medium-play,large-play}-v2`` an ant walks through a maze to a goal.

Observation: the 15 positions and 14 velocities of the ant (no goal, no contact forces). Actions in
[-1, 1] become torques of up to 30 at the joints. A step is 0.1 s. Reward 1 within 0.5 of the goal,
which ends the episode, else 0.

Cells are 4 wide; the start cell lies at the origin, x counts columns and y rows. Every reset draws
a new goal in its cell (up to 1.5 above the centre in x and in y, as the sum of two uniform
numbers), and puts the ant at the start with noise of +-0.1 on positions and N(0, 0.1^2) on
velocities.

D4RL's ant is gym's with other contact impedance, no gear at its motors, and twice the time step;
capsules have the inertia of MuJoCo 2.1 (``mujoco210.py``).

Measured against the real ones: one step from each of 200 recorded states of all three (mujoco 3.17,
``tests/envs/test_antmaze.py``). Largest error 4e-15, rewards and terminals equal; five of the rows
touch a wall, none reaches the goal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from synther.envs.mazes import GOAL_RADIUS, GoalMaze
from synther.envs.mujoco210 import on_base
from synther.envs.simulators import require

if TYPE_CHECKING:
    import gymnasium

LAYOUTS = {
    "antmaze-umaze-v2": (
        "#####",
        "#S..#",
        "###.#",
        "#G..#",
        "#####",
    ),
    "antmaze-medium-play-v2": (
        "########",
        "#S.##..#",
        "#..#...#",
        "##...###",
        "#..#...#",
        "#.#..#.#",
        "#...#.G#",
        "########",
    ),
    "antmaze-large-play-v2": (
        "############",
        "#S...#.....#",
        "#.##.#.#.#.#",
        "#......#...#",
        "#.####.###.#",
        "#..#.#.....#",
        "##.#.#.#.###",
        "#..#...#.G.#",
        "############",
    ),
}
MAX_EPISODE_STEPS = {
    "antmaze-umaze-v2": 700,
    "antmaze-medium-play-v2": 1000,
    "antmaze-large-play-v2": 1000,
}
CELL = 4.0
MAX_TORQUE = 30.0


def make_antmaze(env_id: str, **kwargs: Any) -> gymnasium.Env[Any, Any]:
    """One of the keys of ``LAYOUTS``, without time limit, observations float64."""
    base = require("gymnasium.envs.mujoco").MujocoEnv
    return on_base(AntMaze, base)(LAYOUTS[env_id], **kwargs)


class AntMaze(GoalMaze):
    """The methods of an antmaze environment; ``make_antmaze`` adds a ``MujocoEnv``."""

    def __init__(self, layout: tuple[str, ...], **kwargs: Any) -> None:
        super().__init__(
            layout, "ant.xml", frame_skip=5, render_fps=10, observation_dim=29, **kwargs
        )
        self.set_target(self._position(self.cells("G")[0]))

    def _position(self, cell: tuple[int, int]) -> NDArray[np.float64]:
        """(row, column) -> (x, y) of its centre."""
        return CELL * (np.array(cell) - self.cells("S")[0])[::-1]

    def _model_spec(self) -> Any:
        spec = super()._model_spec()
        spec.option.timestep = 0.02
        for motor in spec.actuators:
            motor.gear[0] = 1
            motor.ctrlrange = [-MAX_TORQUE, MAX_TORQUE]
        box = require("mujoco").mjtGeom.mjGEOM_BOX
        for cell in self.cells("#"):
            spec.worldbody.add_geom(
                type=box,
                pos=[*self._position(cell), CELL / 4],
                size=[CELL / 2, CELL / 2, CELL / 4],
                conaffinity=1,
                rgba=[0.7, 0.5, 0.3, 1],
            )
        for geom in spec.geoms:
            geom.solimp[:3] = [0.8, 0.8, 0.01]
        return spec

    def _set_action_space(self) -> Any:
        self.action_space = require("gymnasium.spaces").Box(-1, 1, (self.model.nu,), np.float32)
        return self.action_space

    def step(
        self, action: NDArray[Any]
    ) -> tuple[NDArray[np.float64], Any, bool, bool, dict[str, Any]]:
        unit = (np.clip(np.asarray(action, np.float32), -1, 1) + 1) / 2  # in float32, as D4RL does
        self.do_simulation(unit * (2 * MAX_TORQUE) - MAX_TORQUE, self.frame_skip)
        success = self.distance_to_target() <= GOAL_RADIUS
        if self.render_mode == "human":
            self.render()
        return self._get_obs(), float(success), success, False, {"success": success}

    def reset_model(self) -> NDArray[np.float64]:
        offset = self.np_random.uniform(0, CELL / 4, 2) + self.np_random.uniform(0, CELL / 8, 2)
        self.set_target(np.maximum(self._position(self.cells("G")[0]) + offset, 0))
        self.set_state(
            self.init_qpos + self.np_random.uniform(-0.1, 0.1, self.model.nq),
            self.init_qvel + 0.1 * self.np_random.standard_normal(self.model.nv),
        )
        return self._get_obs()
