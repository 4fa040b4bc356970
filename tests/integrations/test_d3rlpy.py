"""d3rlpy itself: the transitions that it draws, and its algorithms trained on samples."""

import re
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from synther.datasets import as_transitions
from synther.installed import install_hint
from synther.integrations.d3rlpy import from_mdp_dataset, to_mdp_dataset
from synther.transitions import TransitionError, Transitions
from synther.upsampling import upsample
from tests.data import random_transitions
from tests.integrations.rows import assert_equal, chained

TINY = {"width": 16, "num_layers": 1, "dim_t": 8, "steps": 10, "batch_size": 32}


@pytest.fixture(scope="module")
def d3rlpy() -> Any:
    return pytest.importorskip("d3rlpy", reason="needs the extra d3rlpy")


def drawn(dataset: Any) -> Transitions:
    """What d3rlpy's own picker takes from every place of every episode."""
    picked = [
        dataset.transition_picker(episode, step)
        for episode in dataset.episodes
        for step in range(episode.transition_count)
    ]
    return Transitions(
        observations=np.stack([each.observation for each in picked]),
        actions=np.stack([each.action for each in picked]),
        rewards=np.stack([each.reward for each in picked]),
        next_observations=np.stack([each.next_observation for each in picked]),
        terminals=np.array([each.terminal for each in picked]),
    )


def test_d3rlpy_draws_the_very_transitions(d3rlpy: Any) -> None:
    @settings(max_examples=30)
    @given(chained())
    def round_trip(transitions: Transitions) -> None:
        dataset = to_mdp_dataset(transitions)
        assert dataset.size() == len(transitions.metadata["lengths"])
        assert dataset.transition_count == len(transitions)
        ended = transitions.terminals > 0
        theirs = transitions.next_observations.copy()
        theirs[ended] = 0  # what d3rlpy takes for the next observation of a terminal
        expected = Transitions.from_arrays({**transitions.arrays(), "next_observations": theirs})
        assert_equal(drawn(dataset), expected)
        theirs[ended] = transitions.observations[ended]
        assert_equal(from_mdp_dataset(dataset), expected)
        back = as_transitions(dataset)
        assert_equal(back, expected)
        last = np.cumsum(transitions.metadata["lengths"]) - 1
        assert np.flatnonzero(back.timeouts).tolist() == last[~ended[last]].tolist()

    round_trip()


def test_whole_numbers_stay_continuous_actions(d3rlpy: Any) -> None:
    rows = random_transitions()
    bang = Transitions.from_arrays({**rows.arrays(), "actions": np.sign(rows.actions)})
    assert to_mdp_dataset(bang).dataset_info.action_space == d3rlpy.ActionSpace.CONTINUOUS


def test_images_and_discrete_actions_are_refused(d3rlpy: Any) -> None:
    terminals = np.tile([0.0, 0, 0, 1], 5)
    rewards = np.zeros(20)
    discrete = d3rlpy.dataset.MDPDataset(
        np.zeros((20, 3), np.float32), np.arange(20) % 3, rewards, terminals
    )
    with pytest.raises(TransitionError, match="discrete actions"):
        as_transitions(discrete)
    images = d3rlpy.dataset.MDPDataset(
        np.zeros((20, 3, 8, 8), np.uint8),
        np.full((20, 2), 0.5, np.float32),
        rewards,
        terminals,
    )
    with pytest.raises(TransitionError, match="images"):
        as_transitions(images)
    with pytest.raises(ValueError, match="no rows"):
        to_mdp_dataset(random_transitions().subset(slice(0, 0)))


def test_without_d3rlpy_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "d3rlpy", None)
    with pytest.raises(ImportError, match=re.escape(install_hint("d3rlpy"))):
        to_mdp_dataset(random_transitions())


@pytest.mark.filterwarnings("ignore::synther.upsampling.verdict.FidelityWarning")
@pytest.mark.parametrize("name", ["TD3PlusBC", "IQL", "CQL", "SAC"])
def test_its_offline_algorithms_train_on_samples(d3rlpy: Any, name: str) -> None:
    """Our four's counterparts: SAC with more critics (SAC-N) stands for EDAC, which it lacks."""
    samples = upsample(random_transitions(1000), 1000, config=TINY, device="cpu")
    encoder = d3rlpy.models.VectorEncoderFactory([16, 16])
    networks = {"actor_encoder_factory": encoder, "critic_encoder_factory": encoder}
    extra: dict[str, Any] = {"SAC": {"n_critics": 4}, "CQL": {"n_action_samples": 2}}.get(name, {})
    config = getattr(d3rlpy.algos, f"{name}Config")(batch_size=32, **networks, **extra)
    agent = config.create(device=False)
    dataset = to_mdp_dataset(samples)
    agent.build_with_dataset(dataset)
    before = agent.predict(samples.observations[:50])
    d3rlpy.seed(0)
    agent.fit(
        dataset,
        n_steps=20,
        n_steps_per_epoch=20,
        logger_adapter=d3rlpy.logging.NoopAdapterFactory(),
        show_progress=False,
    )
    after = agent.predict(samples.observations[:50])
    assert after.shape == (50, 2)
    assert np.isfinite(after).all()
    assert np.abs(after - before).max() > 1e-4
