"""A model that is sampled again has to be of the data that are named, and keeps their split."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from synther.diffusion.conditioning.condition import ConditionError
from synther.diffusion.conditioning.values import name_of
from synther.diffusion.fidelity.held_out import HELD_OUT, run_beside, split_as_learnt
from synther.diffusion.model_io import LoadedModel, load_model
from synther.diffusion.provenance import Provenance
from synther.files import checkpoint
from synther.files.checkpoint import CheckpointError
from synther.transitions import Transitions


class Split(NamedTuple):
    """Real rows: those of the training, those held out if any, and what to call these."""

    training: Transitions
    held_out: Transitions | None
    reference: str = HELD_OUT
    note: str = ""


def latest_model(folder: Path, device: str, data: Transitions, name: str) -> LoadedModel:
    """The newest model in a folder, if it is one of these data, as far as that can be known.

    Files of earlier versions do not say it: then ``run.json`` beside the model has the name of the
    data set, and files of the 2023 release have nothing at all.

    Args:
        folder: holds ``model-{step}.pt``.
        device: the device that the model is put on.
        data: all rows, before any are held out.
        name: how the command calls them.

    Raises:
        CheckpointError: no model, one of rows of other columns, or one of other data.
    """
    path = checkpoint.latest(folder, "model")
    if path is None:
        raise CheckpointError(f"{folder}: has no model-<step>.pt to load")
    loaded = load_model(path, device)
    loaded.layout_for(data.observation_dim, data.action_dim)
    now, known = Provenance.of(data), loaded.trained_on
    if known is None or known.digest is None:
        known = _run_of(path)
    if known is not None and not _is_same(known, now, name):
        then = known.dataset or "a data set without a name"
        digests = f" (digest {known.digest}, now {now.digest})" if known.digest else ""
        raise CheckpointError(
            f"{path}: was trained on {known.rows} rows of {then}, and --dataset {name} has others, "
            f"{now.rows}{digests}; name the data that it was trained on, or leave "
            "--load_checkpoint out to train a new model"
        )
    if loaded.trained_on is None:
        found = known or Provenance()
        split = {"rows": found.rows, "held_out": found.held_out, "seed": found.seed}
        loaded.model.trained_on = replace(now, digest=None, **split)  # type: ignore[arg-type]
    return loaded


def require_condition(loaded: LoadedModel, name: str) -> None:
    """Raise ConditionError where samples of a model are to have a condition ``name`` that it has
    not learnt: a target would be taken for one of the condition that it has."""
    own = loaded.model.condition
    if not name or (own is not None and own.name == name_of(name)):
        return
    found = "without a condition" if own is None else f"with the condition '{own.name}'"
    raise ConditionError(
        f"{loaded.path}: trained {found}, and the condition asked for is '{name}'; leave that out, "
        "or train a model with it in a folder of its own"
    )


def split_of(loaded: LoadedModel, data: Transitions, share: float, seed: int) -> Split:
    """The rows that a model saw, which :func:`latest_model` found to be of ``data``, and those that
    it did not; where nobody knows, a split by ``share`` and ``seed``, whose second part is not
    called held out."""
    known = loaded.trained_on
    if known is not None and known.held_out == 0:
        return Split(data, None, note="none, it was trained on all")
    real = split_as_learnt(data, known, share, seed, compared=True)
    return Split(real.training, real.held_out, real.reference, real.note)


def _is_same(known: Provenance, now: Provenance, name: str) -> bool:
    if known.digest:
        return known.digest == now.digest
    return known.dataset in (None, name, now.dataset)


def _run_of(path: Path) -> Provenance | None:
    """What ``run.json`` beside a model of an earlier version says; None where it says nothing."""
    try:
        return run_beside(path)
    except (OSError, ValueError, KeyError, TypeError):
        return None
