import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

gymnasium = pytest.importorskip("gymnasium")

from gymnasium import spaces  # noqa: E402

from synther.envs import Evaluator, evaluate, evaluate_stacked  # noqa: E402
from tests.environments import registered  # noqa: E402

pytestmark = pytest.mark.arithmetic


class Countdown(gymnasium.Env):  # type: ignore[misc, name-defined]
    """Starts at a random n: n steps of reward n + action. Must not be stepped after its end."""

    observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float64)
    action_space = spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.start = self.left = int(self.np_random.integers(2, 30))
        return np.array([self.start, self.left], np.float64), {}

    def step(self, action: Any) -> Any:
        assert self.left > 0, "stepped after the end"
        self.left -= 1
        observation = np.array([self.start, self.left], np.float64)
        return observation, self.start + float(action[0]), self.left == 0, False, {}


@pytest.fixture
def countdown() -> Iterator[str]:
    with registered(Countdown, max_episode_steps=20) as (name,):
        yield name


class Watch:
    """A policy that acts with a constant and remembers every observation that it was given."""

    def __init__(self, action: float, action_dim: int = 1) -> None:
        self.action, self.action_dim, self.seen = action, action_dim, []

    def __call__(self, observations: Any) -> Any:
        assert observations.dtype == np.float32
        self.seen.append(observations)
        return np.full((*observations.shape[:-1], self.action_dim), self.action)


def test_returns_are_those_of_whole_episodes(countdown: str) -> None:
    policy = Watch(0.5)
    returns = evaluate(policy, countdown, episodes=12, seed=0)
    start = policy.seen[0][:, 0].astype(np.float64)
    steps = np.minimum(start, 20)  # a true end, or the time limit
    assert (start > 20).any()
    assert (start < 20).any()
    np.testing.assert_allclose(returns, steps * (start + 0.5))
    assert returns.dtype == np.float64
    assert len(policy.seen) == 20  # one batch for each step of the longest episode


def test_the_number_of_open_environments_changes_nothing(countdown: str) -> None:
    whole = evaluate_stacked(Watch(0.1), countdown, 7, [3, 4])
    for max_envs in (1, 4, 100):
        with Evaluator(countdown, 7, 2, max_envs=max_envs) as evaluator:
            np.testing.assert_array_equal(evaluator.run(Watch(0.1), [3, 4]), whole)


def test_episodes_and_seeds_differ_and_repeat(countdown: str) -> None:
    with Evaluator(countdown, 10) as evaluator:
        first, again = (evaluator.run(Watch(0.0), [5]) for _ in range(2))
        other = evaluator.run(Watch(0.0), [6])
    np.testing.assert_array_equal(first, again)
    assert len(np.unique(first)) > 3
    assert not np.array_equal(first, other)


def test_a_stack_of_agents_plays_what_each_plays_alone() -> None:
    pytest.importorskip("mujoco")
    weights = np.random.default_rng(0).normal(scale=0.3, size=(3, 11, 3)).astype(np.float32)

    def stacked(observations: Any) -> Any:  # [S, E, O] -> [S, E, A]
        return np.tanh(np.einsum("seo,soa->sea", observations, weights, optimize=False))

    together = evaluate_stacked(stacked, "Hopper-v2", 3, [0, 1, 2])
    assert together.shape == (3, 3)
    for k in range(3):

        def alone(observations: Any, k: int = k) -> Any:
            return np.tanh(np.einsum("eo,oa->ea", observations, weights[k], optimize=False))

        np.testing.assert_allclose(together[k], evaluate(alone, "Hopper-v2", 3, k), rtol=1e-3)


def test_an_environment_that_was_used_starts_afresh() -> None:
    pytest.importorskip("mujoco")
    with Evaluator("Hopper-v2", 2) as evaluator:
        first = evaluator.run(Watch(0.3, 3), [0])
        evaluator.run(Watch(-1.0, 3), [1])
        np.testing.assert_array_equal(evaluator.run(Watch(0.3, 3), [0]), first)


class Endless(Countdown):
    def step(self, action: Any) -> Any:
        return np.zeros(2), 1.0, False, False, {}


@pytest.fixture
def endless() -> Iterator[str]:
    with registered(Endless) as (name,):
        yield name


def test_an_environment_without_a_time_limit_gets_one_and_it_is_said(endless: str) -> None:
    said = "Endless-v0 has no time limit; .* cut off after 1000 steps, max_episode_steps"
    with pytest.warns(UserWarning, match=said):
        evaluator = Evaluator(endless, 2)
    with evaluator:
        returns, lengths = evaluator.play(Watch(0.0), [0])
    assert evaluator.max_episode_steps is None
    assert lengths.tolist() == [[1000, 1000]]
    assert returns.tolist() == [[1000, 1000]]


def test_a_time_limit_that_is_given_is_the_environments(endless: str, countdown: str) -> None:
    for name in (endless, countdown):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            evaluator = Evaluator(name, 4, max_episode_steps=1)
        with evaluator:
            assert evaluator.max_episode_steps == 1
            assert evaluator.play(Watch(0.0), [0])[1].tolist() == [[1, 1, 1, 1]]
    assert evaluate(Watch(0.0), endless, 3, 0, max_episode_steps=7).tolist() == [7, 7, 7]


def test_bad_actions_are_refused(countdown: str) -> None:
    with pytest.raises(ValueError, match=r"actions \[1, 4, 2\].*expected \[1, 4, 1\]"):
        evaluate(Watch(0.0, action_dim=2), countdown, 4, 0)
    with pytest.raises(ValueError, match="not finite"):
        evaluate(Watch(np.nan), countdown, 4, 0)


def test_bad_arguments_are_refused(countdown: str) -> None:
    with pytest.raises(ValueError, match="expected 1 or more"):
        evaluate(Watch(0.0), countdown, 0, 0)
    with Evaluator(countdown, 2) as evaluator:
        for seeds, message in (([0, 1], "expected 1 seeds"), ([-1], "expected of each value 0")):
            with pytest.raises(ValueError, match=message):
                evaluator.run(Watch(0.0), seeds)
