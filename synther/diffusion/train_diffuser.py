"""This command trains a diffusion model on a data set, samples from it, and reports on it.

    python3 synther/diffusion/train_diffuser.py --dataset halfcheetah-medium-replay-v2
    accelerate launch --num_processes 4 synther/diffusion/train_diffuser.py ...

The second form trains one model on four GPUs, and samples from it on all of them.

``--results_folder`` then holds ``model-{step}.pt`` with ``config.gin`` beside it,
``metrics.jsonl``, the samples (``--save_file_name``), ``fidelity.json`` and ``marginals.png``.
"""

from __future__ import annotations

import synther.runs.interrupts  # noqa: F401 - first: Ctrl-C then ends the other imports quietly

# isort: split
import argparse
import contextlib
from collections.abc import Sequence
from glob import escape
from pathlib import Path
from typing import Any

import gin
import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from synther.datasets import load_dataset, with_action_bounds
from synther.diffusion.conditioning.values import Values, named_values, with_values
from synther.diffusion.elucidated_diffusion import ElucidatedDiffusion
from synther.diffusion.fidelity.held_out import HELD_OUT, rows_to_hold_out
from synther.diffusion.fidelity.report import report
from synther.diffusion.fidelity.verdict import judge
from synther.diffusion.generation.bounded import match_bounded
from synther.diffusion.generation.generator import SamplingError, SimpleDiffusionGenerator
from synther.diffusion.generation.sample_files import require_place, sample_files
from synther.diffusion.known_model import Split, latest_model, require_condition, split_of
from synther.diffusion.provenance import STATED, Provenance
from synther.diffusion.successors import TransitionEnsemble, fit_ensemble, stored
from synther.diffusion.successors.fitting import MIN_ROWS
from synther.diffusion.train_arguments import HELD_OUT_SHARE, build_parser, samples_name
from synther.diffusion.training.trainer import STEPS, Trainer
from synther.diffusion.utils import construct_diffusion_model, rows_and_layout
from synther.envs import use_backend
from synther.files import atomic, checkpoint
from synther.runs import commands, gin_config
from synther.runs.folder import RunFolder, whole_number
from synther.runs.lock import FolderLock
from synther.runs.loggers import Adapter, Logger, open_adapters, require_services
from synther.runs.processes import Processes, accelerator_for, one_report, one_voice
from synther.runs.runtime import (
    cpu_threads,
    resolve_device,
    seed_everything,
    use_deterministic_kernels,
)
from synther.transitions import TransitionLayout, Transitions

__all__ = ["SimpleDiffusionGenerator", "main"]  # projects import the generator from here

REPORT_ROWS = 100_000
OWN = (
    "config.gin", "model-*.pt", "resume-*.pt", "fidelity.json", "marginals.p*", "marginals_page*",
    ".*.npz.parts",
)  # fmt: skip
"""What a run writes into its folder, beside its samples, which may have any name."""
console = Console(soft_wrap=True, markup=False)  # a path stays whole, brackets and all


def main(argv: Sequence[str] | None = None) -> None:
    """The command; see ``--help``."""
    parser = build_parser()
    with one_voice():
        args = parser.parse_args(argv)
    args.save_file_name = args.save_file_name or samples_name(args.save_num_samples)
    with commands.command_errors(SamplingError, launched=True), one_report():
        run(args)


