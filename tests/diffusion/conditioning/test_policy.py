"""Actions follow a policy: against closed forms, and float64 numpy."""

import copy
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from scipy.stats import kstest
from torch import Tensor, nn
from torch.distributions import Normal

from synther.diffusion.conditioning.policy import INSIDE, PolicyGuidance
from synther.diffusion.elucidated_diffusion import ElucidatedDiffusion
from synther.diffusion.generation.generator import SimpleDiffusionGenerator
from synther.diffusion.generation.presets import SAMPLER_NAMES
from synther.diffusion.norm import Normalizer, TransitionSpace
from synther.learning.nets import squashed_normal
from synther.transitions import TransitionLayout
from tests.diffusion.models import LAYOUT, TINY, GaussianNetwork, random_rows, tiny_model

ONE = TransitionLayout(1, 1)
WIDE = (torch.tensor([-50.0]), torch.tensor([50.0]))
"""Bounds so wide that no gradient is 1 long."""


def exact_model(rows: int = 4000) -> ElucidatedDiffusion:
    """The exact denoiser of a standard Gaussian in model space; in the data, columns of their own
    means and spreads."""
    table = np.random.default_rng(0).normal(size=(rows, ONE.row_dim))
    table = (table - table.mean(0)) / table.std(0) * [2.0, 3.0, 1.0, 2.0, 0.5] + [1, -4, 0, 1, 0]
    data = torch.from_numpy(table).float()
    network = GaussianNetwork(torch.zeros(ONE.row_dim), torch.ones(ONE.row_dim))
    model = ElucidatedDiffusion(network, Normalizer(data), (ONE.row_dim,), layout=ONE)
    return model.eval().requires_grad_(False)


def guided(policy: Any, strength: float, layout: TransitionLayout = ONE) -> PolicyGuidance:
    return PolicyGuidance(policy, layout, *WIDE, strength)


@pytest.mark.parametrize("strength", [0.5, 4.0])
def test_a_constant_policy_gives_the_product_of_two_gaussians(strength: float) -> None:
    """Actions N(-4, 3^2) times exp(-lambda (a - 2)^2 / (2 3^2)); the other columns stay."""
    model = exact_model()
    policy = guided(lambda seen: torch.full_like(seen, 2.0), strength)
    noise = partial(torch.Generator().manual_seed)
    rows = model.sample(4000, 40, generator=noise(0), policy=policy).double().numpy()
    mean = (-4 + strength * 2) / (1 + strength)
    scale = 3 / np.sqrt(1 + strength)
    assert kstest(rows[:, 1], "norm", (mean, scale)).pvalue > 1e-3
    plain = model.sample(4000, 40, generator=noise(0))
    others = [0, 2, 3, 4]
    torch.testing.assert_close(plain[:, others].double().numpy(), rows[:, others])


@pytest.mark.parametrize("strength", [0.3, 1.0, 5.0])
def test_a_linear_policy_against_scipys_solution_of_the_same_ode(strength: float) -> None:
    """pi(s) = 0.5 s + 1, with the deterministic sampler: each sample's end from its start."""
    model = exact_model()
    model.sampler = "heun_deterministic"
    policy = guided(lambda seen: 0.5 * seen + 1, strength)
    start = torch.randn(6, ONE.row_dim, generator=torch.Generator().manual_seed(1))
    found = model.sample(6, 200, noise=lambda _: start, policy=policy).double().numpy()
    largest = float(model.sample_schedule(200)[0])

    def slope(sigma: float, state: np.ndarray) -> np.ndarray:
        s, a = state.reshape(2, -1)  # in model space
        seen, acted = s / (1 + sigma**2), a / (1 + sigma**2)
        rise = strength * sigma**2 / (sigma**2 + 1)
        aim = (0.5 * (2 * seen + 1) + 1 + 4) / 3
        moved = acted + rise / (1 + rise) * (aim - acted)
        return np.concatenate([(s - seen) / sigma, (a - moved) / sigma])

    at_start = largest * start[:, :2].double().numpy().T.ravel()
    solved = solve_ivp(slope, (largest, 1e-4), at_start, rtol=1e-8, atol=1e-8).y[:, -1]
    s, a = solved.reshape(2, -1)
    np.testing.assert_allclose(found[:, 0], 2 * s + 1, atol=5e-3)
    np.testing.assert_allclose(found[:, 1], 3 * a - 4, atol=5e-3)


