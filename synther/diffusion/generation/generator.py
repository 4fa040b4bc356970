"""A generator draws transitions from a trained model, into memory, onto the device or to a file."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import gin
import numpy as np
import torch
from einops import pack
from torch import Tensor

from synther.diffusion.conditioning.around import Around
from synther.diffusion.conditioning.condition import Target
from synther.diffusion.conditioning.policy import STRENGTH, Policy, PolicyGuidance
from synther.diffusion.elucidated_diffusion import ElucidatedDiffusion
from synther.diffusion.generation.asked import Asked
from synther.diffusion.generation.consistency import PROBE_SEED, Consistency, ConsistentRows
from synther.diffusion.generation.drawing import (
    Drawing,
    FiveArrays,
    Sampling,
    five_arrays,
)
from synther.diffusion.generation.errors import SamplingError
from synther.diffusion.generation.graphed_network import graphed
from synther.diffusion.generation.npz_stream import NpzStream
from synther.diffusion.generation.presets import prepared, sampling_settings
from synther.diffusion.generation.rounds import batches_of, rounds
from synther.diffusion.generation.row_noise import seed_or_drawn
from synther.diffusion.generation.terminal_rate import EDGE_PROBED, LEAST_PROBED, probe_rows
from synther.diffusion.provenance import ActionLimits, usual_action_bounds
from synther.diffusion.successors.ensemble import TransitionEnsemble
from synther.diffusion.utils import layout_of_model, split_diffusion_samples
from synther.files.checkpoint import fingerprint
from synther.ranges import Count, Finite, NotNegative, Seed, checked
from synther.runs import runtime
from synther.runs.loggers import progress_bar
from synther.runs.processes import ALONE, Processes
from synther.transitions import TransitionLayout

__all__ = ["SamplingError", "SimpleDiffusionGenerator"]


@gin.configurable
class SimpleDiffusionGenerator:
    """Draws transitions from a diffusion model.

    A row's noise depends on the seed and the row's number alone (see ``row_noise.py``): the same
    seed gives the same rows, up to the rounding of matrix products, in memory and in a file,
    whatever the batches' size, also when writing was interrupted. (A row that the last stage, see
    ``consistency.py``, is on the verge of drawing again can be another one in another batch.)

    Args:
        env: the layout of the model's rows, or an environment with such observations and actions;
            see :func:`synther.diffusion.utils.layout_of_model`.
        ema_model: the model, such as ``load_model(path).model`` or ``trainer.ema.ema_model``.
        num_sample_steps: the number of sampler steps; a preset has its own.
        sample_batch_size: rows in one call of the model, which bounds the memory.
        clip_actions: whether actions are kept to their bounds.
        precision: ``bf16`` takes the network's large products in bfloat16, ``tf32`` all of them in
            TF32 on a GPU, but in :meth:`sample_rows`, which leaves that to its caller's
            ``runtime.float32_products``. None takes what the preset says, if the device multiplies
            bfloat16 fast, and ``fp32`` without a preset.
        sampler: the name of a preset (``paper``, ``fast``) or of a sampler; None leaves the model
            as it is.
        cuda_graph: whether the network is replayed as one CUDA graph.
        action_bounds: the lowest and the highest action, a number or ``[A]`` each. None: those of
            the data that the model was trained on, where its file says them; else those of the
            environment's ``action_space``, or [-1, 1] where ``env`` is a layout.
        consistency: ``ensemble`` makes next observation, reward and terminal agree with observation
            and action, see ``consistency.py``.
        ensemble: what that is done with, fitted to the real rows that the model has learnt from.
            It may be set later, before the first row is drawn.
        target: what all samples are asked for, see :meth:`sample`. None: rows as they come.
        guidance: how strongly; but for 1, the condition's own distribution, and 0, as they come,
            it costs twice the network calls. See ``conditioning/guidance.py``.
    """

    @checked
    def __init__(
        self,
        env: Any,
        ema_model: ElucidatedDiffusion,
        num_sample_steps: Count = 128,
        sample_batch_size: Count = 100_000,
        clip_actions: bool = True,
        precision: runtime.Precision | None = None,
        sampler: str | None = None,
        cuda_graph: bool = False,
        action_bounds: ActionLimits | None = None,
        consistency: Consistency = "off",
        ensemble: TransitionEnsemble | None = None,
        target: Finite | str | None = None,
        guidance: Finite = 1.0,
    ) -> None:
        self.consistency = consistency
        self.ensemble = ensemble
        self._stages: dict[str, ConsistentRows] = {}
        self.target, self.guidance = target, guidance
        self._asked = Asked.of(ema_model, target, guidance, 1, 0)  # what cannot be shows now
        self.layout = layout_of_model(ema_model, env)
        self.sample_batch_size = sample_batch_size
        self.clip_actions = clip_actions
        self.model, self.num_sample_steps, self.precision = prepared(
            ema_model, sampler, num_sample_steps, precision
        )
        if cuda_graph:
            self.model = graphed(self.model)
        self.action_bounds = action_bounds
        self._low, self._high = (
            torch.as_tensor(np.broadcast_to(bound, (self.layout.action_dim,)).astype(np.float32))
            for bound in (action_bounds or usual_action_bounds(env, ema_model))
        )

    @property
    def full_layout(self) -> TransitionLayout:
        """The layout of the rows of :meth:`sample_rows`, which always have a terminal column."""
        return TransitionLayout(self.layout.observation_dim, self.layout.action_dim, True)

    @torch.no_grad()
    def sample_rows(
        self,
        num_samples: int,
        generator: torch.Generator | None = None,
        cond: Target | Around | None = None,
        guidance: Finite | None = None,
        policy: Policy | None = None,
        policy_strength: NotNegative = STRENGTH,
    ) -> Tensor:
        """Rows ``[num_samples, 2 O + A + 2]`` on the model's device, in one call of it: actions
        clipped, terminals 0 or 1 (0 where the model has none). They are asked for ``cond``, and
        follow ``policy``, as in :meth:`sample`.

        Raises:
            SamplingError: a row is not finite, or none can be made consistent.
        """
        drawing = self.drawing(num_samples, lambda: seed_or_drawn(None, generator), cond, guidance)
        self._follow(drawing, policy, policy_strength)
        return drawing.at_once(num_samples, generator)

    @torch.no_grad()
    def last_stage(self) -> ConsistentRows | None:
        """What makes rows consistent that are asked for the generator's own target; None where they
        stay as the model gives them.

        Raises:
            ValueError: there is no ensemble, or one of rows of other columns.
            NothingConsistentError: the ensemble disagrees about every row.
        """
        return self._stage_of(self._asked)

    def _stage_of(self, asked: Asked | None) -> ConsistentRows | None:
        """The stage of rows that are asked for this. It depends on the settings of that alone, so
        that they find it again: the own one, and the latest of another."""
        if self.consistency == "off":
            return None
        own, wanted = (repr(each and each.settings()) for each in (self._asked, asked))
        if wanted not in self._stages:
            kept = {key: stage for key, stage in self._stages.items() if key == own}
            self._stages = {**kept, wanted: self._new_stage(asked)}
        return self._stages[wanted]

    def _new_stage(self, asked: Asked | None) -> ConsistentRows:
        as_data = asked is None or not asked.anything
        count = self._probe_rows(as_data)
        probing = Drawing(self._sampling, asked and asked.of_probe(count, PROBE_SEED))
        batches = batches_of(0, count, self.sample_batch_size)
        return ConsistentRows(
            self.ensemble,
            self.full_layout,
            torch.cat([probing.sampled(*batch, PROBE_SEED) for batch in batches]),
            terminals=self.layout.terminals,
            as_data=as_data,
        )

    def _probe_rows(self, as_data: bool) -> int:
        """How many rows decide what the last stage does, see :class:`ConsistentRows`."""
        if self.ensemble is None or not self.layout.terminals:
            return LEAST_PROBED
        if as_data:
            return probe_rows(float(self.ensemble.rate))
        return EDGE_PROBED if self.ensemble.living.isfinite().any() else LEAST_PROBED

    @property
    def _sampling(self) -> Sampling:
        return Sampling(self.model, self.num_sample_steps, self.precision, self._finished)

    def _finished(self, raw: Tensor) -> Tensor:
        """Turn what the model gave, ``[N, D]``, into rows of ``full_layout``."""
        observations, actions, rewards, next_observations, terminals = split_diffusion_samples(
            raw, self.layout
        )
        if self.clip_actions:
            actions = actions.clamp(self._low.to(actions), self._high.to(actions))
        rows, _ = pack([observations, actions, rewards, next_observations, terminals], "row *")
        return rows

    @checked
    def sample(
        self,
        num_samples: Count,
        seed: Seed | None = None,
        cond: Target | Around | None = None,
        guidance: Finite | None = None,
        policy: Policy | None = None,
        policy_strength: NotNegative = STRENGTH,
    ) -> FiveArrays:
        """Observations ``[N, O]``, actions ``[N, A]``, rewards ``[N]``, next observations
        ``[N, O]``, terminals ``[N]``, float32; any N.

        Args:
            num_samples: N, the number of rows.
            seed: the seed of the noise; None draws one from torch's global generator.
            cond: what samples are asked for: a number, a label or a quantile such as ``top 10%`` of
                the model's condition, or a number or label for each sample ``[N]``; or rows to
                begin at (:class:`Around`). None, and rows without a target: the generator's own.
            guidance: how strongly; None: the generator's own.
            policy, policy_strength: actions are moved to where the policy acts, a function of
                observations ``[N, O]``, and how far: see ``conditioning/policy.py``.
        """
        seed = seed_or_drawn(seed)
        drawing = self.drawing(num_samples, lambda: seed, cond, guidance)
        self._follow(drawing, policy, policy_strength)
        rows = np.empty((num_samples, self.full_layout.row_dim), np.float32)
        with progress_bar(num_samples, "sampling", unit="row") as bar:
            for start, stop in batches_of(0, num_samples, self.sample_batch_size):
                rows[start:stop] = drawing.batch(start, stop, seed).cpu().numpy()
                bar.update(stop - start)
        return five_arrays(rows, self.full_layout)

    @checked
    def sample_to_file(
        self,
        num_samples: Count,
        path: str | os.PathLike[str],
        seed: Seed | None = None,
        compress: bool = False,
        metadata: dict[str, Any] | None = None,
        processes: Processes = ALONE,
        cond: Target | Around | None = None,
        guidance: Finite | None = None,
    ) -> None:
        """Write ``num_samples`` rows as an ``.npz`` of transitions, in memory that does not grow
        with their number; equal to :meth:`sample` with the same seed.

        A run that was interrupted continues where it stood, if the seed was given and neither model
        nor settings changed. The file appears whole or not at all.

        Several ``processes`` sample a batch each at a time, for the first one to write: the rows
        and their order are those of one process. Each has to call this with the same arguments.

        Raises:
            SamplingError: a row is not finite; nothing of its batch is written.
        """
        seed = processes.decided_by_first(seed_or_drawn(seed))
        drawing = self.drawing(num_samples, lambda: seed, cond, guidance)

        def drawn(first: int) -> Iterator[Tensor]:
            size, width = min(self.sample_batch_size, num_samples), self.full_layout.row_dim
            batches = batches_of(processes.decided_by_first(first), num_samples, size)
            message = torch.empty(size, width, device=self.model.device)
            return rounds(batches, lambda at, to: drawing.batch(at, to, seed), message, processes)

        if not processes.is_first:
            for _ in drawn(0):
                pass
            return
        settings = {"rows": num_samples, "seed": seed, **self._settings(drawing)}
        with (
            NpzStream(path, self.full_layout, num_samples, settings) as stream,
            progress_bar(num_samples, "sampling", unit="row", initial=stream.done) as bar,
        ):
            stream.extend(drawn(stream.done), bar.update)
            stream.finish(compress=compress, metadata={**(metadata or {}), "generator": settings})

    @torch.no_grad()
    def drawing(
        self,
        count: int,
        seed: Callable[[], int],
        cond: Target | Around | None = None,
        guidance: Finite | None = None,
    ) -> Drawing:
        """What draws ``count`` rows, asked for ``cond`` as in :meth:`sample`; ``seed`` is that of a
        quantile's values."""
        if cond is None and guidance is None and self._asked is None:
            return Drawing(self._sampling, None, self.last_stage())
        target: Any = self.target if cond is None else cond
        if isinstance(target, Around) and target.target is None and self.target is not None:
            target = replace(target, target=self.target)
        weight = self.guidance if guidance is None else guidance
        asked = Asked.of(self.model, target, weight, count, seed())
        return Drawing(self._sampling, asked, self._stage_of(asked))

    def _follow(self, drawing: Drawing, policy: Policy | None, strength: float) -> None:
        """Let actions follow a policy. What the last stage replaces is a matter of the model."""
        if policy is not None:
            guidance = PolicyGuidance(policy, self.layout, self._low, self._high, strength)
            drawing.asked = replace(drawing.asked or Asked(), policy=guidance)

    def _settings(self, drawing: Drawing) -> dict[str, Any]:
        settings = {
            **sampling_settings(self.model),
            "steps": self.num_sample_steps,
            "clip_actions": self.clip_actions,
            "precision": self.precision,
            "model": fingerprint(self.model),
        }
        if self.action_bounds is not None or (self._low != -1).any() or (self._high != 1).any():
            settings["action_bounds"] = [self._low.tolist(), self._high.tolist()]
        return {**settings, **drawing.settings()}
