"""OGBench's layout: small files that are written here, and the package's own loader beside ours."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from synther.datasets import DownloadError, load_dataset
from synther.datasets import ogbench as source
from synther.installed import install_hint
from synther.transitions import TransitionError

LENGTHS = (4, 1, 3)
"""Transitions of three trajectories, which have one row more each."""


def layout(**others: Any) -> dict[str, Any]:
    """Rows of OGBench's layout whose every number is different."""
    rows = sum(LENGTHS) + len(LENGTHS)
    terminals = np.zeros(rows, np.float32)
    terminals[np.cumsum(np.array(LENGTHS) + 1) - 1] = 1
    masks = np.ones(rows, np.float32)
    masks[2] = 0  # a state in which the task is solved
    return {
        "observations": np.arange(3.0 * rows, dtype=np.float32).reshape(rows, 3),
        "actions": np.arange(2.0 * rows, dtype=np.float32).reshape(rows, 2) / 100,
        "terminals": terminals,
        "rewards": masks * -1,
        "masks": masks,
        **others,
    }


def written(path: Path, **others: Any) -> str:
    arrays = {key: value for key, value in layout(**others).items() if value is not None}
    np.savez(path, **arrays)
    return f"ogbench:{path}"


def test_trajectories_become_transitions_by_shift(tmp_path: Path) -> None:
    data = load_dataset(written(tmp_path / "rows.npz"))
    arrays = layout()
    expected = []  # by a loop over trajectories
    start = 0
    for length in LENGTHS:
        for row in range(start, start + length):
            ends = row == start + length - 1
            solved = arrays["masks"][row] == 0
            expected.append((row, solved, ends and not solved))
        start += length + 1
    rows = [row for row, _, _ in expected]
    assert len(data) == sum(LENGTHS)
    np.testing.assert_array_equal(data.observations, arrays["observations"][rows])
    np.testing.assert_array_equal(data.next_observations, arrays["observations"][rows] + 3)
    np.testing.assert_array_equal(data.actions, arrays["actions"][rows])
    np.testing.assert_array_equal(data.rewards, arrays["rewards"][rows])
    assert data.terminals.tolist() == [solved for _, solved, _ in expected]
    assert data.timeouts is not None
    assert data.timeouts.tolist() == [cut for _, _, cut in expected]
    assert data.metadata["source"] == "ogbench"


def test_a_name_says_file_and_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OGBENCH_DATASET_DIR", str(tmp_path))
    written(tmp_path / "antmaze-large-navigate-v0.npz")
    for name in ("antmaze-large-navigate-singletask-task2-v0",
                 "ogbench:antmaze-large-navigate-singletask-task2-v0"):  # fmt: skip
        data = load_dataset(name)
        assert data.metadata["env_id"] == "antmaze-large-singletask-task2-v0"
        assert data.metadata["reference_scores"] is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"actions": None}, "missing 'actions'; found 'observations', 'terminals'"),
        ({"masks": None}, "has no rewards and masks, so rewards are unknown; give the data set's"),
        ({"terminals": np.zeros(11, np.float32)}, "not 1 in the last row, the last state"),
        ({"terminals": np.ones(11, np.float32)}, "every row ends a trajectory"),
        ({"terminals": np.full(11, 0.5)}, "'terminals' in row 0 is 0.5, not 0 or 1"),
        ({"masks": np.full(11, 0.5)}, "'masks' in row 0 is 0.5, not 0 or 1"),
        ({"actions": np.zeros((4, 2))}, "'actions' has shape (4, 2), 'observations' has 11 rows"),
        (
            {
                key: np.zeros((0, width), np.float32)
                for key, width in (
                    ("observations", 3),
                    ("actions", 2),
                    ("terminals", 1),
                    ("rewards", 1),
                    ("masks", 1),
                )
            },
            "'terminals' has shape (0, 1), expected one number a row",
        ),
        ({"masks": np.ones((11, 1))}, "'masks' has shape (11, 1), expected one number a row"),
        ({"observations": np.zeros((11, 8, 8, 3), np.uint8)}, "visual data sets need an encoder"),
        ({"rewards": np.full(11, np.nan)}, "'rewards' is not finite in 8 of 8 rows"),
    ],
)
def test_another_layout_is_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(TransitionError) as refused:
        load_dataset(written(tmp_path / "rows.npz", **changes))
    assert message in str(refused.value)
    assert str(tmp_path / "rows.npz") in str(refused.value)


