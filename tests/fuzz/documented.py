"""The table of docs/bad_input.md, made by giving each bad input to the code.

python -m tests.fuzz.documented          # writes the table anew
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import gymnasium
import h5py
import numpy as np
import torch

from synther.corl.algorithms.td3_bc import TD3BC, TD3BCConfig
from synther.corl.shared.command import command
from synther.datasets import load_dataset
from synther.diffusion import train_diffuser
from synther.diffusion.generation.generator import SimpleDiffusionGenerator
from synther.diffusion.model_io import load_model
from synther.diffusion.provenance import TRAINED_ON, Provenance
from synther.files import checkpoint
from synther.online import online_exp
from synther.runs.commands import Exit, exit_code, message_of
from synther.runs.lock import FolderLock
from synther.transitions import TransitionLayout, Transitions
from synther.upsampling import command as upsample_command
from tests.corl.helpers import write_model
from tests.data import random_transitions
from tests.environments import register

PAGE = Path(__file__).parents[2] / "docs" / "bad_input.md"
BEGIN, END = "<!-- table -->\n", "<!-- end of table -->\n"
ROWS = random_transitions(6)


class _Bomb:
    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, ("true",)


def _npz(path: Path, **changes: np.ndarray | None) -> Path:
    arrays = {**ROWS.arrays(), **changes}
    kept = {name: array for name, array in arrays.items() if array is not None}
    np.savez(path, **kept)  # type: ignore[arg-type]
    return path


def _with(array: np.ndarray, value: float) -> np.ndarray:
    changed = array.copy()
    changed[3] = value
    return changed


def _cut(path: Path, share: float = 0.5) -> Path:
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    return path


def _hdf5(path: Path, **changes: object) -> Path:
    with h5py.File(path, "w") as file:
        for name, array in {**ROWS.arrays(), "timeouts": np.zeros(6, bool), **changes}.items():
            if array is not None:
                file[name] = array
    return path


def _pendulum(path: Path, scale: float = 1, env_id: str = "Pendulum-v1") -> Path:
    rows = random_transitions(60, 3, 1)
    return replace(rows, actions=scale * rows.actions, metadata={"env_id": env_id}).save(path)


def _samples(path: Path) -> Path:
    return replace(random_transitions(60, 3, 1), metadata={"source": "SynthER"}).save(path)


def _model(path: Path) -> Path:
    """A model of other data than the demo's, of as many columns, in a run's folder."""
    hopper = TransitionLayout(11, 3)
    zeros = {key: 0 * array for key, array in random_transitions(60, 11, 3).arrays().items()}
    others = Transitions.from_arrays(zeros, metadata={"dataset": "mine"})
    learnt = {TRAINED_ON: Provenance.of(others, held_out=0.1, seed=0).to_plain()}
    return checkpoint.save(path, {**checkpoint.load(write_model(path, hopper)), **learnt})


def _flipped(path: Path) -> Path:
    checkpoint.save(path, {"w": torch.zeros(1000)})
    content = bytearray(path.read_bytes())
    content[content.find(b"\0" * 2000) + 1000] ^= 1
    path.write_bytes(content)
    return path


def _saved(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


def _text(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def _offline(*words: str) -> Callable[[Path], object]:
    return lambda folder: command(TD3BCConfig, TD3BC, list(words))


def _yaml(text: str) -> Callable[[Path], object]:
    return lambda folder: command(
        TD3BCConfig, TD3BC, ["--config", str(_text(folder / "run.yaml", text))]
    )


def _diffuser(*words: str) -> Callable[[Path], object]:
    return lambda folder: train_diffuser.main(["--results_folder", str(folder / "run"), *words])


def _online(*words: str) -> Callable[[Path], object]:
    return lambda folder: online_exp.main([*words, "--results_folder", str(folder / "run")])


class Broken(gymnasium.Env):  # type: ignore[type-arg]
    """Gives a NaN for a reward at step 60."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
    steps = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        return np.zeros(2, np.float32), {}

    def step(self, action: Any) -> Any:
        self.steps += 1
        return np.zeros(2, np.float32), np.nan if self.steps == 60 else 0.0, False, False, {}


register(Broken, max_episode_steps=20)
F4 = np.float32
_TINY_ONLINE = ("--env", "Pendulum-v1", "--debug", "--exp_name", "try")


def _while_held(folder: Path, *words: str) -> None:
    """An online run in a folder that this process works in."""
    run = folder / "run" / "try_Pendulum-v1" / "try_Pendulum-v1_s0"
    with FolderLock(run) as lock:
        lock.acquire()
        _online(*words)(folder)


