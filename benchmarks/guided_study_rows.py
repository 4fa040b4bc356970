"""The synthetic rows of the offline part of ``guided_study.py``, made where they are missing."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from offline_learning import data_set, start
from row_quality import coordinate_bindings

from synther.datasets import load_dataset
from synther.datasets.episodes import known_ends
from synther.diffusion.conditioning.around import Around, amplified
from synther.diffusion.conditioning.values import return_to_go
from synther.diffusion.fidelity.held_out import rows_to_hold_out
from synther.diffusion.generation.generator import SimpleDiffusionGenerator
from synther.diffusion.model_io import load_model
from synther.diffusion.successors import stored
from synther.files import checkpoint
from synther.transitions import Transitions

SAMPLES = 100_000
HELD_OUT, SEED = 0.1, 0
"""Of the training of models, the command's defaults."""


class Rows(NamedTuple):
    """The rows of an arm.

    Args:
        model: ``2023``, ``new`` or ``return``; empty: the real rows alone.
        samples: name of their file.
        options: of sampling.
        mix: share of real rows in a batch.
        live: how strongly its own policy guides the rows that the run itself makes of the model;
            None: it makes none.
    """

    model: str = ""
    samples: str = ""
    options: tuple[str, ...] = ()
    mix: float = 0.0
    live: float | None = None


TOP = ("--target", "top 25%")
LABELS = {
    "real": Rows(),
    "SynthER-2023": Rows("2023", "2023", ("--consistency", "off")),
    "SynthER": Rows("new", "new"),
    "SynthER-mixed": Rows("new", "new", mix=0.5),
    "return-w0": Rows("return", "return-w0"),
    "return-w1": Rows("return", "return-w1", TOP),
    "return-w2": Rows("return", "return-w2", (*TOP, "--guidance", "2")),
    "GTA": Rows("return", "gta"),
    "refreshed": Rows("new", "new", live=0.0),
    "PGD": Rows("new", "new", live=1.0),
}
LIVE_ROWS, REFRESHES = 4_000, 6
"""Rows that an agent of such an arm has at a time, and how often in a run they are made: with four
agents about as many in all as other arms have."""
MODELS = {
    "2023": ("--gin_params", *coordinate_bindings("2023")),
    "new": (),
    "return": ("--condition", "return"),
}


def share_of(folder: Path, task: str) -> Path:
    """Whole episodes of a data set, drawn at random until they are so large a share of its rows;
    ``task`` is its name and the per cent, such as ``hopper-demo-v0-5``."""
    path = folder / f"{task}.npz"
    if not path.exists():
        name, per_cent = task.rsplit("-", 1)
        data = load_dataset(data_set(folder, name))
        stops = np.flatnonzero(known_ends(data)) + 1
        starts = np.concatenate([[0], stops[:-1]])
        parts, rows = [], 0
        for number in np.random.default_rng(0).permutation(len(stops)):
            if rows >= int(per_cent) / 100 * len(data):
                break
            parts.append(np.arange(starts[number], stops[number]))
            rows += len(parts[-1])
        chosen = np.concatenate(parts)
        ends = np.zeros(len(chosen), bool)
        ends[np.cumsum([len(part) for part in parts]) - 1] = True
        part = data.subset(chosen)
        Transitions(
            **part.arrays(), metadata=dict(data.metadata), timeouts=ends & (part.terminals == 0)
        ).save(path)
    return path


def rows_for(folder: Path, task: str, rows: Rows) -> None:
    """The samples of an arm, and the model that they are of."""
    if rows.model and not (folder / task / f"{rows.samples}.npz").exists():
        make_samples(folder, task, rows)
    home = folder / task / rows.model
    if rows.live is not None and not (target := home.with_name(f"{rows.model}.pt")).exists():
        shutil.copyfile(newest_model(home), part := target.with_suffix(".part"))
        part.rename(target)


def newest_model(home: Path) -> Path:
    """The file of a model that was trained in ``home``."""
    path = checkpoint.latest(home, "model")
    assert path is not None
    return path


def source_of(folder: Path, task: str, rows: Rows, updates: int) -> tuple[object, ...]:
    """The arguments of a run of so many updates that say where its rows come from."""
    home = folder / task
    if rows.live is not None:
        refresh = ("--diffusion.refresh", updates // REFRESHES)
        refresh += ("--diffusion.policy_guidance", rows.live)
        made = ("--diffusion.sampler", "fast", "--diffusion.sample_limit", LIVE_ROWS)
        return ("--diffusion.path", home / f"{rows.model}.pt", *made, *refresh)
    samples = ("--diffusion.path", home / f"{rows.samples}.npz") if rows.samples else ()
    return (*samples, *(("--diffusion.mix", rows.mix) if rows.mix else ()))


def make_samples(folder: Path, task: str, rows: Rows) -> None:
    """Train the model of an arm, where that is still to be done, and write its samples."""
    home = folder / task / rows.model
    command = [
        "synther/diffusion/train_diffuser.py",
        *("--dataset", share_of(folder, task), "--results_folder", home, "--threads", 1),
        *("--gin_config_files", "config/resmlp_demo_denoiser.gin", *MODELS[rows.model]),
        *("--held_out", HELD_OUT, "--seed", SEED),
    ]
    if not (home / "done").exists():
        resume = ["--resume"] if (home / "run.json").exists() else []
        start(home.with_suffix(".log"), *command, "--no_save_samples", *resume)  # type: ignore[arg-type]
        (home / "done").touch()
    samples = f"{rows.samples}.npz"
    if rows.samples == "gta":
        augmented(share_of(folder, task), home).save(home / samples)
    else:
        options = ("--load_checkpoint", "--save_num_samples", SAMPLES, "--save_file_name", samples)
        log = home.with_name(f"{rows.samples}.log")
        start(log, *command, *options, *rows.options)  # type: ignore[arg-type]
    (home / samples).rename(folder / task / samples)


def augmented(data: Path, home: Path) -> Transitions:
    """Samples that begin at the rows that the model was trained on, each under 1.3 times its return
    (0.7 times a negative one), noised through half of the schedule (GTA)."""
    path = newest_model(home)
    model = load_model(path).model
    real = load_dataset(data)
    kept, _ = rows_to_hold_out(real, HELD_OUT, SEED)
    chosen = np.random.default_rng(SEED).choice(kept, SAMPLES)
    assert model.layout is not None
    assert model.condition is not None
    target = amplified(model.condition, return_to_go(real)[chosen])
    rows = torch.from_numpy(model.layout.pack(real)[chosen])
    ensemble = stored.load(path)
    generator = SimpleDiffusionGenerator(
        model.layout,
        model,
        sampler="fast",
        sample_batch_size=10_000,
        consistency="ensemble" if ensemble else "off",
        ensemble=ensemble,
    )
    arrays = generator.sample(SAMPLES, SEED, Around(rows, target=target))
    return Transitions(*arrays, metadata={**real.metadata, "source": "SynthER"})
