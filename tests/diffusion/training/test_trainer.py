import copy
import math
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch

from synther.diffusion.training.trainer import Trainer, TrainingDivergedError
from synther.files import checkpoint
from synther.runs.loggers import Logger, read_metrics
from synther.runs.settings import ConfigError
from tests.devices import DEVICE
from tests.diffusion.models import random_rows, tiny_model, tiny_trainer


def everything(trainer):
    """All tensors that a run's future depends on."""
    tensors = dict(trainer.ema.state_dict())  # the online model is in it
    for index, state in trainer.training_step.optimizer.state_dict()["state"].items():
        tensors.update({f"{index}.{name}": value for name, value in state.items()})
    tensors["rng"] = trainer.training_step.generator.get_state()
    tensors["order"] = trainer.rows.generator.get_state()
    return tensors


def assert_same_bits(first, second):
    ours, theirs = everything(first), everything(second)
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        assert torch.equal(value, theirs[name]), name


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory):
    """An uninterrupted run of 160 steps: past the EMA's start at step 100."""
    trainer = tiny_trainer(tmp_path_factory.mktemp("whole"), 160)
    trainer.train()
    return trainer


@pytest.mark.parametrize("interruption", [1, 37, 100, 113, 159])
def test_resumes_bit_for_bit(whole_run, tmp_path, interruption):
    first = tiny_trainer(tmp_path, 160)
    for _ in range(interruption):
        first.train_on_batch(first.rows.draw(first.batch_size))
    first.save()
    second = tiny_trainer(tmp_path, 160, model=tiny_model(seed=9), seed=77)
    second.load(interruption)
    second.train()
    assert_same_bits(second, whole_run)


KILLED = """
import os, signal, sys
from tests.diffusion.models import tiny_trainer
writes, replace = [], os.replace
def replace_or_die(source, target):
    writes.append(target)
    if len(writes) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    replace(source, target)
os.replace = replace_or_die
tiny_trainer(sys.argv[1], 160, save_and_sample_every=50).train()
"""


def test_resumes_bit_for_bit_after_sigkill_while_saving(whole_run, tmp_path):
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, tmp_path], env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert killed.returncode == -signal.SIGKILL
    assert list(checkpoint.steps(tmp_path, "model")) == [50, 100]
    trainer = tiny_trainer(tmp_path, 160)
    trainer.load(checkpoint.latest(tmp_path, "model"))
    trainer.train()
    assert_same_bits(trainer, whole_run)


def test_metrics_resume_as_well(tmp_path):
    def losses(folder):
        return [(r["step"], r["loss"]) for r in read_metrics(folder / "metrics.jsonl")]

    whole = tiny_trainer(None, 60, logger=Logger(tmp_path / "whole"))
    whole.train()
    first = tiny_trainer(tmp_path, 60, logger=Logger(tmp_path / "parts"))
    first.save_and_sample_every = 25
    first.train()
    second = tiny_trainer(tmp_path, 60, logger=Logger(tmp_path / "parts", resume_from=25))
    second.load(25)
    second.train()
    assert len(losses(tmp_path / "whole")) == 6
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")


def test_an_update_equals_the_textbook_one():
    """Clipping, AdamW and the cosine against torch's plain versions."""
    trainer = tiny_trainer(None, 20, max_grad_norm=0.05, weight_decay=0.1, train_lr=1e-2)
    model = copy.deepcopy(trainer.diffusion_model)
    biases = [p for n, p in model.named_parameters() if n.endswith("bias")]
    weights = [p for n, p in model.named_parameters() if not n.endswith("bias")]
    optimizer = torch.optim.AdamW(
        [{"params": weights, "weight_decay": 0.1}, {"params": biases, "weight_decay": 0.0}],
        lr=1e-2,
        betas=(0.9, 0.99),
        foreach=False,
        fused=False,
    )
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=20)
    generator = torch.Generator().manual_seed(3)
    for _ in range(20):
        batch = trainer.rows.draw(32)
        trainer.train_on_batch(batch)
        optimizer.zero_grad()
        model(batch, generator=generator).backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 0.05)
        assert norm > 0.05  # otherwise clipping is not tested
        optimizer.step()
        scheduler.step()
    for found, expected in zip(
        trainer.diffusion_model.parameters(), model.parameters(), strict=True
    ):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=2e-5)