def run(args: argparse.Namespace) -> None:
    """Train or load, sample, report."""
    asked = [f"condition.name = {args.condition!r}"] if args.condition else []
    gin_config.parse(args.gin_config_files, [*args.gin_params, *asked])
    if args.deterministic:
        use_deterministic_kernels()
    use_backend(args.backend)
    accelerator = accelerator_for(resolve_device(args.device))
    processes = Processes(accelerator)
    console.quiet = not processes.is_first
    if processes.count > 1:
        console.print(f"{processes.count} processes, on {accelerator.device.type}")
    seed_everything(args.seed)
    require_services(args)
    path = args.results_folder / args.save_file_name
    with (
        FolderLock(args.results_folder if processes.is_first else None) as lock,
        cpu_threads(args.threads),
    ):
        if args.save_samples:
            new = not (args.load_checkpoint or args.resume)
            new = new and path.resolve().parent == args.results_folder.resolve()
            require_place(path, args.save_num_samples, args.dataset, set_aside=new)
        with accelerator.main_process_first():  # which may have to download it
            data = load_dataset(args.dataset)
            data = with_action_bounds(data, low=args.action_low, high=args.action_high)
        kept, apart = rows_to_hold_out(data, args.held_out, args.seed)
        chosen = {**gin.get_bindings(SimpleDiffusionGenerator), **_given(args)}.get("consistency")
        stored.require_rows(chosen, len(kept), data.source)
        if args.load_checkpoint:
            device = str(accelerator.device)
            loaded = latest_model(args.results_folder, device, data, args.dataset)
            model, layout = loaded.model, loaded.layout_for(data.observation_dim, data.action_dim)
            require_condition(loaded, gin.get_bindings(named_values).get("name", ""))
            split = split_of(loaded, data, args.held_out or HELD_OUT_SHARE, args.seed)
            console.print(f"{loaded.path}: step {loaded.step}")
            console.print(f"held-out rows: {split.note}", highlight=False)
            lock.acquire()
        else:
            learnt = Provenance.of(data, held_out=args.held_out, seed=args.seed)
            values = named_values(data)  # which may depend on the order of all rows
            split = Split(data, None)
            if apart is not None:
                split = Split(data.subset(kept), data.subset(apart))
            model, layout = _train(args, split.training, kept, learnt, values, processes, lock)
        generator = _generator(args, layout, model)
        if args.save_samples or generator.consistency == "ensemble":
            generator.ensemble = _ensemble(args, generator, split.training, processes)
        if args.save_samples:
            _sample(args, generator, path, data, processes)
        accelerator.wait_for_everyone()
        accelerator.end_training()
        if args.save_samples and processes.is_first:
            with commands.noting(f"the model and {path} are written; only their report is not"):
                _report(args.results_folder, path, split, generator)


def _train(
    args: argparse.Namespace,
    training: Transitions,
    kept: NDArray[np.int64],
    learnt: Provenance,
    values: Values | None,
    processes: Processes,
    lock: FolderLock,
) -> tuple[ElucidatedDiffusion, TransitionLayout]:
    folder: Path = args.results_folder
    rows, layout = rows_and_layout(training)
    if values is not None:
        values.condition()  # of all rows: what is wrong with one is said by its number in the data
    inputs, condition = with_values(rows, values and values.subset(kept))
    model = construct_diffusion_model(inputs=rows, layout=layout, condition=condition)
    model.trained_on = learnt
    # All that can be wrong shows before an earlier run is set aside.
    _generator(args, layout, model)
    trainer = Trainer(model, inputs, results_folder=folder, device=args.device, seed=args.seed)
    # Gin knows a run's settings only once everything that it configures has been imported.
    settings = {
        "dataset": args.dataset,
        "rows": len(training),
        "data": learnt.digest,
        "seed": args.seed,
        "held_out": args.held_out,
        "precision": trainer.training_step.precision,
        "gin": gin.config_str(),
    }
    if values is not None:  # gin's settings name the file that they are in, and not what it holds
        settings["condition"] = f"{values.name}, whose values have the digest {values.digest()}"
    claimed = RunFolder(
        folder,
        "run.json",
        settings,
        own=(*OWN, *map(escape, {args.save_file_name, *sample_files(folder)})),
        lengths=("Trainer.train_num_steps",),
        steps_of=lambda value: STEPS if value == "not set" else whole_number(value),
        younger=("data", "precision", "condition"),
    )
    if args.resume and processes.is_first:
        claimed.require_same()
    adapters: tuple[Adapter, ...] = ()
    if processes.is_first:
        lock.acquire()
        adapters = open_adapters(folder, settings, args)
        claimed.claim(resume=args.resume, must_exist=True)
        atomic.write_text(folder / "config.gin", settings["gin"])
    if args.resume:
        trainer.load_latest()
    with (
        commands.naming_last_checkpoint(folder, "model", "resume"),
        contextlib.ExitStack() as stack,
    ):
        if processes.is_first:
            trainer.logger = stack.enter_context(
                Logger(
                    folder,
                    resume_from=trainer.step if args.resume else None,
                    adapters=adapters,
                )
            )
        trainer.train(finish=match_bounded)
    return trainer.ema.ema_model, layout


