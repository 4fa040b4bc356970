"""Samples that begin at real rows."""

import numpy as np
import pytest
import torch

from synther.diffusion.conditioning.around import Around, amplified, rest_of, sampler_from
from synther.diffusion.conditioning.condition import Condition, ConditionError
from synther.diffusion.elucidated_diffusion import ElucidatedDiffusion
from synther.diffusion.generation.generator import SimpleDiffusionGenerator
from synther.diffusion.norm import Normalizer
from synther.diffusion.samplers import karras_schedule
from synther.transitions import Transitions
from synther.upsampling import Upsampler, upsample
from tests.diffusion.models import LAYOUT, gaussian_model, random_rows, tiny_model
from tests.test_upsample import TINY, assert_equal

from .test_guidance import conditional_model
from .test_values import episodes

pytestmark = pytest.mark.filterwarnings("ignore::synther.upsampling.verdict.FidelityWarning")
ROWS = torch.from_numpy(random_rows(64))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def model() -> ElucidatedDiffusion:
    return gaussian_model(Normalizer(random_rows()), sampler="heun_deterministic").eval()


def test_a_share_of_the_schedule_is_left() -> None:
    sigmas = karras_schedule(20)
    assert torch.equal(rest_of(sigmas, 0.5), sigmas[10:])
    assert torch.equal(rest_of(sigmas, 1.0), sigmas)
    assert len(rest_of(sigmas, 0.001)) == 2
    assert sampler_from("restart", 2.5, {"restart_high": 0.7}) == "restart"
    assert sampler_from("restart", 0.6, {"restart_high": 0.7}) == "dpmpp_2m"
    assert sampler_from("heun_stochastic", 0.1, {}) == "heun_stochastic"


@pytest.mark.parametrize("noise", [0.3, 0.5, 0.8])
def test_the_rows_are_noised_and_denoised_in_closed_form(
    model: ElucidatedDiffusion, noise: float
) -> None:
    """For an exact Gaussian model the ODE is a scaling: a row x of model space, noised to level
    sigma, ends at ``m + s (x + sigma n - m) / sqrt(s^2 + sigma^2)``."""
    samples = model.sample(64, 200, generator=seeded(), around=Around(ROWS, noise))
    level = float(rest_of(karras_schedule(200), noise)[0])
    x = model.normalizer.normalize(ROWS).double()
    n = torch.randn(ROWS.shape, generator=seeded()).double()
    m, s = model.net.mean.double(), model.net.scale.double()
    expected = m + s * (x + level * n - m) / (s**2 + level**2).sqrt()
    found = model.normalizer.normalize(samples).double()
    torch.testing.assert_close(found, expected, rtol=5e-3, atol=5e-3)


def test_little_noise_leaves_the_rows_and_all_of_it_nothing(model: ElucidatedDiffusion) -> None:
    near = model.sample(64, 40, generator=seeded(), around=Around(ROWS, 0.05))
    far = model.sample(64, 40, generator=seeded(), around=Around(ROWS, 1.0))
    scale = ROWS.std(dim=0)
    assert float(((near - ROWS) / scale).abs().mean()) < 0.1
    free = model.sample(64, 40, generator=seeded())
    assert float(((far - free) / scale).abs().mean()) < 0.1


@pytest.mark.parametrize("noise", [0.1, 0.5])
def test_each_row_has_its_own_in_every_batch(noise: float) -> None:
    model = tiny_model().eval()
    around = Around(ROWS, noise)
    whole = SimpleDiffusionGenerator(LAYOUT, model, sampler="fast").sample(64, 3, around)
    parts = SimpleDiffusionGenerator(LAYOUT, model, sampler="fast", sample_batch_size=13).sample(
        64, 3, around
    )
    for a, b in zip(whole, parts, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3)


