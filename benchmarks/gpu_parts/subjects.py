"""Everything that learns, in one form: made on a device, and updated by numbers of the CPU.

Weights, batches and noise are drawn on the CPU and then moved, so that what is made on two devices
does the same arithmetic on the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from synther.corl.algorithms import cql, edac, iql, td3_bc
from synther.diffusion.denoiser_network import ResidualMLPDenoiser
from synther.diffusion.elucidated_diffusion import ElucidatedDiffusion
from synther.diffusion.training.optimizer import adamw, clipped_step
from synther.diffusion.utils import construct_diffusion_model
from synther.learning.graphs import graphed
from synther.learning.learner import Agent, Dims, Metrics
from synther.learning.replay import Batch
from synther.learning.streams import generators_for
from synther.online.redq_rlpd_agent import REDQRLPDAgent
from synther.online.redq_sac import AgentConfig, Noise
from synther.pixels.config import PixelConfig
from synther.pixels.frame_replay import PixelBatch
from synther.pixels.image_agent import DrQBC
from synther.pixels.latent_agent import LatentAgent
from synther.runs.runtime import Precision, autocast
from synther.transitions import TransitionLayout

DIMS = Dims(17, 6)  # HalfCheetah
LAYOUT = TransitionLayout(*DIMS)


class Size(NamedTuple):
    """Widths and batches: those that agents really have, or small ones for an emulated device."""

    width: int
    batch: int
    pictures: int
    denoiser: int


REAL = Size(width=256, batch=256, pictures=84, denoiser=512)
SMALL = Size(width=8, batch=8, pictures=24, denoiser=16)


class Subject(Protocol):
    """What can be updated, and looked at; ``dtype`` is of what it is fed, None: as it comes."""

    module: torch.nn.Module
    dtype: torch.dtype | None

    def step(self, number: int) -> Metrics:
        """The update of that number, counted from 1; its batch and noise depend on it alone."""
        ...

    def parameters(self) -> list[Tensor]: ...

    def gradients(self) -> list[Tensor]:
        """Those of the last update."""
        ...


Build = Callable[[torch.device, Size, Precision], Subject]


class _OfModule:
    module: torch.nn.Module
    device: torch.device
    dtype: torch.dtype | None = None

    def _moved(self, values: Any) -> Any:
        return moved(values, self.device, self.dtype)

    def parameters(self) -> list[Tensor]:
        return list(self.module.parameters())

    def gradients(self) -> list[Tensor]:
        return [each.grad for each in self.module.parameters() if each.grad is not None]


def batch_of(number: int, rows: int, *stack: int) -> Batch:
    """Of normal numbers, ``[*stack, rows, ...]``; about one terminal in a hundred."""
    generator = torch.Generator().manual_seed(number)

    def normal(width: int) -> Tensor:
        return torch.randn(*stack, rows, width, generator=generator)

    dones = (torch.rand(*stack, rows, 1, generator=generator) < 0.01).float()
    states, actions = normal(DIMS.state), normal(DIMS.action).tanh()
    return Batch(states, actions, normal(1), normal(DIMS.state), dones)


def moved(values: Any, device: torch.device, dtype: torch.dtype | None = None) -> Any:
    """Tensors among tuples and lists, on ``device``; real numbers as ``dtype``, if given."""
    if isinstance(values, Tensor):
        return values.to(device, dtype if values.is_floating_point() else None)
    if isinstance(values, tuple) and hasattr(values, "_fields"):
        return type(values)(*(moved(each, device, dtype) for each in values))
    if isinstance(values, (list, tuple)):
        return type(values)(moved(each, device, dtype) for each in values)
    return values


def in_float64(subject: Subject) -> Subject:
    """A fresh subject, made to compute in float64 what it computes in float32 otherwise."""
    subject.module.double()
    for name, value in vars(subject.module).items():
        if isinstance(value, Tensor):  # neither a weight nor a buffer, which double() has seen
            setattr(subject.module, name, moved(value, value.device, torch.float64))
    subject.dtype = torch.float64
    return subject


# ---- Offline ----
class Offline(_OfModule):
    """An offline algorithm's agent."""

    def __init__(
        self,
        device: torch.device,
        size: Size,
        precision: Precision,
        *,
        config_class: Any,
        build: Any,
        graph: bool = False,
        **keys: Any,
    ) -> None:
        wide = "hidden_dim" if config_class is edac.EDACConfig else "network_width"
        self.config = config_class(
            batch_size=size.batch, precision=precision, **{wide: size.width, **keys}
        )
        self.module: Agent = build(self.config, DIMS, generators_for([0], "init"), device)
        self.device = device
        self._update = graphed(self.module) if graph else self.module.update

    def step(self, number: int) -> Metrics:
        agent = self.module
        batch = batch_of(number, self.config.batch_size, 1)
        noise = agent.noise(torch.Generator().manual_seed(number), 1)
        agent.schedule(number)
        return self._update(self._moved(batch), self._moved(noise), agent.variant(number))


