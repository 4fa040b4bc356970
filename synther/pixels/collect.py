"""A small data set in V-D4RL's layout is rendered from a state agent, where V-D4RL is missing.

    python3 -m synther.pixels.collect --env cartpole-swingup-v0 --root vd4rl --level mixed \
        --agent online_logs/SAC_cartpole-swingup-v0/SAC_cartpole-swingup-v0_s0 --frames 10000

writes ``vd4rl/main/cartpole_swingup/mixed/84px/episodes-*.hdf5``. A run that was interrupted goes
on with the files that are missing.
"""

from __future__ import annotations

import synther.runs.interrupts  # noqa: F401 - first: Ctrl-C then ends the other imports quietly

# isort: split
import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from synther.datasets.vd4rl import read_vd4rl, write_vd4rl
from synther.datasets.vd4rl_files import FIRST, KEYS, LAST, MID
from synther.envs.pixels import PixelEnv, PixelSettings, Rendering
from synther.files.checkpoint import CheckpointError
from synther.learning.stored_actor import gaussian_at, load_actor
from synther.ranges import NotNegative, Pixels, Share
from synther.runs.commands import COUNT, SEED, argument, command_errors
from synther.runs.lock import FolderLock
from synther.runs.loggers import progress_bar

EPISODES_A_FILE = 5

