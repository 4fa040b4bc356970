"""Relevance against second implementations in numpy's float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from synther.learning.replay import Batch, RowBuffer
from synther.online.config import OnlineConfig
from synther.online.episodes import Episodes
from synther.online.prompts import Prompting, Prompts
from synther.online.redq_sac import AgentConfig, REDQSACAgent
from synther.online.relevance import NEIGHBOUR, RELEVANCE, Curiosity, Scene
from tests.devices import DEVICE
from tests.online.helpers import DIMS, TINY_AGENT, make_agent, stirred

Array = NDArray[np.float64]
ROWS = 90


def filled(agent: Any) -> RowBuffer:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(ROWS, agent.replay.layout.row_dim)).astype(np.float32)
    rows[:, 3:5] = np.tanh(rows[:, 3:5])
    rows[:, -1] = rng.random(ROWS) < 0.2
    agent.replay.insert(torch.from_numpy(rows))
    return agent.replay


@pytest.fixture
def scene() -> Scene:
    agent = stirred(make_agent(num_Q=3))
    replay = filled(agent)
    generator = torch.Generator(DEVICE).manual_seed(1)
    return Scene(replay, agent, curiosity_model(), lambda: torch.arange(ROWS), generator)


def curiosity_model() -> Curiosity:
    return Curiosity(DIMS, hidden=6, lr=1e-3, batch_size=20, seed=4, device=DEVICE)


def wide(scene: Scene) -> dict[str, Array]:
    rows = scene.replay.valid_rows().cpu().numpy().astype(np.float64)
    layout = scene.replay.layout
    return {name: rows[:, where] for name, where in layout.columns.items()}


def layers(mlp: Any, *member: int) -> list[Array]:
    return [each.detach().cpu().numpy().astype(np.float64)[member] for each in mlp.weights()]


def forward(weights: list[Array], x: Array) -> list[Array]:
    """The values of a ReLU network: its input, each hidden layer, and its output."""
    values = [x]
    for weight, bias in zip(weights[:-2:2], weights[1:-2:2], strict=True):
        values.append(np.maximum(values[-1] @ weight + bias, 0))
    return [*values, values[-1] @ weights[-2] + weights[-1]]


def backward(weights: list[Array], values: list[Array], slope: Array) -> tuple[list[Array], Array]:
    """Gradients of the weights, and that of the input, for the gradient of the output."""
    gradients: list[Array] = []
    for layer in reversed(range(len(weights) // 2)):
        before = values[layer]
        gradients = [before.T @ slope, slope.sum(axis=0, keepdims=True), *gradients]
        slope = slope @ weights[2 * layer].T
        if layer:
            slope = slope * (before > 0)
    return gradients, slope


def test_gradients_of_curiosity_are_those_of_float64() -> None:
    """The inverse model trains features and itself, the forward model itself alone."""
    model = curiosity_model()
    rng = np.random.default_rng(2)
    states, after = rng.normal(size=(2, 15, DIMS.state))
    actions = rng.uniform(-1, 1, (15, DIMS.action))
    nothing = torch.zeros(1, 15, 1)
    batch = Batch(
        *(torch.from_numpy(each.astype(np.float32))[None] for each in (states, actions)),
        nothing, torch.from_numpy(after.astype(np.float32))[None], nothing,
    )  # fmt: skip
    batch = Batch(*(each.to(DEVICE) for each in batch))
    loss, metrics = model.loss(batch)
    loss.backward()
    states, after, actions = (
        each.astype(np.float32).astype(np.float64) for each in (states, after, actions)
    )
    phi, inverse, ahead = (
        layers(net, 0) for net in (model.features, model.inverse, model.forward_model)
    )
    seen = forward(phi, np.concatenate([states, after]))
    first, second = seen[-1][:15], seen[-1][15:]
    guess = forward(inverse, np.concatenate([first, second], axis=1))
    expected = forward(ahead, np.concatenate([first, actions], axis=1))
    wrong, error = guess[-1] - actions, expected[-1] - second
    of_inverse, to_features = backward(inverse, guess, wrong / 15)
    of_ahead, _ = backward(ahead, expected, error / 15)
    width = first.shape[1]
    slope = np.concatenate([to_features[:, :width], to_features[:, width:]])
    of_phi, _ = backward(phi, seen, slope)
    nets = ((model.features, of_phi), (model.inverse, of_inverse), (model.forward_model, of_ahead))
    for net, gradients in nets:
        parameters = [each for layer in net.layers for each in (layer.weight, layer.bias)]
        for parameter, gradient in zip(parameters, gradients, strict=True):
            found = parameter.grad[0].cpu().numpy()
            np.testing.assert_allclose(found, gradient, rtol=1e-4, atol=1e-6)
    assert metrics["LossInverse"].item() == pytest.approx((wrong**2).sum() / 30, rel=1e-5)
    assert metrics["LossForward"].item() == pytest.approx((error**2).sum() / 30, rel=1e-5)
    scores = model.scores(batch).cpu().numpy()
    np.testing.assert_allclose(scores, (error**2).sum(axis=1) / 2, rtol=1e-4)


def test_curiosity_falls_where_the_agent_has_been() -> None:
    """After training on one half of the plane the other half is the more curious one."""
    agent = make_agent(replay_size=4000)
    rng = np.random.default_rng(3)
    count = 3000
    states = rng.normal(size=(count, 3))
    states[:, 0] = np.abs(states[:, 0]) * np.where(np.arange(count) < 50, -3, 1)
    actions = rng.uniform(-1, 1, (count, 2))
    following = np.sin(2 * states) + 0.5 * np.c_[actions, -actions[:, :1]] * states
    rows = np.c_[states, actions, np.zeros(count), following, np.zeros(count)].astype(np.float32)
    agent.replay.insert(torch.from_numpy(rows[50:]))
    model = Curiosity(DIMS, hidden=32, lr=3e-3, batch_size=128, seed=0, device=DEVICE)
    for _ in range(400):
        model.learn(agent.replay)
    whole = RowBuffer.holding(agent.replay.layout, torch.from_numpy(rows).to(DEVICE))
    scores = model.scores(whole.gather(torch.arange(count, device=DEVICE)[None])).cpu().numpy()
    assert np.median(scores[:50]) > 3 * np.median(scores[50:])


def test_values_and_errors_of_the_critics(scene: Scene) -> None:
    agent, rows = scene.agent, wide(scene)
    inputs = np.concatenate([rows["observations"], rows["actions"]], axis=1)
    q = np.stack([forward(layers(agent.critics.mlp, 0, k), inputs)[-1][:, 0] for k in range(3)])
    found = RELEVANCE["q_value"](scene).detach().cpu().numpy()
    np.testing.assert_allclose(found, q.mean(axis=0), rtol=1e-4, atol=1e-5)
    noise = torch.randn(1, ROWS, 2, generator=torch.Generator(DEVICE).manual_seed(1), device=DEVICE)
    noise = noise[0].cpu().numpy().astype(np.float64)
    mean, log_std = np.split(forward(layers(agent.actor, 0), rows["next_observations"])[-1], 2, 1)
    log_std = np.clip(log_std, -20, 2)
    raw = mean + np.exp(log_std) * noise
    log_prob = -(noise**2) / 2 - log_std - np.log(2 * np.pi) / 2
    log_prob -= np.log1p(-(np.tanh(raw) ** 2))
    ahead = np.concatenate([rows["next_observations"], np.tanh(raw)], axis=1)
    target = np.min(
        [forward(layers(agent.target_critics.mlp, 0, k), ahead)[-1][:, 0] for k in range(3)], axis=0
    )
    soft = target - float(agent.alpha) * log_prob.sum(axis=1)
    y = rows["rewards"][:, 0] + agent.config.gamma * (1 - rows["terminals"][:, 0]) * soft
    scores = RELEVANCE["td_error"](scene).detach().cpu().numpy()
    np.testing.assert_allclose(scores, np.abs(y - q).mean(axis=0), rtol=2e-3, atol=1e-4)


def test_density_is_the_distance_to_the_tenth_neighbour(scene: Scene) -> None:
    rows = wide(scene)
    columns = np.concatenate([rows["observations"], rows["actions"]], axis=1)
    units = (columns - columns.mean(axis=0)) / columns.std(axis=0)
    distances = np.sort(np.linalg.norm(units[:, None] - units[None], axis=2), axis=1)
    expected = columns.shape[1] * np.log(distances[:, NEIGHBOUR])  # the nearest is the row itself
    found = RELEVANCE["density"](scene).cpu().numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


def test_reward_return_and_random(scene: Scene) -> None:
    rewards = RELEVANCE["reward"](scene).cpu().numpy()
    np.testing.assert_allclose(rewards, wide(scene)["rewards"][:, 0], rtol=1e-6)
    assert torch.equal(RELEVANCE["return"](scene), torch.arange(ROWS))
    again = torch.Generator(DEVICE).manual_seed(1)
    first = RELEVANCE["random"](scene)
    assert torch.equal(first, torch.rand(ROWS, generator=again, device=DEVICE))


def test_returns_are_those_of_each_rows_own_episode_in_storage_order() -> None:
    """33 steps of episodes of 7, in a buffer of 20, against sums over a list of all rewards: the
    ring has gone round, and the last episode is not over."""
    episodes = Episodes("Pendulum-v1", 7)
    agent = REDQSACAgent(AgentConfig(**{**TINY_AGENT, "replay_size": 20}), episodes.dims, seed=0)
    rewards: list[float] = []
    rng = np.random.default_rng(0)
    episodes.begin(0)
    for _ in range(33):
        row, ended = episodes.step(rng.uniform(-1, 1, 1).astype(np.float32))
        agent.replay.insert(torch.from_numpy(row)[None])
        rewards.append(float(row[4]))
        if ended:
            episodes.begin(None)
    config = OnlineConfig(
        disable_diffusion=False, relevance="return", gamma=0.9, target_entropy="auto"
    )
    prompts = Prompting(config, episodes.dims, torch.device("cpu"))(agent, episodes, 0)
    assert prompts is not None
    for step in range(13, 33):
        stop = min(33, 7 * (step // 7) + 7)
        expected = sum(0.9 ** (k - step) * rewards[k] for k in range(step, stop))
        assert float(prompts.scores[step % 20]) == pytest.approx(expected, rel=1e-6)


def test_prompts_are_drawn_from_the_top_with_replacement() -> None:
    scores = np.random.default_rng(5).gamma(1.0, size=400)
    prompts = Prompts("own", torch.from_numpy(scores), fraction=0.1, guidance=2.0)
    top = np.sort(scores)[-40:]
    np.testing.assert_array_equal(np.sort(prompts.top()), top)
    drawn = prompts.drawn(8000, seed=1)
    assert set(drawn) == set(top)  # each is missed with a chance of 40 exp(-200)
    counts = np.unique(drawn, return_counts=True)[1]
    assert np.abs(counts - 200).max() < 5.5 * 200**0.5  # a binomial's, forty times
    np.testing.assert_array_equal(drawn, prompts.drawn(8000, seed=1))
    assert len(Prompts("own", torch.ones(3), 0.01, 1.0).top()) == 1
    assert prompts.condition.mean == pytest.approx(scores.mean())


def test_scores_that_are_large_and_close_keep_their_differences() -> None:
    """As values of q are late in a run; float32 holds eight numbers between 1e7 and 1e7 + 8."""
    scores = 1e7 + np.random.default_rng(6).normal(size=400)
    prompts = Prompts("q_value", torch.from_numpy(scores), fraction=0.1, guidance=2.0)
    expected = (scores - scores.mean()) / scores.std()
    seen = prompts.condition.encode(prompts.columns)[:, 0]
    np.testing.assert_allclose(seen.numpy(), expected, atol=1e-5)
    asked = prompts.condition.asked(prompts.top(), 40)
    np.testing.assert_allclose(asked[:, 0] / scores.std(), np.sort(expected)[:-41:-1], atol=1e-5)


def test_curiosity_goes_on_as_if_it_had_not_stopped() -> None:
    replay = filled(make_agent())
    whole, first, second = curiosity_model(), curiosity_model(), curiosity_model()
    for _ in range(8):
        whole.learn(replay)
    for _ in range(3):
        first.learn(replay)
    second.load_state(first.state())
    for _ in range(5):
        second.learn(replay)
    for ours, theirs in zip(whole.parameters(), second.parameters(), strict=True):
        assert torch.equal(ours, theirs)
