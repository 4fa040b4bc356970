"""A recorded policy acts as the network of the run says."""

from pathlib import Path

import numpy as np
import pytest
import torch

from synther.datasets.recording import record_episodes
from synther.files import atomic, checkpoint
from synther.learning.nets import StackedMLP
from synther.online import play_policy
from synther.online.play_policy import Environment, behaviour_of_run, environment_of, main
from synther.transitions import Transitions
from tests.data import random_transitions


@pytest.fixture
def actor() -> StackedMLP:
    return StackedMLP([1], [5, 8, 4], [torch.Generator().manual_seed(0)])


def test_actions_are_drawn_from_the_squashed_gaussian(actor: StackedMLP) -> None:
    observation = np.linspace(-1, 1, 5).astype(np.float32)
    with torch.no_grad():
        out = actor(torch.from_numpy(observation)[None, None])[0, 0].double().numpy()
    policy = behaviour_of_run(actor)(np.random.default_rng(0))
    drawn = np.arctanh(np.array([policy(observation) for _ in range(4000)], np.float64))
    # Four standard errors of 4000 draws.
    assert drawn.mean(axis=0) == pytest.approx(out[:2], abs=4 * np.exp(out[2:]).max() / 63)
    assert drawn.std(axis=0) == pytest.approx(np.exp(out[2:]), rel=4 / 89)
    mean = behaviour_of_run(actor, stochastic=False)(np.random.default_rng(0))
    assert mean(observation) == pytest.approx(np.tanh(out[:2]), abs=1e-6)


PENDULUM = Environment("Pendulum-v1", {}, 1000)


def test_a_policy_plays_in_the_environment_that_it_was_trained_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its arguments and where its episodes were cut off are among the run's settings."""
    run = tmp_path / "run"
    said = {"env": "Pendulum-v1", "env_kwargs": "{'g': 2.5}", "redq_sac.max_ep_len": "40"}
    atomic.write_json(run / "run.json", said)
    assert environment_of(run) == Environment("Pendulum-v1", {"g": 2.5}, 40)
    assert environment_of(run).limit == 40
    atomic.write_json(tmp_path / "run.json", {"env": "Pendulum-v1"})
    assert environment_of(tmp_path) == PENDULUM
    assert PENDULUM.limit == 200  # its own
    monkeypatch.setattr(play_policy, "load_actor", lambda run: None)
    behaviour = lambda rng: lambda observation: np.full(1, 0.5)  # noqa: E731
    monkeypatch.setattr(play_policy, "behaviour_of_run", lambda *_, **__: behaviour)
    main([str(run), "--save", str(tmp_path / "played.npz"), "--rows", "80"])
    played = Transitions.load(tmp_path / "played.npz")
    assert np.flatnonzero(played.timeouts).tolist() == [39, 79]
    assert played.metadata["env_kwargs"] == {"g": 2.5}
    expected = record_episodes(
        "Pendulum-v1", behaviour, rows=80, seed=0, max_episode_steps=40, env_kwargs={"g": 2.5}
    )
    assert np.array_equal(played.rewards, expected.rewards)
    usual = record_episodes("Pendulum-v1", behaviour, rows=80, seed=0, max_episode_steps=40)
    assert not np.array_equal(played.rewards, usual.rewards)


def test_a_folder_that_is_no_run_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main([str(tmp_path), "--save", str(tmp_path / "played.npz")])
    assert "has no checkpoint-<step>.pt" in capsys.readouterr().err
    with pytest.raises(checkpoint.CheckpointError, match=r"run\.json is missing"):
        environment_of(tmp_path)
    atomic.write_text(tmp_path / "run.json", "[]")
    with pytest.raises(checkpoint.CheckpointError, match="not the settings of an online run"):
        environment_of(tmp_path)
    with pytest.raises(SystemExit):
        main([str(tmp_path), "--save", "played.csv"])
    assert "expected a name in .npz" in capsys.readouterr().err


def test_own_episodes_are_replaced_and_other_data_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(play_policy, "load_actor", lambda run: None)
    monkeypatch.setattr(play_policy, "environment_of", lambda run: PENDULUM)
    monkeypatch.setattr(
        play_policy,
        "record_episodes",
        lambda *_, rows, **__: random_transitions(rows=rows),
    )
    path = tmp_path / "played.npz"
    for rows in (10, 20):
        main([str(tmp_path), "--save", str(path), "--rows", str(rows)])
    assert len(Transitions.load(path)) == 20
    words = Transitions.load(path).metadata["command"].split()
    assert words[:3] == ["python3", "-m", "synther.online.play_policy"]
    capsys.readouterr()
    for other, rows, expected in (
        (path, 19, "holds 20 transitions of a policy, and 19 would replace them"),
        (random_transitions().save(tmp_path / "mine.npz"), 500, "is there already, and holds no"),
    ):
        before = Path(other).read_bytes()
        with pytest.raises(SystemExit):
            main([str(tmp_path), "--save", str(other), "--rows", str(rows)])
        assert expected in capsys.readouterr().err
        assert Path(other).read_bytes() == before
