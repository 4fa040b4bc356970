"""Collected data are what the simulator answers, and say how they were made."""

import importlib
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from synther.datasets import collect as collecting
from synther.datasets import load_dataset
from synther.datasets.collect import Budget, CollectError, Collection, main
from synther.datasets.episodes import episode_returns
from synther.datasets.recording import behaviour_of, content_hash, record_episodes
from synther.envs.maze2d import LAYOUTS
from synther.envs.maze_controller import MazeController
from synther.envs.one_step import simulate_steps
from synther.transitions import Transitions

SMALL = Budget(
    seed=3,
    medium_steps=150,
    expert_steps=160,
    rows=100,
    gin_params=("redq_sac.start_steps = 100", "redq_sac.hidden_sizes = (8, 8)"),
)


def uniform(width: int):
    return lambda rng: lambda _: rng.uniform(-1, 1, width)


def in_this_process(module: str, *words: object) -> None:
    importlib.import_module(module).main([str(word) for word in words])


def assert_simulated(data: Transitions) -> None:
    """Every row is what the simulator does from its observation; what an observation leaves out is
    the rounding to float32, which one step of these tasks enlarges by less than a hundred."""
    answer = simulate_steps(data.metadata["env_id"], data.observations, data.actions)
    rows = answer.stable
    assert rows.mean() > 0.9
    np.testing.assert_allclose(
        answer.next_observations[rows], data.next_observations[rows], rtol=1e-4, atol=1e-4
    )
    np.testing.assert_allclose(answer.rewards[rows], data.rewards[rows], rtol=1e-4, atol=1e-4)
    # A state at the very edge may fall over in one precision and stand in the other.
    assert (answer.terminals[rows] != data.terminals[rows]).sum() <= 1


@pytest.mark.parametrize(
    ("env_id", "width", "limit"), [("Hopper-v2", 3, 1000), ("maze2d-umaze-v1", 2, 300)]
)
def test_recorded_rows_step_to_themselves_in_whole_episodes(
    env_id: str, width: int, limit: int
) -> None:
    data = record_episodes(env_id, uniform(width), rows=200, seed=0)
    assert_simulated(data)
    assert data.timeouts is not None
    assert data.timeouts[-1] or data.terminals[-1]
    ends = np.flatnonzero(data.timeouts | (data.terminals > 0))
    lengths = np.diff(ends, prepend=-1)
    assert ((lengths == limit) == data.timeouts[ends]).all()
    same = np.delete(np.arange(len(data) - 1), ends[:-1])
    assert (data.next_observations[same] == data.observations[same + 1]).all()


def test_an_episode_depends_on_seed_and_number_alone() -> None:
    short, long = (record_episodes("Hopper-v2", uniform(3), rows=rows, seed=5) for rows in (1, 100))
    first = long.subset(slice(len(short)))
    assert content_hash(first) == content_hash(short)
    assert content_hash(first) != content_hash(long)
    other = record_episodes("Hopper-v2", uniform(3), rows=1, seed=6)
    assert other.observations[0].tolist() != short.observations[0].tolist()


def test_the_behaviours_own_return_is_stated_with_its_score() -> None:
    data = record_episodes("Hopper-v2", uniform(3), rows=300, seed=0)
    found = behaviour_of(data)
    returns = episode_returns(data)
    assert found["episodes"] == len(returns)
    assert found["episode_return"]["mean"] == pytest.approx(returns.mean(), abs=0.01)
    # D4RL's references of Hopper.
    expected = 100 * (returns.mean() + 20.272305) / (3234.3 + 20.272305)
    assert found["score"] == pytest.approx(expected, abs=0.01)


