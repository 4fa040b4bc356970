import numpy as np
import pytest
import torch
from torch import nn

from synther.diffusion.elucidated_diffusion import ElucidatedDiffusion, Trainer
from synther.diffusion.model_io import build, describe
from synther.diffusion.norm import MinMaxNormalizer, Normalizer
from tests.diffusion.models import gaussian_model, random_rows, tiny_model

pytestmark = pytest.mark.arithmetic


class LinearNetwork(nn.Module):
    """F(x, c) = 2 x + c: enough to see every coefficient."""

    def __init__(self):
        super().__init__()
        self.anchor = nn.Parameter(torch.zeros(()))

    def forward(self, x, c, cond=None):
        return 2 * x + c[:, None] + (0 if cond is None else cond)


def linear_model(sigma_data=1.0):
    normalizer = Normalizer(random_rows()).double()
    return ElucidatedDiffusion(LinearNetwork(), normalizer, (10,), sigma_data=sigma_data)


def numpy_denoised(x, sigma, sd):
    sigma = np.asarray(sigma, dtype=np.float64).reshape(-1, 1)
    c_in = 1 / np.sqrt(sigma**2 + sd**2)
    output = 2 * c_in * x + np.log(sigma) / 4
    return sd**2 / (sigma**2 + sd**2) * x + sigma * sd / np.sqrt(sigma**2 + sd**2) * output


@pytest.mark.parametrize("sigma_data", [1.0, 0.5])
def test_preconditioning_and_score(sigma_data):
    model = linear_model(sigma_data)
    x = torch.randn(6, 10, dtype=torch.float64)
    sigma = torch.logspace(-2, 2, 6, dtype=torch.float64)
    expected = numpy_denoised(x.numpy(), sigma.numpy(), sigma_data)
    np.testing.assert_allclose(model.preconditioned_network_forward(x, sigma).detach(), expected)
    slope = (x.numpy() - expected) / sigma.numpy()[:, None]
    np.testing.assert_allclose(model.score_fn(x, sigma).detach(), slope)
    one = model.preconditioned_network_forward(x, 0.3).detach()
    np.testing.assert_allclose(one, numpy_denoised(x.numpy(), 0.3, sigma_data))
    np.testing.assert_allclose(model.score_fn(x, 0.3).detach(), (x.numpy() - one.numpy()) / 0.3)


def test_condition_reaches_the_network():
    model = linear_model()
    x, cond = torch.zeros(3, 10).double(), torch.ones(3, 1).double()
    change = model.preconditioned_network_forward(x, 1.0, cond=cond)
    change -= model.preconditioned_network_forward(x, 1.0)
    np.testing.assert_allclose(change.detach(), np.full((3, 10), np.sqrt(0.5)))


def test_loss_is_the_weighted_error_in_float64():
    model = linear_model(sigma_data=0.5)
    rows = torch.from_numpy(random_rows()).double()
    sigma = torch.logspace(-2, 1, len(rows), dtype=torch.float64)
    noise = torch.randn(rows.shape, dtype=torch.float64)
    y = model.normalizer.normalize(rows).numpy()
    s = sigma.numpy()
    denoised = numpy_denoised(y + s[:, None] * noise.numpy(), s, 0.5)
    weight = (s**2 + 0.5**2) / (s * 0.5) ** 2
    expected = (weight * ((denoised - y) ** 2).mean(axis=1)).mean()
    assert float(model(rows, sigma=sigma, noise=noise)) == pytest.approx(expected, rel=1e-10)
    assert float(model.loss_weight(sigma[3])) == pytest.approx(weight[3])


def test_loss_of_the_exact_denoiser_of_unit_data_is_one():
    """With sigma_data 1 the best denoiser of N(0, 1) errs by s^2/(1+s^2), the weight's inverse."""
    model = gaussian_model(Normalizer(random_rows()))
    model.net.mean.zero_()
    model.net.scale.data.fill_(1.0)
    rows = model.normalizer.unnormalize(torch.randn(20_000, 10))
    loss = model(rows, generator=torch.Generator().manual_seed(0))
    assert loss.item() == pytest.approx(1.0, abs=0.02)


