import copy
from dataclasses import replace

import numpy as np
import pytest
import scipy
import torch

from synther.diffusion.conditioning.around import Around
from synther.diffusion.conditioning.condition import Condition
from synther.diffusion.generation.consistency import ConsistentRows
from synther.diffusion.generation.generator import SamplingError, SimpleDiffusionGenerator
from synther.diffusion.generation.terminal_rate import EDGE_PROBED, LEAST_PROBED, probe_rows
from synther.diffusion.successors import fit_ensemble
from synther.transitions import TransitionLayout, Transitions
from tests.data import random_transitions
from tests.diffusion.successors.law import begin, follow

LAYOUT, LAYOUT_3 = TransitionLayout(5, 2), TransitionLayout(3, 2)
REWARD, NEXT, TERMINAL = 7, 8, 13  # where a row's parts begin


class LawModel:
    """Rows that obey the law of ``law.py``, but for the faults.

    Args:
        faults: column of a row -> its values ``[N]`` and unit noise ``[N]`` to its values.
        terminals: whether it models them.
        fail_at: the call that is interrupted.
    """

    sampler, sampler_arguments = "none", {}
    sigma_min, sigma_max, rho = 0.002, 80.0, 7.0
    device = torch.device("cpu")

    def __init__(self, faults=None, terminals=True, fail_at=None):
        self.faults, self.fail_at, self.calls = faults or {}, fail_at, []
        self.layout = TransitionLayout(5, 2, terminals)
        self.event_shape = (self.layout.row_dim,)

    def sample(self, batch_size, num_sample_steps, *, noise=None, generator=None, **asked):
        if len(self.calls) == self.fail_at:
            raise KeyboardInterrupt
        self.calls.append(batch_size)
        shape = (batch_size, *self.event_shape)
        parts = [
            torch.randn(shape, generator=generator) if noise is None else noise(step).clone()
            for step in range(3)
        ]
        start, own, wrong = (part.double().numpy() for part in parts)
        uniform = torch.special.ndtr(torch.from_numpy(start[:, :8])).numpy()
        observations, actions, die = begin(uniform)
        for column in self.faults.keys() & range(5):
            observations[:, column] = self.faults[column](observations[:, column], wrong[:, column])
        law = follow(observations, actions, die)
        found = law.mean + law.noise * own[:, :6]
        ends = [law.terminals[:, None]] if self.layout.terminals else []
        rows = np.hstack([observations, actions, found[:, 5:], found[:, :5], *ends])
        for column in self.faults.keys() - set(range(7)):
            rows[:, column] = self.faults[column](rows[:, column], wrong[:, column])
        return torch.from_numpy(rows).float()

    def state_dict(self):
        return {"weight": torch.ones(2)}


def generator_of(model, ensemble, **options):
    options = {"sample_batch_size": 3000, "consistency": "ensemble", **options}
    return SimpleDiffusionGenerator(model.layout, model, ensemble=ensemble, **options)


def rows_of(model, ensemble, count=3000, **options):
    return Transitions(*generator_of(model, ensemble, **options).sample(count, seed=3))


def law_of(rows):
    return follow(
        *(each.astype(float) for each in (rows.observations, rows.actions)),
        rows.next_observations[:, 4],
    )


@pytest.fixture(scope="module")
def real(law_ensemble):
    return rows_of(LawModel(), law_ensemble, consistency="off")


def test_rows_that_obey_stay_as_they_are(law_ensemble, real):
    generator = generator_of(LawModel(), law_ensemble)
    assert generator.last_stage().replaced == []
    for found, expected in zip(generator.sample(3000, seed=3), real.arrays().values(), strict=True):
        assert np.array_equal(found, expected)


FAULTS = {
    "an exact column is inaccurate": (NEXT, lambda values, noise: values + 0.1 * noise),
    "an exact column is wrong": (NEXT, lambda values, noise: 0.5 * values),
    "a constant is not quite one": (NEXT + 2, lambda values, noise: values + 1e-3 * noise),
    "noise is lost": (NEXT + 1, lambda values, noise: 0.6 * values),
    "there is too much noise": (REWARD, lambda values, noise: values + 0.15 * noise),
    "rewards are shifted": (REWARD, lambda values, noise: values + 0.1),
    "a flag is a fraction": (NEXT + 3, lambda values, noise: values + 0.1 * noise),
    "a flag is another one": (NEXT + 3, lambda values, noise: np.where(noise > 1, 1, values)),
    "terminals are missing": (TERMINAL, lambda values, noise: np.where(noise > 0, 0, values)),
    "terminals are everywhere": (TERMINAL, lambda values, noise: np.maximum(values, noise > 2)),
}


