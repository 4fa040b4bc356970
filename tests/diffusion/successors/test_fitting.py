from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from synther.diffusion.norm import TransitionSpace
from synther.diffusion.successors import TransitionEnsemble, fit_ensemble
from synther.diffusion.successors.prepared_rows import PreparedRows
from synther.transitions import TransitionError, TransitionLayout, Transitions
from tests.data import random_transitions
from tests.diffusion.successors.law import KINDS, draw


@pytest.fixture(scope="module")
def fitted(law_ensemble):
    """What the ensemble says of rows that it did not see."""
    rows, law = draw(4_000, seed=5)
    observations, actions = _inputs(rows)
    prediction = law_ensemble.predict(observations, actions)
    chance = torch.rand(4_000, generator=torch.Generator().manual_seed(2))
    drawn = law_ensemble.drawn(prediction, chance)
    return SimpleNamespace(
        ensemble=law_ensemble,
        rows=rows,
        law=law,
        inputs=(observations, actions),
        mean=prediction.mean.double().numpy(),
        drawn=drawn.double().numpy(),
        probable=law_ensemble.flag_probabilities(observations, actions, drawn).numpy(),
    )


def test_every_column_is_known_for_what_it_is(fitted):
    assert fitted.ensemble.kinds == KINDS
    assert fitted.ensemble.smooth == [0, 1, 2, 5]
    assert fitted.ensemble.column_names[4:] == ["next_observations[4]", "rewards", "terminals"]
    assert fitted.ensemble.sound[[0, 1, 2, 3, 5, 6]].all()


def test_means_are_those_of_the_law(fitted):
    expected = fitted.law.mean[:, fitted.ensemble.smooth]
    wrong = np.sqrt(((fitted.mean - expected) ** 2).mean(axis=0))
    step = 0.2 / np.sqrt(3)  # the standard deviation of the difference of the first column
    assert wrong[0] < 0.05 * step
    assert wrong[1] < 0.25 * np.sqrt((fitted.law.noise[:, 1] ** 2).mean())
    assert wrong[2] == 0  # a constant is exact
    assert wrong[3] < 0.25 * 0.2


def test_the_error_is_that_on_rows_that_it_did_not_see(fitted):
    found = np.stack([*fitted.rows.next_observations.T, fitted.rows.rewards], axis=1)
    squares = (fitted.mean - found[:, fitted.ensemble.smooth]) ** 2
    expected = squares.mean(axis=0)[[1, 3]]
    # The mean square of 1 200 rows is known within some 5 % (noise that varies: 7 %), times 4.
    np.testing.assert_allclose(fitted.ensemble.error[[1, 5]], expected, rtol=0.28)


def test_noise_is_where_the_data_have_it_and_as_large(fitted):
    residuals = fitted.drawn - fitted.law.mean[:, fitted.ensemble.smooth]
    assert np.abs(residuals[:, 2]).max() == 0
    for column, of_law in ((1, 1), (3, 5)):
        ratio = residuals[:, column].std() / np.sqrt((fitted.law.noise[:, of_law] ** 2).mean())
        assert 0.93 < ratio < 1.07
    # Heteroscedastic noise: its size rises with the distance from the middle, from 0.1 to 0.5.
    position = np.abs(fitted.rows.observations[:, 0])
    middle, edge = (residuals[where, 1].std() for where in (position < 0.1, position > 0.9))
    assert middle < 0.2
    assert edge > 0.4


def test_flags_are_classified(fitted):
    for column, truth in ((0, fitted.law.mean[:, 3] > 0.5), (1, fitted.law.terminals)):
        assert ((fitted.probable[:, column] > 0.5) != truth).mean() < 0.01
    assert abs(fitted.probable[:, 1].mean() - fitted.law.terminals.mean()) < 0.005


def test_probabilities_of_a_rare_flag_add_up_to_its_count():
    """As many terminals as a hopper of one replay has: 28 of 2 000."""
    rng = np.random.default_rng(2)
    observations = rng.normal(size=(2_000, 6)).astype(np.float32)
    actions = rng.uniform(-1, 1, (2_000, 2)).astype(np.float32)
    steps = rng.normal(size=(2_000, 6)).astype(np.float32)
    steps[:, :2] += actions
    following = observations + 0.1 * steps
    height = following[:, 0] + 0.5 * following[:, 1] ** 2
    terminals = (height < np.sort(height)[28]).astype(np.float32)
    rows = Transitions(observations, actions, observations[:, 1], following, terminals)
    ensemble = fit_ensemble(rows, seed=0)
    inputs = torch.from_numpy(observations), torch.from_numpy(actions)
    successors = torch.from_numpy(np.column_stack([following, observations[:, 1]]))
    probable = ensemble.flag_probabilities(*inputs, successors[:, ensemble.smooth])
    assert probable[:, -1].mean() == pytest.approx(28 / 2_000, rel=0.01)


def test_rows_beyond_the_data_make_members_disagree(fitted):
    observations, actions = fitted.inputs
    within = fitted.ensemble.predict(observations, actions).disagreement
    assert (within > fitted.ensemble.limit).float().mean() < 0.02
    beyond = fitted.ensemble.predict(5 * observations, 3 * actions).disagreement
    assert (beyond > fitted.ensemble.limit).float().mean() > 0.5


