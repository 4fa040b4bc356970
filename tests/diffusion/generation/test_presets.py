import zipfile
from pathlib import Path

import pytest
import torch

from synther.diffusion.generation import presets
from synther.diffusion.generation.presets import (
    PRESETS,
    SAMPLER_NAMES,
    Preset,
    preset_of,
    sampling_settings,
)
from synther.diffusion.norm import Normalizer
from synther.diffusion.samplers import SAMPLERS, karras_schedule
from synther.diffusion.train_diffuser import main
from synther.runs.runtime import Precision
from synther.transitions import Transitions
from tests.data import random_transitions
from tests.diffusion.models import (
    LAYOUT,
    gaussian_model,
    random_rows,
    spread_of_samples,
    tiny_model,
)

SPREADS = (1.0, 0.3, 0.1, 0.05)


def test_paper_is_the_papers_sampler_and_the_models_own_defaults():
    paper = PRESETS["paper"]
    assert paper.network_calls == 255
    assert paper.precision == "fp32"
    model = tiny_model()  # built with the defaults of ElucidatedDiffusion: those of the paper
    assert sampling_settings(paper.applied_to(model)) == sampling_settings(model)
    noise = [torch.randn(5, 10) for _ in range(200)]
    ours = paper.applied_to(model).sample(5, noise=lambda i: noise[i])
    assert torch.equal(ours, model.sample(5, 128, noise=lambda i: noise[i]))


EXACT = {
    "paper": [1.011, 1.014, 1.021, 1.024],
    "fast": [1.009, 0.985, 0.997, 1.014],
}
"""Standard deviation of samples over the true one, for 1, 0.3, 0.1, 0.05."""


@pytest.mark.parametrize("name", PRESETS)
def test_no_preset_loses_noise_that_the_data_have(name):
    """With the exact denoiser of N(0, s^2) samples are Gaussian, and their spread is known."""
    preset = PRESETS[name]
    sigmas = karras_schedule(
        preset.num_sample_steps, preset.sigma_min, preset.sigma_max, preset.rho
    )
    found = [spread_of_samples(preset.sampler, sigmas, s, **preset.params) for s in SPREADS]
    assert found == pytest.approx(EXACT[name], abs=1e-3)
    assert all(0.97 < each < 1.03 for each in found)


def test_an_end_at_a_high_level_loses_noise():
    """Fault of the preset before this one, which ended at level 0.1."""
    params = {"restart_low": 0.1, "restart_high": 0.5, "restart_count": 3, "restart_steps": 2}
    sigmas = karras_schedule(13, sigma_min=0.1)
    found = [spread_of_samples("restart", sigmas, s, **params, S_noise=1.0) for s in SPREADS]
    assert found == pytest.approx([0.969, 0.881, 0.670, 0.437], abs=1e-3)


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


@pytest.mark.parametrize("precision", [None, "auto"])
def test_a_network_of_ones_own_samples_where_the_machine_has_units_for_bfloat16(
    precision: Precision | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Presets take their products in bfloat16 there, which such a network may know nothing of."""
    monkeypatch.setattr(presets, "multiplies_bf16_fast", lambda device: True)
    model = gaussian_model(Normalizer(random_rows(50)), layout=LAYOUT)
    own, steps, chosen = presets.prepared(model, "fast", 8, precision)
    assert chosen == "fp32"
    assert own.sample(3, steps).isfinite().all()
    assert presets.prepared(tiny_model(), "fast", 8, None)[2] == "bf16"
    with pytest.raises(ValueError, match=r"GaussianNetwork has no products_in\(dtype\)"):
        presets.prepared(model, "fast", 8, "bf16")


@pytest.mark.parametrize("chosen", [None, "fast", "dpmpp_2m"])
def test_the_command_samples_as_it_is_told(chosen: str | None, tmp_path: Path) -> None:
    """An argument goes over gin, gin over the model."""
    data = random_transitions(60).save(tmp_path / "data.npz")
    sizes = ("mlp_width=16", "num_layers=1", "dim_t=8")
    main(
        [
            *("--dataset", str(data), "--results_folder", str(tmp_path), "--no_use_gpu"),
            *("--threads", "1", "--save_num_samples", "70", "--save_file_name", "samples.npz"),
            *("--gin_params", *(f"ResidualMLPDenoiser.{size}" for size in sizes)),
            *("Trainer.train_num_steps=4", "SimpleDiffusionGenerator.num_sample_steps=6"),
            "SimpleDiffusionGenerator.sampler = 'heun_deterministic'",
            *("--compress", *(("--sampler", chosen) if chosen else ())),
        ]
    )
    found = Transitions.load(tmp_path / "samples.npz")
    settings = found.metadata["generator"]
    expected = {None: "heun_deterministic", "fast": PRESETS["fast"].sampler}.get(chosen, chosen)
    assert settings["sampler"] == expected
    assert settings["steps"] == (PRESETS["fast"].num_sample_steps if chosen == "fast" else 6)
    with zipfile.ZipFile(tmp_path / "samples.npz") as archive:
        assert archive.getinfo("actions.npy").compress_type == zipfile.ZIP_DEFLATED
    assert len(found) == 70
