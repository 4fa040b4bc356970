"""Data sets of the four kinds that D4RL has are collected here, where D4RL's are not at hand.

    python3 -m synther.datasets.collect hopper-medium-replay maze2d-umaze --folder collected

======================  ===========================================================================
``TASK-random``         uniform actions
``TASK-medium``         the policy of SAC after ``--medium_steps`` steps
``TASK-medium-replay``  all transitions that SAC met on the way there, in their order
``TASK-expert``         the policy of SAC after ``--expert_steps`` steps
``TASK-medium-expert``  half of ``medium``, half of ``expert``
``maze2d-SIZE``         a scripted controller that drives to random targets (``maze_controller.py``)
======================  ===========================================================================

TASK is ``hopper``, ``halfcheetah`` or ``walker2d`` on the exact ``-v2`` physics, SIZE ``umaze``,
``medium`` or ``large``. SAC is ``online_exp.py``'s, with its defaults. Each ``.npz`` holds whole
episodes, but that of a replay ends where SAC did, mostly in the middle of one. It says in its
metadata by which command, seed and budget it was made, the hash of its content, and the return of
its own behaviour, beside which an agent's score is to be read.

What is there is left alone, and a run that was stopped goes on where it stopped.
"""

from __future__ import annotations

import argparse
import fnmatch
import hashlib
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from synther.datasets.recording import behaviour_of, content_hash, record_episodes
from synther.envs import make_env
from synther.envs.maze2d import LAYOUTS
from synther.envs.maze_controller import MazeController
from synther.ranges import CountFrom0, Finite, problem
from synther.runs.commands import COUNT, SEED, UsageError, command_errors
from synther.runs.lock import FolderLock
from synther.transitions import Transitions

TASKS = {"hopper": "Hopper-v2", "halfcheetah": "HalfCheetah-v2", "walker2d": "Walker2d-v2"}
KINDS = ("random", "medium-replay", "medium", "expert", "medium-expert")
NAMES = (
    *(f"{task}-{kind}" for task in TASKS for kind in KINDS),
    *(f"maze2d-{size}" for size in LAYOUTS),
)
DEPENDS = {
    "random": ("seed", "rows"),
    "medium-replay": ("seed", "medium_steps", "gin_params"),
    "medium": ("seed", "medium_steps", "rows", "gin_params"),
    "expert": ("seed", "expert_steps", "rows", "gin_params"),
    "medium-expert": ("seed", "medium_steps", "expert_steps", "rows", "gin_params"),
}
"""The parts of a budget that a data set of each kind depends on; a maze as random data."""
STATED: dict[str, Any] = {
    "budget": Mapping[str, Any],
    "content_hash": str,
    "episodes": CountFrom0,
    "episode_return": Mapping[str, Finite],
    "score": Finite,
}
"""What the metadata of a file say; without whole episodes there is no return, and without
reference scores no score."""
EPOCH = 1000
"""Steps of SAC between two evaluations; a shorter run has one at its end."""
CONTROLLER_NOISE = 0.5
console = Console(soft_wrap=True, markup=False, highlight=False)


class CollectError(RuntimeError):
    """A data set that could not be made, or a file that is another one."""


@dataclass(frozen=True)
class Budget:
    """What the collected data depend on.

    Args:
        seed: of SAC, and of the episodes that are recorded.
        medium_steps, expert_steps: environment steps of SAC: whole thousands, or fewer than one.
        rows: of a data set at least, but for a replay, which has a row for each step of SAC.
        gin_params: bindings that go over the defaults of the SAC run.
    """

    seed: int = 0
    medium_steps: int = 60_000
    expert_steps: int = 300_000
    rows: int = 100_000
    gin_params: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("medium_steps", "expert_steps"):
            steps = getattr(self, name)
            if steps < 1 or (steps > EPOCH and steps % EPOCH):
                raise UsageError(
                    f"--{name} {steps}: expected a whole number of thousands, or fewer than one"
                )
        if self.expert_steps <= self.medium_steps:
            raise UsageError(
                f"--expert_steps {self.expert_steps}: expected more than --medium_steps "
                f"{self.medium_steps}"
            )

    def words(self) -> list[str]:
        """The budget as flags of the command."""
        flags = {name: value for name, value in asdict(self).items() if name != "gin_params"}
        words = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
        return [*words, *(("--gin_params", *self.gin_params) if self.gin_params else ())]