def test_what_rows_are_asked_for_is_amplified() -> None:
    condition = Condition.of("return", np.array([-10.0, 0.0, 8.0]))
    found = amplified(condition, [-10, -2, 0, 4, 8])
    np.testing.assert_allclose(found, [-7, -1.4, 0, 5.2, 8])  # 10.4 was never seen


def test_a_step_has_the_churn_that_it_has_in_the_whole_schedule() -> None:
    """Above 193 steps it is the schedule's length that decides how far noise is raised."""
    model, levels = gaussian_model(Normalizer(random_rows()), sampler="heun_stochastic").eval(), []
    denoise = model.preconditioned_network_forward

    def watch(x: torch.Tensor, sigma: float, *options: object) -> torch.Tensor:
        levels.append(sigma)
        return denoise(x, sigma, *options)

    model.preconditioned_network_forward = watch  # type: ignore[method-assign]
    model.sample(64, 400, generator=seeded())
    whole, levels[:] = [*levels], []
    model.sample(64, 400, generator=seeded(), around=Around(ROWS, 0.5))
    assert len(levels) == 399
    assert levels == whole[-399:]


def test_rows_to_begin_at_have_the_generators_own_target() -> None:
    generator = SimpleDiffusionGenerator(
        LAYOUT, conditional_model().eval(), 4, target="top 10%", guidance=2.0
    )
    own = generator.sample(64, 0, Around(ROWS))
    same = generator.sample(64, 0, Around(ROWS, target="top 10%"))
    np.testing.assert_array_equal(own[0], same[0])
    with pytest.raises(ConditionError, match="there is no target to guide to"):
        SimpleDiffusionGenerator(LAYOUT, conditional_model().eval(), 4, guidance=2.0)


def test_what_cannot_be_begun_at(model: ElucidatedDiffusion) -> None:
    with pytest.raises(ConditionError, match="noise is 0, expected more than 0"):
        Around(ROWS, 0)
    with pytest.raises(ConditionError, match=r"are of type ndarray, expected a tensor \[N, D\]"):
        Around(ROWS.numpy())  # type: ignore[arg-type]
    holed = ROWS.clone()
    holed[[7, 9], 2] = torch.nan
    with pytest.raises(ConditionError, match="rows to begin at are not finite in row 7"):
        Around(holed)
    generator = SimpleDiffusionGenerator(LAYOUT, tiny_model().eval(), 4)
    with pytest.raises(ConditionError, match=r"shape \(64, 10\), expected \[5, 10\]"):
        generator.sample(5, 0, Around(ROWS))
    with pytest.raises(ConditionError, match="the model has no condition"):
        generator.sample(64, 0, Around(ROWS, target=1.0))


def test_the_short_way_augments_real_rows() -> None:
    data = episodes([60, 80, 70, 90], ["terminal", "timeout", "terminal", "timeout"])
    options = {"config": TINY, "device": "cpu", "seed": 3}
    samples = upsample(data, 40, condition="return", around=data, noise=0.4, **options)
    asked = samples.metadata["synther"]["asked"]
    assert asked["condition"] == "return"
    assert asked["noise"] == 0.4
    upsampler = Upsampler({**TINY, "condition": "return"}, device="cpu", seed=3).fit(data)
    around = upsampler.around(data, 40, 0.4)
    seed = samples.metadata["synther"]["sample_seed"]
    assert_equal(samples, upsampler.sample(40, seed, around))
    # Sample i begins at a row of the data, each of them once before any is there twice.
    packed = {tuple(row) for row in around.rows.numpy().tolist()}
    assert len(packed) == 40
    near = upsampler.sample(40, 1, upsampler.around(data, 40, 0.02))
    gap = np.abs(near.observations - around.rows.numpy()[:, :2]).mean()
    assert gap < 0.2 * data.observations.std()
    plain = upsample(data, 40, around=data, **options)
    assert set(plain.metadata["synther"]["asked"]) == {"around", "noise"}
    assert isinstance(plain, Transitions)
