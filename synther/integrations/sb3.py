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
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from synther.datasets import as_transitions
from synther.diffusion.conditioning.condition import Condition
from synther.diffusion.conditioning.values import values_of
from synther.integrations.sb3_buffer import SynthERReplayBuffer, by_environment
from synther.ranges import Count, CountFrom0, Finite, Seed, checked
from synther.transitions import TransitionError, Transitions
from synther.upsampling import ConditionError, UpsampleConfig, Upsampler
from synther.upsampling.config import MIN_ROWS, resolve_config, with_condition
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
            condition, such as ``return``: see :meth:`synther.Upsampler.sample`. A refill whose real
            rows cannot be asked for it yet, such as for a reward that none of them has reached,
            warns, and has rows as they come.
        verbose: as callbacks of Stable-Baselines3 have it.

    Raises:
        ValueError: less than one step or sample, or a target that no condition can have; at the
            start of training, a model without a ``SynthERReplayBuffer``, or a condition that its
            rows do not have.
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
        self._condition = resolve_config(config, MIN_ROWS, torch.device("cpu")).condition
        if isinstance(target, str):  # conditions of a buffer are numbers
            Condition.of(self._condition, np.array([0.0, 1.0])).asked(target, 1)
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
        self._require_condition(buffer)
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

    def _require_condition(self, buffer: SynthERReplayBuffer) -> None:
        """Refuse a condition that the rows of the buffer cannot have, at the first refill or
        later; whether they have it by then is another matter."""
        if not self._condition:
            return
        state = np.zeros((1, buffer.observations.shape[-1]), np.float32)
        action, nothing = np.zeros((1, buffer.action_dim), np.float32), np.zeros(1, np.float32)
        try:
            values_of(self._condition, Transitions(state, action, nothing, state, nothing))
        except ConditionError as error:
            raise ConditionError(f"SynthERCallback: {error}; a buffer has none") from error

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
        if self._condition == "return" and buffer.n_envs > 1:
            rows = by_environment(buffer, rows)
        buffer.upsampler = self._learnt(buffer, rows)
        buffer.fill(self._samples(buffer.upsampler))
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

    def _learnt(self, buffer: SynthERReplayBuffer, rows: Transitions) -> Upsampler:
        """A model of the rows, with the condition if they have it by now."""
        try:
            return self._trained(buffer, rows, self.config)
        except (ConditionError, TransitionError) as error:
            if not self._condition:
                raise
            self._warn_as_they_come(error)
        if isinstance(self.config, UpsampleConfig):
            return self._trained(buffer, rows, replace(self.config, condition=""))
        return self._trained(buffer, rows, {**(self.config or {}), "condition": ""})

    def _trained(self, buffer: SynthERReplayBuffer, rows: Transitions, config: Config) -> Upsampler:
        before = buffer.upsampler
        if self.warm_start and before is not None and before.can_refit(rows):
            known, wanted = before.config, resolve_config(config, len(rows), torch.device("cpu"))
            if known is not None and known.condition == wanted.condition:
                return before.refit(rows)
        # The step is part of the seed: rounds differ, and those of a loaded model are the same.
        seed = self.seed + self.model.num_timesteps
        return Upsampler(config, device=self.device, seed=seed).fit(rows)

    def _samples(self, upsampler: Upsampler) -> Transitions:
        config = upsampler.config
        if config is not None and config.condition:
            try:
                return upsampler.sample(
                    self.num_samples, target=self.target, guidance=self.guidance
                )
            except ConditionError as error:  # such as a return that no episode has reached yet
                self._warn_as_they_come(error)
        return upsampler.sample(self.num_samples)

    def _warn_as_they_come(self, error: ValueError) -> None:
        self._warn(
            f"step {self.model.num_timesteps}: {error}; the rows of this refill are as they come"
        )
