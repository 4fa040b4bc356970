"""A digest follows the content and nothing else."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np

from synther.datasets.digest import content_digest, file_digest, pixel_digest, rows_digest
from synther.transitions import FIELDS, TransitionLayout, Transitions
from tests.data import random_transitions
from tests.pixels.helpers import columns, episodes


def test_a_single_number_anywhere_makes_another_digest(tmp_path: Path) -> None:
    rows = random_transitions(50)
    digests = {content_digest(rows)}
    for name in FIELDS:
        changed = {key: array.copy() for key, array in rows.arrays().items()}
        last = changed[name].reshape(-1)
        last[-1] = 1 - last[-1]
        digests.add(content_digest(Transitions.from_arrays(changed)))
    digests.add(content_digest(rows.subset(slice(49))))
    assert len(digests) == 2 + len(FIELDS)
    again = replace(rows, metadata={"dataset": "of another name"}, source="elsewhere")
    assert content_digest(Transitions.load(again.save(tmp_path / "a.npz"))) in digests


def test_rows_have_the_digest_of_the_transitions_that_they_are() -> None:
    data = random_transitions(50)
    layout = TransitionLayout.of(data)
    assert rows_digest(layout, layout.pack(data)) == content_digest(data)
    assert rows_digest(layout, layout.pack(data)[1:]) == content_digest(data.subset(slice(1, 50)))


def test_pictures_count_as_well_as_numbers(tmp_path: Path) -> None:
    arrays = columns()
    digests = {pixel_digest(episodes(tmp_path, arrays))}
    for key in ("observation", "action", "reward"):
        changed = {**arrays, key: arrays[key].copy()}
        last = changed[key].reshape(-1)
        last[-1] = last[-1] // 2 + 3
        digests.add(pixel_digest(episodes(tmp_path, changed)))
    assert len(digests) == 4
    assert pixel_digest(episodes(tmp_path, arrays)) in digests


def test_a_file_is_its_bytes(tmp_path: Path) -> None:
    content = np.random.default_rng(0).bytes((1 << 20) + 7)
    (tmp_path / "a").write_bytes(content)
    assert hashlib.sha256(content).hexdigest().startswith(file_digest(tmp_path / "a"))
