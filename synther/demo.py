"""This command does the main job in a few minutes on two CPU cores, on the data set inside.

    synther demo

It trains a diffusion model, samples from it, measures the samples, then trains TD3+BC once on the
real transitions and once on the synthetic ones, and it shows the command of each step. Each of them
can be stopped; with ``--resume`` the first that is not done goes on where it stood.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from synther.datasets import load_dataset
from synther.runs.command_line import CommandParser
from synther.runs.commands import COUNT, Exit, command_errors

DATASET = "hopper-demo-v0"
YAML = "synther/corl/yaml/td3_bc/hopper/medium_replay_v2.yaml"
console = Console(highlight=False)


def main(argv: Sequence[str] | None = None) -> None:
    """The command; see ``--help``."""
    args = build_parser().parse_args(argv)
    with command_errors():
        _demonstrate(args)


def _demonstrate(args: argparse.Namespace) -> None:
    diffusion = args.folder / "diffusion"
    samples = diffusion / "samples.npz"
    begun = args.resume and (diffusion / "run.json").exists()
    _command(
        "train",
        *("--dataset", DATASET),
        *("--gin_config_files", "config/resmlp_demo_denoiser.gin"),
        *(("--gin_params", f"Trainer.train_num_steps={args.steps}") if args.steps else ()),
        *("--results_folder", diffusion),
        *("--save_num_samples", args.num_samples),
        *("--save_file_name", samples.name),
        *(["--resume"] if begun else []),
    )
    resume = ["--resume"] if args.resume else []
    agents, source = args.folder / "td3_bc", ("--diffusion.path", samples)
    runs = {
        "Real": _train_agent(agents, "Real", args.updates, *resume),
        "SynthER": _train_agent(agents, "SynthER", args.updates, *source, *resume),
    }
    console.print()
    console.print(_summary(diffusion, runs))
    console.print("Files and pictures:")
    for path in (
        *sorted(diffusion.glob("model-*.pt")),
        samples,
        diffusion / "fidelity.json",
        diffusion / "marginals.png",
        *(run / "result.json" for run in runs.values()),
    ):
        console.print(f"  {path}", soft_wrap=True, markup=False)


def build_parser() -> CommandParser:
    """The command line; see ``--help``."""
    parser = CommandParser(
        "Train, sample, measure and learn on the data set that ships inside.",
        "synther demo --steps 1000 --num_samples 10000 --updates 1000",
    )
    add = parser.add_argument
    text = "folder of all that it makes (default: ./%(default)s)"
    add("--folder", type=Path, default=Path("demo_results"), help=text)
    text = "rows to sample (default: %(default)s)"
    add("--num_samples", type=COUNT, default=50_000, metavar="ROWS", help=text)
    text = "training steps of the diffusion model (default: 8000, as its gin file says)"
    add("--steps", type=COUNT, metavar="STEPS", help=text)
    text = "of TD3+BC, on either source (default: %(default)s)"
    add("--updates", type=COUNT, default=4_000, metavar="UPDATES", help=text)
    text = "go on with what is in the folder, with the flags that it began with"
    add("--resume", action="store_true", help=text)
    return parser


def _command(verb: str, *arguments: object) -> None:
    """Show a command as a person would type it, and run it."""
    words = ["-m", "synther", *verb.split(), *map(str, arguments)]
    console.print(
        f"\n$ {shlex.join(['python3', *words])}", style="bold", soft_wrap=True, markup=False
    )
    with subprocess.Popen([sys.executable, *words]) as process:
        try:
            code = process.wait()
        except KeyboardInterrupt:  # the command has it too, and leaves once it can be resumed
            code = process.wait() or Exit.INTERRUPTED
    if code == Exit.INTERRUPTED:
        console.print("the demo goes on with: synther demo --resume, and the flags that it had")
    if code:
        raise SystemExit(code)


def _train_agent(folder: Path, name: str, updates: int, *flags: object) -> Path:
    """TD3+BC on one source of transitions; the folder of its run."""
    _command(
        "offline td3_bc",
        *("--config", YAML),
        *("--env", DATASET),
        *("--name", name),
        *("--checkpoints_path", folder),
        *("--max_timesteps", updates),
        *("--eval_freq", max(1, updates // 2)),
        *flags,
    )
    # A run that is resumed and done is not the newest, where another length was tried after it.
    done = [
        path
        for path in folder.glob(f"{name}-*/result.json")
        if json.loads(path.read_text())["config"]["max_timesteps"] == updates
    ]
    return max(done, key=lambda path: path.stat().st_mtime).parent


def _summary(diffusion: Path, runs: dict[str, Path]) -> Table:
    """What came out, real beside synthetic."""
    fidelity = json.loads((diffusion / "fidelity.json").read_text())
    results = {name: json.loads((run / "result.json").read_text()) for name, run in runs.items()}
    episodes = load_dataset(DATASET).metadata["episode_return"]
    table = Table(title=f"SynthER on {DATASET}", box=SIMPLE_HEAD)
    table.add_column("")
    table.add_column("real", justify="right")
    table.add_column("synthetic", justify="right")
    for score in ("marginal", "correlation"):
        real, synthetic = (fidelity[rows][score] for rows in ("training", "synthetic"))
        table.add_row(f"{score} fidelity to held-out rows", f"{real:.4f}", f"{synthetic:.4f}")
    number = results["Real"]["config"]["n_episodes"]
    for key, what in (("return", "return"), ("score", "normalised score")):
        values = [results[name][f"last_{key}"][0] for name in ("Real", "SynthER")]
        table.add_row(f"TD3+BC {what}, {number} episodes", *(f"{value:.1f}" for value in values))
    table.caption = (
        f"returns in the data: mean {episodes['mean']}, best {episodes['max']}; one seed of a "
        "short run, no comparison of methods"
    )
    return table


if __name__ == "__main__":
    main()