def test_biases_and_norms_never_decay():
    from synther.diffusion.denoiser_network import ResidualMLPDenoiser
    from synther.diffusion.training.optimizer import adamw

    net = ResidualMLPDenoiser(5, dim_t=8, mlp_width=16, num_layers=2, layer_norm=True)
    names = {id(p): name for name, p in net.named_parameters()}
    decaying, others = adamw(net, 1e-3, (0.9, 0.99), 0.1).param_groups
    assert (decaying["weight_decay"], others["weight_decay"]) == (0.1, 0.0)
    exempt = {names[id(p)] for p in others["params"]}
    assert exempt == {
        n
        for n in names.values()
        if "bias" in n or ".ln." in n or (n.endswith("3.weight") and "network" in n)
    }
    assert len(decaying["params"]) + len(exempt) == len(names)


def test_ema_follows_the_closed_form():
    """Copies up to step 100, then decay 1 - (1 + k)^(-2/3) with k counted from step 100."""
    trainer = tiny_trainer(None, 400, ema_decay=0.9, train_lr=1e-2)
    name = "net.residual_mlp.final_linear.bias"
    expected = None
    for step in range(301):
        trainer.train_on_batch(trainer.rows.draw(8))
        online = trainer.diffusion_model.state_dict()[name].double()
        if step == 0 or (step % 10 == 0 and step <= 100):
            expected = online.clone()
        elif step % 10 == 0:
            decay = min(1 - (1 + (step - 100)) ** (-2 / 3), 0.9)
            expected = decay * expected + (1 - decay) * online
    found = trainer.ema.ema_model.state_dict()[name].double()
    assert 1 - (1 + 10) ** (-2 / 3) < 0.9 < 1 - (1 + 200) ** (-2 / 3)  # both branches were taken
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    assert not torch.allclose(found, online, atol=1e-6)


def test_learning_rate_is_a_cosine_to_zero():
    rate = tiny_trainer(None, 100, train_lr=2.0).training_step.learning_rate
    assert rate(0) == 2
    assert rate(25) == pytest.approx(1 + math.cos(math.pi / 4))
    assert rate(100) == 0
    constant = tiny_trainer(None, train_lr=2.0, lr_scheduler=None).training_step.learning_rate
    assert constant(50) == 2


@pytest.mark.parametrize(("rows", "expected"), [(799_999, 256), (800_000, 1024)])
def test_small_data_sets_take_the_small_batch(rows, expected):
    trainer = Trainer(
        tiny_model(), torch.zeros(1, 10).expand(rows, 10), results_folder=None, device=str(DEVICE)
    )
    assert trainer.batch_size == expected


def test_loss_falls_on_learnable_data():
    rows = np.repeat(random_rows(4), 50, axis=0)
    trainer = Trainer(
        tiny_model(), rows, train_num_steps=300, train_lr=3e-3, results_folder=None,
        device=str(DEVICE), seed=0, small_batch_size=64,
    )  # fmt: skip
    first = float(trainer.train_on_batch(trainer.rows.draw(2000)))
    trainer.train()
    assert float(trainer.diffusion_model(trainer.rows.draw(2000)).detach()) < 0.8 * first


def test_bf16_is_close_to_float32():
    results = {}
    for precision in ("fp32", "bf16"):
        trainer = tiny_trainer(None, 50, precision=precision)
        losses = [float(trainer.train_on_batch(trainer.rows.draw(32))) for _ in range(50)]
        results[precision] = np.mean(losses)
        assert all(p.dtype == torch.float32 for p in trainer.diffusion_model.parameters())
    assert results["bf16"] != results["fp32"]
    assert results["bf16"] == pytest.approx(results["fp32"], rel=0.02)


