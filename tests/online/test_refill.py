"""The refill: what ends up in the synthetic buffer, and that nothing can spoil it on the way."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from synther.diffusion.elucidated_diffusion import ElucidatedDiffusion
from synther.diffusion.fidelity.held_out import known_of, split_like_training
from synther.diffusion.generation.consistency import ConsistentRows
from synther.diffusion.model_io import load_model
from synther.diffusion.provenance import Provenance
from synther.diffusion.successors import fit_ensemble
from synther.files import checkpoint
from synther.files.checkpoint import CheckpointError
from synther.learning.replay import RowBuffer
from synther.online.prompts import Prompts
from synther.online.refill import SyntheticRefill
from synther.runs import gin_config
from synther.transitions import TransitionError, TransitionLayout
from tests.devices import DEVICE
from tests.diffusion.models import LAYOUT, random_rows

STEPS = 110  # past the EMA's start at step 100
SMALL = [
    "construct_diffusion_model.denoising_network = @ResidualMLPDenoiser",
    "construct_diffusion_model.normalizer_type = 'standard'",
    "construct_diffusion_model.disable_terminal_norm = True",
    "ResidualMLPDenoiser.mlp_width = 16",
    "ResidualMLPDenoiser.dim_t = 8",
    "ResidualMLPDenoiser.num_layers = 2",
    f"REDQTrainer.train_num_steps = {STEPS}",
    "REDQTrainer.train_batch_size = 32",
    "SimpleDiffusionGenerator.num_sample_steps = 3",
    "SimpleDiffusionGenerator.sample_batch_size = 40",
]


@pytest.fixture(autouse=True)
def _small_models():
    gin_config.parse(bindings=SMALL)


def real_buffer(rows: int = 200) -> RowBuffer:
    buffer = RowBuffer(LAYOUT, 150, DEVICE)
    buffer.insert(torch.from_numpy(random_rows(rows)))
    return buffer


def make_refill(folder: Path | None = None, **options) -> SyntheticRefill:
    settings = {"seed": 5, "num_samples": 100, "device": DEVICE}
    settings.update(skip_reward_norm=True, model_terminals=True)
    return SyntheticRefill(folder=folder, **{**settings, **options})


def refilled(refill: SyntheticRefill, round_index: int = 0, real: RowBuffer | None = None):
    """The synthetic rows after a round."""
    synthetic = RowBuffer(LAYOUT, 120, DEVICE)
    refill(round_index, real or real_buffer(), synthetic)
    return synthetic.valid_rows()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted round: its rows and its model's file."""
    gin_config.parse(bindings=SMALL)
    folder = tmp_path_factory.mktemp("whole")
    return refilled(make_refill(folder)), folder / "round-0" / f"model-{STEPS}.pt"


def assert_same_model(first: Path, second: Path) -> None:
    ours, theirs = (load_model(path).model.state_dict() for path in (first, second))
    for name, value in ours.items():
        assert torch.equal(value, theirs[name]), name


def test_rows_are_what_an_agent_may_train_on():
    real, synthetic = real_buffer(), RowBuffer(LAYOUT, 120)
    synthetic.insert(torch.full((120, 10), 99.0))
    before = real.rows.clone()
    random_state = torch.get_rng_state()
    record = make_refill()(0, real, synthetic)
    rows = synthetic.valid_rows()
    assert rows.shape == (100, 10)  # the old rows are gone
    actions, terminals = rows[:, LAYOUT.columns["actions"]], rows[:, -1]
    assert actions.abs().max() <= 1
    assert set(terminals.tolist()) == {0.0, 1.0}
    assert torch.equal(real.rows, before)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert json.loads(json.dumps(record.metrics)) == record.metrics
    assert record.metrics["real_rows"] == 150
    assert 0 < record.metrics["loss"] < 10
    terminal = record.metrics["synthetic/terminals/mean"]
    assert terminal == pytest.approx(float(terminals.mean()))


def test_terminals_that_are_not_modelled_are_0():
    rows = refilled(make_refill(model_terminals=False))
    assert rows.shape == (100, 10)
    assert (rows[:, -1] == 0).all()


