"""The one door that every command's errors leave by."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from synther.files import checkpoint
from synther.files.checkpoint import CheckpointError, DivergedError
from synther.learning.replay import RowBuffer
from synther.runs import commands
from synther.runs.commands import (
    Exit,
    UsageError,
    command_errors,
    exit_code,
    naming_last_checkpoint,
)
from synther.runs.settings import read_mapping
from synther.transitions import TransitionLayout


class Own(Exception):
    """Known to one command alone."""


TABLE: list[tuple[Exception, int]] = [
    (ValueError("a data set"), 1),
    (FileNotFoundError(errno.ENOENT, "No such file", "x.npz"), 1),
    (ImportError("minari"), 1),
    (CheckpointError("model-1.pt"), 1),
    (Own("its own"), 1),
    (UsageError("--alhpa"), 2),
    (DivergedError("the loss"), 3),
    *((OSError(number, os.strerror(number), "out.pt"), 4) for number in (
        errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO,
    )),
    (torch.AcceleratorError("CUDA error: unspecified launch failure"), 5),
    (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), 5),
    (RuntimeError("CUDA error: device-side assert triggered\nmore"), 5),
    (RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR"), 5),
    (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), 5),
    (RuntimeError("Storage size calculation overflowed with sizes=[1000000000000000000, 9]"), 5),
    (MemoryError("Unable to allocate 2 TiB"), 5),
]  # fmt: skip


@pytest.mark.parametrize(("error", "code"), TABLE, ids=[repr(error)[:50] for error, _ in TABLE])
def test_an_error_is_one_line_and_a_code(
    error: Exception, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped, command_errors(Own):
        raise error
    assert stopped.value.code == code
    message = capsys.readouterr().err
    assert message.startswith("error: ")
    assert message.count("\n") == 1
    assert message.endswith("\n")


def test_a_command_of_one_process_does_not_begin_under_a_launcher(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    begun = []
    with pytest.raises(SystemExit) as stopped, command_errors():
        begun.append("alone")
    assert stopped.value.code == 2
    assert "one process" in capsys.readouterr().err
    with command_errors(launched=True):
        begun.append("shared")
    monkeypatch.setenv("WORLD_SIZE", "1")
    with command_errors():
        begun.append("a launcher of one")
    assert begun == ["shared", "a launcher of one"]


def test_ctrl_c_names_what_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    for resume in (True, False):
        with pytest.raises(SystemExit) as stopped, command_errors(resume=resume):
            raise KeyboardInterrupt
        assert stopped.value.code == 130
        assert ("--resume" in capsys.readouterr().err) == resume


@pytest.mark.parametrize("error", [KeyError("step"), RuntimeError("shapes"), TypeError(), Own()])
def test_what_nobody_foresaw_keeps_its_traceback(error: Exception) -> None:
    with pytest.raises(type(error)), command_errors():
        raise error
    assert exit_code(error) is None


def test_the_last_good_checkpoint_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    full = OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "model-9.pt"))
    lost = torch.AcceleratorError("CUDA error: unspecified launch failure")
    for error, advice in ((full, "free some space"), (lost, "the device failed")):
        for written in (False, True):
            if written:
                checkpoint.save(tmp_path / "model-3.pt", {})
                checkpoint.save(tmp_path / "resume-5.pt", {})
            with (
                pytest.raises(SystemExit),
                command_errors(),
                naming_last_checkpoint(tmp_path, "model", "resume"),
            ):
                raise type(error)(*error.args)
            message = capsys.readouterr().err
            assert advice in message
            assert ("none was written" in message) == (not written)
            assert ("resume-5.pt; --resume continues" in message) == written
        for path in tmp_path.glob("*.pt"):
            path.unlink()


def test_an_error_of_the_input_names_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(ValueError) as raised, naming_last_checkpoint(tmp_path, "model"):
        raise ValueError("batch size")
    assert not hasattr(raised.value, "__notes__")


def test_the_table_in_the_docstring_is_the_code_s() -> None:
    assert commands.__doc__
    described = {
        int(line.split()[0]) for line in commands.__doc__.splitlines() if line[:1].isdigit()
    }
    assert described == set(map(int, Exit))


FAULTS: dict[str, Callable[[], object]] = {
    "numpy": lambda: np.zeros(3).reshape(2),
    "int": lambda: int("many"),
    "a module that is not the project's": lambda: json.loads("{"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_from_deep_inside_is_called_one(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SYNTHER_TRACEBACK", raising=False)
    with pytest.raises(SystemExit) as stopped, command_errors():
        FAULTS[name]()
    message = capsys.readouterr().err
    assert stopped.value.code == 1
    assert "SYNTHER_TRACEBACK=1" in message
    assert message.count("\n") == 1
    assert Path(__file__).name in message or "json" in message  # where it comes from


def test_a_message_of_the_project_is_no_fault(capsys: pytest.CaptureFixture[str]) -> None:
    own: list[Callable[[], object]] = [
        lambda: RowBuffer(TransitionLayout(1, 1, True), 0),  # a plain ValueError
        lambda: read_mapping("none.yaml"),  # an error of its own
    ]
    for raises in own:
        with pytest.raises(SystemExit), command_errors():
            raises()
        message = capsys.readouterr().err
        assert "capacity is 0" in message or "none.yaml: no such file" in message
        assert "SYNTHER_TRACEBACK" not in message


def test_a_number_that_cannot_be_read_inside_the_project_is_a_fault() -> None:
    code = compile("int('many')", str(commands.__file__), "exec")
    with pytest.raises(ValueError) as raised:
        exec(code)
    assert not commands.is_own(raised.value)


def test_a_traceback_is_shown_where_it_is_asked_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYNTHER_TRACEBACK", "1")
    with pytest.raises(SystemExit) as stopped, command_errors():
        FAULTS["numpy"]()
    assert stopped.value.code == 1
    assert "Traceback (most recent call last)" in capsys.readouterr().err
