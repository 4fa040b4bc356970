"""A download resumes: bytes go to ``NAME.part``, renamed to ``NAME`` once whole and checked."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

try:
    import fcntl
except ImportError:  # not a POSIX system: nobody guards against two downloads of one file at once
    fcntl = None  # type: ignore[assignment]

_CHUNK = 1 << 20
_TIMEOUT_S = 30
_ATTEMPTS = 5
_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+)")


class DownloadError(OSError):
    """A file could not be had; the message says what was tried and what a person can do."""


def download(urls: Sequence[str], target: Path, check: Callable[[Path], object]) -> Path:
    """Fetch ``target`` from the first of ``urls`` that gives a whole and good file.

    A download cut short is continued, from the same or another source, now or in a later call. Two
    processes that want one file at the same time take turns, and the second finds it there.

    Args:
        urls: where to look, in order.
        target: where the file is to appear, whole or not at all.
        check: called with the complete ``.part`` file; a ``ValueError`` from it rejects the file.

    Raises:
        DownloadError: every source failed; one line a source says why. What was received stays in
            ``target.part`` unless it was wrong.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    reasons = []
    with _held(part) as file:
        if target.exists():  # another process was faster
            part.unlink()
            return target
        try:
            for url in urls:
                reason = _fetch_good(url, file, part, check)
                if reason is None:
                    os.fsync(file.fileno())
                    os.replace(part, target)
                    return target
                reasons.append(f"  {url}: {reason}")
        finally:
            if part.exists() and not part.stat().st_size:
                part.unlink()
    raise DownloadError("\n".join(reasons))


@contextlib.contextmanager
def _held(part: Path) -> Iterator[BinaryIO]:
    """The ``.part`` file, opened for appending and locked against other processes."""
    while True:
        file = open(part, "ab")  # noqa: SIM115 - closed below, on every path
        try:
            if fcntl is not None:
                with contextlib.suppress(OSError):  # some network file systems have no locks
                    fcntl.flock(file, fcntl.LOCK_EX)
            if _is_still(part, file):
                yield file
                return
        finally:
            file.close()
        # While this process waited, the file was finished and renamed, or thrown away: look again.


def _is_still(part: Path, file: BinaryIO) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), part.stat())
    except FileNotFoundError:
        return False


def _fetch_good(
    url: str, file: BinaryIO, part: Path, check: Callable[[Path], object]
) -> str | None:
    """Complete and check ``file`` from one source; None on success, else the reason."""
    resumed = _size(file) > 0
    reason = _fetch(url, file)
    if reason is not None:
        return reason
    try:
        check(part)
    except ValueError as error:
        file.truncate(0)
        if resumed:  # its first bytes may have been another source's, or another version's
            return _fetch_good(url, file, part, check)
        return f"not the expected file ({str(error).replace(str(part), 'it')})"
    return None


def _fetch(url: str, file: BinaryIO) -> str | None:
    """Append what is missing, going on after a lost connection for as long as that brings bytes."""
    reason = None
    for _ in range(_ATTEMPTS):
        before = _size(file)
        try:
            expected = _receive(url, file)
        except (OSError, http.client.HTTPException) as error:
            reason = str(getattr(error, "reason", error)) or type(error).__name__
            if isinstance(error, urllib.error.HTTPError):
                reason = f"HTTP {error.code} {error.reason}"
        else:
            if expected is None or _size(file) == expected:
                return None
            reason = f"connection closed after {_size(file)} of {expected} bytes"
            if _size(file) > expected:
                file.truncate(0)
                continue
        if _size(file) <= before:
            break
    return reason


def _receive(url: str, file: BinaryIO) -> int | None:
    """One request for the bytes after those in ``file``; returns the whole file's size if told."""
    have = _size(file)
    # Identity: a compressed transfer could neither be resumed nor measured.
    headers = {"User-Agent": "synther", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    request = urllib.request.Request(url, headers=headers)
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        # Nothing follows the bytes we have. If they are not the whole file, the check tells.
        return have
    with response:
        length = response.headers.get("Content-Length")
        expected = int(length) if length is not None else None
        span = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if response.status == 206 and span is not None and span[1] == str(have):
            expected = int(span[2])
        elif response.status == 206:
            raise OSError(f"answered bytes {span[1] if span else '?'}-, asked for {have}-")
        else:  # the server does not resume, and sends everything
            file.truncate(0)
        _copy(response, file, expected, Path(url).name)
    return expected


def _copy(response: BinaryIO, file: BinaryIO, expected: int | None, name: str) -> None:
    from tqdm import tqdm

    with tqdm(
        total=expected,
        initial=_size(file),
        unit="B",
        unit_scale=True,
        unit_divisor=1024,
        desc=name,
        disable=None,  # no bar where nobody watches
    ) as bar:
        while chunk := response.read(_CHUNK):
            file.write(chunk)
            file.flush()
            bar.update(len(chunk))


def _size(file: BinaryIO) -> int:
    return os.fstat(file.fileno()).st_size
