"""A replay buffer of Stable-Baselines3 that holds synthetic rows beside the real ones."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from synther.action_bounds import ActionBounds
from synther.datasets import in_action_bounds
from synther.ranges import Count, Seed, Share, checked
from synther.transitions import TransitionError, Transitions
from synther.upsampling import Upsampler

if TYPE_CHECKING:
    from stable_baselines3.common.buffers import ReplayBuffer
    from stable_baselines3.common.type_aliases import ReplayBufferSamples
    from stable_baselines3.common.vec_env import VecNormalize
else:
    try:
        from stable_baselines3.common.buffers import ReplayBuffer
        from stable_baselines3.common.type_aliases import ReplayBufferSamples
    except ImportError:
        from synther.integrations.missing import MissingStableBaselines3

        ReplayBuffer = MissingStableBaselines3


def _in_unit_actions(transitions: Transitions) -> Transitions:
    if transitions.action_bounds is not None:
        return in_action_bounds(transitions, -1.0, 1.0)
    beyond = np.flatnonzero(ActionBounds.unit(transitions.action_dim).outside(transitions.actions))
    if len(beyond):
        raise TransitionError(
            f"{transitions.source}: the actions of row {beyond[0]} leave the buffer's [-1, 1]; say "
            "their units with synther.datasets.with_action_bounds(transitions, low=..., high=...)"
        )
    return transitions


def by_environment(buffer: ReplayBuffer, rows: Transitions) -> Transitions:
    """The rows of a buffer of several environments, which take turns in it, as the steps of one
    environment after those of another: only so do they lie in the order of their episodes."""
    steps = len(rows) // buffer.n_envs
    stored = (buffer.pos - steps + np.arange(steps)) % buffer.buffer_size  # the oldest first
    ends = buffer.dones[stored] > 0
    ends[-1:] = True  # what follows there is of another environment
    order = np.arange(len(rows)).reshape(steps, buffer.n_envs).T.reshape(-1)
    return replace(rows.subset(order), timeouts=ends.T.reshape(-1))


class SynthERReplayBuffer(ReplayBuffer):
    """A replay buffer that adds synthetic rows to its batches.

    Synthetic rows are kept as the real ones are: actions in [-1, 1], observations and rewards as
    they were before ``VecNormalize``, which works on both kinds when a batch is drawn. They come
    from a random generator of their own: with a ratio of 0, and before the first :meth:`fill`,
    training gives the very numbers of a plain ``ReplayBuffer``.

    Args:
        buffer_size: this and every further argument up to ``handle_timeout_termination`` are as the
            plain buffer has them; Stable-Baselines3 sets them.
        synthetic_ratio: share of synthetic rows in a batch, from 0 to 1.
        seed: of the drawing of synthetic rows.

    Attributes:
        upsampler: the diffusion model that the rows are from, if a ``SynthERCallback`` filled in.

    Raises:
        ValueError: observations or actions that are not vectors of floats, or another ratio.
    """

    _has_callback = False
    _was_sampled = False

    @checked
    def __init__(
        self,
        buffer_size: Count,
        observation_space: Any,
        action_space: Any,
        device: torch.device | str = "auto",
        n_envs: Count = 1,
        optimize_memory_usage: bool = False,
        handle_timeout_termination: bool = True,
        *,
        synthetic_ratio: Share = 0.5,
        seed: Seed = 0,
    ) -> None:
        for kind, space in (("observation", observation_space), ("action", action_space)):
            shape, dtype = getattr(space, "shape", None), getattr(space, "dtype", None)
            if shape is None or len(shape) != 1 or np.dtype(dtype).kind != "f":
                raise ValueError(
                    f"SynthERReplayBuffer: the {kind} space is {space}, expected a flat Box of "
                    "floats"
                )
        super().__init__(
            buffer_size,
            observation_space,
            action_space,
            device,
            n_envs,
            optimize_memory_usage,
            handle_timeout_termination,
        )
        self.synthetic_ratio = synthetic_ratio
        self.upsampler: Upsampler | None = None
        self._synthetic: dict[str, NDArray[Any]] = {}
        self._random = np.random.default_rng(seed)
        self._added = 0  # steps of each environment

    @property
    def synthetic_rows(self) -> int:
        """The number of synthetic rows that there are to draw from."""
        return len(self._synthetic["rewards"]) if self._synthetic else 0

    def add(
        self,
        obs: NDArray[Any],
        next_obs: NDArray[Any],
        action: NDArray[Any],
        reward: NDArray[Any],
        done: NDArray[Any],
        infos: list[dict[str, Any]],
    ) -> None:
        """Store a step of each environment.

        Raises:
            ValueError: an observation or a reward that is not finite: one of them spoils the agent
                and every diffusion model.
        """
        for name, given in (("observation", obs), ("reward", reward), ("observation", next_obs)):
            with np.errstate(over="ignore"):
                finite = np.isfinite(np.asarray(given, np.float32))
            if not finite.all():
                value = np.asarray(given)[~finite][0]
                raise ValueError(
                    f"SynthERReplayBuffer: step {self._added + 1}: an environment gave "
                    f"{'an' if name == 'observation' else 'a'} {name} that is not finite as "
                    f"float32: {value}; nothing of this step is stored"
                )
        super().add(obs, next_obs, action, reward, done, infos)
        self._added += 1

    def fill(self, transitions: Transitions) -> None:
        """Put these rows in the place of all synthetic ones before.

        Actions in other units than [-1, 1], as their metadata say, are mapped to it.

        Raises:
            TransitionError: rows of other widths than the buffer's, or actions beyond [-1, 1] of
                which nobody says in which units they are.
        """
        found = (transitions.observation_dim, transitions.action_dim)
        if found != (self.observations.shape[-1], self.action_dim):
            raise TransitionError(
                f"{transitions.source}: {found[0]} observation and {found[1]} action columns, the "
                f"buffer has {self.observations.shape[-1]} and {self.action_dim}"
            )
        transitions = _in_unit_actions(transitions)
        kinds = {
            "observations": self.observations.dtype,
            "actions": self.actions.dtype,
            "next_observations": self.observations.dtype,
        }
        self._has_callback = True  # or a caller who fills it
        self._synthetic = {
            name: array.astype(kinds.get(name, np.float32))
            for name, array in transitions.arrays().items()
        }

    def sample(self, batch_size: int, env: VecNormalize | None = None) -> ReplayBufferSamples:
        """A batch with ``round(synthetic_ratio * batch_size)`` synthetic rows, the real ones first;
        all real while there are none."""
        if self.synthetic_ratio and not self._has_callback and not self._was_sampled:
            warnings.warn(
                "SynthERReplayBuffer: nothing fills it with synthetic rows, so that all rows are "
                "real; give learn a callback=SynthERCallback(), or call fill",
                stacklevel=2,
            )
        self._was_sampled = True
        synthetic = round(self.synthetic_ratio * batch_size) if self.synthetic_rows else 0
        if synthetic == 0:
            return super().sample(batch_size, env)
        drawn = self._sample_synthetic(synthetic, env)
        if synthetic == batch_size:
            return drawn
        real = super().sample(batch_size - synthetic, env)
        return ReplayBufferSamples(
            *(torch.cat(pair) for pair in zip(real[:5], drawn[:5], strict=True))
        )

    def reset(self) -> None:
        """Forget every row, real and synthetic."""
        super().reset()
        self._synthetic = {}

    def __getstate__(self) -> dict[str, Any]:
        """Everything but whether a callback is there: the next session may have none."""
        return {**self.__dict__, "_has_callback": bool(self._synthetic), "_was_sampled": False}

    def _sample_synthetic(self, count: int, env: VecNormalize | None) -> ReplayBufferSamples:
        rows = self._random.integers(self.synthetic_rows, size=count)
        drawn = {name: array[rows] for name, array in self._synthetic.items()}
        columns: tuple[Any, ...] = (
            self._normalize_obs(drawn["observations"], env),
            drawn["actions"],
            self._normalize_obs(drawn["next_observations"], env),
            drawn["terminals"].reshape(-1, 1),
            self._normalize_reward(drawn["rewards"].reshape(-1, 1), env),
        )
        return ReplayBufferSamples(*(self.to_torch(column) for column in columns))
