"""SynthER in Stable-Baselines3 (the extra ``sb3``), for SAC, TD3 and DDPG.

    model = SAC(
        "MlpPolicy", "Hopper-v5",
        replay_buffer_class=SynthERReplayBuffer, replay_buffer_kwargs={"synthetic_ratio": 0.5},
    )
    model.learn(1_000_000, callback=SynthERCallback(retrain_every=10_000))

Everything that a later session needs lies in the buffer, the diffusion model too: ``model.save``
with ``model.save_replay_buffer``, and ``load`` with ``load_replay_buffer``, take all of it along.
Returns of ``n_steps`` above 1 are not for it: Stable-Baselines3 leaves them out where the buffer is
not its own. Warnings say so, and what else would pass in silence: a run that ends before the agent
learns or before the first refill, and a buffer that no callback refills.
"""

from __future__ import annotations

import time
import warnings
from typing import TYPE_CHECKING

from synther.datasets import as_transitions
from synther.integrations.sb3_buffer import SynthERReplayBuffer
from synther.ranges import Count, CountFrom0, Finite, Seed, checked
from synther.upsampling import Upsampler
from synther.upsampling.config import MIN_ROWS, with_condition
from synther.upsampling.upsampler import Config

if TYPE_CHECKING:
    from stable_baselines3.common.callbacks import BaseCallback
else:
    try:
        from stable_baselines3.common.callbacks import BaseCallback
    except ImportError:
        from synther.integrations.missing import MissingStableBaselines3

        BaseCallback = MissingStableBaselines3

__all__ = ["SynthERCallback", "SynthERReplayBuffer"]


class SynthERCallback(BaseCallback):
    """Trains a diffusion model on the buffer's real rows every N steps, and refills the synthetic
    ones.

    It does nothing while the buffer's ratio is 0, and while the buffer holds fewer than 200 rows.
    A training that is too short for the agent to learn, or for a refill, is warned of. The
    logger gets the verdict's numbers (``synther/marginal``, ``synther/real_marginal``, ...), 1 or 0
    as ``synther/trusted``, the rows of both kinds and the seconds that it took. After loading a
    model and its buffer it goes on at the next multiple of N.

    Args:
        retrain_every: N, in environment steps (of all environments together).
        num_samples: synthetic rows of a refill.
        config, device, seed: of the :class:`synther.Upsampler`.
        warm_start: train on from the model before instead of from scratch, with a quarter of the
            steps. Once, where the first true terminal comes after the first refill, it is from
            scratch all the same: the model gets a column for it.
        target, guidance: what the rows are asked for, and how strongly, where ``config`` names a
            condition, such as ``return``: see :meth:`synther.Upsampler.sample`.
        verbose: as callbacks of Stable-Baselines3 have it.

    Raises:
        ValueError: less than one step or sample; at the start of training, a model without a
            ``SynthERReplayBuffer``.
    """

    @checked
    def __init__(
        self,
        retrain_every: Count = 10_000,
        num_samples: Count = 100_000,
        *,
        config: Config = None,
        device: str = "auto",
        seed: Seed = 0,
        warm_start: bool = False,
        target: Finite | str | None = None,
        guidance: Finite = 1.0,
        verbose: CountFrom0 = 0,
    ) -> None:
        super().__init__(verbose)
        # What cannot be shows now, not after N steps.
        Upsampler(with_condition(config, None, target, guidance), device=device)
        self.retrain_every, self.num_samples = retrain_every, num_samples
        self.config, self.device, self.seed = config, device, seed
        self.warm_start, self.target, self.guidance = warm_start, target, guidance
        self._warned = False
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
        buffer = self._buffer()
        buffer._has_callback = True
        self._set_due()
        total, begins = self.locals["total_timesteps"], getattr(self.model, "learning_starts", 0)
        self._warned = False
        if total <= begins:
            self._warn(
                f"the agent does not learn in these {total} steps: learning_starts is {begins}"
            )
        elif buffer.synthetic_ratio and self._due > total:
            self._warn(
                f"no refill comes up to step {total}, the last: the next one is due at step "
                f"{self._due}; lower retrain_every ({self.retrain_every}) or train for longer"
            )
        if (n_steps := getattr(self.model, "n_steps", 1)) > 1:
            self._warn(
                f"n_steps is {n_steps} and has no effect with a SynthERReplayBuffer: "
                "returns are of one step"
            )

    def _on_training_end(self) -> None:
        buffer = self._buffer()
        rows = buffer.size() * buffer.n_envs
        if buffer.synthetic_ratio and not buffer.synthetic_rows and not self._warned:
            self._warn(f"no refill came: the buffer holds {rows} rows, a refill needs {MIN_ROWS}")

    def _warn(self, what: str) -> None:
        self._warned = True
        warnings.warn(f"SynthERCallback: {what}", stacklevel=2)

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
        rows = as_transitions(buffer)
        if self.warm_start and buffer.upsampler is not None and buffer.upsampler.can_refit(rows):
            buffer.upsampler.refit(rows)
        else:
            # The step is part of the seed: rounds differ, and those of a loaded model are the same.
            seed = self.seed + self.model.num_timesteps
            upsampler = Upsampler(self.config, device=self.device, seed=seed)
            buffer.upsampler = upsampler.fit(rows)
        buffer.fill(
            buffer.upsampler.sample(self.num_samples, target=self.target, guidance=self.guidance)
        )
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
