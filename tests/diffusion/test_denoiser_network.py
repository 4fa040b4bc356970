import numpy as np
import pytest
import torch

from synther.diffusion import denoiser_network
from synther.diffusion.denoiser_network import ACTIVATIONS, ResidualMLPDenoiser
from tests.diffusion.models import tiny_model

pytestmark = pytest.mark.arithmetic


def numpy_denoiser(state, x, c, layers):
    """SPEC of the network in float64, from its state dict, without torch."""
    w = {name: value.double().numpy() for name, value in state.items()}

    def linear(name, h):
        return h @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    phases = 2 * np.pi * c[:, None] * w["time_mlp.0.weights"]
    features = np.concatenate([c[:, None], np.sin(phases), np.cos(phases)], axis=1)
    t = linear("time_mlp.1", features)
    t = linear("time_mlp.3", t / (1 + np.exp(-t)))
    h = linear("residual_mlp.network.0", linear("proj", x) + t)
    for i in range(1, layers + 1):
        h = h + linear(f"residual_mlp.network.{i}.linear", np.maximum(h, 0))
    return linear("residual_mlp.final_linear", np.maximum(h, 0))


@pytest.mark.parametrize("cond_dim", [None, 4])
def test_equals_the_formula_in_float64(cond_dim):
    torch.manual_seed(0)
    net = ResidualMLPDenoiser(5, dim_t=8, mlp_width=16, num_layers=3, cond_dim=cond_dim)
    x, c = torch.randn(7, 5), torch.randn(7)
    cond = None if cond_dim is None else torch.randn(7, cond_dim)
    joined = x if cond is None else torch.cat([x, cond], dim=1)
    expected = numpy_denoiser(net.state_dict(), joined.double().numpy(), c.double().numpy(), 3)
    np.testing.assert_allclose(net(x, c, cond).detach(), expected, rtol=1e-4, atol=1e-5)
    with torch.no_grad():  # takes another path, which saves memory
        np.testing.assert_allclose(net(x, c, cond), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_shared_memory_gives_the_same_numbers(monkeypatch, dtype):
    """In blocks of rows, the last one shorter; x is left alone, and a second call is the first."""
    net = ResidualMLPDenoiser(5, dim_t=8, mlp_width=16, num_layers=3).products_in(dtype)
    x, c = torch.randn(70, 5), torch.tensor([0.3])
    given = x.clone()
    monkeypatch.setattr(denoiser_network, "BLOCK_ROWS", 32)
    with torch.no_grad():
        found, again = net(x, c), net(x, c)
        net.residual_mlp.reuse_buffers = False
        plain = net(x, c)
    tolerance = 1e-6 if dtype == torch.float32 else 0.02
    torch.testing.assert_close(found, plain, rtol=tolerance, atol=tolerance)
    assert torch.equal(found, again)
    assert torch.equal(x, given)


@pytest.mark.parametrize("options", [{"activation": "gelu"}, {"layer_norm": True}])
def test_other_networks_take_the_plain_path(options):
    net = ResidualMLPDenoiser(5, dim_t=8, mlp_width=16, num_layers=3, **options)
    x, c = torch.randn(7, 5), torch.randn(7)
    expected = net(x, c).detach()
    with torch.no_grad():
        torch.testing.assert_close(net(x, c), expected, rtol=1e-5, atol=1e-6)


def test_a_samplers_step_embeds_its_noise_level_once():
    model = tiny_model()
    rows = []
    model.net.time_mlp.register_forward_hook(lambda _, inputs, __: rows.append(len(inputs[0])))
    model.sample(50, 4)
    assert rows == [1] * 7


def test_one_noise_level_for_all_rows_equals_one_each():
    net = ResidualMLPDenoiser(5, dim_t=8, mlp_width=16, num_layers=2)
    x = torch.randn(6, 5)
    torch.testing.assert_close(net(x, torch.tensor([0.3])), net(x, torch.full((6,), 0.3)))


def test_default_sizes_of_the_offline_network():
    net = ResidualMLPDenoiser(42, mlp_width=2048)
    assert sum(p.numel() for p in net.parameters()) == pytest.approx(25.6e6, rel=0.01)


def test_layer_norm_names_and_frozen_frequencies():
    net = ResidualMLPDenoiser(5, dim_t=8, mlp_width=16, num_layers=2, layer_norm=True)
    names = set(net.state_dict())
    expected = {"residual_mlp.network.2.ln.weight", "residual_mlp.network.3.weight"}
    assert expected <= names
    assert not net.time_mlp[0].weights.requires_grad
    learned = ResidualMLPDenoiser(5, dim_t=8, mlp_width=16, learned_sinusoidal_cond=True)
    assert learned.time_mlp[0].weights.requires_grad


def test_fixed_frequencies():
    net = ResidualMLPDenoiser(5, dim_t=8, mlp_width=16, random_fourier_features=False)
    assert "time_mlp.0.weights" not in net.state_dict()
    assert net(torch.randn(3, 5), torch.randn(3)).shape == (3, 5)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations_are_used(activation):
    torch.manual_seed(0)
    net = ResidualMLPDenoiser(5, dim_t=8, mlp_width=16, activation=activation)
    state = net.state_dict()
    torch.manual_seed(1)
    x, c = torch.randn(3, 5), torch.randn(3)
    other = "tanh" if activation == "relu" else "relu"
    twin = ResidualMLPDenoiser(5, dim_t=8, mlp_width=16, activation=other)
    twin.load_state_dict(state)
    assert not torch.allclose(net(x, c), twin(x, c))


def test_low_precision_products_stay_close():
    net = ResidualMLPDenoiser(5, dim_t=8, mlp_width=64, num_layers=3)
    x, c = torch.randn(50, 5), torch.randn(50)
    expected = net(x, c).detach()
    found = net.products_in(torch.bfloat16)(x, c).float()
    assert net.time_mlp[1].weight.dtype == torch.float32
    assert 0 < (found - expected).square().mean().sqrt() < 0.02 * expected.std()


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="activation 'swoosh'"):
        ResidualMLPDenoiser(5, activation="swoosh")
    with pytest.raises(ValueError, match="even"):
        ResidualMLPDenoiser(5, learned_sinusoidal_dim=7)
    with pytest.raises(ValueError, match="cond_dim None"):
        ResidualMLPDenoiser(5)(torch.zeros(1, 5), torch.zeros(1), torch.zeros(1, 2))