@pytest.mark.parametrize("sampler", SAMPLER_NAMES)
def test_the_distance_to_the_policy_shrinks_with_the_strength(sampler: str) -> None:
    """In every sampler and preset, and through the map of quantiles."""
    data = random_rows(600)
    data[:, 3:5] = np.tanh(data[:, 3:5] / 3)
    space = TransitionSpace(data, layout=LAYOUT, kinds={"actions": "quantile"})
    network = GaussianNetwork(torch.zeros(LAYOUT.row_dim), torch.ones(LAYOUT.row_dim))
    model = ElucidatedDiffusion(network, space, (LAYOUT.row_dim,), layout=LAYOUT)
    model.requires_grad_(False)
    generator = SimpleDiffusionGenerator(LAYOUT, model, 12, sampler=sampler)

    def policy(seen: Tensor) -> Tensor:
        return torch.stack([(seen[:, 0] / 5).sin(), 0.5 * (seen[:, 1] / 5).cos()], dim=1) * 0.8

    distances = []
    for strength in (0.0, 0.3, 1.0, 4.0):
        states, actions, *_ = generator.sample(250, 0, policy=policy, policy_strength=strength)
        aims = policy(torch.from_numpy(states)).numpy()
        distances.append(np.square(aims - actions).mean())
    assert distances[0] > 1.15 * distances[1] > 1.15**2 * distances[2] > 1.15**3 * distances[3]


def test_an_action_that_many_rows_share_is_left() -> None:
    """Three rows in four act at the bound, which is one value for a part of model space; a policy
    within the bounds takes samples off it."""
    data = random_rows(600)
    data[:, 3:5] = np.where(np.random.default_rng(1).random((600, 2)) < 0.75, 1.0, -0.2)
    data[:, 3:5] -= 0.3 * np.random.default_rng(2).random((600, 2)) * (data[:, 3:5] < 1)
    space = TransitionSpace(data, layout=LAYOUT)
    network = GaussianNetwork(torch.zeros(LAYOUT.row_dim), torch.ones(LAYOUT.row_dim))
    model = ElucidatedDiffusion(network, space, (LAYOUT.row_dim,), layout=LAYOUT)
    generator = SimpleDiffusionGenerator(LAYOUT, model.requires_grad_(False), 12)
    shares = [
        float(
            (generator.sample(300, 0, policy=lambda s: 0 * s[:, :2] - 0.3, **given)[1] == 1).mean()
        )
        for given in ({"policy_strength": 0.0}, {"policy_strength": 20.0})
    ]
    assert shares[0] > 0.6
    assert shares[1] < 0.3


def test_the_share_falls_to_0_at_the_end() -> None:
    policy = guided(lambda seen: seen, 3.0)
    sigmas = exact_model().sample_schedule(30).tolist()
    shares = [policy.share(sigma) for sigma in sigmas]
    assert shares[-1] == 0
    assert shares == sorted(shares, reverse=True)
    assert shares[0] == pytest.approx(3 / 4, rel=1e-3)
    assert shares[-2] < 2e-5


LOW, HIGH = torch.tensor([-2.0, 0.0]), torch.tensor([2.0, 10.0])
MIDDLE, HALF = np.array([0.0, 5.0]), np.array([2.0, 5.0])


