import numpy as np
import pytest
import torch

from synther.diffusion.norm import MinMaxNormalizer, Normalizer
from tests.diffusion.models import gaussian_model, normal_log_density, random_rows

pytestmark = pytest.mark.arithmetic


@pytest.mark.parametrize("normalizer", [Normalizer, MinMaxNormalizer])
def test_equals_the_density_of_a_gaussian(normalizer):
    """In model space, and in data space with the normaliser's log-determinant."""
    model = gaussian_model(normalizer(random_rows()))
    mean, scale = model.net.mean.double().numpy(), model.net.scale.detach().double().numpy()
    normal = torch.from_numpy(mean + scale * np.random.default_rng(0).normal(size=(20, 10)))
    rows = model.normalizer.unnormalize(normal.float())
    expected = normal_log_density(normal.numpy(), mean, scale)
    found = model.log_likelihood(rows, include_normalizer=False)
    np.testing.assert_allclose(found, expected, atol=0.02)

    offset, spread = (value.double().numpy() for value in model.normalizer._offset_and_scale())
    expected = normal_log_density(rows.double().numpy(), offset + spread * mean, spread * scale)
    np.testing.assert_allclose(model.log_likelihood(rows), expected, atol=0.02)


def test_probe_is_injectable_and_exact_for_independent_columns():
    model = gaussian_model(Normalizer(random_rows()))
    rows = torch.from_numpy(random_rows(5))
    ones = model.log_likelihood(rows, probe=torch.ones(5, 10))
    drawn = model.log_likelihood(rows, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(ones, drawn, rtol=0, atol=1e-3)
    doubled = model.log_likelihood(rows, probe=2 * torch.ones(5, 10))
    assert (doubled - ones).abs().min() > 1  # so the probe is what the estimate is made of