def test_the_scripted_controller_drives_through_the_whole_maze() -> None:
    data = record_episodes(
        "maze2d-medium-v1", lambda rng: MazeController("maze2d-medium-v1", rng), rows=6000, seed=0
    )
    assert_simulated(data.subset(slice(300)))
    uniformly = record_episodes("maze2d-medium-v1", uniform(2), rows=6000, seed=0)
    seen = [
        [len(np.unique(np.rint(each.observations[row : row + 600, :2]), axis=0))
         for row in range(0, 6000, 600)]
        for each in (data, uniformly)
    ]  # fmt: skip
    cells = np.unique(np.rint(data.observations[:, :2]), axis=0)
    free = sum(line.count(".") + line.count("G") for line in LAYOUTS["medium"])
    assert len(cells) >= 0.9 * free
    assert np.mean(seen[0]) > 1.5 * np.mean(seen[1])


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> Collection:
    collection = Collection(tmp_path_factory.mktemp("collected"), SMALL)
    with pytest.MonkeyPatch.context() as patch:  # a new process would load torch each time
        patch.setattr(collecting, "_start", in_this_process)
        collection.path("hopper-medium-expert")
        collection.path("hopper-medium-replay")
    return collection


@pytest.mark.parametrize("kind", ["medium", "medium-replay", "expert", "medium-expert"])
def test_what_sac_leaves_is_simulated_and_described(collected: Collection, kind: str) -> None:
    data = load_dataset(collected.folder / f"hopper-{kind}.npz")
    assert_simulated(data)
    stated = data.metadata
    assert stated["content_hash"] == content_hash(data)
    assert stated["env_id"] == "Hopper-v2"
    assert stated["reference_scores"] is not None
    assert (stated["seed"], stated["budget"]["medium_steps"]) == (3, 150)
    assert f"hopper-{kind} --seed 3" in stated["command"]
    assert str(collected.folder) not in str(stated), "another machine has another folder"
    assert stated["episode_return"]["mean"] == pytest.approx(episode_returns(data).mean(), abs=0.01)
    if kind == "medium-replay":
        assert len(data) == 150


def test_a_mix_holds_whole_episodes_of_both(collected: Collection) -> None:
    medium, expert, both = (
        load_dataset(collected.folder / f"hopper-{kind}.npz")
        for kind in ("medium", "expert", "medium-expert")
    )
    assert both.timeouts is not None
    border = int((both.observations[:, None] == expert.observations[0]).all(-1).argmax())
    assert (both.observations[:border] == medium.observations[:border]).all()
    assert both.terminals[border - 1] or both.timeouts[border - 1]
    assert len(medium) / 2 <= border < len(medium)


def test_what_is_there_is_left_alone_and_another_budget_is_refused(
    collected: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collecting, "_start", None)  # nothing is started
    assert collected.path("hopper-medium").is_file()
    (collected.folder / "hopper-medium.npz").unlink()
    assert collected.path("hopper-medium").is_file()  # out of what SAC left
    with pytest.raises(CollectError, match=r"hopper-medium\.npz: was collected with the budget"):
        Collection(collected.folder, Budget()).path("hopper-medium")


@pytest.mark.parametrize(
    ("kind", "same", "others"),
    [
        ("medium", {"expert_steps": 170}, [{"medium_steps": 140}, {"rows": 90}, {"seed": 4}]),
        ("expert", {"medium_steps": 140}, [{"expert_steps": 170}, {"rows": 90}]),
        (
            "medium-replay",
            {"expert_steps": 170, "rows": 90},
            [{"medium_steps": 140}, {"gin_params": ()}],
        ),
        ("medium-expert", {}, [{"medium_steps": 140}, {"expert_steps": 170}]),
    ],
)
def test_only_flags_that_a_file_depends_on_make_it_another_one(
    collected: Collection,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    same: dict[str, Any],
    others: list[dict[str, Any]],
) -> None:
    monkeypatch.setattr(collecting, "_start", None)  # nothing is started
    name = f"hopper-{kind}"
    assert Collection(collected.folder, replace(SMALL, **same)).path(name).is_file()
    for changes in others:
        with pytest.raises(CollectError, match="was collected with the budget"):
            Collection(collected.folder, replace(SMALL, **changes)).path(name)


@pytest.mark.parametrize("name", ["hopper-random", *(f"maze2d-{size}" for size in LAYOUTS)])
def test_random_data_and_mazes_depend_on_seed_and_rows(name: str, tmp_path: Path) -> None:
    other = replace(SMALL, medium_steps=140, expert_steps=170, gin_params=())
    made = Collection(tmp_path, SMALL).path(name)
    assert Collection(tmp_path, other).path(name) == made
    with pytest.raises(CollectError, match="was collected with the budget"):
        Collection(tmp_path, replace(SMALL, rows=90)).path(name)


