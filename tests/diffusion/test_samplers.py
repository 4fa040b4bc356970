"""Samplers against closed forms (a Gaussian) and a float64 solution of the ODE (a mixture)."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from synther.diffusion.samplers import (
    SAMPLERS,
    check_sampler,
    count_calls,
    dpmpp_2m,
    dpmpp_2m_sde,
    dpmpp_3m,
    heun_deterministic,
    heun_stochastic,
    karras_schedule,
    restart,
)
from tests.diffusion.models import spread_of_samples

pytestmark = pytest.mark.arithmetic

MEAN, SCALE = 0.4, 0.7
SOLVERS = {"heun_deterministic": 2, "dpmpp_2m": 2, "dpmpp_3m": 3}
STOCHASTIC = ("heun_stochastic", "dpmpp_2m_sde", "restart")
WEIGHTS, MEANS, SCALES = np.array([0.3, 0.7]), np.array([-1.0, 0.8]), np.array([0.25, 0.4])


def denoise(x, sigma):
    """The exact denoiser of N(MEAN, SCALE^2)."""
    return MEAN + SCALE**2 / (SCALE**2 + sigma**2) * (x - MEAN)


def mixture_denoised(x, sigma):
    """The exact denoiser of a mixture of two Gaussians, numpy ``[B]``."""
    variances = SCALES**2 + sigma**2
    densities = WEIGHTS * stats.norm.pdf(x[:, None], MEANS, np.sqrt(variances))
    shares = densities / densities.sum(axis=1, keepdims=True)
    return (shares * (MEANS + SCALES**2 / variances * (x[:, None] - MEANS))).sum(axis=1)


def mixture_denoise(x, sigma):
    return torch.from_numpy(mixture_denoised(x[:, 0].numpy(), sigma))[:, None]


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


CALLS = {
    "heun_stochastic": 39,
    "heun_deterministic": 39,
    "dpmpp_2m": 20,
    "dpmpp_2m_sde": 20,
    "dpmpp_3m": 20,
    "restart": 32,
}


@pytest.mark.parametrize(("name", "calls"), CALLS.items())
def test_network_calls(name, calls):
    assert count_calls(SAMPLERS[name], karras_schedule(20)) == calls


def test_restart_of_the_first_measurement_takes_27_calls():
    sigmas = karras_schedule(15, sigma_min=0.1)
    found = count_calls(restart, sigmas, restart_low=0.1, restart_high=0.5, restart_count=4)
    assert found == 14 + 4 * 3 + 1


@pytest.mark.parametrize("steps", [1, 2, 3])
@pytest.mark.parametrize("name", SAMPLERS)
def test_few_steps_and_single_precision(name, steps):
    """Every sampler works from one step on, keeps float32, and leaves the start alone."""
    x = torch.ones(3, 1) * 50
    params = {"restart_high": 100.0} if name == "restart" else {}
    sigmas = karras_schedule(steps)
    found = SAMPLERS[name](denoise, x, sigmas, noise=lambda _: torch.ones(3, 1), **params)
    assert found.dtype == torch.float32
    assert found.isfinite().all()
    assert torch.equal(x, torch.ones_like(x) * 50)


def measured_orders(sampler, denoiser, exact, x, steps, low, high):
    """log2 of the ratio of the errors when the number of steps doubles, away from sigma 0."""
    errors = []
    for count in steps:
        sigmas = karras_schedule(count + 1, sigma_min=low, sigma_max=high)[:-1]
        found = sampler(denoiser, x, sigmas, noise=no_noise)
        errors.append(float((found - exact).abs().max()))
    return [math.log2(a / b) for a, b in itertools.pairwise(errors)]


@pytest.mark.parametrize(("name", "order"), SOLVERS.items())
def test_order_of_convergence_on_a_gaussian(name, order):
    """Against the ODE's solution: the deviation from the mean scales as sqrt(scale^2 + sigma^2)."""
    x, low, high = torch.linspace(-60, 60, 7, dtype=torch.float64)[:, None], 0.05, 40.0
    shrink = math.sqrt((SCALE**2 + low**2) / (SCALE**2 + high**2))
    exact = MEAN + (x - MEAN) * shrink
    orders = measured_orders(SAMPLERS[name], denoise, exact, x, (64, 128, 256), low, high)
    assert all(order - 0.25 < found < order + 0.35 for found in orders), orders


@pytest.mark.parametrize(("name", "order"), SOLVERS.items())
def test_order_of_convergence_on_a_mixture(name, order):
    x, low, high = np.linspace(-30, 30, 7), 0.05, 40.0
    exact = integrate.solve_ivp(
        lambda log_sigma, y: y - mixture_denoised(y, math.exp(log_sigma)),
        (math.log(high), math.log(low)),
        x,
        method="DOP853",
        rtol=1e-12,
        atol=1e-13,
    ).y[:, -1:]
    start = torch.from_numpy(x)[:, None]
    orders = measured_orders(
        SAMPLERS[name], mixture_denoise, torch.from_numpy(exact), start, (128, 256, 512), low, high
    )
    assert all(order - 0.3 < found < order + 0.5 for found in orders), orders


