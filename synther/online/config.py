"""The settings of an online run are those that gin files call ``redq_sac``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Annotated, Any, Literal

import gin
import torch

from synther.diffusion.conditioning.values import named_values
from synther.diffusion.generation.generator import SimpleDiffusionGenerator
from synther.diffusion.utils import construct_diffusion_model
from synther.errors import InputError
from synther.learning.learner import Dims
from synther.online.redq_sac import AgentConfig, TargetMode
from synther.online.relevance import RELEVANCE
from synther.ranges import (
    Count,
    CountFrom0,
    Finite,
    Members,
    NotNegative,
    Positive,
    PositiveShare,
    Range,
    Seed,
    Share,
    Width,
)
from synther.runs.runtime import CompileMode, Precision
from synther.runs.settings import check
from synther.transitions import TransitionLayout

MBPO_EPOCHS = {"Hopper": 125, "HalfCheetah": 400, "Walker2d": 300, "Ant": 300, "Humanoid": 300}
MBPO_TARGET_ENTROPIES = {"Hopper": -1, "HalfCheetah": -3, "Walker2d": -3, "Ant": -4, "Humanoid": -2}
"""MBPO's target entropy in each environment (Janner et al. 2019, arXiv 1906.08253, appendix C)."""
OTHER_EPOCHS = 300


_BY_RELEVANCE = {
    "condition.name": (named_values, "", "redq_sac.relevance"),
    "SimpleDiffusionGenerator.target": (
        SimpleDiffusionGenerator,
        None,
        "redq_sac.relevance and redq_sac.prompt_fraction",
    ),
    "SimpleDiffusionGenerator.guidance": (SimpleDiffusionGenerator, 1.0, "redq_sac.guidance"),
}
"""What has no effect online, by its name in gin: what is configured, the default, and what has."""


class OnlineConfigError(InputError):
    """A setting, or a combination of settings, that cannot be used."""