def test_noise_levels_are_log_normal():
    levels = tiny_model().noise_distribution(50_000, torch.Generator().manual_seed(0)).log()
    assert float(levels.mean()) == pytest.approx(-1.2, abs=0.03)
    assert float(levels.std()) == pytest.approx(1.2, abs=0.03)


@pytest.mark.parametrize("normalizer", [Normalizer, MinMaxNormalizer])
def test_samples_of_an_exact_model_have_the_datas_moments(normalizer):
    model = gaussian_model(normalizer(random_rows()), num_sample_steps=128, S_noise=1.0)
    rows = model.sample(10_000, clamp=False, generator=torch.Generator().manual_seed(0))
    normal = model.normalizer.normalize(rows)
    torch.testing.assert_close(normal.mean(0), model.net.mean, rtol=0, atol=0.04)
    torch.testing.assert_close(normal.std(0), model.net.scale.data, rtol=0.04, atol=0)


def test_clamping_follows_the_normaliser():
    generator = torch.Generator()
    for normalizer, inside in ((Normalizer, False), (MinMaxNormalizer, True)):
        model = gaussian_model(normalizer(random_rows()), num_sample_steps=8)
        rows = model.sample(500, generator=generator.manual_seed(0))
        largest = model.normalizer.normalize(rows).abs().max()
        assert bool(largest <= 1.0001) == inside
        free = model.sample(500, clamp=False, generator=generator.manual_seed(0))
        assert model.normalizer.normalize(free).abs().max() > 1.5


def test_injected_noise_replaces_drawn_noise():
    model = tiny_model()
    model.S_tmin, model.S_tmax = 0.0, 1e9  # noise at each step
    tape = []

    def recording(step):
        assert step == len(tape)
        tape.append(torch.randn(4, 10, generator=generator))
        return tape[-1]

    generator = torch.Generator().manual_seed(5)
    first = model.sample(4, 8, noise=recording)
    assert len(tape) == 9
    assert torch.equal(first, model.sample(4, 8, noise=lambda i: tape[i]))
    assert torch.equal(first, model.sample(4, 8, generator=generator.manual_seed(5)))
    assert not torch.equal(first, model.sample(4, 8, generator=generator.manual_seed(6)))


def test_a_samplers_parameters_reach_it_and_stay_with_the_model():
    options = {"sampler": "restart", "S_noise": 1.0, "num_sample_steps": 12}
    params = {"restart_count": 2, "restart_low": 0.2}
    model = gaussian_model(Normalizer(random_rows()), sampler_params=params, **options)
    assert model.sampler_arguments["restart_count"] == 2
    asked = []
    model.sample(3, noise=lambda i: (asked.append(i), torch.zeros(3, 10))[1])
    assert asked == [0, 1, 2]  # the start, and a noise for either restart
    config = describe(tiny_model())
    config["diffusion_arguments"].update(sampler="restart", sampler_params=params)
    assert describe(build(config)) == config


def test_trainer_is_found_here_too():
    from synther.diffusion import elucidated_diffusion
    from synther.diffusion.training import trainer

    assert Trainer is trainer.Trainer
    with pytest.raises(AttributeError, match="Trainor"):
        _ = elucidated_diffusion.Trainor


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="sampler 'euler'"):
        ElucidatedDiffusion(LinearNetwork(), Normalizer(random_rows()), (10,), sampler="euler")
    with pytest.raises(ValueError, match="no parameter 'restarts'"):
        gaussian_model(Normalizer(random_rows()), sampler="restart", sampler_params={"restarts": 1})
    with pytest.raises(ValueError, match="expected \\[B, 10\\]"):
        tiny_model()(torch.zeros(3, 9))
