"""The update from pictures against numpy in float64, and what learns from which loss."""

import copy

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from synther.pixels.frame_replay import PixelBatch
from synther.pixels.image_agent import DrQBC
from tests.pixels.helpers import SIZE, agent, update_at

pytestmark = pytest.mark.arithmetic

Array = NDArray[np.float64]
BATCH = 6


def batch_of(seed: int = 0, batch: int = BATCH, size: int = SIZE) -> PixelBatch:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(
        0, 256, (2, batch, 9, size, size), dtype=torch.uint8, generator=generator
    )
    actions = 2 * torch.rand(1, batch, 2, generator=generator) - 1
    rewards = torch.randn(1, batch, 1, generator=generator)
    discounts = 0.97 * (torch.arange(batch) % 3 != 0).float().reshape(1, batch, 1)
    return PixelBatch(images[0], actions, rewards, images[1], discounts)


def noise_of(learner: DrQBC, seed: int = 0) -> tuple[Tensor, ...]:
    drawn = learner.noise(torch.Generator().manual_seed(seed), 1)
    return tuple(each for each in drawn)


def doubles(module: nn.Module) -> list[Array]:
    return [each.detach().double().numpy() for each in module.parameters()]


def convolve(images: Array, weight: Array, bias: Array, stride: int) -> Array:
    """``[N, C, H, W]``, by a sum over the kernel's places."""
    side = (images.shape[-1] - 3) // stride + 1
    total = np.zeros((len(images), len(weight), side, side)) + bias[:, None, None]
    for i in range(3):
        for j in range(3):
            stop = stride * (side - 1) + 1
            part = images[:, :, i : i + stop : stride, j : j + stop : stride]
            total += np.tensordot(weight[:, :, i, j], part, (1, 1)).swapaxes(0, 1)
    return total


def features(learner: DrQBC, images: Tensor, shifts: Tensor) -> Array:
    shifted = []
    for picture, (top, left) in zip(images.double().numpy(), shifts.tolist(), strict=True):
        padded = np.pad(picture, ((0, 0), (4, 4), (4, 4)), mode="edge")
        shifted.append(padded[:, top : top + SIZE, left : left + SIZE])
    hidden = np.stack(shifted) / 255 - 0.5
    parameters = doubles(learner.encoder)
    for layer, stride in enumerate((2, 1, 1, 1)):
        weight, bias = parameters[2 * layer : 2 * layer + 2]
        hidden = np.maximum(convolve(hidden, weight, bias, stride), 0)
    return hidden.reshape(len(hidden), -1)


def trunk(module: nn.Module, seen: Array) -> Array:
    weight, bias, scale, shift = doubles(module)
    hidden = seen @ weight.T + bias
    mean, variance = hidden.mean(1, keepdims=True), hidden.var(1, keepdims=True)
    return np.tanh(scale * (hidden - mean) / np.sqrt(variance + 1e-5) + shift)


def mlp(module: nn.Module, inputs: Array, member: tuple[int, ...]) -> Array:
    hidden, parameters = inputs, doubles(module)
    for layer in range(3):
        weight, bias = (each[member] for each in parameters[2 * layer : 2 * layer + 2])
        hidden = hidden @ weight + bias
        hidden = np.maximum(hidden, 0) if layer < 2 else hidden
    return hidden


def policy(learner: DrQBC, latents: Array, noise: Array, std: float) -> Array:
    mean = np.tanh(mlp(learner.heads.policy, latents, (0,)))
    return np.clip(mean + np.clip(std * noise, -0.3, 0.3), -1 + 1e-6, 1 - 1e-6)


def test_losses_are_those_of_an_independent_implementation() -> None:
    learner = agent(learning_rate=1e-12, std_start=0.7, std_end=0.3, std_steps=10)
    before, batch = copy.deepcopy(learner), batch_of()
    shifts, normal = noise_of(learner)
    metrics = update_at(learner, 5, batch, (shifts, normal))
    std, noise = 0.5, normal[0].double().numpy()
    seen, after = (
        features(before, images, shifts[0, i])
        for i, images in enumerate((batch.images, batch.next_images))
    )
    actions, rewards, discounts = (
        each[0].double().numpy() for each in (batch.actions, batch.rewards, batch.discounts)
    )
    next_actions = policy(before, trunk(before.actor_trunk, after), noise[0], std)
    joined = np.hstack([trunk(before.target_trunk, after), next_actions])
    targets = before.heads.target_critics.mlp
    target = rewards + discounts * np.minimum(*(mlp(targets, joined, (0, i)) for i in (0, 1)))
    latents = trunk(before.critic_trunk, seen)
    critics, inputs = before.heads.critics.mlp, np.hstack([latents, actions])
    q = [mlp(critics, inputs, (0, i)) for i in (0, 1)]
    critic_loss = sum(((each - target) ** 2).mean() for each in q)
    own = policy(before, trunk(before.actor_trunk, seen), noise[1], std)
    pair = [mlp(critics, np.hstack([latents, own]), (0, i)) for i in (0, 1)]
    smaller = np.minimum(*pair)
    cloning = ((own - actions) ** 2).mean()
    scale = 2.5 / np.abs(smaller).mean()
    expected = {
        "critic_loss": critic_loss, "q": np.mean(q), "cloning_loss": cloning, "lambda": scale,
        "actor_loss": cloning - scale * smaller.mean(),
    }  # fmt: skip
    assert {key: float(value) for key, value in metrics.items()} == pytest.approx(
        expected, rel=1e-4
    )


