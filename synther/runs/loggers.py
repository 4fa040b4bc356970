"""Every run logs to JSON lines, on request to TensorBoard and wandb as well, and shows a bar."""

from __future__ import annotations

import functools
import json
import math
import os
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from synther.files import atomic
from synther.installed import install_hint
from synther.runs.bars import ADVICE, Bar, in_notebook
from synther.runs.wandb_logs import (
    ID_FILE,
    WandbAdapter,
    WandbMode,
    default_wandb_mode,
    require_wandb,
)


class Adapter(Protocol):
    """A second place that takes metrics."""

    def log(self, metrics: Mapping[str, float], step: int) -> None: ...

    def close(self) -> None: ...


class LogSettings(Protocol):
    """The part of a configuration, or of parsed flags, that chooses the log services."""

    @property
    def resume(self) -> bool:
        """Whether the run goes on with what its folder holds, in wandb too."""

    @property
    def tensorboard(self) -> bool: ...

    @property
    def wandb_mode(self) -> WandbMode | None:
        """See :func:`~synther.runs.wandb_logs.default_wandb_mode`."""

    @property
    def entity(self) -> str | None: ...

    @property
    def project(self) -> str | None: ...

    @property
    def group(self) -> str | None: ...


LOG_FILES = ("metrics.jsonl", "events.out.tfevents.*", ID_FILE)
"""What logs leave in a run's folder, beside wandb's own, which has a name of its own each time."""
LOG_KEYS = frozenset({"tensorboard", "wandb_mode", "entity", "project", "group"})
"""The keys of :class:`LogSettings`; a run that is resumed may have others than before."""


class Logger:
    """Appends one JSON object a call to ``{folder}/{name}.jsonl``: ``step``, ``time`` (seconds
    since the epoch) and the metrics, and hands the same to every adapter.

    Args:
        folder: made if it is not there.
        name: of the file, without its ending.
        adapters: further places, see :func:`open_adapters`.
        resume_from: drop the records of later steps, and a half-written last line, that an
            interrupted run left behind. None starts the file anew.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        name: str = "metrics",
        *,
        adapters: tuple[Adapter, ...] = (),
        resume_from: int | None = None,
    ) -> None:
        self.path = Path(folder) / f"{name}.jsonl"
        self._adapters = adapters
        kept = "" if resume_from is None else _records_up_to(self.path, resume_from)
        atomic.write_text(self.path, kept)
        # Line buffering: a record is on disk when log() returns, and nothing is ever rewritten.
        self._file = open(self.path, "a", buffering=1, encoding="utf-8")  # noqa: SIM115

    def log(self, metrics: Mapping[str, Any], step: int) -> None:
        """Record numbers (Python, numpy or one-element tensors) or text under ``step``."""
        plain = {key: _plain(value) for key, value in metrics.items()}
        record = {"step": step, "time": round(time.time(), 3), **plain}
        self._file.write(json.dumps(record) + "\n")
        numbers = {key: value for key, value in plain.items() if isinstance(value, (int, float))}
        for adapter in self._adapters:
            adapter.log(numbers, step)

    def close(self) -> None:
        self._file.close()
        for adapter in self._adapters:
            adapter.close()

    def __enter__(self) -> Logger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read_metrics(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The records of a JSON-lines file; a half-written last line is left out.

    Raises:
        ValueError: another line is no record; the message names it.
    """
    return list(_complete_records(Path(path)))


def _complete_records(path: Path) -> Iterator[dict[str, Any]]:
    if not path.is_file():
        return
    lines = path.read_bytes().splitlines()
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
            good = isinstance(record, dict) and isinstance(record.get("step"), int)
        except ValueError:
            good = False
        if good:
            yield record
        elif number < len(lines):
            raise ValueError(
                f"{path}: line {number} is no record ({line[:40].decode(errors='replace')!r}), "
                "expected a JSON object with 'step'; remove the line"
            )


def _records_up_to(path: Path, step: int) -> str:
    kept = (record for record in _complete_records(path) if record["step"] <= step)
    return "".join(json.dumps(record) + "\n" for record in kept)


def _plain(value: Any) -> Any:
    if hasattr(value, "item"):
        value = value.item()
    # JSON has no NaN and no infinity; readers in other languages stop at Python's spelling of them.
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def _summary_writer() -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ImportError(
            "TensorBoard logging was asked for and tensorboard is not installed: "
            f"{install_hint('tensorboard')}"
        ) from error
    return SummaryWriter


class _TensorBoardAdapter:
    def __init__(self, folder: Path) -> None:
        self._open = functools.partial(_summary_writer(), str(folder))
        self._writer: Any = None

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        if self._writer is None:  # what an interrupted run wrote from this step on is hidden
            self._writer = self._open(purge_step=step)
        for key, value in metrics.items():
            self._writer.add_scalar(key, value, step)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


def require_services(settings: LogSettings) -> None:
    """Find out whether the log services that are asked for can be used, before a run touches
    anything.

    Raises:
        ImportError: a service's package is not installed.
        ValueError: wandb is to be online, and has no key, or its server does not answer.
    """
    require_wandb(settings.wandb_mode, settings.entity)
    if settings.tensorboard:
        _summary_writer()


def open_adapters(
    folder: str | os.PathLike[str], shown: Mapping[str, Any], settings: LogSettings
) -> tuple[Adapter, ...]:
    """Open wandb and TensorBoard, as far as they are asked for.

    Args:
        folder: of the run. Its name is the wandb run's; TensorBoard's events are written into it,
            so that ``tensorboard --logdir`` on a folder of runs shows them by their names.
        shown: the run's settings, for wandb to show.
        settings: what is asked for.

    Raises:
        ImportError: what was asked for is not installed.
    """
    path, adapters = Path(folder), list[Adapter]()
    mode = default_wandb_mode(settings.wandb_mode, settings.entity)
    if mode != "disabled":
        adapters.append(
            WandbAdapter(
                path,
                mode,
                resume=settings.resume,
                config=dict(shown),
                project=settings.project,
                entity=settings.entity,
                group=settings.group,
                name=path.name,
            )
        )
    if settings.tensorboard:
        adapters.append(_TensorBoardAdapter(path))
    return tuple(adapters)


def progress_bar(
    total: int, description: str, *, initial: int = 0, unit: str = "step", work: str = ""
) -> Bar:
    """A bar with rate and time left on stderr; one line every 30 s where that is neither a terminal
    nor a notebook. ``work``, by default the description, is the key of what is said of hours of it,
    see :mod:`synther.runs.bars`."""
    options: dict[str, Any] = {"unit_scale": total >= 100_000, "smoothing": 0.1}
    if not in_notebook():
        terminal = sys.stderr.isatty()
        options |= {
            "mininterval": 0.2 if terminal else 30.0,
            "ascii": not terminal,
            "dynamic_ncols": terminal,
            "ncols": None if terminal else 90,
        }
    options["advice"] = ADVICE.get(work or description, "")
    return Bar(total=total, desc=description, initial=initial, unit=unit, **options)
