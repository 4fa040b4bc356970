"""The arithmetic of the 2023 release, as recorded, and its checkpoints."""

import numpy as np
import pytest
import torch

from synther.diffusion.model_io import load_model
from tests.diffusion.models import tiny_trainer

pytestmark = pytest.mark.arithmetic

KINDS = ("standard", "minmax")


@pytest.fixture(params=KINDS)
def release(request, golden):
    """(model, recorded arrays as tensors)."""
    folder = golden / f"release2023_{request.param}"
    with np.load(folder / "arithmetic.npz") as file:
        recorded = {name: torch.from_numpy(np.asarray(file[name])) for name in file.files}
    return load_model(folder / "model-300.pt").model, recorded


def assert_equal_to(expected, found):
    """Within 1e-4 relative, of each number or, near 0, of its column's size."""
    floor = 1e-4 * expected.abs().amax(dim=0, keepdim=True)
    excess = (found - expected).abs() - 1e-4 * expected.abs() - floor
    assert excess.max() <= 0, float(excess.max())


def test_denoiser(release):
    model, recorded = release
    found = model.preconditioned_network_forward(
        recorded["denoise_x"], recorded["denoise_sigma"], clamp=False
    )
    assert_equal_to(recorded["denoise_out"], found)


@pytest.mark.parametrize("steps", [16, 128])
def test_schedule(release, steps):
    model, recorded = release
    found = model.sample_schedule(steps).float()
    torch.testing.assert_close(found, recorded[f"sigmas_{steps}"], rtol=1e-5, atol=0)


def test_normaliser(release):
    model, recorded = release
    found = model.normalizer.normalize(recorded["loss_rows"])
    assert_equal_to(recorded["loss_rows_normalized"], found)


def test_loss(release):
    model, recorded = release
    found = model(recorded["loss_rows"], sigma=recorded["loss_sigma"], noise=recorded["loss_noise"])
    assert float(found) == pytest.approx(float(recorded["loss"]), rel=1e-5)


@pytest.mark.parametrize("sampler", ["heun_deterministic", "heun_stochastic"])
def test_samples(release, sampler):
    model, recorded = release
    tape = recorded["noise_tape"]
    model.sampler = sampler
    steps = int(recorded["schedule_steps"])
    found = model.sample(tape.shape[1], steps, noise=lambda i: tape[i])
    expected = recorded["sample_heun_" + sampler.removeprefix("heun_")]
    assert_equal_to(expected, found)


@pytest.mark.parametrize("kind", KINDS)
def test_training_continues_from_its_checkpoint(kind, golden, tmp_path):
    path = golden / f"release2023_{kind}" / "model-300.pt"
    with np.load(path.with_name("arithmetic.npz")) as file:
        rows = file["rows"]
    model = load_model(path).model.requires_grad_(True)
    model.net.time_mlp[0].weights.requires_grad_(False)
    trainer = tiny_trainer(tmp_path, 305, model=model, layout=None)
    recorded = torch.load(path, weights_only=True)
    trainer.load(path)
    assert trainer.step == int(trainer.ema.step) == 300
    named = dict(model.named_parameters())
    weights = [n for n in named if not n.endswith("bias")]
    biases = [n for n in named if n.endswith("bias")]
    for index, name in enumerate([*weights, *biases]):
        state = trainer.training_step.optimizer.state[named[name]]
        if index in recorded["opt"]["state"]:
            assert torch.equal(state["exp_avg"], recorded["opt"]["state"][index]["exp_avg"]), name
        assert torch.equal(named[name], recorded["model"][name])
    loss = trainer.train_on_batch(torch.from_numpy(rows[:64]))
    assert 0.3 < float(loss) < 3
    assert trainer.step == 301


@pytest.mark.parametrize("kind", KINDS)
def test_what_we_write_has_the_releases_names_and_shapes(kind, golden, tmp_path):
    path = golden / f"release2023_{kind}" / "model-300.pt"
    model = load_model(path).model.requires_grad_(True)
    model.net.time_mlp[0].weights.requires_grad_(False)
    trainer = tiny_trainer(tmp_path, 2, model=model, layout=None)
    with np.load(path.with_name("arithmetic.npz")) as file:
        trainer.train_on_batch(torch.from_numpy(file["rows"][:64]))
    written = torch.load(trainer.save(), weights_only=True)
    release = torch.load(path, weights_only=True)
    assert set(release) <= set(written)
    for part in ("model", "ema"):
        shapes = {name: value.shape for name, value in release[part].items()}
        assert {name: value.shape for name, value in written[part].items()} == shapes
        assert list(written[part]) == list(release[part]) or part == "ema"
    ours, theirs = written["opt"], release["opt"]
    assert [g["params"] for g in ours["param_groups"]] == [
        g["params"] for g in theirs["param_groups"]
    ]
    assert {i: s["exp_avg"].shape for i, s in ours["state"].items()} == {
        i: s["exp_avg"].shape for i, s in theirs["state"].items()
    }
