"""A refill learns a diffusion model of the replay buffer, and fills the synthetic one from it.

This round is SynthER's step in the online loop, and can be cut off at any moment. Asked for again
with the same buffer and settings it goes on where it stood, and on a CPU ends with the same bits as
if nothing had happened: training continues from its last resume point, sampling starts again from
the finished model.
"""

from __future__ import annotations

import shutil
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gin
import numpy as np
import torch
from rich.table import Table
from torch import Tensor

from synther.action_bounds import ActionBounds
from synther.datasets.digest import rows_digest
from synther.diffusion import model_io
from synther.diffusion.elucidated_diffusion import ElucidatedDiffusion
from synther.diffusion.generation.bounded import match_bounded
from synther.diffusion.generation.consistency import ConsistentRows
from synther.diffusion.generation.errors import NothingConsistentError
from synther.diffusion.generation.generator import SimpleDiffusionGenerator
from synther.diffusion.provenance import Provenance
from synther.diffusion.successors import MIN_ROWS, fit_ensemble
from synther.diffusion.training.redq_trainer import REDQTrainer, modelled_layout, modelled_rows
from synther.diffusion.utils import construct_diffusion_model
from synther.files.checkpoint import fingerprint
from synther.learning.replay import RowBuffer
from synther.online.column_statistics import as_metrics, as_table, compare_columns
from synther.online.prompts import Prompts
from synther.runs import runtime
from synther.runs.folder import RunFolder, RunFolderError
from synther.runs.loggers import progress_bar
from synther.transitions import TransitionError

LOSS_ROWS = 8192
"""The finished model's loss is measured on this many rows."""


@dataclass(frozen=True)
class RefillRecord:
    """The figures of a round, for the log and the terminal.

    Args:
        metrics: ``loss`` of the finished model on stored rows, ``train_seconds`` and
            ``sample_seconds`` of this call (less than the round took, where it was resumed),
            ``real_rows``, ``synthetic_rows``, and the columns' statistics as
            :func:`synther.online.column_statistics.as_metrics` names them. Where rows are made
            consistent, ``replaced_columns`` and ``drawn_again``, the share of rows. With prompts,
            ``relevance``, the mean of all real rows, and ``relevance_asked``, of the top ones.
        table: the statistics, real against synthetic, for a terminal.
    """

    metrics: dict[str, float]
    table: Table


