"""Evaluation is vectorised: all episodes of all seeds advance together, in one batch."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from synther.envs.faults import EnvironmentFaultError, checked_observation, checked_step
from synther.envs.randomness import reseed_own, same_states, shared_apart, take_shared
from synther.envs.registry import make_env
from synther.envs.simulators import require
from synther.ranges import Count, CountFrom0, Seed, checked

DEFAULT_LIMIT = 1000
"""Steps of an episode in an environment that has no time limit."""
Policy = Callable[[NDArray[np.float32]], ArrayLike]


class Evaluator:
    """Holds the environments open, so that a training run can evaluate again and again.

    Args:
        env_id: a name for ``make_env``.
        episodes: E, episodes for each seed.
        num_seeds: S, agents that are evaluated together (a stack of networks).
        max_envs: how many environments may be open at once. Where S * E is more, each one runs
            several episodes in turn.
        max_episode_steps: the environment's time limit; None for its own. One that has none gets
            ``DEFAULT_LIMIT``, with a warning: its episodes might never end.
        part: ``(k, n)``: of its slots the Evaluator plays every n-th from the k-th on, and opens no
            environments for the others, whose episodes count 0. n Evaluators play the whole.
        env_kwargs: passed to ``make_env``.

    An episode's start depends on its agent's seed and its own number alone, neither on the other
    agents nor on ``max_envs``. So do the random numbers that an environment draws later, and those
    of generators that it keeps beside ``np_random``. Of global generators an evaluation draws as
    its seeds say, and leaves them as they were.
    """

    @checked
    def __init__(
        self,
        env_id: str,
        episodes: Count,
        num_seeds: Count = 1,
        *,
        max_envs: Count = 128,
        max_episode_steps: Count | None = None,
        part: tuple[CountFrom0, Count] = (0, 1),
        **env_kwargs: Any,
    ) -> None:
        self.env_id = env_id
        self.episodes = episodes
        self.num_seeds = num_seeds
        self.options = {"max_envs": max_envs, "max_episode_steps": max_episode_steps, **env_kwargs}
        self.slots = min(episodes, max(1, max_envs // num_seeds))
        self._own = list(np.ndindex(num_seeds, self.slots))[part[0] :: part[1]]
        self._make = functools.partial(
            make_env, env_id, max_episode_steps=max_episode_steps, **env_kwargs
        )
        self._first = self._make()
        self._vector: Any = None  # of all of them, made when they are needed
        self.observation_dim = _width(self._first.observation_space)
        self.action_dim = _width(self._first.action_space)
        spec = self._first.spec
        self.max_episode_steps: int | None = spec.max_episode_steps if spec else None
        """The time limit, None where the environment has none of its own."""
        self.longest = self.max_episode_steps or DEFAULT_LIMIT
        """Steps after which an episode is cut off."""
        self.drew_shared = False
        """Whether an environment drew from generators that environments share: what it drew then
        depends on which others are stepped beside it."""
        if self.max_episode_steps is None:
            warnings.warn(
                f"{env_id} has no time limit; episodes of an evaluation are cut off after "
                f"{DEFAULT_LIMIT} steps, max_episode_steps sets another number",
                stacklevel=2,
            )

    @checked
    def run(self, policy: Policy, seeds: Sequence[Seed]) -> NDArray[np.float64]:
        """Undiscounted returns ``[S, E]`` of all episodes; see :meth:`play`."""
        return self.play(policy, seeds)[0]

    @checked
    def play(
        self, policy: Policy, seeds: Sequence[Seed]
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Play all episodes to their end.

        Args:
            policy: observations ``[S, slots, O]`` float32 -> actions ``[S, slots, A]``; ``slots``
                is E unless ``max_envs`` is less than S * E. Slots whose episodes are over repeat
                their last observation, and their actions are not used.
            seeds: S numbers, not negative.

        Returns:
            Undiscounted returns ``[S, E]``, and the episodes' lengths in steps ``[S, E]``. An
            episode in which the environment gave a reward or an observation that is not finite is
            over, with a warning, and its return is NaN.

        Raises:
            ValueError: a wrong number of seeds, or actions of the wrong shape or not finite.
        """
        if len(seeds) != self.num_seeds:
            raise ValueError(f"expected {self.num_seeds} seeds that are not negative, got {seeds}")
        with shared_apart(self._first, list(seeds)):
            self._open()  # an environment may draw as it is made
        with shared_apart(self._first, list(seeds)):
            before = take_shared(self._first)
            played = self._play(policy, seeds)
            self.drew_shared |= not same_states(before, take_shared(self._first))
            return played

    def _play(
        self, policy: Policy, seeds: Sequence[Seed]
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        returns = np.zeros((self.num_seeds, self.episodes))
        lengths = np.zeros(returns.shape, np.int64)
        observations = np.zeros((self.num_seeds, self.slots, self.observation_dim), np.float32)
        playing: dict[tuple[int, ...], int] = {}  # slot -> number of its episode

        def begin(slot: tuple[int, ...], episode: int) -> None:
            playing.pop(slot, None)
            while slot not in playing and episode < self.episodes:
                try:
                    observations[slot] = self._begin(slot, seeds, episode)
                    playing[slot] = episode
                except EnvironmentFaultError as fault:
                    returns[slot[0], episode] = _not_counted(fault)
                    episode += self.slots

        for slot in self._own:
            begin(slot, slot[1])
        while playing:
            actions = self._act(policy, observations)
            for slot, episode in list(playing.items()):
                lengths[slot[0], episode] += 1
                try:
                    observations[slot], reward, ended = self._step(
                        slot, actions[slot], lengths[slot[0], episode]
                    )
                except EnvironmentFaultError as fault:
                    reward, ended = _not_counted(fault), True
                returns[slot[0], episode] += reward
                if ended:
                    begin(slot, episode + self.slots)
        return returns, lengths

    def _open(self) -> None:
        """Open the environments. The vector environment makes, checks and closes its parts. They
        are stepped one by one: its own step would go on simulating episodes that are over."""
        if self._vector is None:
            makers = [lambda: self._first, *[self._make] * (len(self._own) - 1)]
            self._vector = require("gymnasium.vector").SyncVectorEnv(makers)
            self._envs = dict(zip(self._own, self._vector.envs, strict=True))

    def _step(
        self, slot: tuple[int, ...], action: NDArray[Any], number: int
    ) -> tuple[NDArray[np.float32], float, bool]:
        """Observation, reward, and whether the episode is over."""
        env = self._envs[slot]
        when = f"step {number} of an evaluation"
        seen, reward, terminated, truncated = checked_step(env, env.step(action), when)
        return seen, reward, terminated or truncated or number >= self.longest

    def _begin(self, slot: tuple[int, ...], seeds: Sequence[Seed], episode: int) -> Any:
        env, seed = self._envs[slot], episode_seed(seeds[slot[0]], episode)
        reseed_own(env, seed)
        return checked_observation(env, env.reset(seed=seed)[0], "the start of an evaluation")

    def _act(self, policy: Policy, observations: NDArray[np.float32]) -> NDArray[Any]:
        actions = np.asarray(policy(observations.copy()))  # the policy may keep what it was given
        expected = (self.num_seeds, self.slots, self.action_dim)
        if actions.shape != expected:
            raise ValueError(
                f"{self.env_id}: the policy gave actions {list(actions.shape)} for observations "
                f"{list(observations.shape)}, expected {list(expected)}"
            )
        if not all(np.isfinite(actions[slot]).all() for slot in self._own):
            raise ValueError(f"{self.env_id}: the policy gave an action that is not finite")
        return actions

    def close(self) -> None:
        (self._first if self._vector is None else self._vector).close()

    def __enter__(self) -> Evaluator:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _width(space: Any) -> int:
    return int(space.shape[0])


def _not_counted(fault: EnvironmentFaultError) -> float:
    warnings.warn(f"{fault}; the return of this episode is nan", stacklevel=4)
    return float("nan")


def episode_seed(seed: int, episode: int) -> int:
    """The seed of the reset that begins an episode, whose start depends on the seed and on its own
    number alone."""
    return int(np.random.SeedSequence([seed, episode]).generate_state(1)[0])


@checked
def evaluate(
    policy: Policy, env_id: str, episodes: Count, seed: Seed, **env_kwargs: Any
) -> NDArray[np.float64]:
    """Returns ``[episodes]`` of one policy: observations ``[episodes, O]`` -> ``[episodes, A]``.

    The same as ``evaluate_stacked`` with one seed. See ``Evaluator``, which also saves the making
    of the environments where there is more than one evaluation.
    """

    def stacked(observations: NDArray[np.float32]) -> NDArray[Any]:
        return np.asarray(policy(observations[0]))[None]

    return evaluate_stacked(stacked, env_id, episodes, [seed], **env_kwargs)[0]


@checked
def evaluate_stacked(
    policy: Policy, env_id: str, episodes: Count, seeds: Sequence[Seed], **env_kwargs: Any
) -> NDArray[np.float64]:
    """Returns ``[S, episodes]`` of S agents: ``[S, episodes, O]`` -> ``[S, episodes, A]``.

    Agent k's episodes are those that ``evaluate`` plays with ``seeds[k]``.
    """
    with Evaluator(
        env_id, episodes, len(seeds), max_envs=episodes * len(seeds), **env_kwargs
    ) as evaluator:
        return evaluator.run(policy, seeds)
