"""The command that learns online: SAC, REDQ, or SynthER, which learns from synthetic rows as well.

    python3 synther/online/online_exp.py --env HalfCheetah-v2 --results_folder online_logs/ \
        --exp_name SynthER --gin_config_files 'config/online/sac_synther_openai.gin' \
        --gin_params 'redq_sac.utd_ratio = 20' 'redq_sac.num_samples = 1000000'

``{results_folder}/{exp_name}_{env}/{exp_name}_{env}_s{seed}`` then holds ``metrics.jsonl`` and
``progress.txt`` (one line for each epoch), ``refills.jsonl``, ``config.gin``, the newest diffusion
model under ``diffusion/``, and what ``--resume`` needs.
"""

from __future__ import annotations

import synther.runs.interrupts  # noqa: F401 - first: Ctrl-C then ends the other imports quietly

# isort: split
import argparse
import contextlib
import os
import shlex
import sys
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import gin
import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from synther.datasets.files import DATA_SUFFIXES
from synther.datasets.hdf5_writer import write_hdf5
from synther.datasets.outputs import require_replaceable
from synther.diffusion.generation.generator import SamplingError
from synther.diffusion.utils import layout_of
from synther.envs import make_env, use_backend
from synther.files import atomic
from synther.online.config import MBPO_EPOCHS, OTHER_EPOCHS, OnlineConfig, require_configured
from synther.online.loop import OnlineRun
from synther.runs import commands, gin_config
from synther.runs.command_line import WITHOUT_DATA, CommandParser
from synther.runs.commands import add_backend, add_deterministic
from synther.runs.folder import PREFIX, RunFolder
from synther.runs.lock import FolderLock
from synther.runs.loggers import open_adapters, require_services
from synther.runs.precision import settled
from synther.runs.runtime import (
    resolve_device,
    say_what_waits,
    seed_everything,
    use_deterministic_kernels,
)
from synther.runs.settings import keywords
from synther.transitions import TransitionLayout, Transitions

DEFAULTS = ("redq_sac.target_entropy = 'auto'",)
"""These are bound before the files are read, so that a file or ``--gin_params`` goes over them."""
DEBUG = (
    "redq_sac.hidden_sizes = (8, 8)", "redq_sac.batch_size = 8", "redq_sac.utd_ratio = 2",
    "redq_sac.num_Q = 3", "redq_sac.max_ep_len = 100", "redq_sac.start_steps = 100",
    "redq_sac.steps_per_epoch = 100", "redq_sac.epochs = 4", "redq_sac.n_evals_per_epoch = 2",
    "redq_sac.n_mc_eval = 50", "redq_sac.retrain_diffusion_every = 200",
    "redq_sac.num_samples = 200", "ResidualMLPDenoiser.mlp_width = 16",
    "ResidualMLPDenoiser.num_layers = 1", "ResidualMLPDenoiser.dim_t = 8",
    "REDQTrainer.train_num_steps = 50", "SimpleDiffusionGenerator.num_sample_steps = 4",
)  # fmt: skip
"""These make a run of seconds that goes through everything that a long one does."""
WITHOUT_EFFECT = ("redq_sac.checkpoint_every", "redq_sac.print_buffer_stats")
"""A resumed run may have other values of these."""
DONE = "the run is done and saved: --resume, with a --save_replay that works, writes the replay"
OWN = (
    "config.gin", "progress.txt", "refills.jsonl", f"{PREFIX}-*.pt", "replay", "synthetic-*.npy",
    "diffusion",
)  # fmt: skip
"""What a run writes into its folder."""
console = Console(soft_wrap=True, markup=False)  # a path stays whole, brackets and all