def test_a_round_is_a_function_of_seed_and_number(whole):
    rows, _ = whole
    assert torch.equal(refilled(make_refill()), rows)  # with a folder or without
    assert not torch.equal(refilled(make_refill(), round_index=1), rows)
    assert not torch.equal(refilled(make_refill(seed=6)), rows)


@pytest.mark.parametrize("skip_reward_norm", [True, False])
def test_the_normaliser_skips_what_it_was_told_to(tmp_path, skip_reward_norm):
    refilled(make_refill(tmp_path, skip_reward_norm=skip_reward_norm))
    model = load_model(tmp_path / "round-0" / f"model-{STEPS}.pt")
    normalizer = model.model.normalizer
    held = random_rows(200)[-150:].astype(np.float64)
    expected = held.mean(axis=0)
    reward = LAYOUT.columns["rewards"].start
    expected[-1] = 0
    if skip_reward_norm:
        expected[reward] = 0
    assert model.layout == LAYOUT
    assert normalizer.skip_dims == ((reward, 9) if skip_reward_norm else (9,))
    np.testing.assert_allclose(normalizer.mean, expected, rtol=1e-5)


def test_a_model_says_what_it_was_trained_on(tmp_path):
    """As an offline one does, so that a report on its samples knows its rows."""
    real = real_buffer()
    refilled(make_refill(tmp_path, env_id="Counter-v0"), real=real)
    path = tmp_path / "round-0" / f"model-{STEPS}.pt"
    said = {"env_id": "Counter-v0", "action_low": -1.0, "action_high": 1.0}
    held = LAYOUT.unpack(real.valid_rows().cpu().numpy(), metadata=said)
    assert known_of(path) == Provenance.of(held, held_out=0.0)
    found = split_like_training(held, [path])
    assert "trained on all rows" in found.note
    assert "digest" in split_like_training(held.subset(slice(100)), [path]).note


KILLED = """
import os, signal, sys
from pathlib import Path
from synther.runs import clock
from synther.runs import gin_config
from synther.diffusion.generation.drawing import Drawing
from tests.online.test_refill import SMALL, make_refill, refilled
folder, where = Path(sys.argv[1]), sys.argv[2]
die = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
gin_config.parse(bindings=[*SMALL, "REDQTrainer.resume_every = 1e-9"])
if where == "sampling":
    calls, sample = [], Drawing.at_once
    def sample_or_die(*args, **keys):
        calls.append(args)
        return die() if len(calls) == 2 else sample(*args, **keys)
    Drawing.at_once = sample_or_die
else:
    clock.WRITING_SHARE = 1e9  # a resume point at every step
    writes, replace = [], os.replace
    def replace_or_die(source, target):
        writes.append(target)
        if len(writes) == 25:
            die()
        replace(source, target)
    os.replace = replace_or_die
refilled(make_refill(folder))
"""


@pytest.mark.parametrize("where", ["training", "sampling"])
def test_a_killed_round_ends_with_the_same_bits(whole, tmp_path, where):
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, tmp_path, where],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    folder = tmp_path / "round-0"
    if where == "training":
        (step,) = checkpoint.steps(folder, "resume")
        assert step == 23  # the first write was round.json
        assert list(folder.glob(".*.partial"))  # what it was writing
    else:
        assert list(checkpoint.steps(folder, "model")) == [STEPS]
    # The round has to know its own settings again, and they include how often it saves.
    gin_config.parse(bindings=[*SMALL, "REDQTrainer.resume_every = 1e-9"])
    rows, model = whole
    assert torch.equal(refilled(make_refill(tmp_path)), rows)
    assert_same_model(folder / model.name, model)
    assert sorted(path.name for path in folder.iterdir()) == [model.name, "round.json"]


@pytest.mark.parametrize("changed", ["rows", "seed", "gin"])
def test_what_another_round_left_is_not_taken_for_this_one(whole, tmp_path, changed):
    shutil.copytree(whole[1].parent, tmp_path / "round-0")
    real, options = real_buffer(), {}
    if changed == "rows":
        real.rows[7, 1] += 1e-3
    elif changed == "seed":
        options = {"seed": 6}
    else:
        gin_config.parse(bindings=["REDQTrainer.train_lr = 1e-2"], clear=False)
    expected = refilled(make_refill(**options), real=real)
    assert not torch.equal(expected, whole[0])
    assert torch.equal(refilled(make_refill(tmp_path, **options), real=real), expected)