SMOOTH = [NEXT, NEXT + 1, NEXT + 2, REWARD]


@pytest.mark.parametrize("name", FAULTS)
def test_a_faulty_column_is_replaced_and_no_other(name, law_ensemble, real):
    """Next observation and reward are of one piece."""
    column, fault = FAULTS[name]
    faulty = SMOOTH if column in SMOOTH else [column]
    model = LawModel({column: fault})
    generator = generator_of(model, law_ensemble)
    order = [*range(NEXT, NEXT + 5), REWARD, TERMINAL]
    assert [order[replaced] for replaced in generator.last_stage().replaced] == faulty
    rows = LAYOUT.pack(Transitions(*generator.sample(3000, seed=3)))
    kept = (rows[:, :7] == LAYOUT.pack(real)[:, :7]).all(axis=1)  # the others were drawn again
    assert kept.mean() > 0.99
    others = [each for each in range(14) if each not in faulty]
    assert np.array_equal(rows[kept][:, others], LAYOUT.pack(real)[kept][:, others])


@pytest.fixture(scope="module")
def repaired(law_ensemble):
    faults = dict(FAULTS.values())
    return rows_of(LawModel(faults), law_ensemble, count=6000)


def test_replaced_columns_obey_the_law(repaired):
    law = law_of(repaired)
    found = np.stack([*repaired.next_observations.T, repaired.rewards], axis=1)
    residuals = found - law.mean
    step = 0.2 / np.sqrt(3)
    assert residuals[:, 0].std() < 0.05 * step
    assert not residuals[:, 2].any()
    assert np.isin(found[:, 3], (0, 1)).all()
    assert (residuals[:, 3] != 0).mean() < 0.02
    assert np.array_equal(np.isin(found[:, 4], range(6)), np.ones(6000, bool))
    assert (repaired.terminals != law.terminals).mean() < 0.01


def test_replaced_columns_have_the_noise_of_the_data(repaired):
    law = law_of(repaired)
    found = np.stack([repaired.next_observations[:, 1], repaired.rewards], axis=1)
    residuals, expected = found - law.mean[:, [1, 5]], law.noise[:, [1, 5]]
    ratios = residuals.std(axis=0) / np.sqrt((expected**2).mean(axis=0))
    assert (ratios > 0.93).all()
    assert (ratios < 1.07).all()


def test_counts_of_terminals_are_those_of_the_law(repaired):
    """Within three standard errors of counting, and the share of borderline rows."""
    expected = law_of(repaired).terminals.mean()
    error = 3 * np.sqrt(expected * (1 - expected) / len(repaired))
    assert abs(repaired.terminals.mean() - expected) < error + 0.005


RATE_FAULTS = {
    "too few": lambda values, noise: np.where((abs(values) > 0.7) & (noise > 0.3), 0, values),
    "too many": lambda values, noise: np.where(noise > 1.8, 0.95 * np.sign(values), values),
}


@pytest.mark.parametrize("others", [{}, {NEXT: FAULTS["an exact column is inaccurate"][1]}])
@pytest.mark.parametrize("name", RATE_FAULTS)
def test_terminals_are_as_many_as_in_the_data_where_too_few_or_too_many_rows_lead_to_them(
    name, others, law_ensemble
):
    model = LawModel({0: RATE_FAULTS[name], **others})
    as_they_are = rows_of(model, law_ensemble, 20_000, consistency="off")
    rows = rows_of(model, law_ensemble, 20_000)
    wanted = float(law_ensemble.rate)
    counting = (wanted / 20_000 + wanted**2 / 900) ** 0.5  # of the samples, and of the probe
    assert abs(as_they_are.terminals.mean() - wanted) > 0.25 * wanted
    assert abs(rows.terminals.mean() - wanted) < 3 * counting
    assert np.array_equal(rows.terminals, law_of(rows).terminals) or others
    ended = rows.terminals > 0
    before = as_they_are.terminals > 0
    for those, previous in ((ended, before), (~ended, ~before)):
        ours, theirs = (
            each.actions[which, 1] for each, which in ((rows, those), (as_they_are, previous))
        )
        assert scipy.stats.ks_2samp(ours, theirs).pvalue > 1e-4  # what else they are is as it was


