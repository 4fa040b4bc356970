"""The settings of an offline run are pyrallis dataclasses, which ``parsing`` reads.

Precedence: defaults, then the file of ``--config``, then the command line.
"""

# ruff: noqa: UP045 - pyrallis 0.3 knows neither X | None nor annotations that are text.

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal, Optional

from synther.envs import Backend
from synther.ranges import (
    Count,
    CountFrom0,
    Finite,
    Members,
    NotNegative,
    Positive,
    Seed,
    Share,
    Threads,
    plain_types,
)
from synther.runs.runtime import CompileMode, Precision
from synther.runs.settings import ConfigError, check, keywords
from synther.runs.wandb_logs import WandbMode

Consistency = Literal["off", "ensemble"]
"""As in ``synther.diffusion.generation.consistency``, which would load the model's code."""

POLICY_GUIDANCE = 1.0
"""As in ``synther.diffusion.conditioning.policy``."""


@plain_types
@dataclass
class DiffusionConfig:
    """Synthetic transitions come from ``path``; without one the data set itself is used."""

    path: Optional[str] = None  # samples (.npz), or a model (.pt) that generates them on the fly
    num_steps: Count = 128  # sampler steps, of rows made on the fly
    sample_limit: Optional[Count] = None  # take the first N rows only, and use them again and again
    batch_parallelism: Count = 100  # training batches made at a time, on the fly
    any_environment: bool = False  # take samples of another environment than the data set's
    sampler: Optional[str] = None  # on the fly: paper and fast have their own steps, others not
    consistency: Optional[Consistency] = None  # on the fly; None: where the model has one
    mix: Share = 0.0  # share of every batch that are rows of the data set, as in the online agent
    refresh: CountFrom0 = 0  # updates till rows of a .pt are made anew, guided to the agent (0: no)
    policy_guidance: NotNegative = POLICY_GUIDANCE  # how strongly they are guided, with refresh

    def __post_init__(self) -> None:
        if self.sample_limit == -1:  # how the 2023 release wrote "no limit"
            self.sample_limit = None
        check(self, prefix="diffusion.")
        if self.path is not None and not self.path.endswith((".npz", ".pt")):
            raise ConfigError(f"diffusion.path: '{self.path}' is neither an .npz nor a .pt file")
        if self.mix and self.path is None:
            raise ConfigError(
                f"diffusion.mix is {self.mix}, and there are no synthetic rows to mix with: name "
                "them with diffusion.path"
            )
        if self.refresh and not (self.path or "").endswith(".pt"):
            found = f"'{self.path}', rows that are made already" if self.path else "not given"
            raise ConfigError(
                f"diffusion.refresh is {self.refresh}, and diffusion.path is {found}: rows are "
                "made anew by a model (.pt) alone"
            )
        if self.refresh and self.mix == 1:
            raise ConfigError(
                f"diffusion.refresh is {self.refresh}, and diffusion.mix is {self.mix}, which "
                "leaves no row to the model: give a smaller share of the data set's rows, or leave "
                "the refresh out"
            )
        if self.policy_guidance != POLICY_GUIDANCE and not self.refresh:
            raise ConfigError(
                f"diffusion.policy_guidance is {self.policy_guidance}, and no rows are guided: say "
                "with diffusion.refresh after how many updates they are made anew"
            )


