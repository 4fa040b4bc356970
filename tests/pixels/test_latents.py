"""Latent transitions: encoding, the layout's round trip, discounts, and what stays frozen."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from synther.datasets import load_dataset
from synther.learning.replay import Batch
from synther.learning.sources import MixedSource, ReplayBuffer
from synther.pixels.frame_replay import FrameReplay, stacked
from synther.pixels.heads import Heads
from synther.pixels.latent_agent import LatentAgent
from synther.pixels.latent_source import stored_latents
from synther.pixels.latents import discounts_to_terminals, encode_replay
from synther.transitions import TransitionError, TransitionLayout, Transitions
from tests.pixels.helpers import agent, columns, config, episodes, update_at

pytestmark = pytest.mark.arithmetic

DISCOUNT = 0.99**3
ENCODER = "of nobody"
"""Latents that do not say whose they are are taken for any encoder's."""


def replay_of(tmp_path: Path) -> FrameReplay:
    return FrameReplay(
        episodes(tmp_path, columns((12, 9))), frame_stack=3, n_step=3, discount=0.99, batch_size=4,
        generator=torch.Generator(),
    )  # fmt: skip


def test_a_data_set_becomes_latent_transitions(tmp_path: Path) -> None:
    learner, replay = agent(), replay_of(tmp_path)
    latents = encode_replay(learner, replay, DISCOUNT, batch_size=4)
    rows = replay.windows.rows
    for found, encode, at in (
        (latents.observations, learner.encode, rows),
        (latents.next_observations, learner.encode_next, rows + 3),
    ):
        images = torch.from_numpy(stacked(replay.episodes, at, 3))
        assert np.allclose(found, encode(images), atol=1e-6)
    assert np.array_equal(latents.rewards, replay.windows.rewards)
    assert latents.terminals.tolist() == [0] * 9 + [0] * 5 + [1]
    assert DISCOUNT * (1 - latents.terminals) == pytest.approx(replay.windows.discounts)


def test_the_layout_and_the_file_give_latents_back(tmp_path: Path) -> None:
    latents = encode_replay(agent(), replay_of(tmp_path), DISCOUNT)
    layout = TransitionLayout.of(latents)
    assert layout.row_dim == 2 * 6 + 2 + 1 + 1  # [h, h | a | r | h, h | discount]
    again = layout.unpack(layout.pack(latents))
    loaded = load_dataset(latents.save(tmp_path / "latents.npz"))
    for name, array in latents.arrays().items():
        assert np.array_equal(again.arrays()[name], array)
        assert np.array_equal(loaded.arrays()[name], array)
    assert loaded.metadata["n_step_discount"] == DISCOUNT
    buffer = stored_latents(tmp_path / "latents.npz", layout, "cpu", ENCODER)
    assert np.array_equal(buffer.valid_rows(), layout.pack(latents))


def test_discounts_are_flags_or_refused() -> None:
    discounts = np.array([DISCOUNT, 0, DISCOUNT], np.float32)
    flags = discounts_to_terminals(discounts, DISCOUNT)
    assert flags.tolist() == [0, 1, 0]
    assert DISCOUNT * (1 - flags) == pytest.approx(discounts)
    with pytest.raises(TransitionError, match=r"row 1 is 0\.5"):
        discounts_to_terminals(np.array([DISCOUNT, 0.5], np.float32), DISCOUNT)


def latent_batch(dim: int = 6) -> Batch:
    generator = torch.Generator().manual_seed(1)

    def normal(width: int) -> Tensor:
        return torch.randn(1, 6, width, generator=generator)

    dones = torch.tensor([0.0, 1, 0, 0, 1, 0]).reshape(1, 6, 1)
    return Batch(normal(dim), normal(2).tanh(), normal(1), normal(dim), dones)


def test_fine_tuning_changes_the_heads_and_nothing_else_by_a_bit() -> None:
    learner = agent()
    tuned = LatentAgent(learner.config, learner, learner.heads)
    before = {name: value.clone() for name, value in learner.state_dict().items()}
    for step in range(1, 4):
        noise = tuned.noise(torch.Generator().manual_seed(step), 1)
        update_at(tuned, step, latent_batch(), tuple(each for each in noise))
    moved = {
        name for name, old in before.items() if not torch.equal(old, learner.state_dict()[name])
    }
    assert moved == {name for name in before if name.startswith("heads.")}


def test_losses_on_latents_are_those_from_pictures() -> None:
    """The same rows through both stages: from pictures, and encoded before."""
    from tests.pixels.test_image_agent import batch_of, noise_of

    settings = {"pad": 0, "learning_rate": 1e-12, "std_start": 0.4, "std_end": 0.4}
    learner, batch = agent(**settings), batch_of()
    terminal = (batch.discounts == 0).float()
    batch = batch._replace(discounts=DISCOUNT * (1 - terminal))
    states, next_states = learner.encode(batch.images), learner.encode_next(batch.next_images)
    shifts, normal = noise_of(learner)
    expected = update_at(learner, 1, batch, (shifts, normal))
    tuned = LatentAgent(learner.config, learner, learner.heads)
    latents = Batch(states[None], batch.actions, batch.rewards, next_states[None], terminal)
    found = update_at(tuned, 1, latents, (normal,))
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert float(found[key]) == pytest.approx(float(value), rel=1e-4)


class Averages(nn.Module):
    """Somebody's own encoder: means of 4 x 4 patches, one latent for policy and critics."""

    latent_dim = 9 * 36
    actor_columns = critic_columns = slice(0, 9 * 36)

    def encode(self, images: Tensor) -> Tensor:
        return nn.functional.avg_pool2d(images / 255, 4).flatten(1)

    encode_next = encode


def test_an_encoder_of_ones_own_takes_drqs_place(tmp_path: Path) -> None:
    encoder, settings = Averages(), config()
    replay = replay_of(tmp_path)
    latents = encode_replay(encoder, replay, DISCOUNT)
    assert latents.observation_dim == encoder.latent_dim
    layout = TransitionLayout.of(latents)
    latents.save(tmp_path / "latents.npz")
    buffer = stored_latents(tmp_path / "latents.npz", layout, "cpu", ENCODER)
    source = ReplayBuffer(buffer, 6, [torch.Generator()])
    heads = Heads(settings, encoder, latents.action_dim, torch.Generator())
    tuned = LatentAgent(settings, encoder, heads)
    generator, losses = torch.Generator().manual_seed(0), []
    for step in range(1, 61):
        noise = tuned.noise(generator, 1)
        losses.append(float(update_at(tuned, step, source.sample(), noise)["cloning_loss"]))
    assert np.mean(losses[-20:]) < np.mean(losses[:20])
    actions = tuned.act(stacked(replay.episodes, np.arange(5), 3))
    assert actions.shape == (5, 2)


def rows_of(count: int, value: float) -> Transitions:
    ones = np.full((count, 3), value, np.float32)
    return Transitions(ones, ones[:, :2], ones[:, 0], ones, np.zeros(count))


def test_a_mix_has_its_share_of_each_part(tmp_path: Path) -> None:
    layout, parts = TransitionLayout(3, 2), []
    for value, count in ((1.0, 4), (2.0, 2)):
        path = rows_of(50, value).save(tmp_path / f"{value}.npz")
        parts.append(
            ReplayBuffer(stored_latents(path, layout, "cpu", ENCODER), count, [torch.Generator()])
        )
    batch = MixedSource(parts).sample()
    assert batch.rewards.flatten().tolist() == [1, 1, 1, 1, 2, 2]
    assert batch.states.shape == (1, 6, 3)
