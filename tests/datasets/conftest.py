"""A D4RL-like file to write, and a web server on this machine whose faults can be chosen."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

GOLDEN = Path(__file__).parents[1] / "golden" / "d4rl"


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path / "d4rl"))
    monkeypatch.delenv("SYNTHER_D4RL_MIRROR", raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def golden() -> Path:
    return GOLDEN


def arrays_of(rows: int = 20, observation_dim: int = 3, action_dim: int = 2) -> dict[str, Any]:
    """A well-formed file's arrays: two episodes, the first ends in a terminal, then a time-out."""
    random = np.random.default_rng(0)
    terminals, timeouts = np.zeros(rows, bool), np.zeros(rows, bool)
    terminals[rows // 4 : rows // 4 + 1] = timeouts[rows // 2 : rows // 2 + 1] = True
    return {
        "observations": random.normal(size=(rows, observation_dim)).astype(np.float32),
        "actions": random.uniform(-1, 1, size=(rows, action_dim)).astype(np.float32),
        "rewards": random.normal(size=rows).astype(np.float32),
        "terminals": terminals,
        "timeouts": timeouts,
        "next_observations": random.normal(size=(rows, observation_dim)).astype(np.float32),
    }


@pytest.fixture
def write_hdf5(tmp_path: Path) -> Callable[..., Path]:
    """``write_hdf5(rewards=..., timeouts=None)``: a good file but for what is named; None omits."""

    def write(name: str = "data.hdf5", rows: int = 20, **changes: Any) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with h5py.File(path, "w") as file:
            for key, value in {**arrays_of(rows), **changes}.items():
                if value is not None:
                    file[key] = value
        return path

    return write


class Server:
    """Serves ``files`` at ``url``; faults: see the attributes."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.status: dict[str, int] = {}  # path -> error to answer with
        self.cut_after: int | None = None  # close each connection after so many bytes
        self.resumes = True  # False: ignore Range
        self.requests: list[tuple[str, str | None]] = []  # path, Range header
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.answer(self)

            def log_message(self, *args: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        asked = handler.headers["Range"]
        self.requests.append((handler.path, asked))
        body = self.files.get(handler.path)
        if body is None or handler.path in self.status:
            handler.send_error(self.status.get(handler.path, 404))
            return
        start = int(re.findall(r"\d+", asked)[0]) if asked and self.resumes else 0
        if start and start >= len(body):
            handler.send_response(416)
            handler.send_header("Content-Range", f"bytes */{len(body)}")
            handler.end_headers()
            return
        handler.send_response(206 if start else 200)
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        handler.send_header("Content-Length", str(len(body) - start))
        handler.end_headers()
        stop = len(body) if self.cut_after is None else start + self.cut_after
        handler.wfile.write(body[start:stop])


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.http.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.http.shutdown()
    server.http.server_close()
    thread.join()