def numerically(function: Any, at: np.ndarray, step: float = 1e-6) -> np.ndarray:
    """Central differences of a function of rows, by each column."""
    columns = []
    for unit in np.eye(at.shape[1]):
        columns.append((function(at + step * unit) - function(at - step * unit)) / (2 * step))
    return np.stack(columns, axis=1)


def test_the_gradients_are_those_of_log_likelihoods() -> None:
    """Float64, numpy and finite differences, of actions in units of their own: of an action, a
    Gaussian, and a squashed one; by the action in units of half its range."""
    rng = np.random.default_rng(0)
    seen, unit = rng.normal(size=(50, 3)), rng.uniform(-0.9, 0.9, (50, 2))
    weights = rng.normal(size=(3, 2))
    scale = np.array([0.3, 0.6])
    actions = unit * HALF + MIDDLE

    def density_of_actions(points: np.ndarray) -> np.ndarray:
        aims = (np.tanh(seen @ weights) * HALF + MIDDLE - MIDDLE) / HALF
        return -((points - aims) ** 2).sum(1) / 2

    def gaussian(points: np.ndarray) -> np.ndarray:
        z = (points * HALF + MIDDLE - seen @ weights) / scale
        return -(z**2).sum(1) / 2

    def squashed(points: np.ndarray) -> np.ndarray:
        inside = points * HALF / 6  # it acts in [-6, 6], around the same middle
        z = (np.arctanh(inside) - seen @ weights) / scale
        return (-(z**2) / 2 - np.log(1 - inside**2)).sum(1)

    spread, matrix, middle = map(torch.from_numpy, (scale, weights, MIDDLE))

    class Centred:
        """The squashed Gaussian, around the middle."""

        def __init__(self, mean: Tensor) -> None:
            self.law = squashed_normal(mean, spread.log(), 6.0)

        def log_prob(self, points: Tensor) -> Tensor:
            return self.law.log_prob(points - middle)

    half = torch.from_numpy(HALF)
    policies = [
        (lambda s: (s @ matrix).tanh() * half + middle, density_of_actions),
        (lambda s: Normal(s @ matrix, spread), gaussian),
        (lambda s: Centred(s @ matrix), squashed),
    ]
    layout = TransitionLayout(3, 2)
    for policy, density in policies:
        guidance = PolicyGuidance(policy, layout, LOW, HIGH)
        found = guidance.gradient(torch.from_numpy(seen), torch.from_numpy(actions))
        np.testing.assert_allclose(found.numpy(), numerically(density, unit), rtol=1e-5, atol=1e-6)


def test_at_a_bound_the_gradient_is_finite_and_points_to_the_policy() -> None:
    law = squashed_normal(torch.tensor([[-0.5]]), torch.tensor([[-1.5]]), 1.0)
    guidance = PolicyGuidance(lambda s: law, ONE, torch.tensor([-1.0]), torch.tensor([1.0]))
    at = torch.tensor([[1.0], [1.3], [INSIDE]])
    found = guidance.gradient(torch.zeros(3, 1), at)
    assert found.isfinite().all()
    assert (found < 0).all()
    assert torch.equal(found, found[:1].expand(3, 1))


def test_an_action_that_is_always_the_same_outside_the_unit_bounds_stays() -> None:
    """Its bounds, found in the data, are one value."""
    low, high = torch.tensor([-1.0, 5.0]), torch.tensor([1.0, 5.0])
    actions = torch.tensor([[0.5, 5.0], [-0.5, 5.1]])
    for policy in (lambda s: 0 * actions, lambda s: Normal(0 * actions, 0.5)):
        guidance = PolicyGuidance(policy, TransitionLayout(1, 2), low, high)
        found = guidance.gradient(torch.zeros(2, 1), actions)
        alone = PolicyGuidance(policy, TransitionLayout(1, 2), low, high + torch.tensor([0, 1.0]))
        assert torch.equal(found[:, 0], alone.gradient(torch.zeros(2, 1), actions)[:, 0])
        assert not found[:, 1].any()


