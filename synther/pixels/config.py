"""The settings of the pixel commands.

Precedence: defaults, then the file of ``--config``, then the command line.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from synther.envs.pixels import PixelSettings, Rendering
from synther.runs.loggers import WandbMode
from synther.runs.runtime import Precision
from synther.runs.settings import ConfigError, require_positive

Algorithm = Literal["drq_bc", "bc"]


@dataclass
class DiffusionSource:
    """Synthetic latents to fine-tune on."""

    path: str | None = None  # latents (.npz), real or sampled, or a model (.pt), on the fly
    num_steps: int = 128  # sampler steps, on the fly
    sampler: str | None = None  # paper, fast or a sampler's name, on the fly
    batch_parallelism: int = 100  # batches generated at a time, on the fly


@dataclass
class RecipeConfig:
    """The steps of ``--recipe``; see :mod:`synther.pixels.recipe`."""

    seeds: tuple[int, ...] = (0, 1, 2)
    collect_agent: str | None = None  # online_exp.py run that renders the data; None: data is there
    collect_frames: int = 10_000
    collect_noise: float = 0.5
    collect_random: float = 0.2
    gin_config_files: tuple[str, ...] = ("config/resmlp_denoiser.gin",)  # of train_diffuser.py
    # No episode of DeepMind Control's tasks truly ends, so that every discount is gamma^n.
    gin_params: tuple[str, ...] = ("modelled_terminals = False",)
    num_samples: int = 5_000_000  # synthetic latents
    finetune_timesteps: int = 250_000  # of each fine-tuning
    mix: float = 0.5  # share of real latents in the third fine-tuning; 0 leaves it out


@dataclass
class PixelConfig:
    """Keys and defaults of DrQ+BC (V-D4RL, arXiv 2206.04779) and of BC."""

    algo: Algorithm = "drq_bc"
    root: str = "vd4rl"  # folder that holds V-D4RL's main/
    task: str = "walker_walk"
    level: str = "medium"
    image_size: int = 84
    env: str | None = None  # of evaluation; by default the task's own
    rendering: Rendering = "full"  # of evaluation; plain is faster, for data rendered so
    folder: str | None = None  # of the run; nothing is written without
    resume: bool = False  # continue this run; with more max_timesteps also one that is done
    seed: int = 0
    device: str = "auto"  # auto, cpu, cuda or cuda:<n>
    threads: int = 1  # of the CPU; 0: all cores
    compile: Literal["off", "default"] = "off"  # default: torch.compile of the encoder
    precision: Precision = "fp32"  # fp32; tf32 (CUDA); bf16: of the encoder, channels last; auto
    max_timesteps: int = 500_000  # steps; there is an update at every update_every-th
    update_every: int = 2
    eval_freq: int = 10_000  # steps; 0: at the end alone
    n_episodes: int = 10
    log_every: int = 1000
    checkpoint_every: int = 10_000
    batch_size: int = 256
    n_step: int = 3
    frame_stack: int = 3
    action_repeat: int = 2
    discount: float = 0.99
    learning_rate: float = 3e-4  # Adam
    tau: float = 0.01  # target <- target + tau * (network - target)
    bc_weight: float = 2.5  # lambda = bc_weight / mean |Q|
    std_start: float = 1.0  # of the policy's noise, linear to
    std_end: float = 0.1  # this, over
    std_steps: int = 250_000  # so many steps
    noise_clip: float = 0.3
    pad: int = 4  # pixels of the random shift, at most
    channels: int = 32  # of each convolution
    latent_dim: int = 50  # of each trunk
    hidden_width: int = 1024  # of the heads' two hidden layers
    ram_gb: float = 8.0  # compressed pictures beyond that are decoded into a file
    frames_cache: str | None = None  # folder of that file; .frames beside the data by default
    tensorboard: bool = False  # its events, in the run's folder
    project: str = "SynthER"  # wandb
    group: str = "pixels"  # wandb
    entity: str | None = None  # wandb
    wandb_mode: WandbMode | None = None  # offline where an entity or key is set, else disabled
    load_agent: str | None = None  # folder or checkpoint: fine-tune its heads on latents
    latents: str | None = None  # the real latents of mix
    mix: float = 0.0  # share of real latents in each batch
    diffusion: DiffusionSource = field(default_factory=DiffusionSource)
    recipe: RecipeConfig = field(default_factory=RecipeConfig)

    def __post_init__(self) -> None:
        positive = (
            "image_size", "max_timesteps", "update_every", "n_episodes", "log_every",
            "checkpoint_every", "batch_size", "n_step", "frame_stack", "action_repeat", "std_steps",
            "channels", "latent_dim", "hidden_width", "learning_rate",
        )  # fmt: skip
        require_positive(self, *positive)
        for key in ("mix", "discount", "tau"):
            if not 0 <= getattr(self, key) <= 1:
                raise ConfigError(f"{key} is {getattr(self, key)}, expected 0 to 1")
        if self.pad < 0 or self.eval_freq < 0 or self.seed < 0:
            raise ConfigError("pad, eval_freq and seed must not be negative")

    @property
    def n_step_discount(self) -> float:
        """The discount of the value after n steps: ``discount ** n_step``."""
        return float(self.discount**self.n_step)

    def std(self, step: int) -> float:
        """The policy's noise at a step (DrQ-v2, arXiv 2107.09645, section 3.1)."""
        done = min(1.0, step / self.std_steps)
        return self.std_start + done * (self.std_end - self.std_start)

    def seen(self, metadata: Mapping[str, Any]) -> PixelSettings:
        """The environment of evaluation, as the data (of this metadata) saw it."""
        domain, _, task = self.task.partition("_")
        return PixelSettings(
            env_id=self.env or metadata.get("env_id") or f"{domain}-{task}-v0",
            image_size=self.image_size,
            frame_stack=self.frame_stack,
            action_repeat=self.action_repeat,
            rendering=metadata.get("rendering", self.rendering),
        )

    @property
    def path(self) -> Path | None:
        return None if self.folder is None else Path(self.folder)