@pytest.mark.parametrize("eta", [0.5, 1.0])
def test_the_sdes_marginals_converge_to_the_datas(eta):
    """With a Gaussian's denoiser a sample is linear in the noises: its exact mean and variance
    follow from the response to each of them alone, and err by at most O(1 / steps)."""

    def moments(steps):
        sigmas = karras_schedule(steps)
        width = steps + 1  # row 0: no noise at all; row k: unit noise number k alone
        unit = torch.eye(width + 1, dtype=torch.float64)[:, 1:]
        found = dpmpp_2m_sde(
            denoise, unit[:, :1] * 80, sigmas, noise=lambda i: unit[:, i + 1, None],
            eta=eta, S_noise=1.0,
        )  # fmt: skip
        mean = float(found[0])
        return mean, float((found[1:] - found[0]).square().sum())

    errors = []
    for steps in (32, 64, 128):
        mean, variance = moments(steps)
        errors.append((abs(mean - MEAN), abs(variance - SCALE**2)))
    assert errors[-1][0] < 1e-3
    assert errors[-1][1] < 0.02
    assert all(a[1] / b[1] > 1.7 for a, b in itertools.pairwise(errors)), errors


def numpy_2m(x, sigmas):
    """DPM-Solver++(2M) as its authors write it, with r = h_before / h."""
    before, h_before = None, None
    for sigma, sigma_next in itertools.pairwise(sigmas):
        now = mixture_denoised(x, sigma)
        if sigma_next == 0:
            return now
        h = np.log(sigma) - np.log(sigma_next)
        if before is None:
            target = now
        else:
            r = h_before / h
            target = (1 + 1 / (2 * r)) * now - 1 / (2 * r) * before
        x = sigma_next / sigma * x - (np.exp(-h) - 1) * target
        before, h_before = now, h
    return x


def test_2m_equals_its_authors_formula_and_the_sde_without_noise():
    x, sigmas = torch.linspace(-100, 100, 9, dtype=torch.float64)[:, None], karras_schedule(12)
    found = dpmpp_2m(mixture_denoise, x, sigmas, noise=no_noise)
    np.testing.assert_allclose(found[:, 0], numpy_2m(x[:, 0].numpy(), sigmas.numpy()), rtol=1e-10)
    assert torch.equal(found, dpmpp_2m_sde(mixture_denoise, x, sigmas, noise=no_noise, eta=0.0))


def test_3m_is_exact_where_d_is_a_parabola_in_lambda():
    """D = a + b lambda + c lambda^2 whatever x is, against the integral by quadrature."""

    def parabola(x, sigma):
        log = -math.log(sigma)
        return torch.full_like(x, 0.3 - 0.2 * log + 0.5 * log**2)

    sigmas = torch.tensor([2.0, 1.5, 1.2, 0.6, 0.5], dtype=torch.float64)
    lambdas = -np.log(sigmas.numpy())
    x = torch.zeros(1, 1, dtype=torch.float64)
    found = [float(dpmpp_3m(parabola, x, sigmas[:n], noise=no_noise)) for n in (3, 4, 5)]
    for position in (1, 2):  # from the third step on nothing is lost
        start, end = lambdas[position + 1], lambdas[position + 2]
        integral, _ = integrate.quad(
            lambda s, end=end: math.exp(s - end) * (0.3 - 0.2 * s + 0.5 * s**2), start, end
        )
        expected = math.exp(start - end) * found[position - 1] + integral
        assert found[position] == pytest.approx(expected, rel=1e-12)


def test_deterministic_is_stochastic_without_churn():
    x = torch.randn(5, 2, dtype=torch.float64) * 80
    sigmas = karras_schedule(8)
    plain = heun_deterministic(denoise, x, sigmas, noise=no_noise)
    churnless = heun_stochastic(denoise, x, sigmas, noise=no_noise, S_churn=0)
    assert torch.equal(plain, churnless)


def test_restart_without_restarts_is_2m_that_begins_anew_at_the_turn():
    x, sigmas = torch.linspace(-90, 90, 5, dtype=torch.float64)[:, None], karras_schedule(16)
    turn = int((sigmas[:-1].log() - math.log(0.1)).abs().argmin())
    upper = dpmpp_2m(mixture_denoise, x, sigmas[: turn + 1], noise=no_noise)
    expected = dpmpp_2m(mixture_denoise, upper, sigmas[turn:], noise=no_noise)
    found = restart(mixture_denoise, x, sigmas, noise=no_noise, restart_count=0)
    assert torch.equal(found, expected)


def test_restart_forgets_earlier_errors():
    """A start that is far off ends nearer to the data's spread with each restart."""
    x = torch.full((4000, 1), 120.0, dtype=torch.float64)  # one point instead of N(0, 80^2)
    spreads = [
        float(
            restart(
                denoise, x, karras_schedule(20), noise=seeded_noise(x.shape), S_noise=1.0,
                restart_high=2.0, restart_count=count, restart_steps=8,
            ).std()
        )
        for count in (0, 1, 3)
    ]  # fmt: skip
    assert spreads[0] == 0
    assert spreads[0] < spreads[1] < spreads[2] == pytest.approx(SCALE, abs=0.03)