def _beside_online_run(folder: Path) -> None:
    _pendulum(folder / "mine.npz")
    (folder / "run").mkdir()
    _text(folder / "run" / "run.json", "{}")
    _saved(folder / "run" / "checkpoint-9.pt", {})
    train_diffuser.main(_tiny_diffusion(folder))


def _tiny_diffusion(folder: Path, steps: int = 4) -> list[str]:
    sizes = ("mlp_width=8", "num_layers=1", "dim_t=8")
    return [
        *("--dataset", str(folder / "mine.npz"), "--results_folder", str(folder / "run")),
        *(
            "--save_file_name",
            "samples.npz",
            "--save_num_samples",
            "10",
            "--device",
            "cpu",
            "--threads",
            "1",
            "--gin_params",
        ),
        *(f"ResidualMLPDenoiser.{size}" for size in sizes),
        *("SimpleDiffusionGenerator.num_sample_steps=2", f"Trainer.train_num_steps={steps}"),
    ]


def _twice(folder: Path, *words: str, steps: int = 4, rows: Transitions | None = None) -> None:
    """A run of four steps, then ``words``."""
    _pendulum(folder / "mine.npz")
    train_diffuser.main(_tiny_diffusion(folder))
    if rows is not None:
        rows.save(folder / "mine.npz")
    train_diffuser.main([*_tiny_diffusion(folder, steps), *words])


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


def _without_key(folder: Path) -> None:
    with (
        mock.patch("synther.runs.wandb_logs.imported") as wandb,
        mock.patch.dict(os.environ, {"WANDB_API_KEY": ""}),
    ):
        wandb.return_value.api.api_key = None
        _online(*_TINY_ONLINE, "--wandb-mode", "online")(folder)


def _with_wandb_mode(folder: Path, mode: str) -> None:
    with mock.patch.dict(os.environ, {"WANDB_MODE": mode}):
        _online(*_TINY_ONLINE)(folder)


