"""Tables against numpy's interpolation and against autograd."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtri

from synther.diffusion.norm.tables import Pieces, Table, decoder, encoder, log_slopes, matched

# A line, an atom at 1 with the cell [0.5, 1.5], a line, a jump from 3 to 4 at 2, a line.
VALUES = [0.0, 1.0, 1.0, 3.0, 4.0, 6.0]
LATENTS = [-1.0, 0.5, 1.5, 2.0, 2.0, 4.0]


def table(below=0.0, above=0.0):
    wide = (torch.tensor(knots, dtype=torch.float64) for knots in (VALUES, LATENTS))
    return Table(*wide, below, above)


def at(pieces, points):
    row = torch.tensor([points], dtype=torch.float64)
    return Pieces.stack([pieces], row)(row)[0]


def test_decoding_is_the_interpolation_of_the_knots():
    points = np.linspace(-1, 4, 401)
    expected = np.interp(points, LATENTS, VALUES)
    expected[points == 2] = 4  # a jump: numpy gives the lower value there
    np.testing.assert_allclose(at(decoder(table()), points.tolist()), expected, atol=1e-12)


def test_encoding_is_the_interpolation_of_the_knots_with_the_middle_of_an_atoms_cell():
    points = np.concatenate([np.linspace(0, 2.98, 150), np.linspace(4.02, 6, 100)])
    points = points[points != 1]
    found = at(encoder(table()), points.tolist())
    np.testing.assert_allclose(found, np.interp(points, VALUES, LATENTS), atol=1e-12)
    # The atom; a value that decoding never gives, at the jump; the two values beside it.
    np.testing.assert_allclose(at(encoder(table()), [1.0, 3.4, 3.0, 4.0]), [1.0, 2, 2, 2])


def test_beyond_the_knots_it_stays_or_goes_on():
    assert at(decoder(table()), [-9.0, -1.0, 4.0, 1e30]).tolist() == [0, 0, 6, 6]
    assert at(encoder(table()), [-5.0, 0.0, 6.0, 7.0]).tolist() == [-1, -1, 4, 4]
    open_ended = table(below=0.5, above=2.0)
    assert at(decoder(open_ended), [-3.0, 5.5]).tolist() == [-1, 9]
    assert at(encoder(open_ended), [-1.0, 9.0]).tolist() == [-3, 5.5]


def test_an_end_that_is_an_atom_takes_all_that_is_beyond():
    ends = Table(
        torch.tensor([0.0, 0.0, 2.0]).double(), torch.tensor([-2.0, -1.0, 1.0]).double(), above=1.0
    )
    assert at(decoder(ends), [-50.0, -1.5, -1.0, 1.0, 3.0]).tolist() == [0, 0, 0, 2, 4]
    assert at(encoder(ends), [-3.0, 0.0, 2.0]).tolist() == [-1.5, -1.5, 1]


@pytest.mark.parametrize("slopes", [(0.0, 0.0), (0.5, 2.0)])
def test_log_slopes_are_those_of_autograd(slopes):
    points = [-2.0, 0.3, 0.99, 1.7, 4.5, 5.9, 8.0]
    x = torch.tensor([points], dtype=torch.float64, requires_grad=True)
    encoded = Pieces.stack([encoder(table(*slopes))], x.detach())(x)
    (gradient,) = torch.autograd.grad(encoded.sum(), x)
    inside = slice(None) if slopes[0] else slice(1, -1)
    found = at(log_slopes(table(*slopes)), points)
    np.testing.assert_allclose(found[inside], gradient[0].log()[inside], atol=1e-12)


def test_an_atom_counts_with_its_cells_width_and_what_is_beyond_as_the_end():
    # The cell of 1 is 1 wide; 0 and 6 are the ends of lines of slopes 1.5 and 1.
    found = at(log_slopes(table()), [1.0, -7.0, 60.0]).exp()
    np.testing.assert_allclose(found, [1, 1.5, 1], rtol=1e-12)


def test_columns_of_different_lengths_do_not_disturb_each_other():
    short = Table(torch.tensor([-1.0, 1.0]).double(), torch.tensor([0.0, 5.0]).double())
    both = Pieces.stack([decoder(short), decoder(table())], torch.zeros(1, dtype=torch.float64))
    points = torch.linspace(-3, 7, 50, dtype=torch.float64)
    found = both(points.expand(2, -1).contiguous())
    assert torch.equal(found[0], at(decoder(short), points.tolist()))
    assert torch.equal(found[1], at(decoder(table()), points.tolist()))


def test_what_is_not_a_number_stays_none():
    """Else samples of a diverged model would pass for good ones."""
    for function in (encoder, decoder):
        assert at(function(table()), [float("nan")]).isnan().all()


STEP = st.floats(0.01, 5)
SEGMENTS = st.one_of(
    st.tuples(STEP, STEP).map(lambda step: [step]),  # a line
    STEP.map(lambda rise: [(0.0, rise)]),  # an atom
    st.tuples(STEP, STEP).map(lambda step: [(0.0, step[0]), (step[1], 0.0), (0.0, 1.0)]),  # a jump
)


@settings(max_examples=60, deadline=None)
@given(st.lists(SEGMENTS, min_size=1, max_size=8).filter(lambda x: any(s[0] for y in x for s in y)))
def test_decoding_rises_and_undoes_encoding(segments):
    """For knots of any kind, at all values that decoding gives."""
    steps = [(0.0, 0.0), *(step for segment in segments for step in segment)]
    values, latents = torch.tensor(steps, dtype=torch.float64).cumsum(0).unbind(dim=1)
    columns = Table(values.contiguous(), latents.contiguous())
    decoded = at(decoder(columns), np.linspace(-1, float(latents[-1]) + 1, 200).tolist())
    assert (decoded.diff() >= -1e-12).all()
    again = at(decoder(columns), at(encoder(columns), decoded.tolist()).tolist())
    np.testing.assert_allclose(again, decoded, atol=1e-9)


@given(st.floats(0.6, 1.5), st.floats(-0.3, 0.3), st.sampled_from([0.05, 0.2, 0.4]))
@settings(max_examples=25, deadline=None)
def test_a_model_of_another_spread_gives_atoms_as_often_as_the_data(spread, shift, share):
    """A column that is clipped at both ends; the model's own distribution is too wide or narrow."""
    uniform = (np.arange(20_000) + 0.5) / 20_000
    low, high = np.quantile(normal := ndtri(uniform), [share / 2, 1 - share])
    data = torch.from_numpy(np.clip(normal, low, high))
    edges = torch.tensor([low - 1, low, 0, high, high + 1])
    own = Table(torch.tensor([low, low, 0, high, high]), edges)
    samples = torch.from_numpy(shift + spread * normal)
    moved = matched(own, data, samples)
    assert (moved.diff() > 0).all()
    found = at(decoder(own._replace(latents=moved)), samples.tolist())
    for bound in (low, high):
        real = float((data == bound).double().mean())
        assert float((found == bound).double().mean()) == pytest.approx(real, abs=2 / 20_000)
    # What the model gives in between stays in its order.
    assert (found[samples.argsort()].diff() >= 0).all()


def test_a_column_without_atoms_gets_the_distribution_of_the_data():
    uniform = (np.arange(20_000) + 0.5) / 20_000
    data = torch.from_numpy(uniform**2)
    places = torch.from_numpy(ndtri(np.linspace(0.001, 0.999, 200)))
    own = Table(torch.from_numpy(np.linspace(0.001, 0.999, 200) ** 2), places)
    samples = torch.from_numpy(0.1 + 1.2 * ndtri(uniform))
    moved = matched(own, data, samples)
    found = at(decoder(own._replace(latents=moved)), samples.tolist())
    for share in np.arange(0.05, 0.96, 0.05):
        # A twentieth of the data lies between two places, where the map is a line.
        assert np.quantile(found, share) == pytest.approx(share**2, abs=0.004)
