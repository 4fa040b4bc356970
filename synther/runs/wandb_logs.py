"""A run is logged to wandb when somebody asks for it, under one id however often it is resumed."""

from __future__ import annotations

import contextlib
import io
import os
import threading
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from synther.files import atomic
from synther.installed import install_hint

WandbMode = Literal["disabled", "offline", "online"]
OLD_MODES: Mapping[str, WandbMode] = {"dryrun": "offline", "run": "online"}
"""What old versions of wandb call a mode in ``WANDB_MODE``; wandb takes them still."""
ID_FILE = "wandb_id.txt"
"""In a run's folder: the id of its run in wandb, for when it is resumed."""
PATIENCE = 6.0
"""Seconds that the server has for an answer before a run begins; wandb itself waits for minutes."""


class WandbAdapter:
    """Hands metrics on to a run of wandb.

    Args:
        folder: of the run; wandb's files go there, and so does :data:`ID_FILE`.
        mode: ``offline`` or ``online``.
        resume: whether to go on with the run whose id the folder holds, if it does.
        settings: more for ``wandb.init``.

    Raises:
        ImportError: wandb is not installed.
        ValueError: wandb did not start.
    """

    def __init__(self, folder: Path, mode: WandbMode, *, resume: bool, **settings: Any) -> None:
        wandb = imported()
        self._file = folder / ID_FILE
        self._written = False
        known = self._file.read_text("utf-8").strip() if resume and self._file.is_file() else None
        if known:
            settings["id"] = known
        if known and mode == "online":  # offline it is an error to ask
            settings["resume"] = "allow"
        try:
            self._run = wandb.init(mode=mode, dir=str(folder), **settings)
        except Exception as error:  # wandb raises a dozen kinds: no key, no home directory, ...
            raise _not_started(error) from error

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Log ``metrics`` at ``step``; the first time, write the id: by then the folder is this
        run's, and what an earlier one left in it is set aside."""
        if not self._written:
            atomic.write_text(self._file, f"{self._run.id}\n")
            self._written = True
        self._run.log(dict(metrics), step=step)

    def close(self) -> None:
        self._run.finish()


def imported() -> Any:
    """The package.

    Raises:
        ImportError: it is not installed.
    """
    try:
        import wandb
    except ImportError as error:
        raise ImportError(
            "wandb logging was asked for and wandb is not installed: "
            f"{install_hint('wandb')}, or --wandb-mode disabled"
        ) from error
    return wandb


def default_wandb_mode(mode: WandbMode | None, entity: str | None = None) -> WandbMode:
    """The mode that was asked for, here or in wandb's own ``WANDB_MODE``; else offline where an
    entity or key is set, else disabled.

    It is never online by itself: with a key and no network, wandb blocks for minutes.

    Raises:
        ValueError: ``WANDB_MODE`` is asked and names no mode.
    """
    if (asked := mode or _mode_of_environment()) is not None:
        return asked
    if entity:
        return "offline"
    return "offline" if os.environ.get("WANDB_API_KEY") and _is_installed() else "disabled"


def _mode_of_environment() -> WandbMode | None:
    said = os.environ.get("WANDB_MODE", "").strip().lower()
    if not said:
        return None
    modes = {**{each: each for each in get_args(WandbMode)}, **OLD_MODES}
    if said not in modes:
        raise ValueError(
            f"the environment variable WANDB_MODE is '{said}', expected disabled, offline or "
            "online (or their old names dryrun and run); set one of these, unset it, or choose "
            "with --wandb-mode"
        )
    return modes[said]


def _is_installed() -> bool:
    try:
        imported()
    except ImportError:
        return False
    return True


def require_wandb(mode: WandbMode | None, entity: str | None) -> None:
    """Find out whether wandb can be used as it is asked for, before a run touches anything; a key
    alone asks for nothing, so that a missing package is then a warning.

    Raises:
        ImportError: wandb is not installed.
        ValueError: ``WANDB_MODE`` names no mode; or it is to be online, and has no key, or its
            server does not answer.
    """
    chosen = default_wandb_mode(mode, entity)
    if chosen == "disabled":
        unasked = mode is None and _mode_of_environment() is None
        if unasked and os.environ.get("WANDB_API_KEY") and not _is_installed():
            warnings.warn(
                "WANDB_API_KEY is set and wandb is not installed, so this run is not logged there: "
                f"{install_hint('wandb')}, or --wandb-mode disabled",
                stacklevel=2,
            )
        return
    wandb = imported()
    if chosen == "online":
        if not (os.environ.get("WANDB_API_KEY") or _stored_key(wandb)):
            raise ValueError(
                "--wandb-mode online needs a key: run wandb login, set WANDB_API_KEY, or choose "
                "--wandb-mode offline"
            )
        _answer(lambda: wandb.Api(timeout=int(PATIENCE)).viewer)


def _stored_key(wandb: Any) -> str | None:
    """The key that ``wandb login`` left. wandb 0.31 warns that ``wandb.api`` is going; what it
    names instead is not in every version that is supported, and a person can do nothing."""
    with contextlib.redirect_stderr(io.StringIO()):
        key: str | None = wandb.api.api_key
    return key


def _answer(ask: Callable[[], object]) -> None:
    """Wait for ``ask`` to return, but not for longer than :data:`PATIENCE`: a server out of reach
    is asked again and again, and nothing stops that."""
    failed: list[Exception] = []

    def run() -> None:
        try:
            ask()
        except Exception as error:
            failed.append(error)

    asking = threading.Thread(target=run, daemon=True)
    asking.start()
    asking.join(PATIENCE)
    if asking.is_alive():
        failed.append(TimeoutError(f"its server did not answer within {PATIENCE:.0f} s"))
    if failed:
        raise _not_started(failed[0]) from failed[0]


def _not_started(error: Exception) -> ValueError:
    reason = " ".join(str(error).split()) or type(error).__name__
    return ValueError(
        f"wandb could not be started ({reason:.300}); log in with 'wandb login', or choose "
        "--wandb-mode offline or disabled"
    )