def test_one_model_is_kept(tmp_path):
    refill = make_refill(tmp_path)
    (tmp_path / "round-9").mkdir()  # of a run that went further before it was killed
    for index in range(3):
        refilled(refill, index)
    files = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert files == {f"round-2/model-{STEPS}.pt", "round-2/round.json"}


def test_a_warm_start_begins_with_the_weights_of_the_round_before(tmp_path):
    # With a learning rate of 0 a round ends with the weights that it began with.
    gin_config.parse(bindings=["REDQTrainer.train_lr = 0.0"], clear=False)
    warm = {"warm_start": True, "warm_start_steps": 20}
    refill = make_refill(tmp_path, **warm)
    refilled(refill, 0)
    assert (tmp_path / "round-0" / f"model-{STEPS}.pt").exists()  # the first has nothing to warm
    checkpoint.save(tmp_path / "state.pt", refill.state_dict())
    longer = real_buffer(230)
    rows = refilled(refill, 1, longer)
    model = load_model(tmp_path / "round-1" / "model-20.pt").model
    for name, value in checkpoint.load(tmp_path / "state.pt")["weights"].items():
        assert torch.equal(model.net.state_dict()[name], value), name
    mean = random_rows(230)[-150:, 0].astype(np.float64).mean()
    assert float(model.normalizer.mean[0]) == pytest.approx(mean, rel=1e-5)  # fitted anew
    cold = make_refill(tmp_path / "cold")
    refilled(cold, 1)
    fresh = load_model(tmp_path / "cold" / "round-1" / f"model-{STEPS}.pt").model
    assert not torch.equal(fresh.net.proj.weight, model.net.proj.weight)
    # Another process goes on from the saved state to the same rows.
    other = make_refill(**warm)
    other.load_state_dict(checkpoint.load(tmp_path / "state.pt"))
    assert torch.equal(refilled(other, 1, longer), rows)
    gin_config.parse(bindings=["ResidualMLPDenoiser.mlp_width = 8"], clear=False)
    with pytest.raises(CheckpointError, match=r"warm start.*has shape"):
        refilled(refill, 2)


def test_what_cannot_be_is_refused_at_the_door():
    with pytest.raises(ValueError, match="num_samples is 100, the synthetic buffer holds 99"):
        make_refill()(0, real_buffer(), RowBuffer(LAYOUT, 99))
    with pytest.raises(ValueError, match="nothing to learn from"):
        make_refill()(0, RowBuffer(LAYOUT, 5), RowBuffer(LAYOUT, 120))
    with pytest.raises(ValueError, match="synthetic ones TransitionLayout\\(observation_dim=4"):
        make_refill()(0, real_buffer(), RowBuffer(TransitionLayout(4, 2), 120))
    with pytest.raises(ValueError, match="num_samples is 0"):
        make_refill(num_samples=0)
    with pytest.raises(ValueError, match="warm_start_steps"):
        make_refill(warm_start=True)


@pytest.mark.gpu
def test_on_a_gpu_rows_stay_there(tmp_path):
    real, synthetic = (RowBuffer(LAYOUT, size, "cuda") for size in (150, 120))
    real.insert(torch.from_numpy(random_rows(200)))
    random_state = torch.cuda.get_rng_state()
    record = make_refill(tmp_path, device="cuda")(0, real, synthetic)
    assert synthetic.valid_rows().is_cuda
    assert synthetic.valid_rows().isfinite().all()
    assert len(synthetic) == record.metrics["synthetic_rows"] == 100
    assert torch.equal(torch.cuda.get_rng_state(), random_state)


