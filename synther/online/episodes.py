"""The environment that an online run learns in, and where the run stands in its episode."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from synther.action_bounds import ActionBounds
from synther.datasets.episodes import episode_ends
from synther.envs import make_env
from synther.envs.faults import checked_observation, checked_step
from synther.envs.snapshots import Snapshots
from synther.learning.learner import Dims
from synther.learning.replay import RowBuffer
from synther.transitions import Transitions


class Episodes:
    """Plays one episode after the other in an environment of its own.

    Args:
        env_name: of the environment.
        max_ep_len: steps of an episode at most; the environment's own limit where that is lower.
        env_kwargs: arguments of the environment.
    """

    def __init__(self, env_name: str, max_ep_len: int, **env_kwargs: Any) -> None:
        self.env_name, self.env = env_name, make_env(env_name, **env_kwargs)
        self.env_kwargs = env_kwargs
        self.snapshots = Snapshots(self.env)
        assert self.env.observation_space.shape  # make_env hands out vectors only
        assert self.env.action_space.shape
        self.dims = Dims(self.env.observation_space.shape[0], self.env.action_space.shape[0])
        limit = self.env.spec.max_episode_steps if self.env.spec else None
        self.max_ep_len = min(max_ep_len, limit or max_ep_len)
        self.observation: NDArray[np.float32]
        self.episode_return: float
        self.episode_length: int
        self.finished: dict[str, list[float]] = {"EpRet": [], "EpLen": []}
        """Returns and lengths of the episodes that ended since :meth:`take_finished`."""
        self._environment: dict[str, Any] | None = None  # where it was put back
        self._steps = 0  # of all episodes
        self._cut_off: list[int] = []  # those of them after which an episode was cut off

    def begin(self, seed: int | None) -> None:
        """A fresh episode; without a seed, the next of the environment's own stream."""
        self.observation = checked_observation(
            self.env, self.env.reset(seed=seed)[0], f"the start of an episode, after {self._steps} "
            "steps"
        )  # fmt: skip
        self.episode_return, self.episode_length = 0.0, 0

    def step(self, action: NDArray[np.float32]) -> tuple[NDArray[np.float32], bool]:
        """One step of the environment.

        Returns:
            The transition as a row, and whether the episode ended with it, so that the next has to
            begin.

        Raises:
            EnvironmentFaultError: the environment gave something that is not finite, or no number.
        """
        before, when = self.observation, f"step {self._steps + 1}"
        self.observation, reward, terminated, truncated = checked_step(
            self.env, self.env.step(action), when
        )
        # A `done` that is only the time limit says nothing of the state: it is stored as 0.
        row = np.concatenate([before, action, [reward], self.observation, [terminated]])
        self.episode_return += reward
        self.episode_length += 1
        self._steps += 1
        ended = terminated or truncated or self.episode_length >= self.max_ep_len
        if ended:
            self.finished["EpRet"].append(self.episode_return)
            self.finished["EpLen"].append(float(self.episode_length))
            if not terminated:
                self.lose()
        return row.astype(np.float32), ended

    def lose(self) -> None:
        """The episode goes no further than the last step, without a true end."""
        if self._steps:
            self._cut_off.append(self._steps - 1)

    def cut_off(self, last: int) -> NDArray[np.bool_]:
        """``[last]``, after which of the last steps an episode was cut off."""
        steps = np.array(self._cut_off, np.int64) - (self._steps - last)
        cut_off = np.zeros(last, np.bool_)
        cut_off[steps[steps >= 0]] = True
        return cut_off

    def transitions(self, replay: RowBuffer) -> tuple[Transitions, NDArray[np.bool_]]:
        """The last steps, which ``replay`` holds, oldest first, and after which of them an episode
        was cut off."""
        rows = replay.gather_rows(self.stored_at(replay)).cpu().numpy()
        # In the units of make_env, whatever those of the environment are.
        units = ActionBounds.unit(replay.layout.action_dim).to_plain()
        described: dict[str, Any] = {"env_id": self.env_name, **units}
        if self.env_kwargs:
            described["env_kwargs"] = self.env_kwargs
        transitions = replay.layout.unpack(rows, metadata=described)
        # What a checkpoint of an earlier version did not store, the rows mostly tell.
        ended = episode_ends(transitions)
        ended[-1:] = self.episode_length == 0
        timeouts = (ended | self.cut_off(len(rows))) & (transitions.terminals == 0)
        return replace(transitions, timeouts=timeouts), timeouts

    def stored_at(self, replay: RowBuffer) -> Tensor:
        """Where ``replay`` holds the last steps, oldest first, ``[size]``."""
        order = torch.arange(self._steps - len(replay), self._steps, device=replay.device)
        return order % replay.capacity

    def take_finished(self) -> dict[str, list[float]]:
        """``EpRet`` and ``EpLen`` of the episodes that ended since the last call."""
        finished, self.finished = self.finished, {"EpRet": [], "EpLen": []}
        return finished

    def state_dict(self) -> dict[str, Any]:
        """The place in the episode; ``environment`` is None for one that cannot be saved."""
        return {
            "episode_return": self.episode_return,
            "episode_length": self.episode_length,
            "finished": self.finished,
            "cut_off": torch.tensor(self._cut_off, dtype=torch.int64),
            "observation": torch.from_numpy(self.observation.copy()),
            "environment": self.snapshots.take(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there, after ``step`` steps. An environment that could not be saved has to
        begin an episode next."""
        self.finished, self._steps = state["finished"], state["step"]
        # A checkpoint of an earlier version does not know.
        self._cut_off = [int(step) for step in state.get("cut_off", ())]
        self._environment = state["environment"]
        if state["environment"] is not None:
            self.snapshots.put_back(state["environment"])
            self.observation = state["observation"].numpy()
            self.episode_return = state["episode_return"]
            self.episode_length = state["episode_length"]

    def go_on(self) -> None:
        """To be called before the first step, when all other environments have been made: what they
        drew from generators that they share with this one is undone."""
        if self._environment is not None:
            self.snapshots.put_back_shared(self._environment)
            self._environment = None

    def close(self) -> None:
        self.env.close()