@gin.configurable("redq_sac")
@dataclass(frozen=True)
class OnlineConfig:
    """Settings by their names in the gin files; those of the agent are :class:`AgentConfig`'s."""

    env_name: str = "quadruped-walk-v0"  # environment that the agent learns in
    env_kwargs: Mapping[str, Any] | None = None  # arguments of that environment
    seed: Seed = 0  # of all that is random
    # The loop.
    epochs: Count | Literal["mbpo"] = "mbpo"  # mbpo: by environment, see MBPO_EPOCHS
    steps_per_epoch: Count = 1000  # environment steps from one evaluation to the next
    max_ep_len: Count = 1000  # steps; the environment's own limit where that is lower
    n_evals_per_epoch: Count = 10  # episodes of an evaluation, after each epoch
    eval_workers: CountFrom0 | None = None  # processes that evaluate; 0: none; None: by cores
    reseed_each_epoch: bool = True  # every epoch's streams begin anew from (seed, epoch)
    evaluate_bias: bool = False  # compare Q with Monte-Carlo returns after each epoch
    n_mc_eval: Count = 1000  # states at which evaluate_bias compares
    n_mc_cutoff: Count = 350  # of each episode, the first; later ones see too little return
    # The agent.
    hidden_sizes: Sequence[Width] = (256, 256)  # widths of hidden layers, of actor and critics
    replay_size: Count = 1_000_000  # real rows that are kept, the newest
    batch_size: Count = 256  # rows of an update
    lr: Positive = 3e-4  # learning rate of actor, critics and temperature
    gamma: Share = 0.99  # discount of the return
    polyak: Share = 0.995  # target <- polyak * target + (1 - polyak) * critic
    alpha: Positive = 0.2  # temperature; with auto_alpha, until its first update only
    auto_alpha: bool = True  # learn the temperature, so that entropy reaches target_entropy
    target_entropy: Finite | Literal["auto", "mbpo"] = "mbpo"  # auto: -|A|; mbpo: by environment
    start_steps: CountFrom0 = 5000  # of random actions
    delay_update_steps: CountFrom0 | Literal["auto"] = "auto"  # no update before; auto: start_steps
    utd_ratio: Count = 20  # critic updates for each environment step
    num_Q: Members = 10  # critics
    num_min: Annotated[float, Range(1)] = 2  # targets in the minimum; 1.5: 1 or 2 alike
    q_target_mode: TargetMode = "min"  # min, ave (average), or rem (random mixture)
    policy_update_delay: Count = 20  # critic updates for each of policy and temperature
    critic_layer_norm: bool = False  # in the critics' hidden layers, as RLPD and DroQ have it
    precision: Precision = "fp32"  # of the agent's products: fp32, tf32 (CUDA), bf16 or auto
    compile: CompileMode = "off"  # by torch.compile (default), as CUDA graphs, or both (max)
    # SynthER.
    disable_diffusion: bool = True  # an agent without synthetic rows
    diffusion_buffer_size: Count = 1_000_000  # synthetic rows that are kept
    diffusion_sample_ratio: Share = 0.5  # the synthetic share of every batch
    diffusion_start: CountFrom0 = 0  # steps before the first diffusion model
    retrain_diffusion_every: Count = 10_000  # environment steps from one refill to the next
    num_samples: Count = 100_000  # rows of a refill
    diffusion_warm_start: bool = False  # go on from the weights of the model before
    diffusion_warm_start_steps: Count | None = None  # its training steps
    skip_reward_norm: bool = True  # rewards are not normalised before the model sees them
    model_terminals: bool = False  # the model makes terminals too; else no row is terminal
    # Prioritised generative replay (PGR): samples that are like the most relevant rows.
    relevance: str = "none"  # curiosity, td_error, q_value, reward, return, density or random
    prompt_fraction: PositiveShare = 0.1  # of the rows, those whose relevance is asked for
    guidance: Finite = 2.0  # how strongly samples follow relevance; 0: as they come
    curiosity_hidden: Width = 128  # width of the networks of curiosity
    print_buffer_stats: bool = True  # real against synthetic columns, at each refill
    # Checkpoints, from which a killed run goes on.
    checkpoint_every: NotNegative = 60.0  # seconds between them, more where writing is slow

    def __post_init__(self) -> None:
        check(self, prefix="redq_sac.", error=OnlineConfigError)
        known = ("none", *RELEVANCE)
        self._require("relevance", self.relevance in known, f"one of {', '.join(known)}")
        asked = self.relevance != "none" and self.disable_diffusion
        self._require("relevance", not asked, "none with disable_diffusion")
        self._require("num_min", 1 <= self.num_min <= self.num_Q, f"from 1 to num_Q {self.num_Q}")
        first = max(self.start_steps, self.update_after)
        self._require("replay_size", self.replay_size > first, f"more than {first} first steps")
        entropy = self.target_entropy
        self._require(
            "target_entropy",
            isinstance(entropy, (int, float))
            or entropy == "auto"
            or (entropy == "mbpo" and self._task in MBPO_TARGET_ENTROPIES),
            f"auto or a number (mbpo has one for {', '.join(MBPO_TARGET_ENTROPIES)} only), "
            f"the environment being {self.env_name}",
        )
        if not self.disable_diffusion:
            self._require(
                "num_samples",
                self.num_samples <= self.diffusion_buffer_size,
                f"at most diffusion_buffer_size {self.diffusion_buffer_size}",
            )
            self._require(
                "diffusion_warm_start_steps",
                not self.diffusion_warm_start or self.diffusion_warm_start_steps is not None,
                "a positive number with diffusion_warm_start",
            )

    def _require(self, name: str, good: bool, expected: str) -> None:
        if not good:
            raise OnlineConfigError(
                f"redq_sac.{name} is {getattr(self, name)!r}, expected {expected}"
            )

    @property
    def _task(self) -> str:
        return self.env_name.rsplit("-", 1)[0]

    @property
    def env_arguments(self) -> dict[str, Any]:
        """The arguments of the environment by name."""
        return dict(self.env_kwargs or {})

    @property
    def update_after(self) -> int:
        """Rows that the replay has to exceed before updates start."""
        delay = self.delay_update_steps
        return self.start_steps if delay == "auto" else delay

    @property
    def total_steps(self) -> int:
        """Environment steps of the whole run."""
        epochs = self.epochs
        if epochs == "mbpo":
            epochs = MBPO_EPOCHS.get(self._task, OTHER_EPOCHS)
        return epochs * self.steps_per_epoch

    def agent(self, dims: Dims) -> AgentConfig:
        """The settings of the agent alone, for states and actions of ``dims``."""
        entropy = self.target_entropy
        if isinstance(entropy, str):
            auto = entropy == "auto"
            entropy = -dims.action if auto else MBPO_TARGET_ENTROPIES[self._task]
        own: dict[str, Any] = {
            field.name: getattr(self, field.name)
            for field in fields(AgentConfig)
            if field.name not in ("target_entropy", "delay_update_steps", "hidden_sizes")
        }
        return AgentConfig(
            target_entropy=float(entropy),
            delay_update_steps=self.update_after,
            hidden_sizes=tuple(self.hidden_sizes),
            **own,
        )

    def without_effect(self) -> list[str]:
        """What does not happen in such a run, though it may seem so, in a sentence each."""
        steps, missing = self.total_steps, []
        for name in ("prompt_fraction", "guidance"):
            default = getattr(OnlineConfig, name)
            if self.relevance == "none" and getattr(self, name) != default:
                missing.append(
                    f"redq_sac.{name} has no effect: samples are asked for nothing, since "
                    "redq_sac.relevance is none"
                )
        if steps <= self.update_after:
            missing.append(
                f"the agent does not learn in these {steps} steps: its updates begin after "
                f"{self.update_after} (redq_sac.start_steps, redq_sac.delay_update_steps)"
            )
        if not self.disable_diffusion and not self.refills_until(steps):
            missing.append(
                f"no diffusion model is trained in these {steps} steps: the first is due at step "
                f"{self._first_refill} (redq_sac.diffusion_start, "
                "redq_sac.retrain_diffusion_every), and after the last step there is none"
            )
        return missing

    @property
    def _first_refill(self) -> int:
        every = self.retrain_diffusion_every
        return -(-max(self.diffusion_start, 1) // every) * every

    def refills_until(self, step: int) -> int:
        """The number of diffusion models that are due by the end of step ``step``. After the last
        step none is due, since nobody would learn from its samples."""
        if self.disable_diffusion:
            return 0
        every, first = self.retrain_diffusion_every, max(self.diffusion_start, 1)
        last = min(step, self.total_steps - 1)
        return max(0, last // every - (first - 1) // every)


def require_configured(layout: TransitionLayout, model_terminals: bool) -> None:
    """Build a diffusion model for rows of ``layout``, so that what gin lacks shows at once and not
    at the first refill, and so does what it has to no effect.

    Raises:
        OnlineConfigError: gin asks for rows in the words of a model of a data set.
        ValueError: gin has no network or no normaliser for it, or one that cannot be made.
    """
    for name, (configurable, unbound, instead) in _BY_RELEVANCE.items():
        found = gin.get_bindings(configurable).get(name.rpartition(".")[2], unbound)
        if found != unbound:
            raise OnlineConfigError(
                f"{name} is {found!r}, which is for models of a data set; what the rows of an "
                f"online run are asked for is said by {instead}: bind that instead"
            )
    modelled = replace(layout, terminals=model_terminals)
    try:
        construct_diffusion_model(inputs=torch.zeros(2, modelled.row_dim), layout=modelled)
    except (TypeError, ValueError) as error:
        first_line = str(error).strip().splitlines()[0]
        raise ValueError(
            f"the diffusion model is not configured ({first_line}); a file such as "
            "config/online/sac_synther_dmc.gin does that"
        ) from error