def given(denoised: Tensor, x: Tensor, sigma: float) -> Tensor:
    return denoised


def test_a_long_gradient_moves_by_no_more_than_the_share_of_half_the_range() -> None:
    """A Gaussian of spread 1e-3, whose gradient is thousands long."""
    model = tiny_model().requires_grad_(False)
    low, high = -torch.ones(2), torch.ones(2)
    policy = PolicyGuidance(lambda s: Normal(s[:, :2], 1e-3), LAYOUT, low, high, strength=2.0)
    x = torch.randn(50, LAYOUT.row_dim)
    for sigma in (3.0, 0.5):
        plain = model.preconditioned_network_forward(x, sigma)
        moved = policy.guided(partial(given, plain), model.normalizer)(x, sigma)
        change = model.normalizer.unnormalize(moved) - model.normalizer.unnormalize(plain)
        length = change[:, 3:5].norm(dim=1)
        torch.testing.assert_close(
            length, torch.full((50,), policy.share(sigma)), rtol=0, atol=1e-4
        )
        change[:, 3:5] = 0
        assert float(change.abs().max()) == 0


def test_off_is_the_plain_path_bit_for_bit_and_on_costs_no_more_calls() -> None:
    model = tiny_model().eval().requires_grad_(False)
    calls = []
    model.net.register_forward_hook(lambda *_: calls.append(1))
    generator = SimpleDiffusionGenerator(LAYOUT, model, 6)

    def rows(**given: Any) -> tuple[np.ndarray, int]:
        before = len(calls)
        arrays = generator.sample(64, 3, **given)
        return np.concatenate([each.reshape(64, -1) for each in arrays], 1), len(calls) - before

    def policy(seen: Tensor) -> Tensor:
        return 0.3 * seen[:, :2].tanh()

    plain, count = rows()
    without, count_without = rows(policy=policy, policy_strength=0.0)
    follows, count_with = rows(policy=policy)
    assert np.array_equal(plain, without)
    assert count == count_without == count_with
    assert not np.array_equal(plain[:, 3:5], follows[:, 3:5])
    again, _ = rows(policy=policy)
    assert np.array_equal(follows, again)
    assert not any(each.grad_fn for each in model.parameters())


def test_a_policy_joins_a_condition_and_its_guidance() -> None:
    """The policy moves what the guided denoiser gives: twice the calls of the weight, no more."""
    from synther.diffusion.conditioning.condition import Condition
    from synther.diffusion.utils import construct_diffusion_model

    data = random_rows()
    condition = Condition.of("reward", data[:, LAYOUT.columns["rewards"].start])
    torch.manual_seed(0)
    model = construct_diffusion_model(
        data, "standard", TINY, disable_terminal_norm=True, layout=LAYOUT, condition=condition
    )
    calls: list[int] = []
    model.net.register_forward_hook(lambda *_: calls.append(1))
    generator = SimpleDiffusionGenerator(LAYOUT, model, 5, sampler="dpmpp_2m")
    asked: dict[str, Any] = {"cond": "top 20%", "guidance": 2.0}
    plain = generator.sample(50, 0, **asked)
    follows = generator.sample(50, 0, **asked, policy=lambda s: 0 * s[:, :2], policy_strength=9.0)
    assert len(calls) == 4 * 5
    assert np.abs(follows[1]).mean() < 0.7 * np.abs(plain[1]).mean()


class Actor(nn.Module):
    """What users have: a network with weights that want gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, seen: Tensor) -> Tensor:
        return self.layer(seen).tanh()


def test_a_network_is_a_policy_and_gets_no_gradient() -> None:
    actor = Actor()
    before = copy.deepcopy(actor.state_dict())
    generator = SimpleDiffusionGenerator(LAYOUT, tiny_model(), 4)
    generator.sample(20, 0, policy=actor)
    assert all(torch.equal(before[key], each) for key, each in actor.state_dict().items())
    assert actor.layer.weight.grad is None