class Collection:
    """The data sets of one budget in one folder.

    Args:
        folder: ``NAME.npz`` of each data set, and under ``runs`` what they are made from.
        budget: see :class:`Budget`.
    """

    def __init__(self, folder: Path, budget: Budget) -> None:
        self.folder, self.budget = folder, budget

    def path(self, name: str) -> Path:
        """The data set's file, made where it is missing.

        Raises:
            CollectError: SAC failed, or the file is there with another budget, with other rows than
                it states, or without what the metadata of a collected file state.
            ValueError: no such name.
        """
        if name not in NAMES:
            raise ValueError(f"{name}: no such collection; there are {', '.join(NAMES)}")
        path = self.folder / f"{name}.npz"
        if path.is_file():
            self._require_same(path, name)
            return path
        task, _, kind = name.partition("-")
        made = self._maze(f"{name}-v1") if task == "maze2d" else self._of_task(task, kind)
        metadata = {**made.metadata, **self._described(name), **behaviour_of(made)}
        metadata["content_hash"] = content_hash(made)
        return replace(made, metadata=metadata).save(path, compress=True)

    def _described(self, name: str) -> dict[str, Any]:
        words = ["python3", "-m", "synther.datasets.collect", name, *self.budget.words()]
        budget: dict[str, Any] = asdict(self.budget)
        budget["gin_params"] = list(self.budget.gin_params)
        return {"dataset": name, "source": "collected", "command": shlex.join(words),
                "seed": self.budget.seed, "budget": budget}  # fmt: skip

    def _require_same(self, path: Path, name: str) -> None:
        """Refuse a file of another budget, as far as it depends on it, and one that was changed."""
        data = Transitions.load(path)
        task, _, kind = name.partition("-")
        names = DEPENDS["random" if task == "maze2d" else kind]
        learnt = {"behaviour_command": str | list[str]} if "gin_params" in names else {}
        _require_stated(path, data.metadata, {**STATED, **learnt})
        found, expected = data.metadata["budget"], self._described(name)["budget"]
        if any(found.get(key) != expected[key] for key in names):
            raise _refused(path, f"was collected with the budget {found}, not {expected}")
        stated, now = data.metadata["content_hash"], content_hash(data)
        if stated != now:
            raise _refused(
                path, f"its rows have the SHA-256 {now:.12}, and not {stated:.12} as it states"
            )

    def _of_task(self, task: str, kind: str) -> Transitions:
        budget = self.budget
        if kind == "random":
            return self._random(TASKS[task])
        if kind == "medium-replay":
            return self._replay(task, budget.medium_steps)
        if kind == "medium-expert":
            parts = [Transitions.load(self.path(f"{task}-{part}")) for part in kind.split("-")]
            both = Transitions.concatenate([_first_half(part) for part in parts])
            commands = [part.metadata["behaviour_command"] for part in parts]
            return replace(both, metadata={"env_id": TASKS[task], "behaviour_command": commands})
        steps = budget.medium_steps if kind == "medium" else budget.expert_steps
        return self._policy(task, steps)

    def _random(self, env_id: str) -> Transitions:
        env = make_env(env_id)
        assert env.action_space.shape
        width = env.action_space.shape[0]
        env.close()
        return self._recorded(env_id, lambda rng: lambda _: rng.uniform(-1, 1, width))

    def _maze(self, env_id: str) -> Transitions:
        return self._recorded(env_id, lambda rng: MazeController(env_id, rng, CONTROLLER_NOISE))

    def _recorded(self, env_id: str, behaviour: Callable[..., Any]) -> Transitions:
        return record_episodes(env_id, behaviour, rows=self.budget.rows, seed=self.budget.seed)

    def _replay(self, task: str, steps: int) -> Transitions:
        """All transitions of a SAC run, oldest first."""
        run, words = self._sac(task, steps)
        replay = Transitions.load(run.parent / f"{run.name}-replay.npz")
        return replace(
            replay, metadata={"env_id": TASKS[task], "behaviour_command": shlex.join(words)}
        )

    def _policy(self, task: str, steps: int) -> Transitions:
        """Episodes of the policy that a SAC run ended with."""
        run, words = self._sac(task, steps)
        # The two halves of a mix begin their episodes in different states.
        seed = self.budget.seed + (steps == self.budget.expert_steps)
        # The seed of the play as well: the expert of one budget may be the medium of another.
        played = run.parent / f"{run.name}-{self.budget.rows}-rows-s{seed}.npz"
        if not played.is_file():
            _start("synther.online.play_policy", run, "--rows", self.budget.rows,
                   "--seed", seed, "--save", played)  # fmt: skip
        metadata = {"env_id": TASKS[task], "behaviour_command": shlex.join(words)}
        return replace(Transitions.load(played), metadata=metadata)

    def _sac(self, task: str, steps: int) -> tuple[Path, list[str]]:
        """The folder of a finished SAC run, trained where it is missing, and its command."""
        epoch, budget = min(steps, EPOCH), self.budget
        name = f"SAC-{steps}"
        runs = self.folder / "runs"
        if budget.gin_params:  # other bindings make other runs
            runs /= hashlib.sha256("\n".join(budget.gin_params).encode()).hexdigest()[:8]
        run = runs / f"{name}_{TASKS[task]}" / f"{name}_{TASKS[task]}_s{budget.seed}"
        replay = run.parent / f"{run.name}-replay.npz"
        bindings = (
            f"redq_sac.epochs = {steps // epoch}",
            *((f"redq_sac.steps_per_epoch = {epoch}",) if epoch != EPOCH else ()),
            *budget.gin_params,
        )
        words = ["--env", TASKS[task], "--seed", str(budget.seed), "--exp_name", name,
                 "--gin_params", *bindings]  # fmt: skip
        if not replay.is_file():
            resume = ("--resume",) if run.is_dir() else ()
            _start("synther.online.online_exp", *words, "--results_folder", runs,
                   "--save_replay", replay, *resume)  # fmt: skip
        return run, ["python3", "synther/online/online_exp.py", *words]


