"""Training from a replay buffer: the rows it holds, all of them, in place."""

import gin
import numpy as np
import pytest
import torch

from synther.diffusion.elucidated_diffusion import REDQTrainer
from synther.diffusion.training.redq_trainer import modelled_rows
from synther.diffusion.training.trainer import Trainer
from synther.diffusion.utils import construct_diffusion_model
from synther.learning.replay import RowBuffer
from synther.runs import gin_config
from synther.runs.gin_config import GinError
from synther.transitions import TransitionLayout
from tests.devices import DEVICE
from tests.diffusion.models import LAYOUT, TINY, random_rows

NO_TERMINALS = TransitionLayout(LAYOUT.observation_dim, LAYOUT.action_dim, terminals=False)


def wrapped_buffer(capacity: int = 150, inserted: int = 200) -> RowBuffer:
    """Past its wrap-around; what is left of ``random_rows(inserted)`` are the last ones."""
    buffer = RowBuffer(LAYOUT, capacity)
    rows = torch.from_numpy(random_rows(inserted))
    for block in rows.split(30):
        buffer.insert(block)
    return buffer


def model_for(rows, normalizer_type="standard", layout=NO_TERMINALS, seed=0):
    torch.manual_seed(seed)
    return construct_diffusion_model(rows, normalizer_type, TINY, layout=layout)


def trainer_for(buffer, model_terminals=False, normalizer_type="standard", **options):
    layout = LAYOUT if model_terminals else NO_TERMINALS
    model = model_for(np.zeros((5, layout.row_dim), np.float32), normalizer_type, layout)
    settings = {"train_batch_size": 16, "train_num_steps": 120, "seed": 4, "device": str(DEVICE)}
    return REDQTrainer(model, model_terminals=model_terminals, **{**settings, **options})


@pytest.mark.parametrize("model_terminals", [False, True])
def test_the_normaliser_is_fitted_to_all_rows_after_the_buffer_has_wrapped(model_terminals):
    buffer = wrapped_buffer()
    held = random_rows(200)[-150:].astype(np.float64)[:, : 10 if model_terminals else 9]
    trainer = trainer_for(buffer, model_terminals)
    trainer.update_normalizer(buffer)
    for model in (trainer.diffusion_model, trainer.ema.ema_model):
        np.testing.assert_allclose(model.normalizer.mean, held.mean(axis=0), rtol=1e-5)
        spread = held.std(axis=0, ddof=1) + 1e-5
        np.testing.assert_allclose(model.normalizer.std, spread, rtol=1e-5)
    trainer = trainer_for(buffer, model_terminals, "minmax")
    trainer.update_normalizer(buffer)
    np.testing.assert_allclose(trainer.ema.ema_model.normalizer.min, held.min(axis=0), rtol=1e-6)


def test_batches_are_rows_of_the_buffer_where_they_lie():
    buffer = RowBuffer(LAYOUT, 1000)
    buffer.rows.fill_(float("nan"))  # what was never written must not be drawn
    buffer.insert(torch.from_numpy(random_rows(40)))
    trainer = trainer_for(buffer)
    seen, draw = [], trainer.rows.draw
    trainer.rows.draw = lambda size: seen.append(draw(size)) or seen[-1]
    trainer.train_from_redq_buffer(buffer, 30)
    batches = torch.cat(seen)
    assert batches.shape == (30 * 16, 9)
    held = {tuple(row) for row in random_rows(40)[:, :9].tolist()}
    assert {tuple(row) for row in batches.tolist()} == held  # 480 draws reach each of 40 rows
    assert trainer.rows.rows.data_ptr() == buffer.rows.data_ptr()
    buffer.rows[:40] = 7.0
    assert (trainer.rows.draw(16) == 7).all()


@pytest.mark.parametrize("model_terminals", [False, True])
def test_it_trains_like_the_trainer_on_the_same_rows(model_terminals):
    buffer = wrapped_buffer()
    ours = trainer_for(buffer, model_terminals)
    ours.update_normalizer(buffer)
    ours.train_from_redq_buffer(buffer)
    rows = buffer.valid_rows()[:, : 10 if model_terminals else 9].numpy().copy()
    layout = LAYOUT if model_terminals else NO_TERMINALS
    theirs = Trainer(
        model_for(rows, layout=layout), rows, small_batch_size=16, train_num_steps=120, seed=4,
        device=str(DEVICE), results_folder=None, save_and_sample_every=None,
    )  # fmt: skip
    theirs.train()
    assert ours.diffusion_model.layout == ours.ema.ema_model.layout == layout
    for name, value in theirs.ema.ema_model.state_dict().items():
        assert torch.equal(ours.ema.ema_model.state_dict()[name], value), name


def test_steps_add_up_and_end_with_the_schedule():
    buffer = wrapped_buffer()
    parts, whole = trainer_for(buffer), trainer_for(buffer)
    parts.train_from_redq_buffer(buffer, 50)
    parts.train_from_redq_buffer(buffer, 70)
    whole.train_from_redq_buffer(buffer)
    assert parts.step == whole.step == 120
    for a, b in zip(parts.ema.parameters(), whole.ema.parameters(), strict=True):
        assert torch.equal(a, b)
    with pytest.raises(ValueError, match="1 steps more than the 120 done"):
        parts.train_from_redq_buffer(buffer, 1)


def test_another_width_and_an_empty_buffer_are_refused():
    trainer = trainer_for(wrapped_buffer())
    trainer.model_terminals = True
    with pytest.raises(ValueError, match="rows have 9 columns, the buffer's have 10"):
        trainer.train_from_redq_buffer(wrapped_buffer())
    with pytest.raises(ValueError, match="a row or more"):
        trainer_for(wrapped_buffer()).update_normalizer(RowBuffer(LAYOUT, 5))
    with pytest.raises(ValueError, match="expected \\[rows, columns\\]"):
        trainer_for(wrapped_buffer()).train_from_redq_buffer(RowBuffer(LAYOUT, 5))


def test_modelled_rows_are_a_view():
    buffer = wrapped_buffer()
    assert modelled_rows(buffer, False).shape == (150, 9)
    assert modelled_rows(buffer, True).shape == (150, 10)
    assert modelled_rows(buffer, False).data_ptr() == buffer.rows.data_ptr()


def test_gin_binds_it_apart_from_the_trainer():
    gin_config.parse(bindings=["REDQTrainer.train_lr = 0.5", "Trainer.ema_decay = 0.1"])
    trainer = REDQTrainer(model_for(random_rows()[:, :9]), device=str(DEVICE))
    assert trainer.training_step.learning_rate(0) == 0.5
    assert trainer.ema.beta == 0.995
    assert trainer.batch_size == 256
    assert trainer.results_folder is None
    gin.clear_config()
    with pytest.raises(GinError, match="no parameter 'train_steps'"):
        gin_config.parse(bindings=["REDQTrainer.train_steps = 5"])
