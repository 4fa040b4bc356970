"""This command says how good samples are.

It measures similarity to held-out real rows, dynamics in the real simulator, and novelty, beside
the same for the real rows themselves and, on request, for other methods.

    python3 synther/diffusion/evaluate_samples.py --real hopper-demo-v0 \\
        --synthetic results/samples.npz --baselines noise,multiplicative,gmm

``--output`` then holds ``fidelity.json``, ``correlations.png``, ``novelty.png``,
``projection.png``, and ``marginals-{name}.png`` for each set of samples, each also as ``.pdf``.
"""

from __future__ import annotations

import synther.runs.interrupts  # noqa: F401 - first: Ctrl-C then ends the other imports quietly

# isort: split
import argparse
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from rich.console import Console

from synther.datasets import in_action_bounds, load_dataset, with_action_bounds
from synther.diffusion.elucidated_diffusion import ElucidatedDiffusion
from synther.diffusion.fidelity import plots
from synther.diffusion.fidelity.assessment import assess
from synther.diffusion.fidelity.baselines import make_baseline, parse_baseline
from synther.diffusion.fidelity.held_out import split_like_training
from synther.diffusion.fidelity.likelihood import held_out_log_likelihood
from synther.diffusion.fidelity.marginals_plot import plot_marginals
from synther.diffusion.fidelity.verdict import judge
from synther.diffusion.generation.generator import SamplingError, SimpleDiffusionGenerator
from synther.diffusion.model_io import load_model
from synther.envs import use_backend
from synther.envs.names import other_environment
from synther.files import atomic
from synther.runs.command_line import CommandParser
from synther.runs.commands import (
    COUNT,
    SEED,
    THREADS,
    add_action_units,
    add_backend,
    add_deterministic,
    command_errors,
)
from synther.runs.runtime import cpu_threads, resolve_device, use_deterministic_kernels
from synther.transitions import TransitionLayout, Transitions

LIKELIHOOD_ROWS = 1000
"""The number of rows whose likelihood is computed; each costs some hundred network calls."""
OWN_NAMES = ("held_out", "training", "reference")
"""What the report itself calls a part of it."""


