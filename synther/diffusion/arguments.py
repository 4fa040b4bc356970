"""The command line of ``train_diffuser.py``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import get_args

from synther.diffusion.fidelity.held_out import HELD_OUT_ROWS
from synther.diffusion.generation.presets import SAMPLER_NAMES
from synther.envs import Backend
from synther.runs.commands import SEED, THREADS, add_logging_arguments


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Train a diffusion model on transitions and sample new ones from it."
    )
    add = parser.add_argument
    add(
        "--dataset",
        default="halfcheetah-medium-replay-v2",
        help="D4RL name, name of a shipped set, Minari id, or path of an .hdf5 or .npz "
        "(default: %(default)s)",
    )
    add(
        "--gin_config_files",
        nargs="*",
        default=["config/resmlp_denoiser.gin"],
        metavar="FILE",
        help="default: config/resmlp_denoiser.gin",
    )
    add(
        "--gin_params",
        nargs="*",
        default=[],
        metavar="NAME=VALUE",
        help="bindings that go over the files, such as Trainer.train_num_steps=2000",
    )
    add("--results_folder", type=Path, default=Path("results"), help="default: ./results")
    add("--seed", type=SEED, default=0, help="default: 0")
    add(
        "--held_out",
        type=float,
        default=0.1,
        metavar="SHARE",
        help=f"rows kept from training to measure the samples against, at most {HELD_OUT_ROWS}; "
        "0 trains on all (default: %(default)s)",
    )
    earlier = parser.add_mutually_exclusive_group()
    earlier.add_argument(
        "--resume", action="store_true", help="continue the run in --results_folder"
    )
    earlier.add_argument(
        "--load_checkpoint",
        action="store_true",
        help="train nothing: sample from the latest checkpoint in --results_folder",
    )
    device = parser.add_argument_group("device")
    _add_device_arguments(device)
    add_deterministic(device)
    add_backend(device)
    _add_sample_arguments(parser.add_argument_group("samples"))
    add_logging_arguments(parser, project="synther", group="diffusion_training")
    return parser


def _add_device_arguments(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--device", default="auto", help="auto, cpu, cuda or cuda:<n> (default: auto)"
    )
    for flag, device in (("--use_gpu", "auto"), ("--no_use_gpu", "cpu")):
        group.add_argument(
            flag,
            action="store_const",
            const=device,
            dest="device",
            help=f"the same as --device {device}",
        )
    group.add_argument(
        "--threads", type=THREADS, default=0, help="of the CPU; 0, the default, takes every core"
    )


def add_deterministic(parser: argparse._ActionsContainer) -> None:
    """``--deterministic``, see :func:`synther.runs.runtime.use_deterministic_kernels`."""
    parser.add_argument(
        "--deterministic",
        action="store_true",
        help="the same bits from every run on the same machine, also on CUDA, where it costs some "
        "speed; a CPU gives them anyway",
    )


def add_backend(parser: argparse._ActionsContainer) -> None:
    """``--backend``, see :mod:`synther.envs.legacy`."""
    parser.add_argument(
        "--backend",
        choices=get_args(Backend),
        help="gym: environments and D4RL's data through gym 0.23, d4rl and mujoco-py, see "
        "docs/legacy.md (default: $SYNTHER_BACKEND, else gymnasium)",
    )


def _add_sample_arguments(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--save_samples", action="store_true", default=True, help="write samples (the default)"
    )
    group.add_argument("--no_save_samples", action="store_false", dest="save_samples")
    group.add_argument(
        "--save_num_samples", type=int, default=5_000_000, help="rows (default: %(default)s)"
    )
    group.add_argument(
        "--save_file_name",
        default="5m_samples.npz",
        help="in --results_folder (default: %(default)s)",
    )
    group.add_argument(
        "--sampler",
        choices=SAMPLER_NAMES,
        help="paper: 128 steps of the stochastic sampler; fast: indistinguishable, for fewer "
        "network calls; or a sampler with the steps and schedule of the gin files, which also have "
        "the default",
    )
    group.add_argument(
        "--compress", action="store_true", help="a smaller file that takes longer to write"
    )
