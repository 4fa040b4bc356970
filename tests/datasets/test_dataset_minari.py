"""Minari data sets: small ones made here, in a folder of the test's own."""

import re
import sys
from dataclasses import replace

import numpy as np
import pytest

from synther.datasets import DownloadError, load_dataset
from synther.datasets.minari_writer import write_minari
from synther.installed import install_hint
from synther.transitions import TransitionError
from tests.data import random_transitions

minari = pytest.importorskip("minari")
spaces = pytest.importorskip("gymnasium.spaces")

BOX = spaces.Box(-np.inf, np.inf, (3,), np.float32)
ACTIONS = spaces.Box(-1, 1, (2,), np.float32)


@pytest.fixture(autouse=True)
def _own_folder(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))


def episode(steps: int, *, terminated: bool, seed: int, **changes):
    random = np.random.default_rng(seed)
    last = np.arange(steps) == steps - 1
    fields = {
        "observations": list(random.normal(size=(steps + 1, 3)).astype(np.float32)),
        "actions": list(random.uniform(-1, 1, size=(steps, 2)).astype(np.float32)),
        "rewards": list(random.normal(size=steps)),
        "terminations": list(last & terminated),
        "truncations": list(last & (not terminated)),
    }
    return minari.data_collector.EpisodeBuffer(**{**fields, **changes})


def create(name: str, buffer, **options):
    defaults = {"observation_space": BOX, "action_space": ACTIONS}
    minari.create_dataset_from_buffers(
        name,
        buffer,
        **{**defaults, **options},
        algorithm_name="none",
        author="a test",
        author_email="test@example.org",
        code_permalink="https://example.org",
    )


@pytest.mark.filterwarnings("ignore")
def test_actions_keep_the_units_of_the_recorded_space_and_say_them():
    wide = spaces.Box(np.float32([-3, 0]), np.float32([3, 10]), dtype=np.float32)
    actions = list(np.random.default_rng(0).uniform([-3, 0], [3, 10], (4, 2)).astype(np.float32))
    recorded = episode(4, terminated=True, seed=0, actions=actions)
    create("test/wide-v0", [recorded], action_space=wide)
    data = load_dataset("test/wide-v0")
    np.testing.assert_array_equal(data.actions, actions)
    assert data.metadata["action_low"] == [-3, 0]
    assert data.metadata["action_high"] == [3, 10]


@pytest.mark.filterwarnings("ignore")
def test_actions_are_written_in_the_units_of_the_environment():
    """A replay of Stable-Baselines3 is in [-1, 1]; Pendulum-v1 takes -2 to 2."""
    rows = random_transitions(50, 3, 1)
    scaled = replace(rows, metadata={"action_low": -1, "action_high": 1, "env_id": "Pendulum-v1"})
    written = write_minari(scaled, "test/scaled-v0", env_id="Pendulum-v1")
    assert written.action_space == spaces.Box(-2, 2, (1,), np.float32)
    data = load_dataset("test/scaled-v0")
    np.testing.assert_allclose(data.actions, 2 * rows.actions, rtol=1e-6)
    assert data.metadata["action_low"] == [-2]
    again = write_minari(data, "test/again-v0", env_id="Pendulum-v1")
    np.testing.assert_array_equal(next(again.iterate_episodes()).actions, data.actions[:1])
    free = write_minari(data, "test/free-v0")
    assert free.action_space == spaces.Box(-2, 2, (1,), np.float32)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("prefix", ["", "minari:"])
def test_every_step_becomes_a_transition_with_its_real_successor(prefix):
    episodes = [episode(4, terminated=True, seed=0), episode(3, terminated=False, seed=1)]
    create("test/boxes/small-v0", episodes, env="Pendulum-v1", ref_min_score=1.0, ref_max_score=5.0)
    data = load_dataset(prefix + "test/boxes/small-v0")
    expected = {
        "observations": np.concatenate([e.observations[:-1] for e in episodes]),
        "next_observations": np.concatenate([e.observations[1:] for e in episodes]),
        "actions": np.concatenate([e.actions for e in episodes]),
        "rewards": np.concatenate([e.rewards for e in episodes]).astype(np.float32),
        "terminals": [0, 0, 0, 1, 0, 0, 0],
    }
    for field, values in expected.items():
        np.testing.assert_array_equal(getattr(data, field), values)
    assert data.metadata["dataset"] == "test/boxes/small-v0"
    assert data.metadata["source"] == "minari"
    assert data.metadata["env_id"] == "Pendulum-v1"
    assert data.metadata["reference_scores"] == [1.0, 5.0]


@pytest.mark.filterwarnings("ignore")
def test_d4rls_scores_are_not_lent_to_minari():
    create("hopper-medium-v2", [episode(4, terminated=True, seed=0)])
    assert load_dataset("minari:hopper-medium-v2").metadata["reference_scores"] is None


@pytest.mark.filterwarnings("ignore")
def test_spaces_that_are_not_flat_boxes_are_refused():
    discrete = episode(4, terminated=True, seed=0, actions=[0, 1, 0, 1])
    create("test/discrete-v0", [discrete], action_space=spaces.Discrete(2))
    with pytest.raises(TransitionError, match=r"Discrete.*flat Box: discrete actions; only"):
        load_dataset("test/discrete-v0")
    goals = {"goal": list(np.zeros((5, 3), np.float32))}
    nested = episode(4, terminated=True, seed=0, observations=goals)
    create("test/nested-v0", [nested], observation_space=spaces.Dict({"goal": BOX}))
    with pytest.raises(TransitionError, match=r"observation space is Dict.*flat Box"):
        load_dataset("test/nested-v0")


def test_absent_and_no_network_says_what_to_do(monkeypatch):
    def no_network(*args, **kwargs):
        raise ConnectionError("no route to host")

    monkeypatch.setattr(minari.storage.hosting, "download_dataset", no_network)
    with pytest.raises(DownloadError) as caught:
        load_dataset("mujoco/hopper/medium-v0")
    for part in ("mujoco/hopper/medium-v0", "no route", "minari download", "MINARI_DATASETS_PATH"):
        assert part in str(caught.value)


def test_without_minari_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "minari", None)
    with pytest.raises(ImportError, match=re.escape(install_hint("minari"))):
        load_dataset("mujoco/hopper/medium-v0")
