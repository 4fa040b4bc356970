"""The short way from the command line: a file of transitions becomes a file of new ones.

synther upsample data.npz --num 100000 --output samples.npz
synther upsample data.npz --condition return --target 'top 10%'
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import get_type_hints

from synther.datasets import as_transitions
from synther.datasets.outputs import require_other_file, require_replaceable
from synther.diffusion.conditioning.values import file_of, name_of
from synther.errors import InputError
from synther.files import checkpoint
from synther.files.checkpoint import CheckpointError
from synther.ranges import Finite
from synther.runs.command_line import CommandParser
from synther.runs.commands import COUNT, SEED, argument, command_errors
from synther.transitions import TransitionError
from synther.upsampling.config import UpsampleConfig, with_condition
from synther.upsampling.upsampler import Upsampler
from synther.upsampling.verdict import FidelityWarning

SETTINGS = {
    "steps": "training steps",
    "width": "of the denoiser's layers",
    "num_layers": "residual blocks of the denoiser",
    "batch_size": "rows a step",
    "learning_rate": "at the start",
    "sampler": "fast, paper, or a sampler's name",
    "consistency": "ensemble or off: whether the end of a row is made to agree with its beginning",
}


def main(argv: Sequence[str] | None = None) -> None:
    """The command; see ``--help``."""
    args = build_parser().parse_args(argv)
    with command_errors(TransitionError, resume=False):
        run(args)


def build_parser() -> CommandParser:
    """The command line; see ``--help``."""
    parser = CommandParser(
        "Train a diffusion model on transitions and write new ones, with a verdict.",
        "synther upsample data.npz --num 100000 --output samples.npz",
    )
    add = parser.add_argument
    add("data", help="an .npz or .hdf5 file, or a data set's name, such as hopper-demo-v0")
    text = "new transitions (default: as many as the data have)"
    add("--num", type=COUNT, metavar="ROWS", help=text)
    text = "file of the new transitions (default: NAME-OF-THE-DATA-synthetic.npz, here)"
    add("--output", type=Path, metavar="FILE", help=text)
    text = "keep the model too; --diffusion.path of the offline commands takes it"
    add("--save_model", type=Path, metavar="FILE", help=text)
    add("--seed", type=SEED, default=0, help="of all that is random (default: 0)")
    add("--device", default="auto", help="auto, cpu, cuda or cuda:<n> (default: auto)")
    group = parser.add_argument_group(
        "the model", "what is not given is chosen by the number of rows and the device"
    )
    kinds = get_type_hints(UpsampleConfig, include_extras=True)
    for name, text in SETTINGS.items():
        group.add_argument(f"--{name}", type=argument(kinds[name]), metavar=name.upper(), help=text)
    group = parser.add_argument_group(
        "what samples are asked for", "nothing, where no condition is given: rows as they come"
    )
    text = "return, reward, a column such as observations[3], or an .npy of a value for each row"
    group.add_argument("--condition", metavar="NAME", help=text)
    text = "a number, a label, or a quantile such as 'top 10%%'"
    group.add_argument("--target", metavar="WHAT", help=text)
    kind = argument(Finite)
    text = "how strongly (default: 1); 2 goes beyond the target's own rows, for twice the time"
    group.add_argument("--guidance", type=kind, metavar="W", help=text)
    return parser


def run(args: argparse.Namespace) -> None:
    """Train, sample, write."""
    output: Path = args.output or Path(f"{Path(args.data).stem}-synthetic.npz")
    if output.suffix != ".npz":
        raise ValueError(f"--output {output}: expected a name in .npz")
    given = {name: getattr(args, name) for name in SETTINGS}
    config = {name: value for name, value in given.items() if value is not None}
    condition: str = args.condition or ""
    values = file_of(condition)
    upsampler = Upsampler(
        with_condition(config, name_of(condition), args.target, args.guidance),
        device=args.device,
        seed=args.seed,
    )
    data = as_transitions(args.data)
    count = args.num or len(data)
    _require_places(args, output, count)
    target = None
    if known := upsampler.condition_of(data, values):
        known.asked(target := known.meant(args.target), count)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FidelityWarning)  # the verdict's own line says it
        upsampler.fit(data, values)
    if args.save_model:
        sys.stdout.write(f"{upsampler.save(args.save_model)}\n")
    samples = upsampler.sample(count, target=target, guidance=args.guidance)
    sys.stdout.write(f"{samples.save(output)}: {len(samples)} synthetic transitions\n")


def _require_places(args: argparse.Namespace, output: Path, count: int) -> None:
    """Refuse to lose a file before the minutes of training."""
    require_other_file(output, "--output", [args.data])
    asked = f"--num {count}" if args.num else f"{count} (as many as the data have)"
    require_replaceable(output, "--output", "samples", count, asked)
    if (model := args.save_model) is None:
        return
    if model.resolve() == output.resolve():
        raise InputError(f"--save_model {model}: is --output too; give the model another name")
    require_other_file(model, "--save_model", [args.data])
    if model.is_dir():
        raise InputError(f"--save_model {model}: is a folder; name a file")
    if model.exists() and not _is_model(model):
        raise InputError(
            f"--save_model {model}: is there already, and is no model that this command wrote; "
            "choose another name, or move the file away"
        )


def _is_model(path: Path) -> bool:
    try:
        return "upsampler" in checkpoint.load(path)
    except CheckpointError:
        return False


if __name__ == "__main__":
    main()