def _offline(config_class: Any, build: Any, **keys: Any) -> Callable[..., Offline]:
    return partial(Offline, config_class=config_class, build=build, **keys)


OFFLINE: dict[str, Callable[..., Offline]] = {
    "TD3+BC": _offline(td3_bc.TD3BCConfig, td3_bc.TD3BC),
    "IQL": _offline(iql.IQLConfig, iql.IQL, max_timesteps=40),
    "EDAC": _offline(edac.EDACConfig, edac.EDAC),
    "CQL": _offline(cql.CQLConfig, cql.CQL),
    "IQL, deterministic": _offline(
        iql.IQLConfig, iql.IQL, max_timesteps=40, iql_deterministic=True
    ),
    "EDAC as SAC-N": _offline(edac.EDACConfig, edac.EDAC, eta=0.0, num_critics=5),
    "CQL, Lagrange, cloning first": _offline(
        cql.CQLConfig, cql.CQL, cql_lagrange=True, bc_steps=6, target_update_period=2
    ),
    "CQL, best of the next actions": _offline(
        cql.CQLConfig, cql.CQL, cql_max_target_backup=True, cql_importance_sample=False
    ),
    "TD3+BC, late actor": _offline(td3_bc.TD3BCConfig, td3_bc.TD3BC, policy_freq=5),
}
"""The first four are the defaults of the algorithms, the others what else their updates can do."""


# ---- Online ----
class Online(_OfModule):
    """The online agent; an update is a block."""

    def __init__(self, device: torch.device, size: Size, precision: Precision, **keys: Any) -> None:
        self.config = AgentConfig(
            target_entropy=-float(DIMS.action), hidden_sizes=(size.width,) * 2,
            batch_size=size.batch, start_steps=0, delay_update_steps=0, precision=precision,
            replay_size=1000, **keys,
        )  # fmt: skip
        self.module = REDQRLPDAgent(self.config, DIMS, 0, device, diffusion_buffer_size=1000)
        self.device = device

    def step(self, number: int) -> Metrics:
        batches = batch_of(number, self.config.batch_size, 1, self.config.utd_ratio)
        self.module.generators["noise"] = torch.Generator().manual_seed(number)
        noise: Noise = self._moved(self.module.draw_noise())
        return self.module.update_block(self._moved(batches), noise)


ONLINE: dict[str, Callable[..., Online]] = {
    "SAC": partial(Online, num_Q=2, utd_ratio=1),
    "REDQ": partial(Online, num_Q=10, utd_ratio=4, policy_update_delay=2),
    "REDQ, 1.5 critics": partial(Online, num_Q=10, num_min=1.5, utd_ratio=4),
    "REDQ, average": partial(Online, num_Q=10, q_target_mode="ave", utd_ratio=4),
    "REDQ, REM": partial(Online, num_Q=10, q_target_mode="rem", utd_ratio=4),
}