CASES: dict[str, Callable[[Path], object]] = {
    "A name that is no data set": lambda f: load_dataset("hoper-medium-v2"),
    "A path that is not there": lambda f: load_dataset(f / "mine.npz"),
    "A path below a home that is not there": lambda f: load_dataset("~nobody-here/mine.npz"),
    "A file of another kind": lambda f: load_dataset(_text(f / "mine.csv", "1,2")),
    "`.npz`: cut off": lambda f: load_dataset(_cut(_npz(f / "mine.npz"))),
    "`.npz`: an array missing": lambda f: load_dataset(_npz(f / "mine.npz", rewards=None)),
    "`.npz`: objects, which only a pickle can hold": lambda f: load_dataset(
        _npz(f / "mine.npz", rewards=np.array([None] * 6))
    ),
    "`.npz`: text for numbers": lambda f: load_dataset(
        _npz(f / "mine.npz", rewards=np.array(["high"] * 6))
    ),
    "`.npz`: lengths that differ": lambda f: load_dataset(
        _npz(f / "mine.npz", rewards=np.zeros(5, F4))
    ),
    "`.npz`: a NaN": lambda f: load_dataset(
        _npz(f / "mine.npz", rewards=_with(ROWS.rewards, np.nan))
    ),
    "`.npz`: a terminal of 0.7": lambda f: load_dataset(
        _npz(f / "mine.npz", terminals=_with(ROWS.terminals, 0.7))
    ),
    "`.npz`: discrete actions": lambda f: load_dataset(
        _npz(f / "mine.npz", actions=np.arange(6)[:, None])
    ),
    "`.npz`: bounds of actions that are none": lambda f: load_dataset(
        _npz(f / "mine.npz", action_low=np.array(1), action_high=np.array([-1, 1]))
    ),
    "Actions far outside those of their environment": lambda f: _offline(
        "--env", str(_pendulum(f / "mine.npz", 100))
    )(f),
    "Samples of another environment": lambda f: _offline(
        *("--env", str(_pendulum(f / "mine.npz"))),
        *("--diffusion.path", str(_pendulum(f / "samples.npz", env_id="Reacher-v5"))),
    )(f),
    "`--load_checkpoint` with other data than the model's": lambda f: _diffuser(
        *("--load_checkpoint", "--dataset", "hopper-demo-v0"),
        *("--results_folder", str(_model(f / "model-1.pt").parent)),
    )(f),
    "`.npz`: no rows": lambda f: load_dataset(
        Transitions.from_arrays({k: v[:0] for k, v in ROWS.arrays().items()}).save(f / "mine.npz")
    ),
    "HDF5: cut off": lambda f: load_dataset(_cut(_hdf5(f / "mine.hdf5"))),
    "HDF5: not HDF5 but a web page": lambda f: load_dataset(
        _text(f / "mine.hdf5", "<html>404 Not Found</html>")
    ),
    "HDF5: an array missing": lambda f: load_dataset(_hdf5(f / "mine.hdf5", actions=None)),
    "HDF5: a link out of the file": lambda f: load_dataset(
        _hdf5(f / "mine.hdf5", rewards=h5py.ExternalLink("/etc/passwd", "rewards"))
    ),
    "HDF5: neither time-outs nor next observations": lambda f: load_dataset(
        _hdf5(f / "mine.hdf5", timeouts=None, next_observations=None)
    ),
    "Rows in no order, and `--normalize_reward`": lambda f: _offline(
        "--env", str(_pendulum(f / "mine.npz")), "--normalize_reward", "true"
    )(f),
    "Checkpoint: cut off": lambda f: load_model(
        _cut(checkpoint.save(f / "model-1.pt", {"w": torch.zeros(1000)}))
    ),
    "Checkpoint: a bit that flipped on the disk": lambda f: load_model(_flipped(f / "model-1.pt")),
    "Checkpoint: a pickle that would run a command": lambda f: load_model(
        _saved(f / "model-1.pt", {"ema": _Bomb()})
    ),
    "Checkpoint: of something else": lambda f: load_model(_saved(f / "model-1.pt", {"w": 1})),
    "gin: an unknown parameter": _diffuser("--gin_params", "Trainer.train_steps=3"),
    "gin: an unknown name": _diffuser("--gin_params", "Trainr.train_num_steps=3"),
    "gin: a value of the wrong type": _diffuser("--gin_params", "Trainer.train_lr='fast'"),
    "gin: text without quotes": _diffuser("--gin_params", "Trainer.lr_scheduler=cosine"),
    "gin: a file that is not there": _diffuser("--gin_config_files", "/nowhere/a.gin"),
    "gin: a setting out of its range": _online("--gin_params", "redq_sac.utd_ratio=0"),
    "YAML: not YAML": _yaml("alpha: [1"),
    "YAML: an unknown key": _yaml("alhpa: 1"),
    "YAML: a value of the wrong type": _yaml("max_timesteps: soon"),
    "YAML: a Python object": _yaml("alpha: !!python/object/apply:os.system ['true']"),
    "Words: an unknown key": _offline("--alhpa", "1"),
    "Words: a value out of its range": _offline("--discount", "1.5"),
    "Words: `--diffusion.refresh` of rows that are made already": _offline(
        "--diffusion.path", "samples.npz", "--diffusion.refresh", "500"
    ),
    "Words: `--diffusion.refresh` after the last update": _offline(
        *("--diffusion.path", "model-1.pt", "--diffusion.refresh", "500"),
        *("--max_timesteps", "500"),
    ),
    "Words: `--diffusion.policy_guidance` without a refresh": _offline(
        "--diffusion.path", "model-1.pt", "--diffusion.policy_guidance", "2"
    ),
    "Words: a strength of guidance below 0": _offline("--diffusion.policy_guidance=-1"),
    "A policy of other actions than the model's": lambda f: SimpleDiffusionGenerator(
        TransitionLayout(11, 3), load_model(_model(f / "model-1.pt")).model
    ).sample(8, 0, policy=lambda observations: observations),
    "Words: an unknown device": _diffuser("--device", "gpu", "--dataset", "hopper-demo-v0"),
    "Words: an environment of discrete actions": _online("--env", "CartPole-v1"),
    "Words: an unknown environment": _online("--env", "HalfCheeta-v2"),
    "Words: a module that is not there": _online("--env", "no_such_module:ns/Env-v0"),
    "Words: an argument that the environment does not take": _online(
        "--env", "Pendulum-v1", "--env_kwargs", '{"gravty": 1.6}'
    ),
    "gin: a choice that is none": _diffuser("--gin_params", "Trainer.lr_scheduler='cosin'"),
    "Words: a seed of more than 64 bits": _online("--env", "Pendulum-v1", "--seed", str(2**64)),
    "A held-out share of one row": lambda f: _diffuser(
        "--dataset", str(random_transitions(14).save(f / "mine.npz"))
    )(f),
    "An environment that gives a NaN": _online(
        *("--env", "Broken-v0", "--debug", "--gin_config_files", "config/online/sac_small.gin")
    ),
    "Words: `--resume` where there is no run": _diffuser(
        "--resume", "--dataset", "hopper-demo-v0", "--gin_params", "ResidualMLPDenoiser.mlp_width=8"
    ),
    "A folder that another command works in": lambda f: _while_held(f, *_TINY_ONLINE),
    "A run of another command in the folder": lambda f: _beside_online_run(f),
    "Words: `--resume` with fewer steps": lambda f: _twice(f, "--resume", steps=3),
    "Words: `--resume` of a run whose data have changed": lambda f: _twice(
        f, "--resume", rows=random_transitions(60, 3, 1, seed=1)
    ),
    "Words: `--load_checkpoint` with fewer samples than there are": lambda f: _twice(
        f, "--load_checkpoint", "--save_num_samples", "9"
    ),
    "Words: `--save_file_name` that is the data set": lambda f: _diffuser(
        *("--dataset", str(_pendulum(f / "mine.npz")), "--save_file_name", str(f / "mine.npz")),
    )(f),
    "Words: `--output` that is the data": lambda f: upsample_command.main(
        [str(_pendulum(f / "mine.npz")), "--output", str(f / "mine.npz")]
    ),
    "Words: `--output` that is a file of other rows": lambda f: upsample_command.main(
        [str(_pendulum(f / "mine.npz")), "--output", str(_npz(f / "other.npz"))]
    ),
    "Words: `--output` that holds more samples": lambda f: upsample_command.main(
        [
            *(str(_pendulum(f / "mine.npz")), "--num", "10"),
            *("--output", str(_samples(f / "samples.npz"))),
        ]
    ),
    "Words: `--save_replay` that is a file of other rows": lambda f: _online(
        *_TINY_ONLINE, "--save_replay", str(_npz(f / "mine.npz"))
    )(f),
    "Words: `--save_replay` with the name of a folder": lambda f: _online(
        *_TINY_ONLINE, "--save_replay", str(_folder(f / "replay.npz"))
    )(f),
    "Words: `--wandb-mode online` without a key": lambda f: _without_key(f),
    "A `WANDB_MODE` that is none": lambda f: _with_wandb_mode(f, "onlin"),
}
_OF_MACHINE = re.compile(r"process \d+ on \S+ \([^)]*\) works in it since [\d :-]*\d")
"""Who holds a folder."""
_DIGEST = re.compile(r"\b[0-9a-f]{16}\b")
_OF_OTHERS = re.compile(r"\((?:File is|Unable|PytorchStream|while|Weights|checksum|could not).*\)")
"""What a library says of a damaged file, which its next version may say otherwise."""


