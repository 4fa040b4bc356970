import numpy as np
import pytest
import torch

from synther.diffusion.samplers import (
    SAMPLERS,
    heun_deterministic,
    heun_stochastic,
    karras_schedule,
)

MEAN, SCALE = 0.4, 0.7


def denoise(x, sigma):
    """The exact denoiser of N(MEAN, SCALE^2)."""
    return MEAN + SCALE**2 / (SCALE**2 + sigma**2) * (x - MEAN)


def no_noise(step):
    raise AssertionError("a deterministic sampler asked for noise")


def seeded_noise(shape, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return lambda step: torch.randn(shape, generator=generator, dtype=torch.float64)


def test_schedule_is_the_formula():
    expected = [
        (80 ** (1 / 7) + i / 15 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7 for i in range(16)
    ]
    schedule = karras_schedule(16)
    assert schedule.dtype == torch.float64
    np.testing.assert_allclose(schedule, [*expected, 0], rtol=1e-12)
    assert float(karras_schedule(1)[0]) == pytest.approx(80)
    with pytest.raises(ValueError, match="num_steps is 0"):
        karras_schedule(0)


@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
def test_network_calls(sampler):
    calls = []

    def counting(x, sigma):
        calls.append(sigma)
        return denoise(x, sigma)

    x = torch.zeros(2, 1, dtype=torch.float64)
    sampler(counting, x, karras_schedule(128), noise=seeded_noise(x.shape))
    assert len(calls) == 255


def test_deterministic_heun_is_of_second_order():
    """Against the ODE's solution: the deviation from the mean scales as sqrt(scale^2 + sigma^2)."""
    x = torch.linspace(-60, 60, 7, dtype=torch.float64)[:, None]

    def error(steps):
        sigmas = karras_schedule(steps, sigma_min=0.05, sigma_max=40)[:-1]  # ends above 0
        found = heun_deterministic(denoise, x, sigmas, noise=no_noise)
        end, start = float(sigmas[-1]), float(sigmas[0])
        shrink = np.sqrt((SCALE**2 + end**2) / (SCALE**2 + start**2))
        return float((found - (MEAN + (x - MEAN) * shrink)).abs().max())

    errors = [error(steps) for steps in (33, 65, 129)]
    orders = [np.log2(errors[i] / errors[i + 1]) for i in range(2)]
    assert all(1.8 < order < 2.3 for order in orders), orders


def test_deterministic_is_stochastic_without_churn():
    x = torch.randn(5, 2, dtype=torch.float64) * 80
    sigmas = karras_schedule(8)
    plain = heun_deterministic(denoise, x, sigmas, noise=no_noise)
    churnless = heun_stochastic(denoise, x, sigmas, noise=no_noise, S_churn=0)
    assert torch.equal(plain, churnless)


@pytest.mark.parametrize("name", SAMPLERS)
def test_samples_are_distributed_like_the_data(name):
    x = seeded_noise((40_000, 1), seed=0)(0) * 80
    found = SAMPLERS[name](
        denoise, x, karras_schedule(64), noise=seeded_noise(x.shape), S_noise=1.0
    ).numpy()
    # Standard errors at 40 000 samples: 0.0035 of the mean, 0.0025 of the standard deviation.
    assert found.mean() == pytest.approx(MEAN, abs=0.015)
    assert found.std() == pytest.approx(SCALE, abs=0.015)
    quantiles = np.quantile((found - MEAN) / SCALE, [0.025, 0.16, 0.84, 0.975])
    np.testing.assert_allclose(quantiles, [-1.96, -0.994, 0.994, 1.96], atol=0.05)


def test_noise_is_asked_for_only_within_its_range():
    asked = []

    def noise(step):
        asked.append(step)
        return torch.zeros(1, 1, dtype=torch.float64)

    sigmas = karras_schedule(32)
    heun_stochastic(denoise, torch.ones(1, 1).double(), sigmas, noise=noise, S_tmin=0.05, S_tmax=50)
    assert asked == [i for i, s in enumerate(sigmas.tolist()) if 0.05 <= s <= 50]


def test_start_is_left_alone():
    x = torch.ones(3, 1, dtype=torch.float64)
    heun_stochastic(denoise, x, karras_schedule(4), noise=seeded_noise(x.shape))
    assert torch.equal(x, torch.ones_like(x))