# ---- Pixels ----
class Pixels(_OfModule):
    """DrQ+BC or BC from pictures."""

    def __init__(self, device: torch.device, size: Size, precision: Precision, **keys: Any) -> None:
        self.config = PixelConfig(
            image_size=size.pictures, batch_size=min(size.batch, 64), precision=precision,
            hidden_width=4 * size.width, channels=32 if size is REAL else 4, **keys,
        )  # fmt: skip
        generator = torch.Generator().manual_seed(0)
        self.module = DrQBC(self.config, DIMS.action, generator, device)
        self.device = device

    def step(self, number: int) -> Metrics:
        config, generator = self.config, torch.Generator().manual_seed(number)
        shape = (2, config.batch_size, 3 * config.frame_stack, *[config.image_size] * 2)
        images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
        row = batch_of(number, config.batch_size, 1)
        discounts = config.n_step_discount * (1 - row.dones)
        batch = PixelBatch(images[0], row.actions, row.rewards, images[1], discounts)
        noise = self.module.noise(generator, 1)
        self.module.schedule(number)
        return self.module.update(self._moved(batch), self._moved(noise), None)


class Latents(_OfModule):
    """Heads that are tuned on latents of a frozen encoder."""

    def __init__(self, device: torch.device, size: Size, precision: Precision) -> None:
        pictures = Pixels(device, size, precision, latent_dim=10)
        self.config, self.device = pictures.config, device
        self.module = LatentAgent(pictures.config, pictures.module, pictures.module.heads)

    def step(self, number: int) -> Metrics:
        rows, generator = self.config.batch_size, torch.Generator().manual_seed(number)
        plain = batch_of(number, rows, 1)
        states, after = torch.randn(2, 1, rows, 20, generator=generator)
        batch = plain._replace(states=states, next_states=after)
        noise = self.module.noise(generator, 1)
        self.module.schedule(number)
        return self.module.update(self._moved(batch), self._moved(noise), None)


PIXELS: dict[str, Build] = {
    "DrQ+BC": Pixels,
    "BC from pictures": partial(Pixels, algo="bc"),
    "heads on latents": Latents,
}


# ---- The diffusion model ----
def denoiser(device: torch.device, size: Size, seed: int = 0) -> ElucidatedDiffusion:
    """An untrained model whose weights depend on the seed alone."""
    torch.manual_seed(seed)
    rows = torch.randn(500, LAYOUT.row_dim, generator=torch.Generator().manual_seed(1))
    network = partial(ResidualMLPDenoiser, mlp_width=size.denoiser, dim_t=32, num_layers=4)
    return construct_diffusion_model(rows.numpy(), "standard", network, layout=LAYOUT).to(device)


class Diffusion(_OfModule):
    """The denoiser: the model's loss, its gradient, a clipped step of AdamW."""

    def __init__(self, device: torch.device, size: Size, precision: Precision) -> None:
        self.module = denoiser(device, size)
        self.device, self.rows = device, size.batch
        self._precision = precision
        self._optimizer = adamw(self.module, 3e-4, (0.9, 0.99), 0.0)

    def step(self, number: int) -> Metrics:
        generator = torch.Generator().manual_seed(number)
        shape = (self.rows, LAYOUT.row_dim)
        rows, noise = torch.randn(2, *shape, generator=generator).to(self.device)
        sigma = torch.randn(self.rows, generator=generator).mul(1.2).sub(1.2).exp()
        self._optimizer.zero_grad()
        with autocast(self.device, self._precision):
            loss = self.module(rows, sigma=sigma.to(self.device), noise=noise)
        loss.backward()
        norm = clipped_step(self._optimizer, 1.0, 3e-4)
        return {"loss": loss.detach(), "gradient_norm": norm}


EVERYTHING: dict[str, Build] = {**OFFLINE, **ONLINE, **PIXELS, "denoiser": Diffusion}