def _require_stated(path: Path, metadata: Mapping[str, Any], kinds: Mapping[str, Any]) -> None:
    """Refuse a file whose metadata are not of the kinds that a collected file's are."""
    given = {"episode_return": {}, "score": 0.0, **metadata}
    for key, kind in kinds.items():
        value = given.get(key)
        if expected := problem(value, kind):
            raise _refused(path, f"in its metadata '{key}' is {value!r:.80}, expected {expected}")


def _refused(path: Path, why: str) -> CollectError:
    return CollectError(f"{path}: {why}; remove the file, or choose another --folder")


def _first_half(transitions: Transitions) -> Transitions:
    """The first half of the rows, and the rest of the episode that the half ends in."""
    assert transitions.timeouts is not None
    ends = (transitions.terminals > 0) | transitions.timeouts
    half = len(transitions) // 2
    return transitions.subset(slice(half + int(ends[half - 1 :].argmax())))


def _start(module: str, *words: object) -> None:
    """Run a command of the project, which shows its own progress."""
    command = ["-m", module, *map(str, words)]
    console.print(f"$ python3 {shlex.join(command)}")
    done = subprocess.run([sys.executable, *command])
    if done.returncode:
        raise CollectError(
            f"python3 -m {module} ended with exit code {done.returncode}, for the reason above; "
            "the same command again goes on from its last checkpoint"
        )


def table(paths: Sequence[Path]) -> Table:
    """Rows, episodes, and the behaviour's own return and score of each file."""
    title = "Collected, with the return of the behaviour itself"
    shown = Table(title=title, box=SIMPLE_HEAD, padding=0)  # so that 80 columns hold it
    shown.add_column("data set", no_wrap=True)
    for heading in ("rows", "episodes", "mean\nreturn", "std", "score", "SHA-256"):
        shown.add_column(heading, justify="right", overflow="fold")
    for path in paths:
        data = Transitions.load(path)
        stated = data.metadata
        returns = stated.get("episode_return", {})
        numbers = (returns.get("mean"), returns.get("std"), stated.get("score"))
        cells = ["" if number is None else f"{number:.1f}" for number in numbers]
        shown.add_row(path.stem, str(len(data)), str(stated["episodes"]), *cells,
                      stated["content_hash"][:12])  # fmt: skip
    return shown


def build_parser() -> argparse.ArgumentParser:
    default = Budget()
    parser = argparse.ArgumentParser(
        prog="python3 -m synther.datasets.collect",
        description="Collect data sets of D4RL's four kinds with SAC, and of maze2d with a script.",
    )
    add = parser.add_argument
    add("names", nargs="*", default=["*"], metavar="NAME",
        help="such as hopper-medium or 'hopper-*' (default: all)")  # fmt: skip
    add("--folder", type=Path, default=Path("collected"), help="default: collected")
    add("--seed", type=SEED, default=default.seed)
    add("--medium_steps", type=COUNT, default=default.medium_steps, metavar="STEPS",
        help=f"of SAC, for medium and medium-replay (default: {default.medium_steps})")  # fmt: skip
    add("--expert_steps", type=COUNT, default=default.expert_steps, metavar="STEPS",
        help=f"of SAC, for expert (default: {default.expert_steps})")  # fmt: skip
    add("--rows", type=COUNT, default=default.rows,
        help=f"of a data set at least, but for replays (default: {default.rows})")  # fmt: skip
    add("--gin_params", nargs="*", default=[], metavar="NAME=VALUE",
        help="bindings over those of the SAC run, such as 'redq_sac.batch_size = 128'")  # fmt: skip
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """The command; see ``--help``."""
    args = build_parser().parse_args(argv)
    with command_errors(CollectError, resume=False):
        wanted = [name for name in NAMES if any(fnmatch.fnmatch(name, p) for p in args.names)]
        for pattern in args.names:
            if not fnmatch.filter(NAMES, pattern):
                raise UsageError(f"{pattern}: no such data set; there are {', '.join(NAMES)}")
        collection = Collection(args.folder, Budget(
            args.seed, args.medium_steps, args.expert_steps, args.rows, tuple(args.gin_params)
        ))  # fmt: skip
        with FolderLock(args.folder) as lock:
            lock.acquire()
            console.print(table([collection.path(name) for name in wanted]))


if __name__ == "__main__":
    main()