def test_rows_that_are_asked_for_something_may_end_fewer_or_more_episodes(law_ensemble):
    model = LawModel({0: RATE_FAULTS["too few"]})
    generator = generator_of(model, law_ensemble)
    around = Around(torch.zeros(3000, 14), 0.5)
    asked, plain = (Transitions(*generator.sample(3000, 3, cond=cond)) for cond in (around, None))
    as_it_gives_them = Transitions(
        *generator_of(model, law_ensemble, consistency="off").sample(3000, 3)
    )
    assert abs(asked.terminals.sum() / as_it_gives_them.terminals.sum() - 1) < 0.1
    assert plain.terminals.sum() > 1.2 * asked.terminals.sum()


def test_rows_asked_with_a_weight_of_0_are_rows_as_they_come(law_ensemble):
    """To the bit, last stage and rate of terminals included."""
    faults = {0: RATE_FAULTS["too few"], NEXT: FAULTS["an exact column is inaccurate"][1]}
    generator = generator_of(LawModel(faults), law_ensemble)
    generator.model.condition = Condition.of("reward", np.linspace(0, 1, 100))
    plain, unguided = (
        generator.sample(3000, 3, cond=cond, guidance=0) for cond in (None, "top 10%")
    )
    for ours, theirs in zip(unguided, plain, strict=True):
        assert np.array_equal(ours, theirs)


def test_only_rows_as_they_come_need_a_large_probe(law_ensemble):
    """Of rows that are asked for something, terminals are not brought to a rate."""
    model = LawModel()
    model.condition = Condition.of("reward", np.linspace(0, 1, 100))
    generator = generator_of(model, law_ensemble)
    generator.sample(10, 3, cond="top 10%", guidance=2)
    assert sum(model.calls) < EDGE_PROBED + 100
    model = LawModel(terminals=False)
    generator_of(model, law_ensemble).sample(10, 3)
    assert sum(model.calls) < LEAST_PROBED + 100


def test_data_without_any_terminal_have_none_to_count():
    rows = random_transitions(rows=400, observation_dim=3, action_dim=2)
    rows = replace(rows, terminals=np.zeros_like(rows.terminals))
    ensemble = fit_ensemble(rows, seed=0)
    table = torch.from_numpy(TransitionLayout(3, 2).pack(rows))
    stage = ConsistentRows(ensemble, TransitionLayout(3, 2), table)
    assert stage.ensemble.columns_of("flag") == []
    assert (stage.repaired(table, torch.rand(400, stage.chances))[0][:, -1] == 0).all()


def test_terminals_as_many_as_in_the_data_stay_where_the_classification_misses_them(
    law_ensemble, real, monkeypatch
):
    """As where the data have few of them, and samples are a little beside the real rows."""
    plain = type(law_ensemble).flag_probabilities

    def half(self, *inputs):
        probable = plain(self, *inputs)
        probable[:, -1] *= 0.3
        return probable

    monkeypatch.setattr(type(law_ensemble), "flag_probabilities", half)
    found = rows_of(LawModel(), law_ensemble)
    assert found.terminals.sum() == real.terminals.sum() > 20

    def few(value, wrong):  # here nobody is right, and the classification is nearer to the law
        return np.zeros_like(value)

    monkeypatch.undo()
    found = rows_of(LawModel({TERMINAL: few}), law_ensemble)
    assert found.terminals.sum() > 20


