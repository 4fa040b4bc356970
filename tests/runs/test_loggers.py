"""JSON lines are appended, survive a kill, and go to the adapters as well."""

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from synther.installed import install_hint
from synther.runs.loggers import (
    LOG_KEYS,
    Adapter,
    Logger,
    open_adapters,
    read_metrics,
)
from tests.events import scalars


def opened(folder: Path, **asked_for: Any) -> tuple[Adapter, ...]:
    nothing = {**dict.fromkeys(LOG_KEYS), "tensorboard": False, "resume": False}
    return open_adapters(folder, {}, SimpleNamespace(**{**nothing, **asked_for}))


def test_records_are_on_disk_at_once_and_never_rewritten(tmp_path: Path) -> None:
    with Logger(tmp_path) as logger:
        logger.log({"loss": torch.tensor(0.5), "note": "warm-up"}, step=1)
        first = logger.path.read_text()
        inode = logger.path.stat().st_ino
        logger.log({"loss": np.float32(0.25), "count": np.int64(3)}, step=2)
        assert logger.path.read_text().startswith(first)
        assert logger.path.stat().st_ino == inode
    records = read_metrics(tmp_path / "metrics.jsonl")
    assert [(record["step"], record["loss"]) for record in records] == [(1, 0.5), (2, 0.25)]
    assert records[0]["note"] == "warm-up"
    assert records[1]["count"] == 3


def test_numbers_json_cannot_hold_are_written_as_text(tmp_path: Path) -> None:
    with Logger(tmp_path) as logger:
        logger.log({"loss": float("nan"), "score": float("inf")}, step=1)

    def refuse(constant: str) -> None:
        pytest.fail(f"{constant} is not JSON")

    line = (tmp_path / "metrics.jsonl").read_text()
    assert json.loads(line, parse_constant=refuse)["loss"] == "nan"


def test_resume_drops_later_records_and_a_half_written_line(tmp_path: Path) -> None:
    with Logger(tmp_path) as logger:
        for step in (10, 20, 30):
            logger.log({"loss": step / 10}, step)
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 40, "lo')
    assert [record["step"] for record in read_metrics(tmp_path / "metrics.jsonl")] == [10, 20, 30]
    with Logger(tmp_path, resume_from=20) as logger:
        logger.log({"loss": 9.0}, step=21)
    assert [record["step"] for record in read_metrics(tmp_path / "metrics.jsonl")] == [10, 20, 21]
    with Logger(tmp_path):
        pass
    assert read_metrics(tmp_path / "metrics.jsonl") == []


def test_adapters_get_the_numbers_and_are_closed(tmp_path: Path) -> None:
    class Memory:
        def __init__(self) -> None:
            self.records: list[tuple[int, dict[str, float]]] = []
            self.closed = False

        def log(self, metrics: Mapping[str, float], step: int) -> None:
            self.records.append((step, dict(metrics)))

        def close(self) -> None:
            self.closed = True

    memory = Memory()
    with Logger(tmp_path, adapters=(memory,)) as logger:
        logger.log({"loss": 1.0, "note": "text"}, step=7)
    assert memory.records == [(7, {"loss": 1.0})]
    assert memory.closed


def test_tensorboard_gets_the_same_numbers_and_forgets_what_is_done_again(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    with Logger(tmp_path, adapters=opened(tmp_path, tensorboard=True)) as logger:
        for step in (1, 2, 3):
            logger.log({"loss": 0.5 * step, "note": "text"}, step=step)
    resumed = opened(tmp_path, tensorboard=True)
    with Logger(tmp_path, adapters=resumed, resume_from=1) as logger:
        logger.log({"loss": 7.0}, step=2)
    assert scalars(tmp_path) == {"loss": [(1, 0.5), (2, 7.0)]}


def test_a_missing_tensorboard_is_a_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ImportError, match=re.escape(install_hint("tensorboard"))):
        opened(tmp_path, tensorboard=True)
    assert not list(tmp_path.iterdir())
