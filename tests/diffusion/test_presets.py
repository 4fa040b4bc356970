import pytest
import torch

from synther.diffusion.presets import PRESETS, SAMPLER_NAMES, Preset, preset_of, sampling_settings
from synther.diffusion.samplers import SAMPLERS
from tests.diffusion.models import tiny_model


def test_paper_is_the_papers_sampler_and_the_models_own_defaults():
    paper = PRESETS["paper"]
    assert paper.network_calls == 255
    assert paper.precision == "fp32"
    model = tiny_model()  # built with the defaults of ElucidatedDiffusion: those of the paper
    assert sampling_settings(paper.applied_to(model)) == sampling_settings(model)
    noise = [torch.randn(5, 10) for _ in range(200)]
    ours = paper.applied_to(model).sample(5, noise=lambda i: noise[i])
    assert torch.equal(ours, model.sample(5, 128, noise=lambda i: noise[i]))


def test_fast_needs_at_most_a_tenth_of_the_calls():
    assert 10 * PRESETS["fast"].network_calls <= PRESETS["paper"].network_calls


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_overrides_everything_that_the_model_says(name):
    model = tiny_model()
    other = tiny_model()
    other.sampler, other.sampler_params = "restart", {"restart_count": 9}
    other.sigma_min, other.sigma_max, other.rho, other.S_noise = 0.1, 7.0, 2.0, 1.5
    preset = PRESETS[name]
    noise = [torch.randn(5, 10) for _ in range(200)]
    rows = [preset.applied_to(each).sample(5, noise=lambda i: noise[i]) for each in (model, other)]
    assert torch.equal(*rows)
    assert (other.sampler, other.sampler_params) == ("restart", {"restart_count": 9})


def test_the_calls_are_those_that_the_network_sees():
    for preset in PRESETS.values():
        model = preset.applied_to(tiny_model())
        seen = []
        model.net.register_forward_hook(lambda *_, seen=seen: seen.append(1))
        model.sample(2)
        assert len(seen) == preset.network_calls


def test_a_samplers_name_keeps_the_models_schedule():
    model = tiny_model()
    model.sigma_max, model.sampler = 30.0, "restart"
    model.sampler_params = {"restart_count": 1}
    assert preset_of("dpmpp_3m", model, 20) == Preset("dpmpp_3m", 20, sigma_max=30.0)
    assert preset_of("restart", model, 20).params == {"restart_count": 1}
    assert set(SAMPLER_NAMES) == {"paper", "fast", *SAMPLERS}
    with pytest.raises(ValueError, match="sampler 'quick': expected one of paper, fast"):
        preset_of("quick", model, 20)
    with pytest.raises(ValueError, match="no parameter 'count'"):
        Preset("restart", 8, params={"count": 1})
