"""Whose a folder is, which run a resumed one is, and what an earlier one leaves."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from synther.files.checkpoint import CheckpointError
from synther.runs.folder import RunFolder, RunFolderError, checkpoint_in

SETTINGS = {"seed": 1, "dataset": "hopper", "gin": "Trainer.train_lr = 0.1\nmodel.width = 8\n"}


@dataclass
class Source:
    path: str | None = None
    steps: int = 128


@dataclass
class Config:
    seed: int = 0
    sizes: tuple[int, ...] = (2, 3)
    threads: int = 1
    root: str = "data"
    source: Source = field(default_factory=Source)


OWN = ("logs", "model-*.pt")


def plain(path: Path, **changed: Any) -> RunFolder:
    return RunFolder(path, "run.json", {**SETTINGS, **changed}, own=OWN)


def typed(path: Path, file: str, **given: Any) -> RunFolder:
    return RunFolder(path, file, Config(**given), may_differ={"root"})


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


# ---- The same run ----
def test_a_claimed_folder_holds_the_settings_and_nothing_else(tmp_path: Path) -> None:
    assert plain(tmp_path / "run").claim(resume=False) is None
    assert names(tmp_path / "run") == {"run.json"}
    assert json.loads((tmp_path / "run" / "run.json").read_text()) == SETTINGS


def test_the_same_run_is_resumed_and_keeps_its_files(tmp_path: Path) -> None:
    plain(tmp_path).claim(resume=False)
    (tmp_path / "checkpoint-3.pt").touch()
    (tmp_path / ".checkpoint-4.pt.99.partial").touch()  # of the process that was killed
    before = (tmp_path / "run.json").read_bytes()
    assert plain(tmp_path).claim(resume=True) is None
    assert names(tmp_path) == {"run.json", "checkpoint-3.pt"}
    assert (tmp_path / "run.json").read_bytes() == before


def test_the_order_of_gin_bindings_and_how_numbers_are_written_says_nothing(tmp_path: Path) -> None:
    plain(tmp_path).claim(resume=False)
    same = "import gin\n\n# Of the model\nmodel.width = 8\nTrainer.train_lr = 1e-1"
    assert plain(tmp_path, gin=same).differences() == {}


@pytest.mark.parametrize("file", ["config.yaml", "config.json"])
def test_a_dataclass_comes_back_from_either_form(file: str, tmp_path: Path) -> None:
    given = {"seed": 4, "sizes": (5,), "source": Source("böse/\U0001f600.pt", 3)}
    typed(tmp_path, file, **given).claim(resume=False)
    assert typed(tmp_path, file, **given).differences() == {}
    assert typed(tmp_path, file, sizes=(5, 6), source=Source(steps=3)).differences() == {
        "seed": (4, 0),
        "sizes": ([5], [5, 6]),
        "source.path": ("böse/\U0001f600.pt", None),
    }


@pytest.mark.parametrize(
    ("file", "text"), [("config.yaml", "seed: 7\n"), ("config.json", '{"seed": 7}')]
)
def test_keys_that_an_older_version_did_not_have_had_their_defaults(
    file: str, text: str, tmp_path: Path
) -> None:
    (tmp_path / file).write_text(text)
    typed(tmp_path, file, seed=7).claim(resume=True)
    assert (tmp_path / file).read_text() == text  # as the older version wrote it
    assert typed(tmp_path, file, seed=7, sizes=(1,)).differences() == {"sizes": ([2, 3], [1])}


def test_where_and_how_a_run_goes_on_may_differ(tmp_path: Path) -> None:
    typed(tmp_path, "config.json").claim(resume=False)
    typed(tmp_path, "config.json", threads=8, root="/elsewhere").claim(resume=True)
    with pytest.raises(RunFolderError, match="root: then data, now /elsewhere"):
        RunFolder(tmp_path, "config.json", Config(root="/elsewhere")).claim(resume=True)


# ---- Another run ----
def test_each_differing_key_is_named_then_and_now_and_nothing_is_touched(tmp_path: Path) -> None:
    plain(tmp_path).claim(resume=False)
    (tmp_path / ".checkpoint-4.pt.99.partial").touch()
    other = plain(tmp_path, seed=2, gin="Trainer.train_lr = 0.1\nTrainer.steps = 5", held_out=0.1)
    with pytest.raises(RunFolderError) as refused:
        other.claim(resume=True)
    first, *lines = str(refused.value).splitlines()
    assert first == (
        f"{tmp_path}: --resume needs the settings that the run was started with; give these, or "
        "leave --resume out to begin a new run"
    )
    assert sorted(lines) == [
        "  Trainer.steps: then not set, now 5",
        "  held_out: then not set, now 0.1",
        "  model.width: then 8, now not set",
        "  seed: then 1, now 2",
    ]
    assert names(tmp_path) == {"run.json", ".checkpoint-4.pt.99.partial"}


def test_gin_bindings_of_other_scopes_are_other_bindings(tmp_path: Path) -> None:
    plain(tmp_path, gin="fast/model.width = 4\nmodel.width = 8").claim(resume=False)
    other = plain(tmp_path, gin="fast/model.width = 5\nmodel.width = 8")
    assert other.differences() == {"fast/model.width": (4, 5)}


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("run.json", '{"seed"'),
        ("run.json", "[1, 2]"),
        ("run.json", '{"gin": "a.b = = 3"}'),
        ("run.json", '{"gin": 3}'),
        ("config.json", '{"seeds": 1}'),
        ("config.json", "\x00"),
        ("config.yaml", "seed: [1"),
        ("config.yaml", "seed: soon"),
    ],
)
def test_a_damaged_file_is_named(file: str, text: str, tmp_path: Path) -> None:
    (tmp_path / file).write_text(text)
    make = plain if file == "run.json" else lambda path: typed(path, file)
    with pytest.raises(RunFolderError, match="begin a new run") as refused:
        make(tmp_path).claim(resume=True)
    assert str(refused.value).count(str(tmp_path / file)) == 1
    assert (tmp_path / file).read_text() == text
    assert make(tmp_path).claim(resume=False) == tmp_path / "previous-1"


def test_where_there_is_no_run_to_resume_it_begins_or_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match=rf"{tmp_path}/a: there is no run to --resume \(run"):
        plain(tmp_path / "a").claim(resume=True, must_exist=True)
    assert not (tmp_path / "a").exists()
    plain(tmp_path / "a").claim(resume=True)
    assert names(tmp_path) == {"a/run.json"}


# ---- An earlier run ----
def test_earlier_runs_are_set_aside_one_after_the_other_and_it_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for run in range(1, 4):
        moved = plain(tmp_path / "[a=1]", seed=run).claim(resume=False)
        assert moved == (tmp_path / "[a=1]" / f"previous-{run - 1}" if run > 1 else None)
        (tmp_path / "[a=1]" / "logs").mkdir()
        (tmp_path / "[a=1]" / "logs" / f"{run}.txt").touch()
    earlier = {
        f"previous-{run}/{each}" for run in (1, 2) for each in ("run.json", f"logs/{run}.txt")
    }
    assert names(tmp_path / "[a=1]") == {*earlier, "run.json", "logs/3.txt"}
    said = capsys.readouterr().out.replace("\n", "")
    assert said.count("[a=1] held an earlier run; it is now in ") == 2
    assert said.count("(--resume would have continued it)") == 2


def test_setting_aside_never_meets_a_folder_that_is_there(tmp_path: Path) -> None:
    (tmp_path / "previous-2").mkdir()  # the first was deleted
    (tmp_path / "previous-2" / "a.txt").touch()
    (tmp_path / "previous-notes.txt").touch()
    (tmp_path / "model-1.pt").touch()
    assert plain(tmp_path).claim(resume=False) == tmp_path / "previous-3"
    left = {"previous-2/a.txt", "previous-notes.txt"}
    assert names(tmp_path) == {*left, "previous-3/model-1.pt", "run.json"}


def test_what_is_left_after_a_kill_in_the_middle_of_setting_aside_is_moved_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain(tmp_path).claim(resume=False)
    (tmp_path / "metrics.jsonl").touch()
    (tmp_path / "model-9.pt").touch()
    rename = Path.rename

    def killed(self: Path, target: Path) -> Path:
        if self.name == "model-9.pt":
            raise KeyboardInterrupt
        return rename(self, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            plain(tmp_path).claim(resume=False)
    assert plain(tmp_path).claim(resume=True) == tmp_path / "previous-2"
    first = {f"previous-1/{name}" for name in ("run.json", "metrics.jsonl")}
    assert names(tmp_path) == {*first, "previous-2/model-9.pt", "run.json"}


def test_files_and_runs_of_others_stay_where_they_are(tmp_path: Path) -> None:
    plain(tmp_path).claim(resume=False)
    own = {"model-3.pt", "metrics.jsonl", "logs/a.txt", "events.out.tfevents.1.host.2.3"}
    foreign = {"notes.md", "a.npz", "config.yaml", "other/model-1.pt", "other/run.json"}
    for name in own | foreign:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert plain(tmp_path).claim(resume=False) == tmp_path / "previous-1"
    moved = {f"previous-1/{name}" for name in own | {"run.json"}}
    assert names(tmp_path) == moved | foreign | {"run.json"}


@pytest.mark.parametrize("mark", ["notes.md", "checkpoint-3.pt", "wandb"])
def test_where_no_run_was_nothing_is_moved(mark: str, tmp_path: Path) -> None:
    (tmp_path / mark).touch()
    assert plain(tmp_path).claim(resume=False) is None
    assert names(tmp_path) == {mark, "run.json"}


@pytest.mark.parametrize(
    ("there", "file", "own"),
    [
        ("run.json", "run.json", "model-*.pt"),  # diffusion, where an online run is
        ("run.json", "config.json", "checkpoint-*.pt"),  # pixels, there
        ("config.yaml", "run.json", "checkpoint-*.pt"),  # online, where an offline run is
    ],
)
def test_the_run_of_another_command_is_not_torn_apart(
    there: str, file: str, own: str, tmp_path: Path
) -> None:
    for name in (there, "checkpoint-3.pt"):
        (tmp_path / name).touch()
    with pytest.raises(RunFolderError, match=f"another command .{there}, checkpoint-<step>.pt"):
        RunFolder(tmp_path, file, SETTINGS, own=(own,)).claim(resume=False)
    assert names(tmp_path) == {there, "checkpoint-3.pt"}


# ---- A longer run ----
def lengthy(path: Path, **changed: Any) -> RunFolder:
    return RunFolder(path, "run.json", {"seed": 1, "steps": 60, **changed}, lengths=("steps",))


def test_more_steps_alone_make_a_run_a_longer_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lengthy(tmp_path).claim(resume=False)
    (tmp_path / "checkpoint-60.pt").touch()
    (tmp_path / "result.json").write_text('{"score": 1}')
    assert lengthy(tmp_path).lengthened() is None
    longer = lengthy(tmp_path, steps=90)
    assert longer.lengthened() == (60, 90)
    longer.claim(resume=True)
    assert json.loads((tmp_path / "run.json").read_text()) == {"seed": 1, "steps": 90}
    assert longer.lengthened() is None
    assert longer.result() is None
    assert json.loads((tmp_path / "result-60.json").read_text()) == {"score": 1}
    lengthy(tmp_path, steps=100).claim(resume=True)
    assert json.loads((tmp_path / "lengthened.json").read_text()) == [
        {"step": 60, "then": 60, "now": 90},
        {"step": 60, "then": 90, "now": 100},
    ]
    assert "goes on from step 60 as a longer run (60 before, 90 now)" in capsys.readouterr().out


@pytest.mark.parametrize("changed", [{"steps": 59}, {"steps": 90, "seed": 2}, {"steps": "many"}])
def test_fewer_steps_or_other_settings_as_well_are_another_run(
    changed: dict[str, Any], tmp_path: Path
) -> None:
    lengthy(tmp_path).claim(resume=False)
    with pytest.raises(RunFolderError, match=r"\(a greater steps alone trains on\)"):
        lengthy(tmp_path, **changed).claim(resume=True)
    assert json.loads((tmp_path / "run.json").read_text()) == {"seed": 1, "steps": 60}


def test_a_setting_that_earlier_versions_did_not_write_says_nothing(tmp_path: Path) -> None:
    lengthy(tmp_path).claim(resume=False)
    now = {"seed": 1, "steps": 60, "data": "abc"}
    RunFolder(tmp_path, "run.json", now, younger=("data",)).claim(resume=True)
    with pytest.raises(RunFolderError, match="data: then not set, now abc"):
        RunFolder(tmp_path, "run.json", now).claim(resume=True)
    RunFolder(tmp_path, "run.json", now, younger=("data",)).write_settings()
    other = RunFolder(tmp_path, "run.json", {**now, "data": "def"}, younger=("data",))
    with pytest.raises(RunFolderError, match="data: then abc, now def"):
        other.claim(resume=True)


# ---- What is in it ----
def test_a_run_is_finished_when_its_result_is_there(tmp_path: Path) -> None:
    folder = plain(tmp_path)
    folder.claim(resume=False)
    assert folder.result() is None
    folder.finish({"score": 3.5, "config": {"seed": 1}})
    assert plain(tmp_path).result() == {"score": 3.5, "config": {"seed": 1}}
    for text in ("{", "[3, 4]", "3"):
        (tmp_path / "result.json").write_text(text)
        with pytest.raises(CheckpointError, match=r"result\.json: is not the result of a run"):
            folder.result()


def test_a_checkpoint_is_named_itself_or_by_its_folder(tmp_path: Path) -> None:
    assert checkpoint_in(tmp_path / "other.pt") == tmp_path / "other.pt"
    (tmp_path / "empty").mkdir()
    for step in (9, 10):
        (tmp_path / f"checkpoint-{step}.pt").touch()
    assert checkpoint_in(tmp_path) == tmp_path / "checkpoint-10.pt"
    with pytest.raises(CheckpointError, match=r"has no checkpoint-<step>\.pt to load"):
        checkpoint_in(tmp_path / "empty")