def main(argv: Sequence[str] | None = None) -> None:
    """The command; see ``--help``."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.log_likelihood and not any(path.suffix == ".pt" for path in args.synthetic):
        parser.error("--log_likelihood is of a model: name a .pt in --synthetic")
    if args.names and (count := len(args.names)) != len(args.synthetic):
        parser.error(f"--names: {count} names for {len(args.synthetic)} files of --synthetic")
    with command_errors(SamplingError, resume=False), cpu_threads(args.threads):
        run(args)


def build_parser() -> CommandParser:
    parser = CommandParser(
        "Compare samples with real rows: similarity, dynamics, novelty.",
        "synther evaluate --real hopper-demo-v0 --synthetic results/5m_samples.npz",
    )
    add = parser.add_argument
    add(
        "--real",
        required=True,
        metavar="DATASET",
        help="what the model was trained on: a data set's name, or the path of an .hdf5 or .npz",
    )
    add(
        "--synthetic",
        required=True,
        nargs="+",
        type=Path,
        metavar="FILE",
        help="samples (.npz) or models (.pt), one or more; run.json beside them, as "
        "train_diffuser.py writes it, says which rows they did not see",
    )
    add(
        "--names",
        nargs="+",
        metavar="NAME",
        help="what the files of --synthetic are called in tables and pictures, one for each "
        "(default: the files' own names)",
    )
    add(
        "--baselines",
        type=lambda text: [name for name in text.split(",") if name],
        default=[],
        metavar="NAME,...",
        help="other ways to more rows: noise, multiplicative (both with a level if you like, "
        "noise=0.3), gmm, vae, ctgan; the last three need the extra baselines",
    )
    text = "of vae and ctgan (default: %(default)s)"
    add("--baseline_epochs", type=COUNT, default=300, help=text)
    add("--output", type=Path, help="folder (default: fidelity/ beside the first of --synthetic)")
    add("--env", help="the simulator (default: the one that the data set names)")
    text = "compare samples of another environment than the data set's"
    add("--any_environment", action="store_true", help=text)
    add(
        "--num_samples",
        type=COUNT,
        default=20_000,
        help="rows from each model and each baseline (default: %(default)s)",
    )
    add(
        "--num_steps",
        type=COUNT,
        default=128,
        help="of the sampler, where a model is sampled; a preset has its own (default: "
        "%(default)s)",
    )
    add(
        "--sampler",
        help="a preset (paper, fast) or a sampler by name (default: the model's own)",
    )
    add(
        "--max_rows",
        type=COUNT,
        default=10_000,
        help="of each set, drawn at random: so many go into the simulator and are compared with "
        "every training row; all other numbers use all rows (default: %(default)s)",
    )
    add(
        "--log_likelihood",
        action="store_true",
        help="of the held-out rows under each model (.pt), into log_likelihood.json; minutes for "
        "a large one",
    )
    add("--seed", type=SEED, default=0, help="of all that is random (default: 0)")
    add("--device", default="auto", help="auto, cpu, cuda or cuda:<n> (default: auto)")
    add("--threads", type=THREADS, default=0, help="CPU threads; 0, the default, is every core")
    add_action_units(parser)
    add_deterministic(parser)
    add_backend(parser)
    return parser


def run(args: argparse.Namespace) -> None:
    """Load or sample, measure, write."""
    console = Console(width=None if Console().is_terminal else 120, highlight=False, markup=False)
    if args.deterministic:
        use_deterministic_kernels()
    use_backend(args.backend)
    for name in args.baselines:
        parse_baseline(name)  # a typing error is to be found before the work, not after it
    files = _files(args)
    output: Path = args.output or args.synthetic[0].parent / "fidelity"
    data = with_action_bounds(
        load_dataset(args.real), env_id=args.env, low=args.action_low, high=args.action_high
    )
    real = split_like_training(data, args.synthetic)
    terminals = bool(data.terminals.any())  # a column of zeros says nothing
    samples = {name: _rows_of(path, args, data) for name, path in files.items()}
    for name in args.baselines:
        console.print(f"baseline {name}")
        samples[name] = make_baseline(
            name,
            real.training,
            args.num_samples,
            seed=args.seed,
            terminals=terminals,
            epochs=args.baseline_epochs,
        )
    report, measures = assess(
        real,
        samples,
        env_id=args.env or data.metadata.get("env_id"),
        terminals=terminals,
        max_rows=args.max_rows,
        seed=args.seed,
    )
    output.mkdir(parents=True, exist_ok=True)
    verdicts = {
        name: judge(
            real.training,
            real.held_out,
            rows,
            terminals=terminals,
            unseen=real.unseen,
            seed=args.seed,
        )
        for name, rows in samples.items()
    }
    plain = {name: verdict.to_plain() for name, verdict in verdicts.items()}
    written = [report.save(output / "fidelity.json", plain)]
    for name, rows in samples.items():
        written.append(
            plot_marginals(
                real.held_out,
                rows,
                output / _picture(name),
                fidelity=report.comparisons[name],
                terminals=terminals,
            )
        )
    layout = TransitionLayout.of(data, terminals=terminals)
    written += [
        plots.plot_correlations(layout, real.training, samples, output / "correlations.png"),
        plots.plot_projection(layout, real.training, samples, output / "projection.png"),
        plots.plot_novelty(measures, output / "novelty.png"),
    ]
    if args.log_likelihood:
        written.append(_likelihoods(args, real.held_out, output / "log_likelihood.json", console))
    console.print(report.table())
    for name, verdict in verdicts.items():
        console.print(verdict.table(name), *verdict.reasons, sep="\n")
    for note in (f"held-out rows: {real.note}", *report.notes()):
        console.print(note)
    console.print("\n".join(map(str, written)), soft_wrap=True)


def _files(args: argparse.Namespace) -> dict[str, Path]:
    """Each file by its name: the one given, or its own, with its folder's where two are alike."""
    paths: Sequence[Path] = args.synthetic
    names = args.names or [path.stem for path in paths]
    if not args.names and len(set(names)) < len(names):
        names = [f"{path.resolve().parent.name}/{path.stem}" for path in paths]
    if len(set(names)) < len(names):
        twice = max(names, key=names.count)
        raise ValueError(f"--synthetic: two files have the name {twice}; --names gives them others")
    taken = dict.fromkeys(args.baselines, "a baseline")
    taken |= dict.fromkeys(OWN_NAMES, "a part of the report")
    pictures: dict[str, str] = {}
    for name, path in zip(names, paths, strict=True):
        if name in taken:
            raise ValueError(
                f"{path}: the name {name} is that of {taken[name]}; --names gives the file another"
            )
        if (other := pictures.setdefault(_picture(name), name)) != name:
            raise ValueError(
                f"{path}: the names {other} and {name} are of one picture, {_picture(name)}; "
                "--names gives others"
            )
    return dict(zip(names, paths, strict=True))