class SyntheticRefill:
    """Trains a diffusion model on the real buffer and fills the synthetic one with its samples.

    It sees the two buffers and nothing else of the online loop: neither the environment nor the
    agent's observation, and no global random state. The real buffer is read in place.

    Sizes come from gin: ``construct_diffusion_model``, ``ResidualMLPDenoiser``,
    ``ElucidatedDiffusion``, ``REDQTrainer`` and ``SimpleDiffusionGenerator``.

    Args:
        seed: with the round's number, of all that is random in a round.
        device: where the model is trained and sampled.
        folder: holds ``round-{n}/`` with the resume point of a round that is under way, then
            ``model-{step}.pt``, which replaces the model of the round before. None writes nothing.
        num_samples: rows of a refill.
        skip_reward_norm: leave the reward column out of the normaliser.
        model_terminals: whether the model has a terminal column; without one every synthetic
            terminal is 0.
        warm_start: begin a round with the weights of the one before instead of fresh ones.
        warm_start_steps: training steps of such a round, and of its learning rate's schedule.
        threads: of the CPU, while this works; 0: every core, or a single one where the network has
            fewer than ``runtime.SMALL_NETWORK`` parameters.
        env_id: the environment that the rows are from, for the model's file.
    """

    def __init__(
        self,
        *,
        seed: int,
        device: torch.device | str,
        folder: Path | None,
        num_samples: int,
        skip_reward_norm: bool,
        model_terminals: bool,
        warm_start: bool = False,
        warm_start_steps: int | None = None,
        threads: int = 0,
        env_id: str | None = None,
    ) -> None:
        if num_samples < 1:
            raise ValueError(f"num_samples is {num_samples}, expected 1 or more")
        if warm_start and not (warm_start_steps and warm_start_steps > 0):
            raise ValueError(
                f"warm_start needs warm_start_steps, a positive number, not {warm_start_steps}"
            )
        self.seed = seed
        self.device = torch.device(device)
        self.folder = folder
        self.num_samples = num_samples
        self.skip_reward_norm = skip_reward_norm
        self.model_terminals = model_terminals
        self.warm_start = warm_start
        self.warm_start_steps = warm_start_steps
        self.threads = threads
        self.env_id = env_id
        self._prompts: Prompts | None = None  # of the round under way
        self._weights: dict[str, Tensor] | None = None  # of the round before, for a warm start

    def __call__(
        self,
        round_index: int,
        real: RowBuffer,
        synthetic: RowBuffer,
        prompts: Prompts | None = None,
    ) -> RefillRecord:
        """Take a round: train, empty ``synthetic``, fill it with ``num_samples`` rows, asked for by
        ``prompts`` where they are given.

        ``real`` and ``prompts`` have to be what they were, if the round was cut off and is asked
        for again.

        Raises:
            ValueError: nothing stored, buffers of different rows, or one too small for the samples.
            TrainingDivergedError, SamplingError: of the trainer and the generator.
        """
        self._check(real, synthetic)
        self._prompts = prompts
        seeds = np.random.SeedSequence((self.seed, round_index)).generate_state(5, np.uint64)
        init_seed, train_seed, sample_seed, loss_seed, ensemble_seed = (
            int(each) % 2**63 for each in seeds
        )
        started = time.perf_counter()
        model = self._new_model(real, init_seed)
        with runtime.cpu_threads(self.threads or runtime.threads_for(model)):
            model, steps = self._train(model, round_index, real, train_seed)
            generator = SimpleDiffusionGenerator(
                modelled_layout(synthetic, self.model_terminals), model
            )
            too_few = generator.consistency == "ensemble" and len(real) < MIN_ROWS
            if too_few:
                generator.consistency = "off"
            elif generator.consistency == "ensemble":
                self._fit_last_stage(generator, real, ensemble_seed, steps)
            trained = time.perf_counter()
            stage = self._fill(synthetic, generator, sample_seed)
            sampled = time.perf_counter()
            if self.warm_start:
                self._weights = {k: v.detach().cpu() for k, v in model.net.state_dict().items()}
            columns = compare_columns(real.layout, real.valid_rows(), synthetic.valid_rows())
            numbers = {
                "loss": self._loss(model, real, loss_seed),
                "train_seconds": trained - started,
                "sample_seconds": sampled - trained,
                "real_rows": float(len(real)),
                "synthetic_rows": float(len(synthetic)),
            }
            if prompts:
                numbers["relevance"] = float(prompts.scores.double().mean())
                numbers["relevance_asked"] = float(prompts.top().mean())
            if stage:
                numbers["replaced_columns"] = float(len(stage.replaced))
                numbers["drawn_again"] = stage.drawn_again
        title = f"Refill {round_index}: {len(real)} real, {len(synthetic)} synthetic rows"
        if too_few:
            title += ", which are the model's own: regressions need " + str(MIN_ROWS)
        return RefillRecord({**numbers, **as_metrics(columns)}, as_table(columns, title))

    def state_dict(self) -> dict[str, Any]:
        """The network's weights, from which the next round makes a warm start."""
        return {"weights": self._weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._weights = state["weights"]

    def _check(self, real: RowBuffer, synthetic: RowBuffer) -> None:
        if len(real) == 0:
            raise ValueError("the real buffer is empty, there is nothing to learn from")
        if real.layout != synthetic.layout:
            raise ValueError(f"real rows are {real.layout}, synthetic ones {synthetic.layout}")
        if self.num_samples > synthetic.capacity:
            raise ValueError(
                f"num_samples is {self.num_samples}, the synthetic buffer holds "
                f"{synthetic.capacity}: raise diffusion_buffer_size or lower num_samples"
            )

    def _new_model(self, real: RowBuffer, seed: int) -> ElucidatedDiffusion:
        """A model whose normaliser is fitted to all rows that ``real`` holds."""
        layout = modelled_layout(real, self.model_terminals)
        given: dict[str, Any] = {}
        if self.skip_reward_norm:
            given["skip_dims"] = [layout.columns["rewards"].start]
        if self._prompts:
            given["condition"] = self._prompts.condition
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            rows = modelled_rows(real, self.model_terminals)
            model = construct_diffusion_model(inputs=rows, layout=layout, **given)
        if self._weights is not None:
            model_io.load_weights(model.net, self._weights, "warm start from the round before")
        return model

    def _train(
        self, model: ElucidatedDiffusion, round_index: int, real: RowBuffer, seed: int
    ) -> tuple[ElucidatedDiffusion, int]:
        """Train; the averaged model (EMA) at the end, and the number of steps."""
        model.trained_on = self._provenance(real)
        folder = None
        if self.folder is not None:
            folder = self.folder / f"round-{round_index}"
            settings = {"model": fingerprint(model), "rows": model.trained_on.digest, "seed": seed}
            settings |= self._prompts.settings() if self._prompts else {}
            _claim(RunFolder(folder, "round.json", settings | {"gin": gin.config_str()}))
        shorter: dict[str, Any] = {}
        if self._weights is not None:
            shorter["train_num_steps"] = self.warm_start_steps
        trainer = REDQTrainer(
            model,
            results_folder=folder,
            device=str(self.device),
            seed=seed,
            model_terminals=self.model_terminals,
            **shorter,
        )
        trainer.load_latest()
        columns = self._prompts.columns if self._prompts else None
        trainer.train_from_redq_buffer(real, conditions=columns, finish=match_bounded)
        if folder is not None:
            for other in folder.parent.glob("round-*"):
                if other != folder:
                    shutil.rmtree(other)
        return trainer.ema.ema_model, trainer.step

    def _provenance(self, real: RowBuffer) -> Provenance:
        """That of a model of all rows that ``real`` holds, whose actions have an agent's units."""
        units = ActionBounds.unit(real.layout.action_dim)
        low, high = units.low.tolist(), units.high.tolist()
        rows = real.valid_rows().cpu().numpy()
        return Provenance(
            env_id=self.env_id,
            action_low=low,
            action_high=high,
            samples_low=low,
            samples_high=high,
            digest=rows_digest(real.layout, rows),
            rows=len(rows),
            held_out=0.0,
        )

    def _fit_last_stage(
        self, sampler: SimpleDiffusionGenerator, real: RowBuffer, seed: int, steps: int
    ) -> None:
        """Regressions of all rows that ``real`` holds; without the stage where they fail."""
        rows = real.layout.unpack(real.valid_rows().cpu().numpy(), source="the replay buffer")
        try:
            sampler.ensemble = fit_ensemble(rows, seed=seed, device=self.device, at_most=2 * steps)
        except TransitionError as error:
            _go_on_without(sampler, error)

    def _fill(
        self, synthetic: RowBuffer, sampler: SimpleDiffusionGenerator, seed: int
    ) -> ConsistentRows | None:
        """Fill the buffer; what made its rows consistent, None where they are the model's own."""
        asked: tuple[Any, ...] = ()
        if self._prompts:
            asked = self._prompts.drawn(self.num_samples, seed), self._prompts.guidance
        try:
            drawing = sampler.drawing(self.num_samples, lambda: seed, *asked)
        except NothingConsistentError as error:
            _go_on_without(sampler, error)
            drawing = sampler.drawing(self.num_samples, lambda: seed, *asked)
        generator = torch.Generator(self.device).manual_seed(seed)
        synthetic.clear()
        with (
            runtime.float32_products(self.device, sampler.precision),
            progress_bar(self.num_samples, "sampling", unit="row") as bar,
        ):
            while (missing := self.num_samples - len(synthetic)) > 0:
                count = min(sampler.sample_batch_size, missing)
                rows = drawing.at_once(count, generator, start=len(synthetic))
                synthetic.insert(rows)
                bar.update(len(rows))
        return drawing.stage

    @torch.no_grad()
    def _loss(self, model: ElucidatedDiffusion, real: RowBuffer, seed: int) -> float:
        chosen = real.draw_indices(
            min(LOSS_ROWS, len(real)), [torch.Generator(real.device).manual_seed(seed)]
        )
        rows = modelled_rows(real, self.model_terminals)[chosen[0]].to(self.device)
        cond = None
        if prompts := self._prompts:
            cond = prompts.condition.encode(prompts.columns[chosen[0]].to(self.device))
        return float(model(rows, cond, generator=torch.Generator(self.device).manual_seed(seed)))


def _go_on_without(sampler: SimpleDiffusionGenerator, error: Exception) -> None:
    """Turn the last stage off for a round: a run of days is not to end by one."""
    sampler.consistency = "off"
    warnings.warn(
        f"the rows of this refill are the model's own, without the last stage: {error}",
        stacklevel=2,
    )


def _claim(folder: RunFolder) -> None:
    """Keep what an earlier try of the same round left in its folder; remove that of any other."""
    try:
        folder.require_same()
    except RunFolderError:
        shutil.rmtree(folder.path, ignore_errors=True)
    folder.claim(resume=True)