def build_parser() -> CommandParser:
    parser = CommandParser(
        "SAC, REDQ or SynthER on an environment; which of them, the gin files say.",
        "synther online --env cheetah-run-v0 --exp_name SynthER \\\n"
        "      --gin_config_files config/online/sac_synther_dmc_small.gin",
        synonyms=WITHOUT_DATA,
    )
    add = parser.add_argument
    add("--env", help="environment, over redq_sac.env_name (default: quadruped-walk-v0)")
    text = "arguments of the environment, as JSON: '{\"gravity\": 1.6}'; over redq_sac.env_kwargs"
    add("--env_kwargs", metavar="JSON", help=text)
    add("--seed", type=commands.SEED, help="over redq_sac.seed (default: 0)")
    add("--exp_name", default="redq_sac", help="first part of the run's name (default: redq_sac)")
    add("--results_folder", type=Path, help="where runs go (default: online_logs)")
    add("--data_dir", type=Path, default=Path("online_logs"), help="its name in the release")
    add(
        "--gin_config_files",
        nargs="*",
        default=["config/online/sac.gin"],
        metavar="FILE",
        help="settings; later files win (default: config/online/sac.gin)",
    )
    add(
        "--gin_params",
        nargs="*",
        default=[],
        metavar="NAME=VALUE",
        help="bindings that go over the files, such as 'redq_sac.epochs = 20'",
    )
    add("--debug", action="store_true", help="tiny networks and few steps: does it run at all?")
    text = "go on with the run of this name, env and seed; with more redq_sac.epochs also with one "
    text += "that is done"
    add("--resume", action="store_true", help=text)
    add("--device", default="auto", help="auto, cpu, cuda or cuda:<n> (default: auto)")
    add_deterministic(parser)
    add_backend(parser)
    add(
        "--threads",
        type=commands.THREADS,
        default=0,
        help="CPU threads of the diffusion model; 0, the default, is every core "
        "(the agent's small networks are fastest on one)",
    )
    add(
        "--save_replay",
        type=Path,
        metavar="PATH",
        help="write the real replay at the end: .hdf5, D4RL's layout with time-outs, or .npz",
    )
    commands.add_logging_arguments(
        parser, project="synther-online", group=None, names=("--project_name",)
    )
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """The command; see ``--help``."""
    words = list(sys.argv[1:] if argv is None else argv)
    parser = build_parser()
    args = parser.parse_args(words)
    if args.save_replay and args.save_replay.suffix not in DATA_SUFFIXES:
        parser.error(f"--save_replay {args.save_replay}: expected a name in .hdf5 or .npz")
    with commands.command_errors(SamplingError):
        if args.save_replay:
            _require_writable(args.save_replay)
        run(args, words)


def run(args: argparse.Namespace, words: Sequence[str]) -> None:
    """Train, or go on with it, and write the replay where that was asked for."""
    gin_config.parse(bindings=DEFAULTS)
    gin_config.parse(args.gin_config_files, clear=False)
    gin_config.parse(bindings=[*(DEBUG if args.debug else ()), *args.gin_params], clear=False)
    env_kwargs = None if args.env_kwargs is None else keywords(args.env_kwargs, "--env_kwargs")
    given = {"env_name": args.env, "seed": args.seed, "env_kwargs": env_kwargs}
    config = OnlineConfig(**{key: value for key, value in given.items() if value is not None})
    if args.save_replay:
        rows = min(config.total_steps, config.replay_size)
        require_replaceable(args.save_replay, "--save_replay", "replay", rows)
    for missing in config.without_effect():
        warnings.warn(missing, stacklevel=1)
    if args.deterministic:
        use_deterministic_kernels()
    use_backend(args.backend)
    device = resolve_device(args.device)
    require_services(args)
    say_what_waits(device, config.compile, "redq_sac.compile")
    config = replace(config, precision=settled(config.precision, device))
    # Before the run has a folder, or costs an earlier one its own.
    layout = _layout_of(config)
    if not config.disable_diffusion:
        require_configured(layout, config.model_terminals)
    seed_everything(config.seed)  # for libraries that draw from the global generators
    name = f"{args.exp_name}_{config.env_name}".replace("/", "_").replace(":", "_")
    folder = (args.results_folder or args.data_dir) / name / f"{name}_s{config.seed}"
    bindings = gin_config.bindings_of(gin.config_str())
    settings = {"env": config.env_name, "seed": config.seed} | {
        name: repr(value) for name, value in bindings.items() if name not in WITHOUT_EFFECT
    }
    if config.env_kwargs:
        settings["env_kwargs"] = repr(dict(config.env_kwargs))
    if "redq_sac.precision" in settings:
        settings["redq_sac.precision"] = repr(config.precision)  # what auto turned out to be
    with FolderLock(folder) as lock:
        if args.resume:  # what there is to go on from is read below
            lock.acquire()
        claimed = RunFolder(
            folder,
            "run.json",
            settings,
            {"redq_sac.eval_workers"},
            own=OWN,
            lengths=("redq_sac.epochs",),
            steps_of=lambda value: _epochs(config.env_name, value),
        )
        if args.resume and claimed.file.exists():
            claimed.require_same()
        training = OnlineRun(
            config, folder, device=device, threads=args.threads, resume=args.resume
        )
        # All that can be wrong has shown itself before an earlier run is set aside.
        lock.acquire()
        training.adapters = open_adapters(folder, settings, args)
        claimed.claim(resume=args.resume)
        atomic.write_text(folder / "config.gin", gin.config_str())
        with commands.naming_last_checkpoint(folder, PREFIX):
            training.train()
        console.print(f"{folder}: {training.step} steps", highlight=False)
        if args.save_replay:
            with commands.noting(DONE):
                _save_replay(args.save_replay, training, words)


