"""The composition on whole rows: round trips, exactness, determinant, state."""

import copy

import gin
import numpy as np
import pytest
import torch
from ema_pytorch import EMA
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from synther.diffusion import model_io
from synther.diffusion.norm import NORMALIZERS, Normalizer, TransitionSpace, normalizer_factory
from synther.diffusion.utils import construct_diffusion_model
from synther.transitions import TransitionLayout
from tests.diffusion.models import TINY, gaussian_model

LAYOUT = TransitionLayout(6, 2)
OBSERVATIONS, ACTIONS, REWARDS, NEXT, TERMINALS = LAYOUT.columns.values()


def sample_rows(rows=3000, seed=0):
    """Observations: free, clipped at 2, constant, flag, counter, far away with a tiny spread;
    actions with atoms at their bounds; a reward; 2 % terminals."""
    rng = np.random.default_rng(seed)
    table = np.zeros((rows, LAYOUT.row_dim))
    observations = table[:, OBSERVATIONS]
    observations[:, :2] = rng.normal(size=(rows, 2)) * [3, 2]
    observations[:, 2] = 465332.0
    observations[:, 3] = rng.random(rows) < 0.3
    observations[:, 4] = rng.integers(0, 50, rows)
    observations[:, 5] = 1000 + rng.normal(size=rows) * 0.1
    table[:, ACTIONS] = np.clip(rng.normal(size=(rows, 2)), -1, 1)
    after = observations + 0.02 * table[:, :1]
    after[:, 2], after[:, 3] = 465332.0, rng.random(rows) < 0.3
    after[:, 4] = observations[:, 4] + 1
    for part in (observations, after):
        part[:, 1] = np.clip(part[:, 1], -2, 2)
    table[:, NEXT] = after
    table[:, REWARDS] = rng.standard_t(4, (rows, 1)) * 1e-8
    table[:, TERMINALS] = rng.random((rows, 1)) < 0.02
    return table.astype(np.float32)


ROWS = torch.from_numpy(sample_rows())
EXPECTED = [
    *("standard", "quantile", "constant", "discrete", "discrete", "standard"),
    *("quantile", "quantile", "standard"),
    *("difference, standard", "difference, mixed", "constant", "discrete"),
    *("difference, constant", "difference, standard", "discrete"),
]


@pytest.fixture(scope="module")
def space():
    return TransitionSpace(ROWS, layout=LAYOUT)


def wild(space, count=2000, scale=3.0):
    """Rows that a bad model could give."""
    generator = torch.Generator().manual_seed(0)
    return space.unnormalize(scale * torch.randn(count, space.dim, generator=generator))


def test_each_column_has_its_kind(space):
    assert list(space.column_kinds.values()) == EXPECTED


def test_round_trip(space):
    back = space.unnormalize(space.normalize(ROWS))
    error = (back - ROWS).abs().max(dim=0).values
    # Two roundings of float32 each, of the value and of the scale that it is taken in.
    assert (error <= 4e-7 * (ROWS.abs().max(dim=0).values + ROWS.std(dim=0))).all()


def test_what_takes_few_values_comes_back_to_the_bit(space):
    back = space.unnormalize(space.normalize(ROWS))
    few = [
        number for number, kind in enumerate(EXPECTED) if kind.endswith(("constant", "discrete"))
    ]
    assert torch.equal(back[:, few], ROWS[:, few])


def test_model_space_has_unit_spread_and_differences(space):
    normal = space.normalize(ROWS)
    varying = [number for number, kind in enumerate(EXPECTED) if not kind.endswith("constant")]
    # Quantile columns with atoms in the ends are a little narrower: an atom is one point of a cell.
    assert (normal[:, varying].std(dim=0) - 1).abs().max() < 0.2
    assert normal[:, varying].mean(dim=0).abs().max() < 0.05
    change = (ROWS[:, NEXT] - ROWS[:, OBSERVATIONS])[:, 0].double()
    expected = (change - change.mean()) / change.std()
    torch.testing.assert_close(normal[:, NEXT][:, 0].double(), expected, rtol=1e-4, atol=1e-4)


def test_whatever_the_model_gives_is_possible(space):
    """Constants are exact, flags, counters and terminals values seen, bounds are kept."""
    rows = wild(space)
    before, after = rows[:, OBSERVATIONS], rows[:, NEXT]
    assert (before[:, 2] == 465332.0).all()
    assert (after[:, 2] == 465332.0).all()
    for flags in (before[:, 3], after[:, 3], rows[:, TERMINALS]):
        assert set(flags.flatten().tolist()) == {0, 1}
    assert set(before[:, 4].tolist()) <= set(range(50))
    assert torch.equal(after[:, 4], before[:, 4] + 1)
    for bounded, limit in ((before[:, 1], 2), (after[:, 1], 2), (rows[:, ACTIONS], 1)):
        assert (bounded.min(), bounded.max()) == (-limit, limit)


