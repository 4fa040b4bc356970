"""SynthER in Stable-Baselines3 (``pip install 'synther[sb3]'``), for SAC, TD3 and DDPG.

    model = SAC(
        "MlpPolicy", "Hopper-v5",
        replay_buffer_class=SynthERReplayBuffer, replay_buffer_kwargs={"synthetic_ratio": 0.5},
    )
    model.learn(1_000_000, callback=SynthERCallback(retrain_every=10_000))

Everything that a later session needs lies in the buffer, the diffusion model too: ``model.save``
with ``model.save_replay_buffer``, and ``load`` with ``load_replay_buffer``, take all of it along.
Returns of ``n_steps`` above 1 are not for it: Stable-Baselines3 leaves them out, with a warning,
where the buffer is not its own.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from synther.transitions import TransitionError, Transitions
from synther.upsampling import Upsampler
from synther.upsampling.config import MIN_ROWS
from synther.upsampling.upsampler import Config

if TYPE_CHECKING:
    from stable_baselines3.common.buffers import ReplayBuffer
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.type_aliases import ReplayBufferSamples
    from stable_baselines3.common.vec_env import VecNormalize
else:
    try:
        from stable_baselines3.common.buffers import ReplayBuffer
        from stable_baselines3.common.callbacks import BaseCallback
        from stable_baselines3.common.type_aliases import ReplayBufferSamples
    except ImportError:
        from synther.integrations.missing import MissingStableBaselines3

        ReplayBuffer = BaseCallback = MissingStableBaselines3


class SynthERReplayBuffer(ReplayBuffer):
    """A replay buffer that adds synthetic rows to its batches.

    Synthetic rows are kept as the real ones are: actions in [-1, 1], observations and rewards as
    they were before ``VecNormalize``, which works on both kinds when a batch is drawn. They come
    from a random generator of their own: with a ratio of 0, and before the first :meth:`fill`,
    training gives the very numbers of a plain ``ReplayBuffer``.

    Args:
        buffer_size, observation_space, action_space, device, n_envs, optimize_memory_usage,
            handle_timeout_termination: as the plain buffer has them; Stable-Baselines3 sets them.
        synthetic_ratio: share of synthetic rows in a batch, from 0 to 1.
        seed: of the drawing of synthetic rows.

    Attributes:
        upsampler: the diffusion model that the rows are from, if a ``SynthERCallback`` filled in.

    Raises:
        ValueError: observations or actions that are not vectors of floats, or another ratio.
    """

    def __init__(
        self,
        buffer_size: int,
        observation_space: Any,
        action_space: Any,
        device: torch.device | str = "auto",
        n_envs: int = 1,
        optimize_memory_usage: bool = False,
        handle_timeout_termination: bool = True,
        *,
        synthetic_ratio: float = 0.5,
        seed: int = 0,
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
        if not 0 <= synthetic_ratio <= 1:
            raise ValueError(f"synthetic_ratio is {synthetic_ratio}, expected 0 to 1")
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

        Raises:
            TransitionError: rows of other widths than the buffer's.
        """
        found = (transitions.observation_dim, transitions.action_dim)
        if found != (self.observations.shape[-1], self.action_dim):
            raise TransitionError(
                f"{transitions.source}: {found[0]} observation and {found[1]} action columns, the "
                f"buffer has {self.observations.shape[-1]} and {self.action_dim}"
            )
        kinds = {
            "observations": self.observations.dtype,
            "actions": self.actions.dtype,
            "next_observations": self.observations.dtype,
        }
        self._synthetic = {
            name: array.astype(kinds.get(name, np.float32))
            for name, array in transitions.arrays().items()
        }

    def sample(self, batch_size: int, env: VecNormalize | None = None) -> ReplayBufferSamples:
        """A batch with ``round(synthetic_ratio * batch_size)`` synthetic rows, the real ones first;
        all real while there are none."""
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


class SynthERCallback(BaseCallback):
    """Trains a diffusion model on the buffer's real rows every N steps, and refills the synthetic
    ones.

    It is quiet while the buffer's ratio is 0, and while the buffer holds fewer than 200 rows. The
    logger gets the verdict's numbers (``synther/marginal``, ``synther/real_marginal``, ...), 1 or 0
    as ``synther/trusted``, the rows of both kinds and the seconds that it took. After loading a
    model and its buffer it goes on at the next multiple of N.

    Args:
        retrain_every: N, in environment steps (of all environments together).
        num_samples: synthetic rows of a refill.
        config, device, seed: of the :class:`synther.Upsampler`.
        warm_start: train on from the model before instead of from scratch, with a quarter of the
            steps.
        verbose: as callbacks of Stable-Baselines3 have it.

    Raises:
        ValueError: less than one step or sample; at the start of training, a model without a
            ``SynthERReplayBuffer``.
    """

    def __init__(
        self,
        retrain_every: int = 10_000,
        num_samples: int = 100_000,
        *,
        config: Config = None,
        device: str = "auto",
        seed: int = 0,
        warm_start: bool = False,
        verbose: int = 0,
    ) -> None:
        super().__init__(verbose)
        Upsampler(config, device=device)  # what cannot be shows now, not after N steps
        if min(retrain_every, num_samples) < 1:
            raise ValueError(
                f"retrain_every is {retrain_every} and num_samples {num_samples}, expected 1 or "
                "more"
            )
        self.retrain_every, self.num_samples = retrain_every, num_samples
        self.config, self.device, self.seed = config, device, seed
        self.warm_start = warm_start
        self._due = retrain_every

    def _buffer(self) -> SynthERReplayBuffer:
        buffer = getattr(self.model, "replay_buffer", None)
        if not isinstance(buffer, SynthERReplayBuffer):
            raise ValueError(
                f"SynthERCallback: the model's replay buffer is a {type(buffer).__name__}; make "
                "the model with replay_buffer_class=SynthERReplayBuffer"
            )
        return buffer

    def _on_training_start(self) -> None:
        self._buffer()
        self._set_due()

    def _set_due(self) -> None:
        self._due = (self.model.num_timesteps // self.retrain_every + 1) * self.retrain_every

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        """Not in ``_on_step``: there the step's own rows are not in the buffer yet."""
        if self.model.num_timesteps < self._due:
            return
        self._set_due()
        buffer = self._buffer()
        if buffer.synthetic_ratio and buffer.size() * buffer.n_envs >= MIN_ROWS:
            self._refill(buffer)

    def _refill(self, buffer: SynthERReplayBuffer) -> None:
        started = time.perf_counter()
        if buffer.upsampler is not None and self.warm_start:
            buffer.upsampler.refit(buffer)
        else:
            # The step is part of the seed: rounds differ, and those of a loaded model are the same.
            seed = self.seed + self.model.num_timesteps
            upsampler = Upsampler(self.config, device=self.device, seed=seed)
            buffer.upsampler = upsampler.fit(buffer)
        buffer.fill(buffer.upsampler.sample(self.num_samples))
        verdict = buffer.upsampler.verdict
        assert verdict is not None
        numbers = {
            **verdict.numbers,
            "trusted": float(verdict.trusted),
            "real_rows": buffer.size() * buffer.n_envs,
            "synthetic_rows": buffer.synthetic_rows,
            "seconds": time.perf_counter() - started,
        }
        for name, number in numbers.items():
            self.logger.record(f"synther/{name}", number)