def _layout_of(config: OnlineConfig) -> TransitionLayout:
    env_name = config.env_name
    try:
        with contextlib.closing(make_env(env_name, **config.env_arguments)) as env:
            return layout_of(env)
    except TypeError as error:  # actions or observations of another kind
        raise ValueError(f"--env {env_name}: {error}") from error


def _epochs(env_name: str, written: str) -> int | None:
    """The number of epochs that a run's settings say; None where that is no number."""
    if written in ("not set", "'mbpo'"):
        return MBPO_EPOCHS.get(env_name.rsplit("-", 1)[0], OTHER_EPOCHS)
    return int(written) if written.isdigit() else None


def _require_writable(path: Path) -> None:
    """Find out before the run that the replay cannot be written after it."""
    there = next(each for each in path.absolute().parents if each.exists())
    if path.is_dir():
        raise ValueError(f"--save_replay {path}: is a folder; name a file")
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise ValueError(f"--save_replay {path}: {there} cannot be written; name another file")


def _save_replay(path: Path, training: OnlineRun, words: Sequence[str]) -> None:
    transitions, timeouts = training.transitions()
    asked = [word for word in words if word != "--resume"]
    metadata: dict[str, Any] = {
        "command": shlex.join(["python3", "synther/online/online_exp.py", *asked]),
        "seed": training.config.seed,
        "steps": training.step,
        **_episodes(transitions, timeouts),
    }
    if path.suffix == ".npz":
        described = {**transitions.metadata, **metadata}
        replace(transitions, metadata=described).save(path, compress=True)
    else:
        write_hdf5(path, transitions, timeouts, metadata)
    console.print(f"{path}: {len(transitions)} transitions", highlight=False)


def _episodes(transitions: Transitions, timeouts: NDArray[np.bool_]) -> dict[str, Any]:
    """Number and returns of the episodes that ended; the first may have lost its beginning."""
    ends = np.flatnonzero(timeouts | (transitions.terminals > 0))
    sums = np.cumsum(transitions.rewards, dtype=np.float64)[ends]
    returns = np.diff(sums, prepend=0.0)
    if not len(returns):
        return {"episodes": 0}
    summary = {"mean": returns.mean(), "min": returns.min(), "max": returns.max()}
    rounded = {key: round(float(value), 1) for key, value in summary.items()}
    return {"episodes": len(returns), "episode_return": rounded}


if __name__ == "__main__":
    main()
