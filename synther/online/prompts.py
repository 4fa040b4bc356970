"""Prompts are what the samples of a refill are asked for: the scores of the most relevant rows."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from synther.diffusion.conditioning.condition import Condition
from synther.diffusion.conditioning.values import return_to_go
from synther.files.checkpoint import DivergedError
from synther.learning.learner import Dims
from synther.learning.replay import RowBuffer
from synther.online.config import OnlineConfig
from synther.online.episodes import Episodes
from synther.online.epoch_statistics import MetricTotals
from synther.online.redq_sac import REDQSACAgent
from synther.online.relevance import RELEVANCE, Curiosity, Scene


@dataclass(frozen=True)
class Prompts:
    """What a refill needs to know of the rows' relevance.

    Args:
        name: of the relevance function.
        scores: the relevance of each row that the real buffer holds, in storage order, ``[size]``.
        fraction: the share of the rows, those of the highest scores, whose scores are asked for.
        guidance: how strongly, see ``synther.diffusion.conditioning.guidance``.
    """

    name: str
    scores: Tensor
    fraction: float
    guidance: float

    @cached_property
    def condition(self) -> Condition:
        """The condition that the model of these rows learns."""
        about = f"the relevance '{self.name}' of the row"
        return Condition.of(self.name, self.scores, about).resolved()

    @property
    def columns(self) -> Tensor:
        """The condition's columns of each row, ``[size, 1]``, where the scores are."""
        return self.condition.raw(self.scores.detach().cpu().numpy()).to(self.scores.device)

    def top(self) -> NDArray[np.float64]:
        """The scores of the top ``fraction`` of the rows, one at least, the highest first."""
        scores = np.sort(self.scores.detach().cpu().numpy().astype(np.float64))[::-1]
        return scores[: max(1, round(self.fraction * len(scores)))]

    def drawn(self, count: int, seed: int) -> NDArray[np.float64]:
        """What ``count`` samples are asked for: drawn from :meth:`top` with replacement."""
        return np.random.default_rng((seed, 3)).choice(self.top(), count)

    def settings(self) -> dict[str, object]:
        """What a round depends on, as plain values."""
        digest = hashlib.sha256(self.scores.detach().cpu().numpy().tobytes()).hexdigest()
        return {"relevance": self.name, "scores": digest[:16]}


class Prompting:
    """Scores the real rows before each refill, by the relevance that the run's settings name.

    Args:
        config: of the run.
        dims: columns of a state and of an action.
        device: of the model of curiosity, the agent's.
    """

    def __init__(self, config: OnlineConfig, dims: Dims, device: torch.device) -> None:
        self.config = config
        self.losses = MetricTotals(device)
        self.curiosity: Curiosity | None = None
        if config.relevance == "curiosity":
            self.curiosity = Curiosity(
                dims,
                hidden=config.curiosity_hidden,
                lr=config.lr,
                batch_size=config.batch_size,
                seed=config.seed,
                device=device,
            )

    def learn(self, replay: RowBuffer) -> None:
        """What follows an environment step: once the agent learns, one step of curiosity's."""
        if self.curiosity is not None and len(replay) > self.config.update_after:
            self.losses.add(self.curiosity.learn(replay))

    @torch.no_grad()
    def __call__(self, agent: REDQSACAgent, episodes: Episodes, seed: int) -> Prompts | None:
        """What a refill is asked for; None where relevance plays no part.

        Args:
            agent: with the real rows.
            episodes: that these are of.
            seed: of all that is random.
        """
        name, replay = self.config.relevance, agent.replay
        if name == "none":
            return None

        def returns() -> Tensor:
            transitions, _ = episodes.transitions(replay)  # the oldest first
            found = torch.from_numpy(return_to_go(transitions, self.config.gamma))
            stored = torch.empty_like(found)
            stored[episodes.stored_at(replay).cpu()] = found
            return stored.to(replay.device)

        generator = torch.Generator(replay.device).manual_seed(seed)
        scores = RELEVANCE[name](Scene(replay, agent, self.curiosity, returns, generator))
        if not scores.isfinite().all():
            raise DivergedError(f"the relevance '{name}' of a row is not finite")
        return Prompts(name, scores, self.config.prompt_fraction, self.config.guidance)

    def state_dict(self) -> dict[str, Any]:
        """All that later scores depend on beside the agent; nothing but with curiosity."""
        if self.curiosity is None:
            return {}
        return {"curiosity": {**self.curiosity.state(), "losses": self.losses.state_dict()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a run's state that holds what :meth:`state_dict` gave."""
        if self.curiosity is not None:
            self.curiosity.load_state(state["curiosity"])
            if losses := state["curiosity"].get("losses"):  # an earlier version has none
                self.losses.load_state_dict(losses)