def _picture(name: str) -> str:
    return f"marginals-{name.replace('/', '-')}.png"


def _rows_of(path: Path, args: argparse.Namespace, data: Transitions) -> Transitions:
    rows = _sample(path, args, data) if path.suffix == ".pt" else Transitions.load(path)
    found, expected = (TransitionLayout.of(each) for each in (rows, data))
    if found != expected:
        raise ValueError(
            f"{path}: {found.observation_dim} observation and {found.action_dim} action columns, "
            f"{args.real} has {expected.observation_dim} and {expected.action_dim}"
        )
    other = other_environment(rows.metadata.get("env_id"), data.metadata.get("env_id"))
    if other and not args.any_environment:
        raise ValueError(
            f"{path}: {other} ({args.real}); --any_environment compares them all the same"
        )
    bounds = data.action_bounds
    if bounds is None or rows.action_bounds is None:
        return rows
    return in_action_bounds(rows, bounds.low, bounds.high)


def _load(
    path: Path, args: argparse.Namespace, data: Transitions
) -> tuple[ElucidatedDiffusion, TransitionLayout]:
    loaded = load_model(path, resolve_device(args.device))
    return loaded.model, loaded.layout_for(data.observation_dim, data.action_dim)


def _likelihoods(
    args: argparse.Namespace, held_out: Transitions, path: Path, console: Console
) -> Path:
    """Write and say how likely the held-out rows are under each model."""
    found = {}
    for name, file in _files(args).items():
        if file.suffix == ".pt":
            model, layout = _load(file, args, held_out)
            rows = layout.pack(held_out)
            found[name] = held_out_log_likelihood(
                model, rows, max_rows=min(args.max_rows, LIKELIHOOD_ROWS), seed=args.seed
            )
            console.print(
                f"{name}: log-likelihood of {found[name].rows} held-out rows "
                f"{found[name].mean:.2f} +- {found[name].standard_error:.2f} nats"
            )
    atomic.write_json(path, {name: asdict(each) for name, each in found.items()})
    return path


def _sample(path: Path, args: argparse.Namespace, data: Transitions) -> Transitions:
    model, layout = _load(path, args, data)
    generator = SimpleDiffusionGenerator(
        layout,
        model,
        args.num_steps,
        sample_batch_size=10_000,
        sampler=args.sampler,
    )
    rows = Transitions(*generator.sample(args.num_samples, seed=args.seed), source=str(path))
    return replace(rows, metadata=model.trained_on.metadata()) if model.trained_on else rows


if __name__ == "__main__":
    main()