def test_an_expert_plays_its_own_episodes_where_its_policy_was_the_medium_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collecting, "_start", in_this_process)
    later = replace(SMALL, medium_steps=140, expert_steps=150)
    first = Collection(tmp_path / "one", SMALL).path("hopper-medium")
    second = Collection(tmp_path / "one", later).path("hopper-expert")
    alone = Collection(tmp_path / "other", later).path("hopper-expert")
    hashes = [content_hash(Transitions.load(path)) for path in (first, second, alone)]
    assert hashes[0] != hashes[1] == hashes[2]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"budget": "hello"}, "in its metadata 'budget' is 'hello', expected names with values"),
        ({"budget": None}, "'budget' is None"),
        ({"budget": {}}, "was collected with the budget {}, not"),
        ({"content_hash": None}, "'content_hash' is None, expected str"),
        ({"content_hash": "0" * 64}, "its rows have the SHA-256 "),
        ({"episodes": None}, "'episodes' is None, expected int, 0 or more"),
        ({"episode_return": None}, "'episode_return' is None, expected names with values"),
        ({"episode_return": {"mean": "x"}}, "expected of each value float, a finite number"),
        ({"score": "high"}, "'score' is 'high', expected float"),
        ({"behaviour_command": None}, "'behaviour_command' is None, expected str"),
    ],
)
def test_a_file_that_does_not_say_what_it_is_is_refused(
    collected: Collection, changes: dict[str, Any], message: str, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    data = Transitions.load(collected.path("hopper-medium"))
    path = tmp_path / "hopper-medium.npz"
    replace(data, metadata={**data.metadata, **changes}).save(path)
    with pytest.raises(SystemExit) as stopped:
        main(["hopper-medium", "--folder", str(tmp_path), *SMALL.words()])
    assert stopped.value.code == 1
    said = capsys.readouterr().err
    assert said.startswith(f"error: {path}: ")
    assert message in said
    assert "; remove the file, or choose another --folder" in said


def test_a_file_whose_rows_were_changed_is_refused(collected: Collection, tmp_path: Path) -> None:
    data = Transitions.load(collected.path("hopper-medium"))
    replace(data, rewards=data.rewards + 1).save(tmp_path / "hopper-medium.npz")
    with pytest.raises(CollectError, match=r"not \w+ as it states; remove the file"):
        Collection(tmp_path, SMALL).path("hopper-medium")


def test_the_table_is_whole_in_80_columns(collected: Collection, tmp_path: Path) -> None:
    data = Transitions.load(collected.path("hopper-medium"))
    path = data.save(tmp_path / "halfcheetah-medium-replay.npz")
    console = Console(width=80, file=io.StringIO())
    console.print(collecting.table([path]))
    words = console.file.getvalue().split()  # type: ignore[attr-defined]
    stated = data.metadata
    assert {path.stem, f"{stated['score']:.1f}", stated["content_hash"][:12]} <= set(words)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["hoper-medium"], 2, "hoper-medium: no such data set; there are hopper-random"),
        (["--medium_steps", "1500"], 2, "--medium_steps 1500: expected a whole number of"),
        (["--expert_steps", "1000"], 2, "--expert_steps 1000: expected more than"),
        (["hopper-medium", "--gin_params", "redq_sac.lr = 0"], 1, "ended with exit code 1"),
    ],
)
def test_bad_input_is_refused(
    words: list[str], code: int, message: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([*words, "--folder", str(tmp_path)])
    assert stopped.value.code == code
    assert message in capfd.readouterr().err


def test_the_command_shows_the_behaviours_return(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["walker2d-random", "--folder", str(tmp_path), "--rows", "60"])
    assert {"mean", "return"} <= set(capsys.readouterr().out.split())
    assert len(load_dataset(tmp_path / "walker2d-random.npz")) >= 60