def test_restart_refuses_a_range_that_is_none():
    with pytest.raises(ValueError, match=r"restart_high is 0.05, expected more than the level"):
        restart(denoise, torch.ones(1, 1), karras_schedule(20), noise=no_noise, restart_high=0.05)


@pytest.mark.parametrize("name", CALLS)
def test_samples_are_distributed_like_the_data(name):
    x = seeded_noise((40_000, 1), seed=0)(0) * 80
    found = SAMPLERS[name](
        denoise, x, karras_schedule(64), noise=seeded_noise(x.shape), S_noise=1.0, restart_steps=12
    ).numpy()
    # Standard errors at 40 000 samples: 0.0035 of the mean, 0.0025 of the standard deviation.
    assert found.mean() == pytest.approx(MEAN, abs=0.015)
    assert found.std() == pytest.approx(SCALE, abs=0.015)
    quantiles = np.quantile((found - MEAN) / SCALE, [0.025, 0.16, 0.84, 0.975])
    np.testing.assert_allclose(quantiles, [-1.96, -0.994, 0.994, 1.96], atol=0.05)


EXACT = {
    "heun_stochastic": [1.0085, 1.0109, 1.0177, 1.0210],  # each step's correction is one-sided
    "heun_deterministic": [1.0006, 1.0010, 1.0012, 1.0009],
    "dpmpp_2m": [1.0007, 1.0010, 1.0012, 1.0009],
    "dpmpp_2m_sde": [1.0020, 1.0028, 1.0036, 1.0038],
    "dpmpp_3m": [0.9999, 0.9999, 0.9997, 0.9990],
    "restart": [0.9997, 0.9997, 0.9989, 0.9996],
}


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_spread_of_a_gaussian_is_kept_however_small(name):
    """Sampled over true standard deviation, for 1, 0.3, 0.1, 0.05, with 128 steps."""
    sigmas = karras_schedule(128)
    found = [
        spread_of_samples(name, sigmas, scale, S_noise=1.0, restart_steps=12)
        for scale in (1.0, 0.3, 0.1, 0.05)
    ]
    assert found == pytest.approx(EXACT[name], abs=2e-4)


@pytest.mark.parametrize("distance", [1.0, 0.3, 0.1])
@pytest.mark.parametrize("name", SAMPLERS)
def test_two_points_are_found_and_kept_apart(name, distance):
    """The exact denoiser of +-distance, half of the data each, is distance tanh(distance x /
    sigma^2)."""
    x = seeded_noise((4000, 1), seed=0)(0) * 80
    found = SAMPLERS[name](
        lambda x, sigma: distance * torch.tanh(distance * x / sigma**2),
        x, karras_schedule(64, 0.005), noise=seeded_noise(x.shape), S_noise=1.0, restart_steps=8,
    )  # fmt: skip
    # Standard error of a share of 4000: 0.008.
    assert float((found > 0).double().mean()) == pytest.approx(0.5, abs=0.032)
    assert ((found.abs() - distance).abs() < 0.03 * distance).double().mean() > 0.999


@pytest.mark.parametrize("name", STOCHASTIC)
def test_samples_of_a_mixture_pass_a_ks_test(name):
    x = seeded_noise((3000, 1), seed=0)(0) * 80
    sampler, noise = SAMPLERS[name], seeded_noise(x.shape)
    found = sampler(mixture_denoise, x, karras_schedule(80), noise=noise, S_noise=1.0)

    def cdf(values):
        return (WEIGHTS * stats.norm.cdf(values[:, None], MEANS, SCALES)).sum(axis=1)

    assert stats.kstest(found[:, 0].numpy(), cdf).pvalue > 0.01
    assert stats.kstest(found[:, 0].numpy() + 0.1, cdf).pvalue < 0.01  # so the test can fail


def test_noise_is_asked_for_only_within_its_range():
    asked = []

    def noise(step):
        asked.append(step)
        return torch.zeros(1, 1, dtype=torch.float64)

    sigmas = karras_schedule(32)
    heun_stochastic(denoise, torch.ones(1, 1).double(), sigmas, noise=noise, S_tmin=0.05, S_tmax=50)
    assert asked == [i for i, s in enumerate(sigmas.tolist()) if 0.05 <= s <= 50]


def test_unknown_names_are_named():
    check_sampler("restart", {"restart_count": 2, "S_noise": 1.0})
    with pytest.raises(ValueError, match="sampler 'nothing': expected one of heun_stochastic"):
        check_sampler("nothing")
    with pytest.raises(ValueError, match="no parameter 'restart_counts': its parameters are rest"):
        check_sampler("restart", {"restart_counts": 2})
    with pytest.raises(ValueError, match="no parameter 'eta': it has no parameters"):
        check_sampler("dpmpp_2m", {"eta": 1.0})