def what_happens(case: Callable[[Path], object], folder: Path) -> tuple[int, str]:
    """Exit code and message."""
    err = io.StringIO()
    code: int | None = None
    with contextlib.redirect_stderr(err), contextlib.redirect_stdout(io.StringIO()):
        try:
            case(folder)
        except SystemExit as stop:
            code, message = int(stop.code or 0), err.getvalue().strip()
            message = message.rsplit("error: ", 1)[-1]  # after a progress bar, perhaps
            message = re.sub(
                r"^\S+: argument ", "argument ", message
            )  # whoever started the command
        except Exception as error:
            kind = exit_code(error)
            assert kind is not None
            code, message = int(kind), message_of(error, Exit(kind))
    assert code is not None, "it was taken for good input"
    plain = " ".join(message.replace(str(folder), "…").split())
    plain = _OF_MACHINE.sub("process … on … (…) works in it since …", plain)
    plain = _DIGEST.sub("…", plain)
    return code, _OF_OTHERS.sub("(…)", plain)


def table() -> str:
    lines = ["| Input | Exit code | What it says |", "|---|---|---|"]
    for name, case in CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            code, message = what_happens(case, Path(folder))
        shown = message.replace("|", "\\|").replace("`", "'")
        lines.append(f"| {name} | {code} | `{shown}` |")
    return "\n".join(lines) + "\n"


def table_of_page() -> str:
    """The table as the page has it."""
    text = PAGE.read_text(encoding="utf-8")
    return text[text.index(BEGIN) + len(BEGIN) : text.index(END)]


if __name__ == "__main__":
    page = PAGE.read_text(encoding="utf-8")
    head, tail = page[: page.index(BEGIN) + len(BEGIN)], page[page.index(END) :]
    PAGE.write_text(head + table() + tail, encoding="utf-8")