def test_bc_is_the_cloning_term_alone() -> None:
    learner, batch = agent(algo="bc", std_start=0.4, std_end=0.4), batch_of()
    before, (shifts, normal) = copy.deepcopy(learner), noise_of(learner)
    metrics = update_at(learner, 1, batch, (shifts, normal))
    latents = trunk(before.actor_trunk, features(before, batch.images, shifts[0, 0]))
    own = policy(before, latents, normal[0, 1].double().numpy(), 0.4)
    expected = ((own - batch.actions[0].double().numpy()) ** 2).mean()
    assert float(metrics["cloning_loss"]) == pytest.approx(expected, rel=1e-4)
    assert changed(before, learner) == {"encoder", "actor_trunk", "heads.policy"}


def changed(before: nn.Module, after: nn.Module) -> set[str]:
    """Parts with a parameter that is not the same to the last bit."""
    names = set()
    for (name, old), new in zip(before.named_parameters(), after.parameters(), strict=True):
        if not torch.equal(old, new):
            parts = name.split(".")
            names.add(".".join(parts[: 2 if parts[0] == "heads" else 1]))
    return names


def test_the_encoder_learns_from_the_critics_alone() -> None:
    learner, batch = agent(), batch_of()
    everything = {
        "encoder", "actor_trunk", "critic_trunk", "target_trunk", "heads.policy", "heads.critics",
        "heads.target_critics",
    }  # fmt: skip
    before = copy.deepcopy(learner)
    update_at(learner, 1, batch, noise_of(learner))
    assert changed(before, learner) == everything
    blind = agent()
    # A critic that asks for no change: then nothing moves but the actor, and the targets stay.
    blind.critic_optimizer.param_groups[0]["lr"] = 0.0
    before = copy.deepcopy(blind)
    update_at(blind, 1, batch, noise_of(blind))
    assert changed(before, blind) == {"actor_trunk", "heads.policy"}


def test_targets_follow_at_the_rate_tau() -> None:
    learner, batch = agent(tau=0.25), batch_of()
    before = copy.deepcopy(learner)
    update_at(learner, 1, batch, noise_of(learner))
    pairs = zip(
        before.target_trunk.parameters(), learner.critic_trunk.parameters(),
        learner.target_trunk.parameters(), strict=True,
    )  # fmt: skip
    for old, source, new in pairs:
        assert torch.allclose(new, 0.75 * old + 0.25 * source, atol=1e-7)


def test_encode_is_the_two_trunks_and_next_has_the_targets() -> None:
    learner = agent()
    for parameter in learner.target_trunk.parameters():
        parameter.data.add_(0.1)
    images = batch_of().images
    seen = learner.features(images)
    now, then = learner.encode(images), learner.encode_next(images)
    assert torch.equal(now[:, learner.actor_columns], learner.actor_trunk(seen))
    assert torch.equal(now[:, learner.critic_columns], learner.critic_trunk(seen))
    assert torch.equal(then[:, learner.critic_columns], learner.target_trunk(seen))
    assert torch.equal(then[:, learner.actor_columns], now[:, learner.actor_columns])
    assert not now.requires_grad


def test_actions_come_from_pictures_without_noise() -> None:
    learner, images = agent(), batch_of().images.numpy()
    actions = learner.act(images)
    assert actions.shape == (BATCH, 2)
    assert np.array_equal(actions, learner.act(images))
    assert np.abs(actions).max() <= 1


def test_bf16_is_near_fp32() -> None:
    images = batch_of().images
    plain, low = agent().features(images), agent(precision="bf16").features(images)
    assert low.dtype == torch.float32
    assert torch.allclose(plain, low, atol=0.05, rtol=0.05)
    assert not torch.equal(plain, low)


def test_an_update_in_bf16_moves_the_encoder_as_one_in_fp32_does() -> None:
    moves = []
    for precision in ("fp32", "bf16"):
        learner = agent(precision=precision)
        before = [each.clone() for each in learner.encoder.parameters()]
        update_at(learner, 1, batch_of(), noise_of(learner))
        after = learner.encoder.parameters()
        changes = [(new - old).flatten() for new, old in zip(after, before, strict=True)]
        moves.append(torch.cat(changes))
    # Adam's first step is the gradient's sign, as good as.
    agreeing = (moves[0].sign() == moves[1].sign()).float().mean()
    assert agreeing > 0.9


@pytest.mark.slow  # the compiler takes most of a minute
def test_a_compiled_update_is_near_the_eager_one() -> None:
    results = []
    for mode in ("off", "default"):
        learner = agent(compile=mode)
        metrics = update_at(learner, 1, batch_of(), noise_of(learner))
        results.append({key: float(value) for key, value in metrics.items()})
    assert results[0] == pytest.approx(results[1], rel=1e-4)