def test_rows_from_where_nobody_acts_are_drawn_again(law_ensemble, real):
    """One row in eleven has a position beyond those where episodes end."""
    beyond = {0: lambda values, noise: np.where(noise > 1.33, 1.1, values)}
    beyond[NEXT] = FAULTS["an exact column is inaccurate"][1]
    model = LawModel(beyond)
    generator = generator_of(model, law_ensemble)
    rows = Transitions(*generator.sample(3000, seed=3))
    assert 0.07 < generator.last_stage().drawn_again < 0.12
    assert np.abs(rows.observations[:, 0]).max() <= 1.0
    first, again = model.calls[-(-probe_rows(float(law_ensemble.rate)) // 3000) :][:2]
    assert first == 3000
    assert 0.07 < again / 3000 < 0.12
    same = (rows.observations == real.observations).all(axis=1)
    assert 0.88 < same.mean() < 0.93
    assert len(np.unique(rows.observations[:, 0])) == 3000


def test_rows_beyond_a_blurred_edge_are_moved_to_it(law_ensemble, real):
    """One row in twenty is beyond where episodes end, that should be just inside: almost half of
    the terminals come from there."""
    blurred = {
        0: lambda values, noise: np.where(abs(values) > 0.95, 1.05 * np.sign(values), values)
    }
    blurred[NEXT] = FAULTS["an exact column is inaccurate"][1]
    rows = rows_of(LawModel(blurred), law_ensemble)
    assert np.abs(rows.observations[:, 0]).max() <= 1.0
    inside = real.terminals[np.abs(real.observations[:, 0]) <= 0.95].sum() / len(real)
    expected = real.terminals.mean()
    assert inside < 0.7 * expected
    assert abs(rows.terminals.mean() - expected) < 0.2 * expected
    step = rows.next_observations[:, 0] - rows.observations[:, 0]
    assert np.abs(step - 0.2 * rows.actions[:, 0]).max() < 0.1


@pytest.mark.parametrize("batch", [1000, 700])
def test_rows_do_not_depend_on_the_batches(batch, law_ensemble, repaired):
    """But for those that rounding in the products puts on the other side of a limit."""
    faults = dict(FAULTS.values())
    parts = rows_of(LawModel(faults), law_ensemble, 6000, sample_batch_size=batch)
    ours, theirs = (LAYOUT.pack(rows) for rows in (parts, repaired))
    same = np.isclose(ours, theirs, rtol=0, atol=1e-4).all(axis=1)
    assert same.mean() > 0.998


def test_an_interrupted_file_continues(tmp_path, law_ensemble):
    beyond = {0: lambda values, noise: np.where(noise > 1.33, 1.1, values)}
    beyond[NEXT] = FAULTS["an exact column is inaccurate"][1]
    path = tmp_path / "samples.npz"
    options = {"sample_batch_size": 1000}
    deciding = -(-probe_rows(float(law_ensemble.rate)) // 1000)
    model = LawModel(beyond, fail_at=deciding + 5)  # about two calls for each batch of rows
    with pytest.raises(KeyboardInterrupt):
        generator_of(model, law_ensemble, **options).sample_to_file(5000, path, seed=3)
    assert not path.exists()
    again = LawModel(beyond)
    generator_of(again, law_ensemble, **options).sample_to_file(5000, path, seed=3)
    assert again.calls.count(1000) < deciding + 5
    expected = generator_of(LawModel(beyond), law_ensemble, **options).sample(5000, seed=3)
    written = Transitions.load(path)
    for found, values in zip(written.arrays().values(), expected, strict=True):
        assert np.array_equal(found, values)
    provenance = written.metadata["generator"]["consistency"]
    assert provenance["replaced"] == [*(f"next_observations[{i}]" for i in range(3)), "rewards"]
    assert 0.07 < provenance["drawn_again"] < 0.12
    assert set(provenance["held_out_error"]) >= {"next_observations[0]", "rewards", "terminals"}


def test_rows_of_a_generator_are_its_own(law_ensemble):
    """On the fly noise comes from a stream, and the same stream gives the same rows."""
    faults = dict(FAULTS.values())
    generator = generator_of(LawModel(faults), law_ensemble)
    one, same, other = (
        generator.sample_rows(500, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    rows = LAYOUT.unpack(one.numpy())
    assert np.abs(rows.next_observations[:, 0] - law_of(rows).mean[:, 0]).max() < 0.1


def test_terminals_that_are_not_modelled_stay_0(law_ensemble):
    model = LawModel({NEXT: FAULTS["an exact column is inaccurate"][1]}, terminals=False)
    rows = rows_of(model, law_ensemble)
    assert not rows.terminals.any()
    assert law_of(rows).terminals.any()


def smooth_rows(count, seed, reward_of, error=0.0):
    """Rows of ``s' = s + 0.1 a + 0.3 noise``; ``error`` is that of a model's reward."""
    rng = np.random.default_rng(seed)
    state, noise, wrong = rng.normal(size=(3, count, 1))
    action = rng.uniform(-1, 1, (count, 1))
    following = state + 0.1 * action + 0.3 * noise
    reward = reward_of(following[:, 0]) + error * wrong[:, 0]
    return Transitions(state, action, reward, following, np.zeros(count))


def repaired_from(rows, samples):
    """Samples after the stage of an ensemble of the rows, and their columns' numbers."""
    ensemble = fit_ensemble(rows, seed=0, members=2, width=64, steps=300)
    layout = TransitionLayout.of(rows)
    table = torch.from_numpy(layout.pack(samples))
    stage = ConsistentRows(ensemble, layout, table)
    chance = torch.rand(len(table), stage.chances, generator=torch.Generator().manual_seed(1))
    return stage, layout.unpack(stage.repaired(table, chance)[0].numpy())


def test_noise_that_columns_share_stays_shared():
    """The reward is the next position; the model has a small error in it alone."""
    real, samples = (
        smooth_rows(12_000, seed, np.asarray, error) for seed, error in ((1, 0), (2, 0.25))
    )
    stage, rows = repaired_from(real, samples)
    assert stage.settings()["replaced"][:2] == ["next_observations[0]", "rewards"]
    assert (rows.rewards - rows.next_observations[:, 0]).std() < 0.1


def test_a_value_that_many_rows_share_keeps_its_share():
    """As a reward of progress alone; regressions make something between of yes and no."""

    def progress(position):
        return np.maximum(position, 0)

    real, samples = (smooth_rows(12_000, seed, progress) for seed in (1, 2))
    wrong = np.random.default_rng(3).normal(size=(12_000, 1)).astype(np.float32)
    samples = replace(samples, next_observations=samples.next_observations + 0.5 * wrong)
    stage, rows = repaired_from(real, samples)
    assert stage.settings()["replaced"][:2] == ["next_observations[0]", "rewards"]
    share = (real.rewards == 0).mean()
    assert abs((rows.rewards == 0).mean() - share) < 3 * np.sqrt(2 * share * (1 - share) / 12_000)


def test_whole_numbers_stay_whole():
    """A step counter of many values, whose next one regressions know but for a fraction."""
    rng = np.random.default_rng(0)
    counter = rng.integers(0, 900, (4000, 1))
    columns = (counter, rng.uniform(-1, 1, (4000, 1)), rng.normal(size=4000), counter + 1)
    real = Transitions(*map(np.float32, columns), np.zeros(4000, np.float32))
    wrong = replace(real, next_observations=real.next_observations + 3)
    stage, rows = repaired_from(real, wrong)
    assert "next_observations[0]" in stage.settings()["replaced"]
    assert np.array_equal(rows.next_observations, rows.next_observations.round())
    assert (rows.next_observations == real.next_observations).mean() > 0.5


def test_data_without_a_smooth_column_pass():
    rng = np.random.default_rng(0)
    states = rng.integers(0, 10, (2000, 1))
    following = (states + rng.integers(0, 2, (2000, 1))) % 10
    columns = (states, rng.uniform(-1, 1, (2000, 1)), following[:, 0] // 5, following)
    real = Transitions(*map(np.float32, columns), following[:, 0] == 3)
    stage, rows = repaired_from(real, real)
    assert stage.ensemble.smooth == []
    assert np.array_equal(rows.next_observations, real.next_observations)


def test_what_is_missing_is_said(law_ensemble):
    with pytest.raises(ValueError, match="there is no ensemble: fit one to the real rows"):
        generator_of(LawModel(), None).sample(10)
    with pytest.raises(ValueError, match="consistency is 'on', expected one of off, ensemble"):
        generator_of(LawModel(), law_ensemble, consistency="on")
    law_ensemble.layout, kept = TransitionLayout(4, 2), law_ensemble.layout
    try:
        with pytest.raises(ValueError, match="the ensemble is of rows"):
            generator_of(LawModel(), law_ensemble).sample(10)
    finally:
        law_ensemble.layout = kept


def test_where_nothing_can_be_kept_it_is_said_what_to_do(law_ensemble):
    """A column that is shifted, as where samples begin at rows off the data; rows from where nobody
    acts; and the limit of an ensemble that has diverged."""
    shifted = LawModel({1: lambda values, noise: values + 25})
    off = "none of 2048 rows can be made consistent.*, the regressions do not agree about any"
    with pytest.raises(SamplingError, match=rf"{off}.* set consistency to 'off'"):
        generator_of(shifted, law_ensemble).sample(10)
    assert len(rows_of(shifted, law_ensemble, consistency="off", count=10)) == 10
    dead = LawModel({0: lambda values, noise: values + 40})
    with pytest.raises(SamplingError, match=r"consistent \(2048 of them are beyond .*\)\. Samples"):
        generator_of(dead, law_ensemble).sample(10)
    diverged = copy.deepcopy(law_ensemble)
    diverged.limit.fill_(torch.nan)
    with pytest.raises(SamplingError, match=r"disagreement is nan, .* fit them again"):
        generator_of(LawModel(), diverged).sample(10)


def test_large_numbers_are_made_consistent():
    """Their squares are no float32; neither are the squares of these of much smaller ones."""
    rows = random_transitions(rows=400, observation_dim=3, action_dim=2)
    rows = replace(rows, rewards=rows.actions[:, 0] * np.float32(1e20))
    ensemble = fit_ensemble(rows, seed=0, members=2, width=32, steps=150)
    table = torch.from_numpy(TransitionLayout(3, 2).pack(rows))
    assert "rewards" not in ConsistentRows(ensemble, LAYOUT_3, table).settings()["replaced"]
    table[:, LAYOUT_3.columns["rewards"]] *= 0.5
    assert "rewards" in ConsistentRows(ensemble, LAYOUT_3, table).settings()["replaced"]
