import numpy as np
import pytest
import torch

from synther.diffusion.fidelity.likelihood import held_out_log_likelihood
from synther.diffusion.norm import Normalizer
from tests.diffusion.models import gaussian_model, random_rows


def gaussian_rows(model, count, shift=0.0):
    """Rows of the exact model's own distribution, moved by ``shift`` standard deviations."""
    unit = torch.from_numpy(np.random.default_rng(1).normal(size=(count, 10))).float()
    return model.normalizer.unnormalize(model.net.mean + model.net.scale.detach() * (unit + shift))


def test_held_out_rows_have_minus_the_entropy_of_a_gaussian():
    """Their mean log-likelihood under the exact model; under a model that is off by one standard
    deviation in each of 10 columns it is lower by 10 / 2."""
    model = gaussian_model(Normalizer(random_rows()))
    rows = gaussian_rows(model, 1500)
    found = held_out_log_likelihood(model, rows, batch_size=400)
    _, spread = model.normalizer._offset_and_scale()
    scales = (spread * model.net.scale.detach()).double().numpy()
    entropy = np.sum(0.5 * np.log(2 * np.pi * np.e * scales**2))
    assert found.rows == 1000
    assert found.standard_error == pytest.approx(np.sqrt(10 / 2 / 1000), rel=0.15)
    assert found.mean == pytest.approx(-entropy, abs=4 * found.standard_error)
    off = held_out_log_likelihood(model, gaussian_rows(model, 1500, shift=1.0))
    assert found.mean - off.mean == pytest.approx(5.0, abs=0.5)


def test_the_same_seed_gives_the_same_number_and_bad_rows_are_named():
    model = gaussian_model(Normalizer(random_rows()))
    rows = random_rows(50)
    first, again, other = (
        held_out_log_likelihood(model, rows, max_rows=9, seed=s) for s in (0, 0, 1)
    )
    assert first == again != other
    with pytest.raises(ValueError, match=r"rows \(50, 9\), expected two or more of 10 columns"):
        held_out_log_likelihood(model, rows[:, :9])
