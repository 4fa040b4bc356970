"""The command line of ``train_diffuser.py``."""

from __future__ import annotations

import argparse
from pathlib import Path

from synther.diffusion.conditioning.arguments import add_condition, add_target
from synther.diffusion.fidelity.held_out import HELD_OUT_ROWS
from synther.diffusion.generation.consistency import CONSISTENCIES
from synther.diffusion.generation.presets import SAMPLER_NAMES
from synther.ranges import Beta, Rows
from synther.runs import commands
from synther.runs.command_line import CommandParser
from synther.runs.commands import SEED, THREADS, add_backend, add_deterministic, argument

HELD_OUT_SHARE = 0.1


def build_parser() -> CommandParser:
    """The command line; see ``--help``."""
    parser = CommandParser(
        "Train a diffusion model on transitions, sample new ones from it, and measure them.",
        "synther train --dataset hopper-demo-v0 --save_num_samples 50000 \\\n"
        "      --gin_config_files config/resmlp_demo_denoiser.gin",
    )
    add = parser.add_argument
    text = "D4RL name, name of a shipped set, Minari id, or path of an .hdf5 or .npz"
    add("--dataset", default="halfcheetah-medium-replay-v2", help=f"{text} (default: %(default)s)")
    gin_file = "config/resmlp_denoiser.gin"
    text = f"settings; later files win (default: {gin_file})"
    add("--gin_config_files", nargs="*", default=[gin_file], metavar="FILE", help=text)
    text = "bindings that go over the files, such as Trainer.train_num_steps=2000"
    add("--gin_params", nargs="*", default=[], metavar="NAME=VALUE", help=text)
    text = "folder of all that the run makes (default: ./results)"
    add("--results_folder", type=Path, default=Path("results"), metavar="FOLDER", help=text)
    add("--seed", type=SEED, default=0, help="of all that is random (default: 0)")
    text = f"rows kept from training to measure the samples against, at most {HELD_OUT_ROWS}; "
    text += "0 trains on all (default: %(default)s)"
    add("--held_out", type=argument(Beta), default=HELD_OUT_SHARE, metavar="SHARE", help=text)
    add_condition(parser)
    add = parser.add_mutually_exclusive_group().add_argument
    text = "continue the run in --results_folder; with a greater Trainer.train_num_steps also one "
    text += "that is done: a cosine learning rate then follows that of the new length"
    add("--resume", action="store_true", help=text)
    text = "train nothing: sample from the latest checkpoint in --results_folder, which --dataset "
    text += "was trained on"
    add("--load_checkpoint", action="store_true", help=text)
    commands.add_action_units(parser.add_argument_group("units of the actions"))
    _add_device_arguments(parser.add_argument_group("device"))
    _add_sample_arguments(parser.add_argument_group("samples"))
    commands.add_logging_arguments(parser, project="synther", group="diffusion_training")
    return parser


def _add_device_arguments(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--device", default="auto", help="auto, cpu, cuda or cuda:<n> (default: auto)")
    for flag, device in (("--use_gpu", "auto"), ("--no_use_gpu", "cpu")):
        text = f"the same as --device {device}"
        add(flag, action="store_const", const=device, dest="device", help=text)
    add("--threads", type=THREADS, default=0, help="CPU threads; 0, the default, is every core")
    add_deterministic(group)
    add_backend(group)


def _add_sample_arguments(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--save_samples", action="store_true", default=True, help="write samples (the default)")
    add("--no_save_samples", action="store_false", dest="save_samples", help="write no samples")
    add(
        "--save_num_samples",
        type=argument(Rows),
        default=5_000_000,
        help="rows (default: %(default)s)",
    )
    text = "in --results_folder (default: by their number, such as 5m_samples.npz)"
    add("--save_file_name", metavar="NAME", help=text)
    text = (
        "paper: 128 steps of the stochastic sampler; fast: indistinguishable, for fewer network "
        "calls; or a sampler with the steps and schedule of the gin files, which also have the "
        "default"
    )
    add("--sampler", choices=SAMPLER_NAMES, help=text)
    text = (
        "ensemble: next observation, reward and terminal of a sample are made to agree with its "
        "observation and action, by regressions on the real rows; the gin files have the default"
    )
    add("--consistency", choices=CONSISTENCIES, help=text)
    add_target(group)
    add("--compress", action="store_true", help="a smaller file that takes longer to write")


def samples_name(rows: int) -> str:
    """The file of so many samples: ``5m_samples.npz``, ``50k_samples.npz``, ``123_samples.npz``."""
    for unit, letter in ((1_000_000, "m"), (1000, "k")):
        if rows % unit == 0:
            return f"{rows // unit}{letter}_samples.npz"
    return f"{rows}_samples.npz"
