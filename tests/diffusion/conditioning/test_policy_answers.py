"""What a policy does wrong is said to be the policy's, with the shapes that it was called with."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal, Uniform

from synther.diffusion.conditioning.condition import ConditionError
from synther.diffusion.conditioning.policy import PolicyGuidance
from synther.diffusion.generation.generator import SamplingError, SimpleDiffusionGenerator
from synther.errors import InputError
from tests.diffusion.models import LAYOUT, tiny_model

BOUNDS = (torch.full((2,), -1.0), torch.full((2,), 1.0))


def laws(*shape: int) -> Callable[[Tensor], Normal]:
    return lambda seen: Normal(torch.zeros(shape), 1.0)


def half_known(seen: Tensor) -> Tensor:
    return torch.where(torch.arange(8)[:, None] == 5, torch.nan, seen[:, :2])


class FloatLaw:
    def log_prob(self, actions: Tensor) -> float:
        return float(actions.detach().sum())


WRONG: dict[str, tuple[Any, str]] = {
    "complex": (lambda seen: seen[:, :2] * 1j, "gives a Tensor for 8 observations"),
    "float law": (lambda seen: FloatLaw(), "no log-likelihood .* log_prob gives a float"),
    "nan": (half_known, "not finite for row 5 of 8 observations"),
    "nan in a law": (
        lambda seen: Normal(half_known(seen), 1.0, validate_args=False),
        "not finite for row 5 of 8 observations",
    ),
    "columns": (laws(8, 3), r"a Normal of shape \[8, 3\] for 8 observations, expected \[8, 2\]"),
    "one column": (laws(8, 1), r"a Normal of shape \[8, 1\] for 8 observations, expected \[8, 2\]"),
    "no columns": (laws(8), r"a Normal of shape \[8\] for 8 observations, expected \[8, 2\]"),
    "none": (lambda seen: None, r"gives a NoneType for 8 observations, expected a tensor or an ar"),
    "pair": (lambda seen: (seen[:, :2], None), r"gives a tuple .* of actions \[8, 2\], or their"),
    "uniform": (
        lambda seen: Uniform(torch.full((8, 2), -99.0), torch.full((8, 2), 99.0)),
        "a Uniform, whose log-likelihood has no gradient by the action",
    ),
    # Where anything was compiled before, torch does not check the support by itself.
    "support": (
        lambda seen: Uniform(
            torch.full((8, 2), 98.0), torch.full((8, 2), 99.0), validate_args=True
        ),
        r"a Uniform, which has no log-likelihood of actions \[8, 2\]: ",
    ),
    "float64": (nn.Linear(3, 2).double(), r"fails for observations \[8, 3\], float32 on cpu: "),
    "other observations": (nn.Linear(4, 2), r"fails for observations \[8, 3\], float32 on cpu: "),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_answer_is_the_policys(name: str) -> None:
    policy, message = WRONG[name]
    with pytest.raises(ConditionError, match=message):
        SimpleDiffusionGenerator(LAYOUT, tiny_model(), 4).sample(8, 0, policy=policy)


def test_inference_mode_is_no_fault_of_the_policy() -> None:
    """A law of a network's answer has its gradient there too, and the rows are the same."""
    network = nn.Linear(3, 2)
    torch.nn.init.constant_(network.weight, 0.1)
    generator = SimpleDiffusionGenerator(LAYOUT, tiny_model(), 4)
    for policy in (lambda seen: Normal(network(seen), 1.0), network):
        expected = generator.sample(8, 0, policy=policy)
        with torch.inference_mode():
            found = generator.sample(8, 0, policy=policy)
        np.testing.assert_array_equal(found[1], expected[1])


@pytest.mark.parametrize("shape", [(), (2,), (1, 2)])
def test_one_distribution_may_do_for_all_observations(shape: tuple[int, ...]) -> None:
    generator = SimpleDiffusionGenerator(LAYOUT, tiny_model(), 4)
    found = generator.sample(8, 0, policy=laws(*shape))
    assert np.array_equal(found[1], generator.sample(8, 0, policy=laws(8, 2))[1])


def test_a_model_whose_rows_are_not_finite_is_not_the_policys_fault() -> None:
    model = tiny_model().requires_grad_(False)
    for weight in model.net.parameters():
        weight.fill_(torch.nan)
    generator = SimpleDiffusionGenerator(LAYOUT, model, 4)
    with pytest.raises(SamplingError, match="not finite"):
        generator.sample(8, 0, policy=lambda seen: Normal(seen[:, :2], 1.0))


def test_what_is_no_policy_is_refused() -> None:
    generator = SimpleDiffusionGenerator(LAYOUT, tiny_model(), 4)
    with pytest.raises(ConditionError, match=r"shape \[8, 3\] for 8 observations, expected \[8, 2"):
        generator.sample(8, 0, policy=lambda seen: seen)
    with pytest.raises(ConditionError, match=r"policy is 3, expected a function of observations"):
        generator.sample(8, 0, policy=3)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"policy_strength is -1, expected 0 or more"):
        generator.sample(8, 0, policy=lambda seen: seen[:, :2], policy_strength=-1)
    with pytest.raises(ConditionError, match=r"policy strength is nan, expected 0 or more"):
        PolicyGuidance(lambda seen: seen, LAYOUT, *BOUNDS, strength=float("nan"))


def test_sparse_actions_are_actions() -> None:
    dense = PolicyGuidance(lambda seen: seen[:, :2], LAYOUT, *BOUNDS)
    sparse = PolicyGuidance(lambda seen: seen[:, :2].to_sparse(), LAYOUT, *BOUNDS)
    seen, actions = torch.ones(3, LAYOUT.observation_dim), torch.zeros(3, 2)
    assert torch.equal(sparse.gradient(seen, actions), dense.gradient(seen, actions))


def test_the_strongest_guidance_takes_all_of_the_gradient() -> None:
    guidance = PolicyGuidance(lambda seen: seen, LAYOUT, *BOUNDS, strength=1e308)
    assert guidance.share(80.0) == 1.0
    assert guidance.share(0.0) == 0.0