@plain_types
@dataclass
class RunConfig:
    """The keys that every offline algorithm has."""

    device: str = "auto"  # auto, cpu, cuda or cuda:<n>
    seed: Seed = 0  # of the first agent
    num_seeds: Members = 1  # independent agents (seed, seed + 1, ...) that train as one stack
    env: str = "halfcheetah-medium-expert-v2"  # data set: its name, or the path of an .hdf5 or .npz
    eval_env: Optional[str] = None  # environment of evaluation; None: the data set's own
    env_kwargs: Optional[str] = None  # of that environment, as JSON, such as '{"gravity": 1.6}'
    eval_freq: Count = 5000  # updates from one evaluation to the next
    n_episodes: Count = 10  # episodes of an evaluation, for each seed
    eval_workers: Optional[CountFrom0] = None  # processes that evaluate beside training; 0: none
    max_episode_steps: Optional[Count] = None  # None: the environment's limit, else 1000
    max_timesteps: Count = 1_000_000  # updates in all
    checkpoints_path: Optional[str] = None  # folder of runs; none: nothing is written
    save_checkpoints: bool = True  # keep the checkpoint of every evaluation, not the latest alone
    resume: bool = False  # continue this run; with more max_timesteps also one that is done
    load_model: Optional[str] = None  # start from the weights of this checkpoint
    log_every: Count = 1000  # updates from one record of metrics to the next
    buffer_size: Count = 10_000_000  # rows; a larger data set is refused
    batch_size: Count = 256  # rows of an update, for each seed
    discount: Share = 0.99  # gamma, the discount of the return
    action_low: Optional[Finite] = None  # lowest action of every column, in the data's units
    action_high: Optional[Finite] = None  # highest; None: as the file says, or the environment
    max_action: Positive = 1.0  # agents act in [-max_action, max_action], whatever the data have
    normalize: bool = True  # scale states by mean and standard deviation of the data set
    normalize_reward: bool = False  # scale rewards by the data set's returns (antmaze: minus 1)
    compile: CompileMode = "off"  # by torch.compile (default), as CUDA graphs, or both (max)
    precision: Precision = "fp32"  # of products: tf32 on CUDA, bf16 in hidden layers, auto
    backend: Optional[Backend] = None  # of environments; None: $SYNTHER_BACKEND, else gymnasium
    deterministic: bool = False  # the same bits every time on CUDA too, where it costs some speed
    threads: Threads = 1  # CPU threads of the update; 0: all cores. More than 1 rarely pays
    tensorboard: bool = False  # write TensorBoard's events, in the run's folder
    project: str = "SynthER"  # project in wandb
    group: str = "offline"  # group in wandb
    entity: Optional[str] = None  # account in wandb
    wandb_mode: Optional[WandbMode] = None  # None: offline with entity or key, else disabled
    name: str = "run"  # first part of the run folder's name
    algorithm: str = ""  # name of the algorithm in reports; it cannot be changed
    diffusion: DiffusionConfig = field(default_factory=DiffusionConfig)

    GROUPS: ClassVar[Mapping[str, str]] = {
        "device": "agents", "env": "data, evaluation, length", "checkpoints_path": "files",
        "buffer_size": "learning", "compile": "how the run is computed", "tensorboard": "logs",
        "name": "names", "diffusion.path": "synthetic rows",
    }  # fmt: skip
    """The first key of each group of flags: key -> title."""
    ALIASES: ClassVar[Mapping[str, str]] = {}
    """Other names of keys: alias -> key."""

    def __post_init__(self) -> None:
        if self.load_model == "":
            self.load_model = None
        check(self)
        if (self.action_low is None) != (self.action_high is None):
            raise ConfigError("action_low and action_high: expected both, or none of them")
        if self.action_low is not None and self.action_low >= (self.action_high or 0.0):
            raise ConfigError(
                f"action_low is {self.action_low}, expected less than action_high, which is "
                f"{self.action_high}"
            )
        own = type(self).algorithm or type(self).name
        if self.algorithm not in ("", own):
            raise ConfigError(f"algorithm is '{self.algorithm}', these are the settings of {own}")
        self.algorithm = own
        if self.diffusion.policy_guidance and self.diffusion.refresh >= self.max_timesteps:
            raise ConfigError(
                f"diffusion.refresh is {self.diffusion.refresh}, and max_timesteps is "
                f"{self.max_timesteps}, so that no row is ever guided to the agent: say after how "
                "many of the updates rows are made anew, or leave the refresh out"
            )
        # Now, not after the data are read.
        if "max_episode_steps" in keywords(self.env_kwargs, "env_kwargs"):
            raise ConfigError("env_kwargs: max_episode_steps is a key of its own")

    @property
    def seeds(self) -> list[int]:
        return list(range(self.seed, self.seed + self.num_seeds))

    @property
    def eval_seeds(self) -> list[int]:
        """Seeds of the evaluation episodes, one for each agent."""
        return self.seeds
