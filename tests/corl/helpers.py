"""What the tests of offline RL share: small agents, batches, data, models, and runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from synther.corl.algorithms.cql import CQL, CQLConfig
from synther.corl.algorithms.edac import EDAC, EDACConfig
from synther.corl.algorithms.iql import IQL, IQLConfig
from synther.corl.algorithms.td3_bc import TD3BC, TD3BCConfig
from synther.corl.shared.config import RunConfig
from synther.files import checkpoint
from synther.learning.learner import Agent, Dims
from synther.learning.replay import Batch
from synther.learning.streams import BlockStream, generators_for
from synther.transitions import TransitionLayout
from tests.data import random_transitions
from tests.devices import DEVICE

DIMS = Dims(3, 2)
ALGORITHMS: dict[str, tuple[type[RunConfig], type[Agent], dict[str, Any]]] = {
    "td3_bc": (TD3BCConfig, TD3BC, {"network_width": 8}),
    "iql": (IQLConfig, IQL, {"network_width": 8}),
    "edac": (EDACConfig, EDAC, {"hidden_dim": 8, "num_critics": 3}),
    "cql": (CQLConfig, CQL, {"network_width": 8, "cql_n_actions": 2}),
}
"""Configuration, agent, and the keys of a small one."""


def random_batch(
    seeds: int, rows: int, dims: Dims = DIMS, dtype: torch.dtype = torch.float32, seed: int = 0
) -> Batch:
    """Normal numbers, actions in [-1, 1], about one terminal in five."""
    generator = torch.Generator().manual_seed(seed)

    def normal(width: int) -> torch.Tensor:
        return torch.randn(seeds, rows, width, generator=generator, dtype=dtype)

    dones = (torch.rand(seeds, rows, 1, generator=generator) < 0.2).to(dtype)
    return Batch(
        normal(dims.state), normal(dims.action).tanh(), normal(1), normal(dims.state), dones
    )


def member_of(batch: Batch, seed: int) -> Batch:
    """The batch of one seed, as a stack of one."""
    return Batch(*(each[seed : seed + 1] for each in batch))


def make_agent(
    build: type[Agent],
    config: RunConfig,
    seeds: list[int],
    dims: Dims = DIMS,
    device: torch.device | str = "cpu",
) -> Agent:
    generators = generators_for(seeds, "init")
    return build(config, dims, generators, device)  # type: ignore[call-arg, arg-type]


def follow(
    build: type[Agent], config: RunConfig, seeds: list[int], updates: int
) -> tuple[Agent, list[dict[str, torch.Tensor]]]:
    """Train on random batches, of which seed k sees its own whoever trains beside it; on DEVICE."""
    agent = make_agent(build, config, seeds, device=DEVICE)
    noise = BlockStream(agent.noise, generators_for(seeds, "noise", DEVICE))
    metrics = []
    for step in range(1, updates + 1):
        batches = [random_batch(1, config.batch_size, seed=1000 * seed + step) for seed in seeds]
        batch = Batch(*(torch.cat(parts).to(DEVICE) for parts in zip(*batches, strict=True)))
        agent.schedule(step)
        metrics.append(agent.update(batch, noise.next(), agent.variant(step)))
    return agent, metrics


def write_dataset(path: Path, rows: int = 300, env_id: str | None = "Pendulum-v1") -> Path:
    """Random transitions of Pendulum's widths, which needs no simulator beyond gymnasium."""
    transitions = random_transitions(rows=rows, observation_dim=3, action_dim=1)
    metadata = {} if env_id is None else {"env_id": env_id}
    return type(transitions)(**transitions.arrays(), metadata=metadata).save(path)


def write_model(path: Path, layout: TransitionLayout, seed: int = 0) -> Path:
    """A tiny untrained diffusion model, as training writes them."""
    from synther.diffusion.denoiser_network import ResidualMLPDenoiser
    from synther.diffusion.elucidated_diffusion import ElucidatedDiffusion
    from synther.diffusion.model_io import describe, layout_to_plain
    from synther.diffusion.norm import Normalizer

    torch.manual_seed(seed)
    rows = torch.randn(50, layout.row_dim)
    net = ResidualMLPDenoiser(layout.row_dim, dim_t=8, mlp_width=8, num_layers=1)
    model = ElucidatedDiffusion(net, Normalizer(rows), (layout.row_dim,))
    weights = {f"ema_model.{name}": value for name, value in model.state_dict().items()}
    payload: dict[str, Any] = {"step": 0, "ema": weights, "config": describe(model)}
    return checkpoint.save(path, payload | {"layout": layout_to_plain(layout)})