def test_a_gaussian_has_the_shares_at_the_bounds_that_the_data_have(space):
    rows = wild(space, 50_000, scale=1.0)
    for column in range(2):
        found, real = rows[:, ACTIONS][:, column], ROWS[:, ACTIONS][:, column]
        for bound in (-1, 1):
            share = float((real == bound).double().mean())
            error = 4 * np.sqrt(share * (1 - share) / 50_000)
            assert float((found == bound).double().mean()) == pytest.approx(share, abs=error)


def test_a_tiny_spread_is_kept(space):
    """Fault of the absolute epsilon: a standard deviation of 1e-8 came back 1000 times too wide."""
    rewards = wild(space, 20_000, scale=1.0)[:, REWARDS]
    assert float(rewards.std() / ROWS[:, REWARDS].std()) == pytest.approx(1, rel=0.05)
    assert float(Normalizer(ROWS).unnormalize(torch.ones(1, LAYOUT.row_dim))[0, REWARDS]) > 9e-6


def test_log_determinant_is_that_of_autograd(space):
    """On rows without atoms and in the columns that are not a few values."""
    double = copy.deepcopy(space).double()
    few = [
        number for number, kind in enumerate(EXPECTED) if kind.endswith(("constant", "discrete"))
    ]
    smooth = [number for number in range(LAYOUT.row_dim) if number not in few]
    inside = (ROWS[:, ACTIONS].abs() < 1).all(dim=1) & (ROWS[:, [1, NEXT.start + 1]].abs() < 2).all(
        1
    )
    rows = ROWS[inside][:20].double() + 1e-7  # beside the knots, where there is one slope
    widths = [
        float(double.latents[c].unique().diff().max()) if EXPECTED[c] == "discrete" else 1.0
        for c in few
    ]
    expected = []
    for row in rows:
        jacobian = torch.autograd.functional.jacobian(double.normalize, row)
        expected.append(float(torch.linalg.slogdet(jacobian[smooth][:, smooth])[1]))
    rows[:, few] = ROWS[inside][:20][:, few].double()
    found = double.log_determinant(rows) - sum(np.log(width) for width in widths)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_log_determinant_turns_a_density_into_one_of_the_data(space):
    """The exact model's density in model space, moved by finite differences of the map alone."""
    columns = TransitionLayout(1, 1, terminals=False)
    rng = np.random.default_rng(1)
    data = np.stack([rng.normal(size=500), np.tanh(rng.normal(size=500) * 2), rng.normal(size=500),
                     rng.normal(size=500)], axis=1).astype(np.float32)  # fmt: skip
    small = TransitionSpace(data, layout=columns)
    model = gaussian_model(small)
    rows = torch.from_numpy(data[:12]) + 1e-4
    difference = model.log_likelihood(rows) - model.log_likelihood(rows, include_normalizer=False)
    wide, step = copy.deepcopy(small).double(), 1e-7
    expected = torch.zeros(12, dtype=torch.float64)
    for column in range(4):
        shift = torch.zeros(4, dtype=torch.float64)
        shift[column] = step
        slope = wide.normalize(rows.double() + shift) - wide.normalize(rows.double() - shift)
        expected += (slope[:, column] / (2 * step)).log()
    np.testing.assert_allclose(difference, expected, atol=2e-3)


