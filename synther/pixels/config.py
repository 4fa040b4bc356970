"""The settings of the pixel commands.

Precedence: defaults, then the file of ``--config``, then the command line.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from synther.envs import dmc
from synther.envs.pixels import PixelSettings, Rendering
from synther.ranges import (
    Count,
    CountFrom0,
    NotNegative,
    Pixels,
    Seed,
    Share,
    Threads,
    Width,
)
from synther.runs.runtime import Precision
from synther.runs.settings import check
from synther.runs.wandb_logs import WandbMode

Algorithm = Literal["drq_bc", "bc"]


@dataclass
class DiffusionSource:
    """Synthetic latents to fine-tune on."""

    path: str | None = None  # latents (.npz), real or sampled, or a model (.pt), on the fly
    num_steps: Count = 128  # sampler steps, on the fly
    sampler: str | None = None  # on the fly: paper, fast, or another by name
    batch_parallelism: Count = 100  # training batches made at a time, on the fly

    def __post_init__(self) -> None:
        check(self, prefix="diffusion.")


@dataclass
class RecipeConfig:
    """The steps of ``--recipe``; see :mod:`synther.pixels.recipe`."""

    seeds: tuple[Seed, ...] = (0, 1, 2)  # a run of all steps for each seed
    collect_agent: str | None = None  # online_exp.py run that plays; None: data are there
    collect_frames: Count = 10_000  # frames to render
    collect_noise: NotNegative = 0.5  # largest standard deviation of an episode's noise on them
    collect_random: Share = 0.2  # share of the episodes that act at random
    gin_config_files: tuple[str, ...] = ("config/resmlp_denoiser.gin",)  # of train_diffuser.py
    # No episode of DeepMind Control's tasks truly ends, so that every discount is gamma^n.
    gin_params: tuple[str, ...] = ("modelled_terminals = False",)  # bindings over these files
    num_samples: Count = 5_000_000  # synthetic latents
    finetune_timesteps: Count = 250_000  # steps of each fine-tuning
    mix: Share = 0.5  # share of real latents in the third fine-tuning; 0 leaves it out

    def __post_init__(self) -> None:
        check(self, prefix="recipe.")


@dataclass
class PixelConfig:
    """Keys and defaults of DrQ+BC (V-D4RL, arXiv 2206.04779) and of BC."""

    algo: Algorithm = "drq_bc"  # DrQ+BC, or behaviour cloning alone
    root: str = "vd4rl"  # folder that holds V-D4RL's main/
    task: str = "walker_walk"  # domain and task, such as walker_walk
    level: str = "medium"  # which of V-D4RL's sets
    image_size: Pixels = 84  # pixels of a side
    env: str | None = None  # environment of evaluation; None: the task's own
    rendering: Rendering = "full"  # of evaluation; plain is faster, for data rendered so
    folder: str | None = None  # folder of the run; None writes nothing
    resume: bool = False  # continue this run; with more max_timesteps also one that is done
    seed: Seed = 0  # of all that is random
    device: str = "auto"  # auto, cpu, cuda or cuda:<n>
    threads: Threads = 1  # CPU threads; 0: all cores
    compile: Literal["off", "default"] = "off"  # default: torch.compile of the encoder
    precision: Precision = "fp32"  # tf32 on CUDA; bf16 of the encoder, channels last; auto
    max_timesteps: Count = 500_000  # steps; there is an update at every update_every-th
    update_every: Count = 2  # steps from one update to the next
    eval_freq: CountFrom0 = 10_000  # steps between evaluations; 0: at the end alone
    n_episodes: Count = 10  # episodes of an evaluation
    log_every: Count = 1000  # steps from one record of metrics to the next
    checkpoint_every: Count = 10_000  # steps between checkpoints
    batch_size: Count = 256  # rows of an update
    n_step: Count = 3  # steps of the return before the value
    frame_stack: Count = 3  # frames in an observation
    action_repeat: Count = 2  # frames that an action lasts
    discount: Share = 0.99  # gamma, of one step
    learning_rate: NotNegative = 3e-4  # of Adam
    tau: Share = 0.01  # target <- target + tau * (network - target)
    bc_weight: NotNegative = 2.5  # lambda = bc_weight / mean |Q|
    std_start: NotNegative = 1.0  # the policy's noise at the beginning
    std_end: NotNegative = 0.1  # the policy's noise at the end
    std_steps: Count = 250_000  # steps over which the noise goes from one to the other
    noise_clip: NotNegative = 0.3  # bound of the noise in the target policy
    pad: CountFrom0 = 4  # largest random shift of a picture, in pixels
    channels: Width = 32  # of each convolution
    latent_dim: Width = 50  # outputs of each trunk
    hidden_width: Width = 1024  # units of the heads' two hidden layers
    ram_gb: NotNegative = 8.0  # GB of compressed pictures in memory; more are decoded into a file
    frames_cache: str | None = None  # folder of that file; None: .frames beside the data
    tensorboard: bool = False  # write TensorBoard's events, in the run's folder
    project: str = "SynthER"  # project in wandb
    group: str = "pixels"  # group in wandb
    entity: str | None = None  # account in wandb
    wandb_mode: WandbMode | None = None  # None: offline with entity or key, else disabled
    load_agent: str | None = None  # folder or checkpoint: fine-tune its heads on latents
    latents: str | None = None  # file of the real latents of mix
    mix: Share = 0.0  # share of real latents in each batch
    diffusion: DiffusionSource = field(default_factory=DiffusionSource)
    recipe: RecipeConfig = field(default_factory=RecipeConfig)

    GROUPS: ClassVar[Mapping[str, str]] = {
        "algo": "data and environment", "folder": "the run", "max_timesteps": "length",
        "batch_size": "learning", "ram_gb": "memory", "tensorboard": "logs",
        "load_agent": "heads on latents", "diffusion.path": "synthetic latents",
        "recipe.seeds": "the steps of --recipe",
    }  # fmt: skip
    """The first key of each group of flags: key -> title."""

    def __post_init__(self) -> None:
        check(self)

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
        return PixelSettings(
            env_id=self.env or metadata.get("env_id") or dmc.env_id_of_task(self.task),
            image_size=self.image_size,
            frame_stack=self.frame_stack,
            action_repeat=self.action_repeat,
            rendering=metadata.get("rendering", self.rendering),
        )

    @property
    def path(self) -> Path | None:
        return None if self.folder is None else Path(self.folder)
