"""SAC in one file, as CleanRL writes it, on Pendulum; SynthER is the two places that say so."""

import argparse
import copy

import gymnasium as gym
import numpy as np
import torch
from rich.console import Console
from torch import nn

import synther
from synther.transitions import TransitionLayout

argparse.ArgumentParser(description=__doc__).parse_args()  # --help says what this does

STEPS, BATCH, TEMPERATURE, DISCOUNT = 4_000, 128, 0.02, 0.98


def mlp(inputs: int, outputs: int) -> nn.Module:
    hidden = (nn.Linear(inputs, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU())
    return nn.Sequential(*hidden, nn.Linear(64, outputs))


def act(states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    mean, log_std = actor(states).chunk(2, -1)
    normal = torch.distributions.Normal(mean, log_std.clamp(-5, 2).exp())
    raw = normal.rsample()
    return raw.tanh(), normal.log_prob(raw) - (1 - raw.tanh() ** 2 + 1e-6).log()


def values(nets: nn.ModuleList, states: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
    return torch.stack([net(torch.cat([states, actions], 1)) for net in nets])


def descend(optimizer: torch.optim.Optimizer, loss: torch.Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


torch.manual_seed(0)
torch.set_num_threads(1)
env, rng, layout = gym.make("Pendulum-v1"), np.random.default_rng(0), TransitionLayout(3, 1)
actor, critics = mlp(3, 2), nn.ModuleList([mlp(4, 1), mlp(4, 1)])
targets = copy.deepcopy(critics)
actor_optimizer, critic_optimizer = (
    torch.optim.Adam(net.parameters(), 1e-3) for net in (actor, critics)
)
replay, synthetic = np.empty((STEPS, layout.row_dim), np.float32), None
state, _ = env.reset(seed=0)
for step in range(STEPS):
    with torch.no_grad():
        action = act(torch.from_numpy(state))[0].numpy()
    following, reward, terminated, truncated, _ = env.step(2 * action)
    replay[step] = [*state, *action, reward / 10, *following, terminated]
    state = env.reset()[0] if terminated or truncated else following
    if step and step % 1_000 == 0:  # SynthER: learn what was seen, and draw ten times as much
        seen = layout.unpack(replay[: step + 1])
        samples = synther.upsample(seen, 10 * len(seen), config={"steps": 1_000, "width": 128})
        synthetic = layout.pack(samples)
    if step < 500:
        continue
    rows = replay[rng.integers(step + 1, size=BATCH)]
    if synthetic is not None:  # SynthER: half of the batch
        rows[::2] = synthetic[rng.integers(len(synthetic), size=BATCH // 2)]
    s, a, r, n, d = layout.split(torch.from_numpy(rows)).values()
    with torch.no_grad():
        next_action, log_prob = act(n)
        soft_value = values(targets, n, next_action).amin(0) - TEMPERATURE * log_prob
        target = r + DISCOUNT * (1 - d) * soft_value
    descend(critic_optimizer, (values(critics, s, a) - target).square().mean())
    new_action, log_prob = act(s)
    actor_loss = (TEMPERATURE * log_prob - values(critics, s, new_action).amin(0)).mean()
    descend(actor_optimizer, actor_loss)
    for slow, fast in zip(targets.parameters(), critics.parameters(), strict=True):
        slow.data.lerp_(fast.data, 0.01)
returns = 10 * replay[:, 4].reshape(-1, 200).sum(axis=1)  # an episode is 200 steps
Console().print(f"returns of the first and the last five episodes: {returns[:5]} {returns[-5:]}")