def _generator(
    args: argparse.Namespace, layout: TransitionLayout, model: ElucidatedDiffusion
) -> SimpleDiffusionGenerator:
    given = _given(args)
    if "target" in given and model.condition is not None:
        given["target"] = model.condition.meant(given["target"])
    return SimpleDiffusionGenerator(layout, model, **given)


def _given(args: argparse.Namespace) -> dict[str, Any]:
    # An argument goes over gin's binding, None as well: leave it out where it was not given.
    names = ("sampler", "consistency", "target", "guidance")
    return {name: getattr(args, name) for name in names if getattr(args, name) is not None}


def _ensemble(
    args: argparse.Namespace,
    generator: SimpleDiffusionGenerator,
    training: Transitions,
    processes: Processes,
) -> TransitionEnsemble | None:
    """The regressions in the model's file, or new ones. These go there where samples are made
    consistent with them, and else serve the report alone, which may do without."""
    consistent = generator.consistency == "ensemble"
    step, path = max(checkpoint.steps(args.results_folder, "model").items())
    device = generator.model.device
    found = stored.load(path, device)
    enough = consistent or len(training) >= MIN_ROWS
    if found is None and processes.is_first and enough:
        found = fit_ensemble(training, seed=args.seed, device=device, at_most=2 * step)
        if consistent:
            stored.add(path, found)
    processes.wait()
    return found if found or not consistent else stored.load(path, device)


def _sample(
    args: argparse.Namespace,
    generator: SimpleDiffusionGenerator,
    path: Path,
    data: Transitions,
    processes: Processes,
) -> None:
    described = {key: data.metadata.get(key) for key in STATED if key in data.metadata}
    if generator.model.trained_on is not None:
        described |= generator.model.trained_on.metadata()
    generator.sample_to_file(
        args.save_num_samples,
        path,
        seed=args.seed,
        compress=args.compress,
        metadata={**described, "source": "SynthER"},
        processes=processes,
    )
    console.print(
        f"{path}: {args.save_num_samples} synthetic transitions, sampled in {generator.precision}",
        highlight=False,
    )
    if stage := generator.last_stage():
        console.print(f"{stage}", highlight=False)


def _report(
    folder: Path,
    samples: Path,
    split: Split,
    generator: SimpleDiffusionGenerator,
) -> None:
    # Here, since a command that only says its flags, or what is wrong with them, draws nothing.
    from synther.diffusion.fidelity.marginals_plot import plot_marginals

    training, held_out = split.training, split.held_out
    terminals = generator.layout.terminals
    # Rows are independent, so the head of the file stands for all of it.
    synthetic = Transitions.load(samples, limit=REPORT_ROWS)
    scores = report(training, synthetic, held_out, terminals=terminals, reference=split.reference)
    law = generator.ensemble and generator.ensemble.cpu()
    verdict = held_out and judge(
        training,
        held_out,
        synthetic,
        terminals=terminals,
        successors=law,
        unseen=split.reference == HELD_OUT,
    )
    scores.save(folder / "fidelity.json", {"synthetic": verdict.to_plain()} if verdict else {})
    picture = plot_marginals(
        held_out or training,
        synthetic,
        folder / "marginals.png",
        fidelity=scores.comparisons["synthetic"],
        terminals=terminals,
    )
    if (asked := generator.target) is not None:
        console.print(f"The samples were asked for {asked}, the real rows are as they come:")
    console.print(scores.table(), soft_wrap=False)
    if verdict:
        console.print(verdict.table(), *verdict.reasons, sep="\n", soft_wrap=False)
    console.print(f"{folder / 'fidelity.json'}\n{picture}", highlight=False)


if __name__ == "__main__":
    main()