FIELD = arrays.arrays(
    np.float32, st.tuples(st.integers(2, 40), st.just(4)),
    elements=st.one_of(
        # Subnormal numbers are left out: processors may round them to 0.
        st.floats(-1e6, 1e6, width=32, allow_subnormal=False),
        st.sampled_from([0.0, 1.0, -1.0, 1e-8, 465332.0]),
    ),
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(
    FIELD,
    st.sampled_from(["none", "narrower", "all"]),
    st.sampled_from([None, "quantile", "minmax", "mixed"]),
)
# A knot beside an atom, which float32 does not hold apart from it in model space.
@example(
    np.array([[1e-8, 1, 1, 1]] * 2 + [[0, 1, 1, 1], [1, 1, 1, 1]], np.float32), "none", "mixed"
)
def test_any_rows_come_back(table, differences, kind):
    """Whatever the columns are: ties, atoms, constants, tiny spreads, large offsets."""
    layout = TransitionLayout(1, 1, terminals=False)
    kinds = dict.fromkeys(layout.columns, kind) if kind else None
    space = TransitionSpace(table, layout=layout, kinds=kinds, differences=differences)
    rows = torch.from_numpy(table)
    back = space.unnormalize(space.normalize(rows))
    assert back.isfinite().all()
    # A next observation that is a difference carries the rounding of the observation as well.
    largest = rows.abs().max()
    columns = rows.abs().max(dim=0).values
    columns[3] = largest if space.difference[0] else columns[3]
    assert ((back - rows).abs() <= 2e-6 * columns + 1e-37).all()
    assert space.normalize(rows).isfinite().all()
    assert space.log_determinant(rows).isfinite().all()


def test_skipped_columns_are_the_identity_to_the_bit():
    skip = (0, REWARDS.start, NEXT.start, -1)
    space = TransitionSpace(ROWS, skip, layout=LAYOUT)
    chosen = [0, REWARDS.start, NEXT.start, LAYOUT.row_dim - 1]
    for found in (space.normalize(ROWS), space.unnormalize(ROWS)):
        assert torch.equal(found[:, chosen], ROWS[:, chosen])
    assert [list(space.column_kinds.values())[number] for number in chosen] == ["skipped"] * 4
    assert not space.difference[0]


def test_arguments_are_left_alone(space):
    before = ROWS.clone()
    latent = space.normalize(ROWS)
    kept = latent.clone()
    space.unnormalize(latent)
    space.log_determinant(ROWS)
    assert torch.equal(ROWS, before)
    assert torch.equal(latent, kept)


def test_other_shapes_and_one_row(space):
    expected = space.normalize(ROWS[:6])
    assert torch.equal(space.normalize(ROWS[:6].reshape(2, 3, -1)).reshape(6, -1), expected)
    assert torch.equal(space.normalize(ROWS[0]), expected[0])
    assert space.log_determinant(ROWS[:6].reshape(2, 3, -1)).shape == (2, 3)
    assert space.log_determinant(ROWS[0]).shape == ()


def test_the_state_loads_without_the_data_and_is_all_that_there_is(space):
    arguments = {**space.arguments}
    empty = TransitionSpace(torch.zeros(1, LAYOUT.row_dim), space.skip_dims, **arguments)
    empty.normalize(ROWS[:2])  # what it knew before has to be forgotten
    empty.load_state_dict(space.state_dict())
    latents = torch.randn(50, LAYOUT.row_dim)
    assert torch.equal(empty.normalize(ROWS), space.normalize(ROWS))
    assert torch.equal(empty.unnormalize(latents), space.unnormalize(latents))
    assert empty.column_kinds == space.column_kinds


def test_a_file_without_places_of_its_own_for_decoding_decodes_as_it_was_encoded(space):
    """As files are that are older than these places."""
    older = {name: value for name, value in space.state_dict().items() if name != "decoding"}
    twin = TransitionSpace(torch.zeros(1, LAYOUT.row_dim), **space.arguments)
    twin.load_state_dict(older)
    latents = torch.randn(50, LAYOUT.row_dim)
    assert torch.equal(twin.unnormalize(latents), space.unnormalize(latents))


@pytest.mark.parametrize("step", [1, 7])
def test_a_counter_of_many_values_comes_back_whole(step):
    """As the step of an episode of 1 000: observation, difference and reward."""
    rows = sample_rows(4000)
    counter = np.arange(4000) % 1000 * step
    rows[:, OBSERVATIONS.start] = counter
    rows[:, NEXT.start] = (counter + step) % (1000 * step)
    rows[:, REWARDS.start] = -counter
    space = TransitionSpace(torch.from_numpy(rows), layout=LAYOUT)
    assert space.column_kinds["observations[0]"] not in ("discrete", "constant")
    decoded = space.unnormalize(torch.randn(5000, LAYOUT.row_dim)).numpy()
    for column in (OBSERVATIONS.start, NEXT.start, REWARDS.start):
        assert np.array_equal(decoded[:, column], decoded[:, column].round())
        assert len(np.unique(decoded[:, column])) > 500
    assert (decoded[:, ACTIONS] % 1 != 0).any()
    back = space.unnormalize(space.normalize(torch.from_numpy(rows))).numpy()
    for column in (OBSERVATIONS.start, NEXT.start, REWARDS.start):
        assert np.array_equal(back[:, column], rows[:, column])


def test_a_file_that_says_nothing_of_whole_numbers_rounds_none():
    """As files are that are older than the rounding."""
    rows = sample_rows(4000)
    rows[:, OBSERVATIONS.start] = np.arange(4000)
    space = TransitionSpace(torch.from_numpy(rows), layout=LAYOUT)
    older = {name: value for name, value in space.state_dict().items() if name != "whole"}
    twin = TransitionSpace(torch.zeros(1, LAYOUT.row_dim), **space.arguments)
    twin.load_state_dict(older)
    decoded = twin.unnormalize(torch.randn(50, LAYOUT.row_dim))[:, OBSERVATIONS.start]
    assert (decoded != decoded.round()).any()


def test_atoms_of_a_model_that_is_too_wide_become_those_of_the_data():
    space = TransitionSpace(ROWS, layout=LAYOUT)
    latents = 1.3 * torch.randn(20_000, LAYOUT.row_dim, generator=torch.Generator().manual_seed(1))
    encoded, density = space.normalize(ROWS), space.log_determinant(ROWS)
    before = space.unnormalize(latents)
    space.match_bounded(ROWS, latents)
    after = space.unnormalize(latents)
    bounded = [number for number, kind in enumerate(EXPECTED) if kind == "quantile"]
    for number in bounded:
        for bound in (ROWS[:, number].min(), ROWS[:, number].max()):
            real = float((ROWS[:, number] == bound).double().mean())
            assert float((before[:, number] == bound).double().mean()) > real + 0.02
            found = float((after[:, number] == bound).double().mean())
            assert found == pytest.approx(real, abs=1e-3)
    others = [number for number in range(LAYOUT.row_dim) if number not in bounded]
    others.remove(NEXT.start + 1)  # the difference to a column that is matched
    assert torch.equal(after[:, others], before[:, others])
    assert torch.equal(space.normalize(ROWS), encoded)
    assert torch.equal(space.log_determinant(ROWS), density)
    space.reset(ROWS)
    assert torch.equal(space.unnormalize(latents), before)


def test_reset_fits_other_data_in_place():
    """Also where the columns' kinds change."""
    space = TransitionSpace(ROWS[:, torch.randperm(LAYOUT.row_dim)], layout=LAYOUT)
    space.normalize(ROWS)
    held = space.values
    space.reset(ROWS)
    assert held is space.values
    fresh = TransitionSpace(ROWS, layout=LAYOUT)
    for name, value in fresh.state_dict().items():
        assert torch.equal(space.state_dict()[name], value), name
    assert torch.equal(space.normalize(ROWS), fresh.normalize(ROWS))


def test_an_average_of_the_model_keeps_it(space):
    """EMA takes averages of all floating-point state: of equal values they have to be equal."""
    model = construct_diffusion_model(ROWS, "transitions", TINY, layout=LAYOUT)
    average = EMA(model, beta=0.9, update_after_step=0, update_every=1)
    for _ in range(20):
        average.update()
    assert torch.equal(average.ema_model.normalizer.normalize(ROWS), space.normalize(ROWS))


def test_a_model_describes_it(tmp_path):
    model = construct_diffusion_model(
        ROWS, "transitions", TINY, skip_dims=[REWARDS.start], layout=LAYOUT
    )
    twin = model_io.build(model_io.describe(model))
    model_io.load_weights(twin, model.state_dict(), "test")
    assert torch.equal(twin.normalizer.normalize(ROWS), model.normalizer.normalize(ROWS))
    assert model_io.describe(twin) == model_io.describe(model)
    affine = construct_diffusion_model(ROWS, "standard", TINY, layout=LAYOUT)
    assert "normalizer_arguments" not in model_io.describe(affine)


def test_gin_chooses_kinds():
    with gin.unlock_config():
        gin.parse_config(
            "TransitionSpace.kinds = {'actions': 'minmax', 'observations[0]': 'quantile'}\n"
            "TransitionSpace.differences = 'none'"
        )
    try:
        space = normalizer_factory("transitions", ROWS, layout=LAYOUT)
    finally:
        gin.clear_config()
    kinds = list(space.column_kinds.values())
    assert kinds[0] == "quantile"
    assert kinds[ACTIONS] == ["minmax", "minmax"]
    assert kinds[NEXT][0] == "standard"
    torch.testing.assert_close(space.normalize(ROWS)[:, ACTIONS], ROWS[:, ACTIONS])
    assert (wild(space)[:, ACTIONS].abs() <= 1).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layout": None}, "needs to know which column is what: give the layout"),
        ({"layout": TransitionLayout(3, 2)}, "data has 16 columns, .* has 10"),
        ({"kinds": {"action": "quantile"}}, "kinds names 'action', the columns are observations"),
        (
            {"kinds": {"actions": "gauss"}},
            "expected of each value one of discrete",
        ),
        ({"kinds": {"rewards": "discrete"}}, "rewards: 3000 distinct values|rewards: .* distinct"),
        ({"differences": "some"}, "differences is 'some', expected one of narrower, all, none"),
        ({"num_knots": 4}, "num_knots is 4, expected from 16"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        TransitionSpace(ROWS, **{"layout": LAYOUT, **arguments})


def test_rows_without_a_layout_keep_the_types_of_2023():
    with pytest.raises(ValueError, match="give the layout of the rows, or take 'standard' or 'min"):
        construct_diffusion_model(ROWS, "transitions", TINY)
    for name in ("standard", "minmax"):
        assert type(normalizer_factory(name, ROWS, layout=LAYOUT)) is NORMALIZERS[name]