def test_accumulated_batches_are_averaged():
    trainer = tiny_trainer(None, 10)
    batch = trainer.rows.draw(16)
    twin = tiny_trainer(None, 10, gradient_accumulate_every=2)
    halves = []

    def same_loss(model, rows, **_):
        halves.append(len(rows))
        sigma = torch.ones(len(rows))
        return type(model).forward(model, rows, sigma=sigma, noise=torch.zeros(rows.shape))

    for each, batches in ((trainer, [batch]), (twin, [batch[:8], batch[8:]])):
        step, model = each.training_step, each.diffusion_model
        step.model = lambda rows, model=model, **_: same_loss(model, rows)
        step.model.train = lambda: None
        step.update(batches)
    assert halves == [16, 8, 8]
    for a, b in zip(
        trainer.diffusion_model.parameters(), twin.diffusion_model.parameters(), strict=True
    ):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_divergence_stops_and_names_the_last_checkpoint(tmp_path):
    trainer = tiny_trainer(tmp_path, 100, save_and_sample_every=20)
    for _ in range(20):
        trainer.train_on_batch(trainer.rows.draw(8))
    trainer.save()
    trainer.rows.rows[:] = 1e30
    with pytest.raises(TrainingDivergedError, match=r"step 30.*model-20\.pt"):
        trainer.train()
    assert list(checkpoint.steps(tmp_path, "model")) == [20]
    with pytest.raises(TrainingDivergedError):
        trainer.save()


def test_only_the_newest_checkpoints_are_kept(tmp_path):
    tiny_trainer(tmp_path, 50, save_and_sample_every=10, max_checkpoints=2).train()
    assert list(checkpoint.steps(tmp_path, "model")) == [40, 50]


def test_one_checkpoint_at_the_end_where_none_was_asked_for(tmp_path):
    tiny_trainer(tmp_path, 12).train()
    assert list(checkpoint.steps(tmp_path, "model")) == [12]


def test_checkpoint_of_another_network_is_refused(tmp_path):
    path = tiny_trainer(tmp_path, 5).save()
    model = tiny_model("minmax")
    with pytest.raises(checkpoint.CheckpointError, match=r"normalizer\.min"):
        tiny_trainer(tmp_path, 5, model=model).load(path)
    with pytest.raises(checkpoint.CheckpointError, match="no such checkpoint"):
        tiny_trainer(tmp_path, 5).load(999)


def test_bad_rows_are_named():
    rows = random_rows()
    rows[17, 3] = np.inf
    with pytest.raises(ValueError, match="row 17"):
        Trainer(tiny_model(), rows, results_folder=None, device=str(DEVICE))


@pytest.mark.parametrize("compile", ["cudagraph", "max"])
def test_a_cpu_has_no_cuda_graphs(compile):
    with pytest.raises(ConfigError, match="needs a CUDA device, this is cpu; use compile off"):
        tiny_trainer(None, device="cpu", compile=compile)


@pytest.mark.slow
@pytest.mark.compiles
def test_a_compiled_loss_is_the_plain_one():
    losses = []
    for compile in ("off", "default"):
        trainer = tiny_trainer(None, compile=compile)
        trainer.train(30)
        losses.append(trainer.training_step.metrics())
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
    assert trainer.state_dict()["model"].keys() == tiny_model().state_dict().keys()


@pytest.mark.gpu
@pytest.mark.parametrize("compile", ["off", "cudagraph"])
def test_runs_on_a_gpu_without_waiting_for_it(compile):
    trainer = tiny_trainer(None, 200, device="cuda", precision="bf16", compile=compile)
    for _ in range(120):
        trainer.train_on_batch(trainer.rows.draw(32))
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(20):
            trainer.train_on_batch(trainer.rows.draw(32))
    finally:
        torch.cuda.set_sync_debug_mode("default")
