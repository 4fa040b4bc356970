"""Whole episodes of an online run's policy are recorded as a data set.

    python3 -m synther.online.play_policy online_logs/SAC_Hopper-v2/SAC_Hopper-v2_s0 \
        --rows 100000 --seed 0 --save hopper-medium.npz

Actions are drawn from the policy's Gaussian, as those of D4RL's data sets were; ``--mean`` takes
its squashed mean instead.
"""

from __future__ import annotations

import argparse
import ast
import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from synther.datasets.outputs import require_replaceable
from synther.datasets.recording import Behaviour, Policy, record_episodes
from synther.envs import time_limit
from synther.files import checkpoint
from synther.files.checkpoint import CheckpointError
from synther.learning.nets import StackedMLP
from synther.learning.stored_actor import gaussian_at, load_actor
from synther.online.config import OnlineConfig
from synther.online.redq_sac import LOG_STD_BOUNDS
from synther.runs.commands import COUNT, SEED, command_errors
from synther.runs.runtime import RL_THREADS, cpu_threads


def behaviour_of_run(actor: StackedMLP, *, stochastic: bool = True) -> Behaviour:
    """The policy of :func:`load_actor`: drawn from its squashed Gaussian, or that one's mean."""

    def begin(rng: np.random.Generator) -> Policy:
        def act(observation: NDArray[np.float32]) -> NDArray[np.float32]:
            mean, log_std = gaussian_at(actor, observation)
            if stochastic:
                noise = torch.from_numpy(rng.standard_normal(len(mean), np.float32))
                mean = mean + log_std.clamp(*LOG_STD_BOUNDS).exp() * noise
            return mean.tanh().numpy()

        return act

    return begin


@dataclass(frozen=True)
class Environment:
    """In which an agent was trained.

    Args:
        name: of ``make_env``.
        kwargs: its arguments.
        max_ep_len: after so many steps an episode was cut off, where its own limit was not lower.
    """

    name: str
    kwargs: dict[str, Any]
    max_ep_len: int

    @property
    def limit(self) -> int:
        """The time limit of its episodes."""
        return min(self.max_ep_len, time_limit(self.name, **self.kwargs) or self.max_ep_len)


def environment_of(run: Path) -> Environment:
    """The environment of the online run in this folder.

    Raises:
        CheckpointError: there is none.
    """
    path = run / "run.json"
    if not path.is_file():
        raise CheckpointError(f"{run}: no online run is here (run.json is missing)")
    with checkpoint.fitting(path, "not the settings of an online run"):
        said = json.loads(path.read_text(encoding="utf-8"))
        # Values are written as Python has them; what the run left at its default is not there.
        kwargs = ast.literal_eval(said.get("env_kwargs", "{}"))
        longest = ast.literal_eval(said.get("redq_sac.max_ep_len", str(OnlineConfig.max_ep_len)))
        return Environment(str(said["env"]), dict(kwargs), int(longest))


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python3 -m synther.online.play_policy",
        description="Record whole episodes of an online run's policy as a data set.",
    )
    add = parser.add_argument
    add("run", type=Path, help="folder of an online_exp.py run")
    add("--save", type=Path, required=True, metavar="PATH", help="of the .npz to write")
    add("--rows", type=COUNT, default=100_000, help="at least (default: 100000)")
    add("--seed", type=SEED, default=0)
    add("--mean", action="store_true", help="the policy's mean, without its noise")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """The command; see ``--help``."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.save.suffix != ".npz":
        parser.error(f"--save {args.save}: expected a name in .npz")
    with command_errors(CheckpointError, resume=False), cpu_threads(RL_THREADS):
        require_replaceable(args.save, "--save", "played", args.rows)
        behaviour = behaviour_of_run(load_actor(args.run), stochastic=not args.mean)
        played_in = environment_of(args.run)
        played = record_episodes(
            played_in.name,
            behaviour,
            rows=args.rows,
            seed=args.seed,
            max_episode_steps=played_in.limit,
            env_kwargs=played_in.kwargs,
        )
        words = shlex.join(sys.argv[1:] if argv is None else argv)
        said = {"source": "played", "command": f"python3 -m synther.online.play_policy {words}"}
        replace(played, metadata={**played.metadata, **said}).save(args.save)
        sys.stdout.write(f"{args.save}: {len(played)} transitions\n")


if __name__ == "__main__":
    main()