def test_only_where_episodes_end_are_observations_bounded(fitted):
    observed = fitted.ensemble.observed
    assert torch.equal(fitted.ensemble.living[:, 0], observed[:, 0])
    assert fitted.ensemble.living[:, 1:].isinf().all()


def test_a_payload_brings_the_same_ensemble_back(fitted, tmp_path):
    torch.save(fitted.ensemble.payload(), tmp_path / "ensemble.pt")
    payload = torch.load(tmp_path / "ensemble.pt", weights_only=True)
    loaded = TransitionEnsemble.from_payload(payload)
    assert loaded.kinds == KINDS
    before, after = (each.predict(*fitted.inputs) for each in (fitted.ensemble, loaded))
    assert torch.equal(before.mean, after.mean)
    assert torch.equal(before.noise, after.noise)
    assert torch.equal(before.disagreement, after.disagreement)


def test_the_seed_governs_everything():
    rows = draw(600, seed=0)[0]
    state = torch.get_rng_state()
    one, same, other = (
        fit_ensemble(rows, seed=seed, members=2, width=16, steps=40) for seed in (1, 1, 2)
    )
    assert torch.equal(torch.get_rng_state(), state)
    weights = [each.state_dict() for each in (one, same, other)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert not torch.equal(one.predict(*_inputs(rows)).mean, other.predict(*_inputs(rows)).mean)


def _inputs(rows):
    return torch.from_numpy(rows.observations), torch.from_numpy(rows.actions)


def test_flags_alone_are_enough():
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2, (400, 3))
    rows = Transitions(bits, rng.uniform(-1, 1, (400, 1)), bits[:, 0], 1 - bits, bits[:, 1])
    ensemble = fit_ensemble(rows, seed=0, members=2, width=32, steps=300)
    assert set(ensemble.kinds) == {"flag"}
    prediction = ensemble.predict(*_inputs(rows))
    assert prediction.mean.shape == (400, 0)
    assert not prediction.disagreement.any()
    probable = ensemble.flag_probabilities(*_inputs(rows), prediction.mean).numpy()
    expected = np.stack([*(1 - bits).T, bits[:, 0], bits[:, 1]], axis=1)
    assert ((probable > 0.5) == expected).mean() > 0.99


def test_few_rows_are_refused():
    with pytest.raises(TransitionError, match="99 rows, expected 100"):
        fit_ensemble(random_transitions(99), seed=0)


TINY = {"members": 2, "width": 16, "steps": 20}


def test_a_value_that_held_out_rows_alone_have_is_no_end_of_a_flag():
    rows = draw(600, seed=0)[0]
    prepared = PreparedRows.of(rows, 1, torch.device("cpu"))
    for name in ("rewards", "next_observations"):
        values = (rows.rewards > 0).astype(np.float32)
        values[int(prepared.judging[0])] = 5
        table = rows.next_observations.copy()
        table[:, 0] = values
        changed = replace(rows, **{name: values if name == "rewards" else table})
        ensemble = fit_ensemble(changed, seed=1, **TINY)
        assert ensemble.kinds[5 if name == "rewards" else 0] == "left"
        flags = ensemble.columns_of("flag")
        assert len(flags) > 0
        assert torch.equal(
            ensemble.values[:, flags], torch.tensor([[0.0], [1]]).expand(2, len(flags))
        )


@pytest.mark.parametrize(("count", "values"), [(300, 20), (1000, 100)])
def test_columns_that_are_discrete_in_model_space_are_left(count, values):
    rows = draw(count, seed=0)[0]
    whole = np.random.default_rng(0).permutation(np.arange(count) % values)
    changed = replace(rows, rewards=whole.astype(np.float32))
    assert PreparedRows.of(changed, 1, torch.device("cpu")).kinds()[5] == "left"
    layout = TransitionLayout(5, 2)
    space = TransitionSpace(layout.pack(changed), layout=layout)
    assert space.column_kinds["rewards"] == "discrete"


def test_numbers_whose_squares_float32_does_not_hold_are_learnt():
    rows = draw(300, seed=0)[0]
    large = np.array([1, 1e20, 1, 1, 1], np.float32)
    many = replace(
        rows,
        observations=rows.observations * large,
        next_observations=rows.next_observations * large,
        rewards=rows.rewards * np.float32(1e25),
    )
    one, other = (fit_ensemble(each, seed=1, **TINY) for each in (rows, many))
    assert other.limit.isfinite()
    assert other.relative_errors() == pytest.approx(one.relative_errors(), rel=0.1)
    loaded = TransitionEnsemble.from_payload(other.payload())
    inputs = _inputs(many)
    assert torch.equal(loaded.predict(*inputs).disagreement, other.predict(*inputs).disagreement)
    assert one.error.dtype == torch.float32  # as ever


def test_networks_that_give_no_numbers_are_refused():
    """A difference that float32 does not hold."""
    rows = draw(200, seed=0)[0]
    far = np.array([0, 3e38, 0, 0, 0], np.float32)
    endless = replace(
        rows, observations=rows.observations - far, next_observations=np.tile(far, (200, 1))
    )
    with pytest.raises(
        TransitionError, match=r"not finite; .* 3e\+38, is in .*observations': scale"
    ):
        fit_ensemble(endless, seed=1, **TINY)