def test_a_name_without_a_task_is_refused() -> None:
    with pytest.raises(TransitionError, match="without 'singletask' have no rewards"):
        load_dataset("ogbench:cube-single-play-v0")


def test_what_cannot_be_downloaded_says_where_it_is_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OGBENCH_DATASET_DIR", str(tmp_path))
    monkeypatch.setattr(source, "URL", (tmp_path / "nowhere").as_uri() + "/")
    with pytest.raises(DownloadError) as refused:
        load_dataset("cube-single-play-singletask-v0")
    assert f"save it as {tmp_path / 'cube-single-play-v0.npz'}" in str(refused.value)


def test_rewards_of_a_task_need_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OGBENCH_DATASET_DIR", str(tmp_path))
    monkeypatch.setitem(__import__("sys").modules, "ogbench", None)
    written(tmp_path / "cube-single-play-v0.npz", rewards=None, qpos=np.zeros((11, 21)))
    with pytest.raises(ImportError, match=re.escape(install_hint("ogbench"))):
        load_dataset("cube-single-play-singletask-v0")


@pytest.mark.parametrize("name", ["pointmaze-medium", "cube-single"])
def test_rows_and_rewards_are_those_of_the_packages_own_loader(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ogbench = pytest.importorskip("ogbench")
    from synther.envs import make_env

    monkeypatch.setenv("OGBENCH_DATASET_DIR", str(tmp_path))
    env = make_env(f"{name}-singletask-v0")
    rng = np.random.default_rng(0)
    rows: dict[str, list[Any]] = {
        key: [] for key in ("observations", "actions", "terminals", "qpos", "qvel")
    }
    for episode, length in enumerate(LENGTHS):
        observation, _ = env.reset(seed=episode)
        for step in range(length + 1):
            action = rng.uniform(-1, 1, env.action_space.shape).astype(np.float32)
            simulation = env.unwrapped.data if name != "cube-single" else env.unwrapped._data
            row = (observation, action, step == length, simulation.qpos, simulation.qvel)
            for key, value in zip(rows, row, strict=True):
                rows[key].append(np.array(value, np.float32))
            observation = env.step(action)[0]
    goal = {"pointmaze-medium": lambda: env.unwrapped.cur_goal_xy}.get(name)
    if goal is not None:  # one row lies at the goal
        rows["qpos"][2][:2] = goal()
    env.close()
    arrays = {key: np.array(value, np.float32) for key, value in rows.items()}
    for suffix in ("", "-val"):
        np.savez(tmp_path / f"{name}-navigate-v0{suffix}.npz", **arrays)
    _, theirs, _ = ogbench.make_env_and_datasets(
        f"{name}-navigate-singletask-v0",
        dataset_path=str(tmp_path / f"{name}-navigate-v0.npz"),
    )
    ours = load_dataset(f"{name}-navigate-singletask-v0")
    for key in ("observations", "actions", "next_observations", "rewards"):
        np.testing.assert_array_equal(getattr(ours, key), theirs[key])
    np.testing.assert_array_equal(ours.terminals, 1 - theirs["masks"])
    ends = (ours.terminals > 0) | ours.timeouts
    np.testing.assert_array_equal(ends, (theirs["terminals"] > 0) | (theirs["masks"] == 0))
    assert goal is None or ours.terminals.sum() == 1


def test_its_environment_is_evaluated() -> None:
    pytest.importorskip("ogbench")
    from synther.envs import evaluate

    returns = evaluate(
        lambda seen: np.zeros((1, 2)), "pointmaze-medium-singletask-v0", 1, 0,
        max_episode_steps=20,
    )  # fmt: skip
    assert returns.tolist() == [-20.0]  # -1 a step until the goal is reached
