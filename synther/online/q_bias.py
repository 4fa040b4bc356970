"""The bias of Q against returns that the policy really earns (REDQ, arXiv 2101.05982, sec. 3.1)."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from synther.envs import EnvironmentFaultError, make_env
from synther.envs.faults import checked_observation, checked_step
from synther.envs.randomness import reseed_own, shared_apart
from synther.online.epoch_statistics import statistics_of
from synther.online.redq_sac import REDQSACAgent

SMALLEST_BASE = 10.0
"""A smaller return normalises a bias as this one does: dividing by almost 0 says nothing."""


class BiasEvaluation:
    """Plays the stochastic policy, and compares Q with discounted Monte-Carlo returns.

    Args:
        env_id: of an environment of its own.
        max_ep_len: steps of an episode at most.
        states: how many to compare at, at least.
        cutoff: of every episode, only its first states count: the return of later ones is cut
            short by the end of the episode.
        env_kwargs: arguments of the environment.
    """

    COLUMNS = ("MCDisRet", "MCDisRetEnt", "QPred", "QBias", "QBiasAbs", "NormQBias",
               "QBiasSqr", "NormQBiasSqr")  # fmt: skip

    def __init__(
        self, env_id: str, max_ep_len: int, states: int, cutoff: int, **env_kwargs: Any
    ) -> None:
        self.env = make_env(env_id, **env_kwargs)
        self.max_ep_len, self.states, self.cutoff = max_ep_len, states, cutoff

    def __call__(self, agent: REDQSACAgent, seed: int) -> dict[str, float]:
        """Compare, and return ``AverageX``, ``StdX``, ``MaxX``, ``MinX`` of each of ``COLUMNS``.

        ``MCDisRet`` is the discounted return, ``MCDisRetEnt`` with the entropy bonus of all later
        actions, which is what Q estimates; ``QPred`` the mean over all critics; the bias is
        ``QPred - MCDisRetEnt``, normalised by the size of the latter. All are NaN, with a warning,
        where the environment gave something that is not finite.
        """
        try:
            return self._compare(agent, seed)
        except EnvironmentFaultError as fault:
            warnings.warn(f"{fault}; Q is not compared", stacklevel=2)
            return {
                key: value
                for name in self.COLUMNS
                for key, value in statistics_of(name, np.array([np.nan])).items()
            }

    def _compare(self, agent: REDQSACAgent, seed: int) -> dict[str, float]:
        generator = torch.Generator(agent.replay.device).manual_seed(seed)
        returns, soft_returns, predictions = [], [], []
        found = 0
        while found < self.states:
            start = (seed + found) % 2**32
            with shared_apart(self.env, [start]):
                rewards, log_probs, q = self._episode(agent, generator, start)
            bonus = -float(agent.alpha) * log_probs
            plain = discounted(rewards, agent.config.gamma)
            # The bonus of the action that Q is asked about is not part of Q.
            soft = discounted(rewards + bonus, agent.config.gamma) - bonus
            returns.append(plain[: self.cutoff])
            soft_returns.append(soft[: self.cutoff])
            predictions.append(q[: self.cutoff])
            found += len(returns[-1])
        soft, predicted = np.concatenate(soft_returns), np.concatenate(predictions)
        bias = predicted - soft
        relative = bias / np.maximum(np.abs(soft), SMALLEST_BASE)
        values = (np.concatenate(returns), soft, predicted, bias, np.abs(bias), relative,
                  bias**2, relative**2)  # fmt: skip
        columns: dict[str, float] = {}
        for name, each in zip(self.COLUMNS, values, strict=True):
            columns |= statistics_of(name, each)
        return columns

    @torch.no_grad()
    def _episode(
        self, agent: REDQSACAgent, generator: torch.Generator, seed: int
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Rewards ``[T]``, log-densities of the actions ``[T]`` and Q ``[T]`` along an episode."""
        rewards, log_probs, predictions = [], [], []
        reseed_own(self.env, seed)
        observation = checked_observation(
            self.env, self.env.reset(seed=seed)[0], "the start of an evaluation of Q"
        )
        for number in range(1, self.max_ep_len + 1):
            states = torch.from_numpy(observation).to(generator.device).view(1, 1, -1)
            noise = torch.randn(
                1, 1, agent.dims.action, generator=generator, device=generator.device
            )
            actions, log_prob = agent.sample(states, noise)
            predictions.append(agent.critics(states, actions).mean())
            log_probs.append(log_prob.mean())
            given = self.env.step(actions[0, 0].cpu().numpy())
            observation, reward, terminated, truncated = checked_step(
                self.env, given, f"step {number} of an evaluation of Q"
            )
            rewards.append(reward)
            if terminated or truncated:
                break
        return (
            np.array(rewards),
            torch.stack(log_probs).double().cpu().numpy(),
            torch.stack(predictions).double().cpu().numpy(),
        )

    def close(self) -> None:
        self.env.close()


def discounted(rewards: NDArray[np.float64], gamma: float) -> NDArray[np.float64]:
    """``sum_k gamma^k r_{t+k}`` for each t, ``[T]``."""
    sums = np.zeros(len(rewards) + 1)
    for t in reversed(range(len(rewards))):
        sums[t] = rewards[t] + gamma * sums[t + 1]
    return sums[:-1]