StatePolicy = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""A flat state ``[O]`` -> an action ``[A]``."""


@dataclass(frozen=True)
class Behaviour:
    """The behaviour that acts the episodes.

    Args:
        policy: of a trained agent; None acts at random throughout.
        noise: standard deviation of Gaussian noise on the policy's actions. Each episode has its
            own, uniform from 0 to this, so that the data holds good and bad behaviour.
        random: share of the episodes that act uniformly at random.
    """

    policy: StatePolicy | None
    noise: float = 0.0
    random: float = 0.0


def load_state_policy(path: Path) -> StatePolicy:
    """The deterministic policy, the squashed mean of SAC's Gaussian.

    Args:
        path: the folder of an online run, or one of its checkpoints, which say themselves how wide
            the network's layers are.

    Raises:
        CheckpointError: no checkpoint, or not one of an online run.
    """
    actor = load_actor(path)

    def policy(state: NDArray[np.float32]) -> NDArray[np.float32]:
        return gaussian_at(actor, state)[0].tanh().numpy()

    return policy


def collect_episode(
    env: PixelEnv, behaviour: Behaviour, number: int, seed: int
) -> dict[str, np.ndarray]:
    """One episode's arrays by V-D4RL's keys; it depends on ``seed`` and ``number`` alone."""
    rng = np.random.default_rng([seed, number])
    at_random = behaviour.policy is None or rng.random() < behaviour.random
    noise = rng.uniform(0, behaviour.noise)
    env.reset(seed=int(rng.integers(2**31)))
    rows: dict[str, list[Any]] = {
        "observation": [env.frame],
        "action": [np.zeros(env.action_dim, np.float32)],
        "reward": [0.0],
        "discount": [1.0],
        "step_type": [FIRST],
    }
    ended = False
    while not ended:
        if at_random or behaviour.policy is None:
            action = rng.uniform(-1, 1, env.action_dim)
        else:
            action = behaviour.policy(env.state) + noise * rng.standard_normal(env.action_dim)
        taken = np.clip(action, -1, 1).astype(np.float32)
        _, reward, terminated, truncated, _ = env.step(taken)
        ended = terminated or truncated
        values = (env.frame, taken, reward, 0.0 if terminated else 1.0, LAST if ended else MID)
        for key, value in zip(KEYS, values, strict=True):
            rows[key].append(value)
    kinds = {"reward": np.float32, "discount": np.float32, "step_type": np.int64}
    return {key: np.asarray(values, kinds.get(key)) for key, values in rows.items()}


def collect(
    folder: Path, settings: PixelSettings, behaviour: Behaviour, *, frames: int, seed: int
) -> list[Path]:
    """Render whole episodes until there are ``frames`` pictures or more; the files.

    Files that are there already are kept, if they were made with the same settings and seed.

    Raises:
        ValueError: a number of frames that is not positive, or files of other settings.
        RenderingError: nothing can draw here.
    """
    if frames < 1:
        raise ValueError(f"--frames {frames}: expected 1 or more")
    at_random = 1.0 if behaviour.policy is None else behaviour.random
    acted = {"noise": behaviour.noise, "random": at_random}
    described = {**asdict(settings), **acted, "seed": seed}
    files: list[Path] = []
    done = 0
    with (
        FolderLock(folder) as lock,
        progress_bar(frames, "rendering", unit="frame") as bar,
    ):
        lock.acquire()
        env = PixelEnv(settings)
        while done < frames:
            path = folder / f"episodes-{len(files):04d}.hdf5"
            if path.is_file():  # of an earlier run; it appeared whole or not at all
                rows = _rows_of(path, described)
            else:
                first = EPISODES_A_FILE * len(files)
                rows = _write(
                    path, env, behaviour, range(first, first + EPISODES_A_FILE), described
                )
            files.append(path)
            done += rows
            bar.update(rows)
        env.close()
    return files


def _rows_of(path: Path, described: dict[str, Any]) -> int:
    episodes = read_vd4rl([path])
    differing = [key for key, value in described.items() if episodes.metadata.get(key) != value]
    if differing:
        raise ValueError(
            f"{path} was rendered with another {', '.join(differing)}; choose another --level, or "
            "remove the folder"
        )
    return len(episodes)


def _write(
    path: Path, env: PixelEnv, behaviour: Behaviour, numbers: range, described: dict[str, Any]
) -> int:
    seed = described["seed"]
    episodes = [collect_episode(env, behaviour, each, seed) for each in numbers]
    columns = {key: np.concatenate([episode[key] for episode in episodes]) for key in KEYS}
    returns = [round(float(episode["reward"].sum()), 2) for episode in episodes]
    write_vd4rl(path, columns, {**described, "returns": returns})
    return len(columns["reward"])


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python3 -m synther.pixels.collect",
        description="Render a data set in V-D4RL's layout from a state agent.",
    )
    add = parser.add_argument
    add("--env", required=True, help="of DeepMind Control, such as cartpole-swingup-v0")
    add("--root", type=Path, default=Path("vd4rl"), help="default: ./vd4rl")
    add("--level", default="mixed", help="name of the data set's folder (default: mixed)")
    add("--agent", type=Path, help="folder of an online_exp.py run; without it: random actions")
    text = "largest std of noise on the agent's actions"
    add("--noise", type=argument(NotNegative), default=0.0, help=text)
    text = "share of episodes with random actions"
    add("--random", type=argument(Share), default=0.0, help=text)
    add("--frames", type=COUNT, default=10_000, help="default: 10000")
    add("--image_size", type=argument(Pixels), default=84, help="default: 84")
    add("--rendering", choices=get_args(Rendering), default="full", help="plain is faster")
    add("--seed", type=SEED, default=0)
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """The command; see ``--help``."""
    args = build_parser().parse_args(argv)
    with command_errors(CheckpointError, resume=False):
        policy = load_state_policy(args.agent) if args.agent else None
        settings = PixelSettings(args.env, args.image_size, rendering=args.rendering)
        folder = data_folder(args.root, args.env, args.level, args.image_size)
        behaviour = Behaviour(policy, args.noise, args.random)
        files = collect(folder, settings, behaviour, frames=args.frames, seed=args.seed)
        sys.stdout.write(f"{folder}: {len(files)} files\n")


def data_folder(root: Path, env_id: str, level: str, image_size: int) -> Path:
    """``<root>/main/<task>/<level>/<size>px``, as V-D4RL has it."""
    task = env_id.removesuffix("-v0").replace("-", "_")
    return root / "main" / task / level / f"{image_size}px"


if __name__ == "__main__":
    main()
