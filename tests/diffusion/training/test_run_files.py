"""Names of a run's checkpoints, and which of them stay."""

from pathlib import Path

from synther.diffusion.training.run_files import RunFiles
from synther.files import checkpoint


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_resume_point_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    files = RunFiles(tmp_path, None)
    assert files.furthest() is None
    for step in (5, 9):
        files.save_resume_point(step, {"step": step})
    assert names(tmp_path) == {"resume-9.pt"}
    assert files.save_checkpoint(7, {"step": 7}) == files.checkpoint_path(7)
    assert files.furthest() == tmp_path / "resume-9.pt"
    files.save_checkpoint(10, {"step": 10})
    assert files.furthest() == tmp_path / "model-10.pt"
    files.remove_resume_points()
    assert names(tmp_path) == {"model-7.pt", "model-10.pt"}
    assert checkpoint.load(files.checkpoint_path(7)) == {"step": 7}


def test_the_checkpoint_just_written_stays_even_where_later_steps_are_there(tmp_path: Path) -> None:
    files = RunFiles(tmp_path, 2)
    for step in (10, 20, 30, 5):
        files.save_checkpoint(step, {})
    assert names(tmp_path) == {"model-5.pt", "model-20.pt", "model-30.pt"}
