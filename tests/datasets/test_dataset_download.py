"""Downloads from a real server on 127.0.0.1: cut connections, refusals, wrong files."""

import threading
from pathlib import Path

import numpy as np
import pytest

from synther.datasets.download import DownloadError, download

BODY = np.random.default_rng(0).bytes(3_000_000)


def check(path: Path) -> None:
    if path.read_bytes() != BODY:
        raise ValueError(f"{path}: not the body")


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "new" / "folder" / "data.hdf5"


@pytest.fixture(autouse=True)
def _files(server) -> None:
    server.files = {"/a/data.hdf5": BODY, "/b/data.hdf5": BODY, "/page": b"<html>log in</html>"}


def folder(target: Path) -> list[str]:
    return sorted(path.name for path in target.parent.iterdir())


def test_whole_file_appears_and_nothing_else(server, target):
    assert download([server.url + "/a/data.hdf5"], target, check) == target
    assert target.read_bytes() == BODY
    assert folder(target) == ["data.hdf5"]


def test_cut_connections_are_resumed_where_they_broke(server, target):
    server.cut_after = 1_000_000
    download([server.url + "/a/data.hdf5"], target, check)
    assert target.read_bytes() == BODY
    assert [asked for _, asked in server.requests] == [None, "bytes=1000000-", "bytes=2000000-"]


def test_part_survives_a_failed_call_and_the_next_call_goes_on_from_it(server, target):
    server.cut_after = 300_000  # five attempts bring half of the file
    with pytest.raises(DownloadError, match="connection closed after 1500000 of 3000000 bytes"):
        download([server.url + "/a/data.hdf5"], target, check)
    assert folder(target) == ["data.hdf5.part"]
    assert target.with_name("data.hdf5.part").read_bytes() == BODY[:1_500_000]
    server.cut_after = None
    server.requests.clear()
    download([server.url + "/a/data.hdf5"], target, check)
    assert server.requests == [("/a/data.hdf5", "bytes=1500000-")]
    assert target.read_bytes() == BODY
    assert folder(target) == ["data.hdf5"]


def test_another_source_goes_on_with_the_same_part(server, target):
    server.cut_after = 10
    server.status["/gone"] = 403
    with pytest.raises(DownloadError):
        download([server.url + "/a/data.hdf5", server.url + "/gone"], target, check)
    server.cut_after = None
    download([server.url + "/gone", server.url + "/b/data.hdf5"], target, check)
    assert server.requests[-1] == ("/b/data.hdf5", "bytes=50-")
    assert target.read_bytes() == BODY


def test_refusals_fall_through_to_the_next_source(server, target):
    server.status["/a/data.hdf5"] = 403
    download([server.url + "/a/data.hdf5", server.url + "/b/data.hdf5"], target, check)
    assert target.read_bytes() == BODY


def test_every_source_failing_says_why_for_each_and_leaves_nothing(server, target):
    server.status["/a/data.hdf5"] = 403
    urls = [f"{server.url}/{path}" for path in ("a/data.hdf5", "nowhere", "page")]
    with pytest.raises(DownloadError) as caught:
        download([*urls, "http://127.0.0.1:1/x"], target, check)
    lines = str(caught.value).splitlines()
    expected = ["HTTP 403", "HTTP 404", "not the expected file (it: not the body)", "refused"]
    for line, url, reason in zip(lines, [*urls, "http://127.0.0.1:1/x"], expected, strict=True):
        assert url in line
        assert reason in line
    assert folder(target) == []


def test_wrong_file_is_rejected_and_does_not_spoil_the_next_source(server, target):
    download([server.url + "/page", server.url + "/a/data.hdf5"], target, check)
    assert target.read_bytes() == BODY
    assert server.requests[-1][1] is None, "the web page's bytes must not be resumed from"


def test_part_of_another_file_is_thrown_away_and_fetched_from_the_start(server, target):
    target.parent.mkdir(parents=True)
    target.with_name("data.hdf5.part").write_bytes(b"x" * 1000)
    download([server.url + "/a/data.hdf5"], target, check)
    assert target.read_bytes() == BODY
    assert [asked for _, asked in server.requests] == ["bytes=1000-", None]


def test_server_that_cannot_resume_sends_everything_again(server, target):
    server.resumes = False
    target.parent.mkdir(parents=True)
    target.with_name("data.hdf5.part").write_bytes(BODY[:1000])
    download([server.url + "/a/data.hdf5"], target, check)
    assert target.read_bytes() == BODY
    assert len(server.requests) == 1


@pytest.mark.parametrize("extra", [b"", b"too long"])
def test_part_that_is_complete_or_too_long(server, target, extra):
    target.parent.mkdir(parents=True)
    target.with_name("data.hdf5.part").write_bytes(BODY + extra)
    download([server.url + "/a/data.hdf5"], target, check)
    assert target.read_bytes() == BODY
    assert len(server.requests) == (2 if extra else 1)


def test_processes_that_want_one_file_at_once_fetch_it_once(server, target):
    threads = [
        threading.Thread(target=download, args=([server.url + "/a/data.hdf5"], target, check))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert target.read_bytes() == BODY
    assert len(server.requests) == 1
    assert folder(target) == ["data.hdf5"]
