"""A scripted controller drives the ball of maze2d through the free cells to one target after the
other, as the behaviour of D4RL's maze2d data sets did.

D4RL plans with value iteration over the cells and steers with a spring to the next waypoint and a
damper on the velocity (Fu et al. 2020, arXiv 2004.07219, section 5; its code has gains 10 and 1).
Targets are drawn at random and have nothing to do with the goal of the environment, whose reward
the data carry: what is to be learnt is to stitch pieces of ways together.
"""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

from synther.envs.maze2d import LAYOUTS

SPRING, DAMPER = 10.0, 1.0
REACHED = 0.5
"""The distance, in cells, at which a target is reached and the next one drawn."""
WAYPOINT_REACHED = 0.25
Cell = tuple[int, int]


class MazeController:
    """The policy of one episode: ``[x, y, vx, vy]`` -> a force ``[2]``, not yet clipped.

    Args:
        env_id: such as ``maze2d-umaze-v1``, whose layout the way is planned in.
        rng: of targets and noise.
        noise: standard deviation of Gaussian noise on each force (D4RL's data: 0.5).
    """

    def __init__(self, env_id: str, rng: np.random.Generator, noise: float = 0.5) -> None:
        layout = LAYOUTS[env_id.split("-")[1]]
        self._free = [
            (row, column)
            for row, line in enumerate(layout)
            for column, kind in enumerate(line)
            if kind != "#"
        ]
        self._rng, self._noise = rng, noise
        self._draw_target()

    def __call__(self, observation: NDArray[np.float32]) -> NDArray[np.float64]:
        position, velocity = observation[:2].astype(np.float64), observation[2:]
        if np.linalg.norm(position - self._target) < REACHED:
            self._draw_target()
        force = SPRING * (self._waypoint(position) - position) - DAMPER * velocity
        return np.asarray(force + self._noise * self._rng.standard_normal(2))

    def _draw_target(self) -> None:
        self._target = self._free[self._rng.integers(len(self._free))]
        self._distances = self._steps_to(self._target)

    def _waypoint(self, position: NDArray[np.float64]) -> NDArray[np.float64]:
        """The cell to steer to: the next one of the shortest way, or the present one while the ball
        is too far off its middle to turn the corner."""
        x, y = position.tolist()
        here = min(self._free, key=lambda cell: (x - cell[0]) ** 2 + (y - cell[1]) ** 2)
        near = [cell for cell in neighbours(here) if cell in self._distances]
        ahead = min([here, *near], key=lambda cell: self._distances[cell])
        off = np.abs(position - here)
        across = off[1] if ahead[0] != here[0] else off[0]
        return np.array(here if ahead != here and across > WAYPOINT_REACHED else ahead, float)

    def _steps_to(self, target: Cell) -> dict[Cell, int]:
        """Steps from each free cell to ``target``, breadth first."""
        found, waiting = {target: 0}, deque([target])
        while waiting:
            cell = waiting.popleft()
            for near in neighbours(cell):
                if near in self._free and near not in found:
                    found[near] = found[cell] + 1
                    waiting.append(near)
        return found


def neighbours(cell: Cell) -> list[Cell]:
    """The four cells beside a cell."""
    row, column = cell
    return [(row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)]