def test_rows_are_made_consistent_where_gin_says_so(tmp_path):
    """With regressions of the buffer as it is, and in a round that is taken up again as well."""
    rows = random_rows(150)
    rows[:, 5] = rows[:, 0] + rows[:, 3]  # the reward
    rows[:, 6:9] = rows[:, :3]
    real = RowBuffer(LAYOUT, 150, DEVICE)
    real.insert(torch.from_numpy(rows))

    def synthetic(folder=None):
        buffer = RowBuffer(LAYOUT, 120, DEVICE)
        record = make_refill(folder).__call__(0, real, buffer)
        found = buffer.valid_rows().cpu()
        return found, record.metrics, float((found[:, 6:9] - found[:, :3]).square().mean())

    _, metrics, wrong = synthetic()
    assert "drawn_again" not in metrics
    consistent = ["SimpleDiffusionGenerator.consistency = 'ensemble'"]
    gin_config.parse(bindings=consistent, clear=False)
    found, metrics, left = synthetic(tmp_path)
    assert metrics["replaced_columns"] >= 3
    assert 0 <= metrics["drawn_again"] < 1
    assert left < 0.2 * wrong
    again, _, _ = synthetic(tmp_path)  # the model is there; it is sampled anew
    assert torch.equal(found, again)


@pytest.mark.parametrize("fault", ["limit", "fit"])
def test_a_refill_goes_on_without_the_last_stage_where_there_can_be_none(monkeypatch, fault):
    plain = refilled(make_refill())

    def failing(rows, **options):
        if fault == "fit":
            raise TransitionError("no finite numbers")
        ensemble = fit_ensemble(rows, **options)
        ensemble.limit.fill_(-1)
        return ensemble

    monkeypatch.setattr("synther.online.refill.fit_ensemble", failing)
    consistent = ["SimpleDiffusionGenerator.consistency = 'ensemble'"]
    gin_config.parse(bindings=consistent, clear=False)
    buffer = RowBuffer(LAYOUT, 120, DEVICE)
    with pytest.warns(UserWarning, match="are the model's own, without the last stage: no"):
        record = make_refill()(0, real_buffer(), buffer)
    assert torch.equal(buffer.valid_rows(), plain)
    assert "drawn_again" not in record.metrics


def test_figures_of_the_last_stage_are_those_of_the_rows_that_were_asked_for(monkeypatch):
    """And no other one is made."""
    gin_config.parse(bindings=["SimpleDiffusionGenerator.consistency = 'ensemble'"], clear=False)
    stages = []

    class Stage(ConsistentRows):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            stages.append(self)

    monkeypatch.setattr("synther.diffusion.generation.generator.ConsistentRows", Stage)
    real = real_buffer()
    prompts = Prompts("own", real.valid_rows()[:, 0].double() ** 2, fraction=0.2, guidance=2.0)
    record = make_refill()(0, real, RowBuffer(LAYOUT, 120, DEVICE), prompts)
    assert len(stages) == 1
    assert record.metrics["replaced_columns"] == len(stages[0].replaced)


def test_samples_are_asked_for_the_scores_of_the_most_relevant_rows(monkeypatch):
    """The model's condition is the relevance; what each sample is asked for is one of the top."""
    real = real_buffer()
    scores = real.valid_rows()[:, 0].double() ** 2
    prompts = Prompts("own", scores, fraction=0.2, guidance=2.0)
    seen = []
    sample = ElucidatedDiffusion.sample

    def watch(self, count, *arguments, cond, guidance, **options):
        seen.append((cond.cpu(), guidance, self.condition))
        return sample(self, count, *arguments, cond=cond, guidance=guidance, **options)

    monkeypatch.setattr(ElucidatedDiffusion, "sample", watch)
    synthetic = RowBuffer(LAYOUT, 120, DEVICE)
    record = make_refill()(0, real, synthetic, prompts)
    assert len(synthetic) == 100
    assert sum(len(cond) for cond, _, _ in seen) == 100
    assert {guidance for _, guidance, _ in seen} == {2.0}
    condition = seen[0][2]
    assert condition.name == "own"
    asked = torch.cat([cond for cond, _, _ in seen])
    assert bool((asked[:, 1] == 1).all())
    values = asked[:, 0].double() * condition.scale + condition.mean
    top = scores.cpu().sort().values[-30:]
    assert float((values[:, None] - top).abs().amin(dim=1).max()) < 1e-4 * float(top[-1])
    assert record.metrics["relevance_asked"] == pytest.approx(float(top.mean()))
    assert record.metrics["relevance"] == pytest.approx(float(scores.mean()))
