"""An environment that gives a NaN, or no number, is named at once, and nothing of it is kept."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest

from synther.envs import EnvironmentFaultError, Evaluator, make_env
from synther.envs.faults import checked_observation, checked_step
from tests.environments import registered


class FaultyAtThird(gymnasium.Env):  # type: ignore[type-arg]
    """What it is made with is given at step 3, and it goes on after that."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float64)
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self, **faults: Any) -> None:
        self.faults = faults

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.count = 0
        return self.faults.get("first", np.zeros(2)), {}

    def step(self, action: Any) -> Any:
        self.count += 1
        given = {"observation": np.ones(2), "reward": 1.0, "terminated": False, "truncated": False}
        if self.count == 3:
            given |= {key: value for key, value in self.faults.items() if key in given}
        return *given.values(), {}


@pytest.fixture(autouse=True)
def _registered() -> Iterator[None]:
    with registered(FaultyAtThird, max_episode_steps=5):
        yield


def third_step(**faults: Any) -> tuple[Any, ...]:
    env = make_env("FaultyAtThird-v0", **faults)
    env.reset(seed=0)
    for number in (1, 2, 3):
        given = checked_step(env, env.step(np.zeros(1, np.float32)), f"step {number}")
    return given


NOT_FINITE = [
    ({"reward": float("nan")}, r"reward that is not finite as float32: nan"),
    ({"reward": -np.inf}, r"reward that is not finite as float32: -inf"),
    ({"reward": 1e300}, r"reward that is not finite as float32: 1e\+300"),
    ({"reward": np.array([np.nan])}, r"reward that is not finite as float32: nan"),
    ({"observation": np.array([0, np.nan])}, r"observation that is not finite .* number 1 is nan"),
    ({"observation": np.array([1e300, 0])}, r"observation that is not finite .* number 0 is inf"),
]
NO_NUMBER = [
    ({"reward": None}, r"for 'reward' a NoneType None, expected a number"),
    ({"reward": "1.0"}, r"for 'reward' a str '1.0', expected a number"),
    ({"reward": np.zeros(2)}, r"for 'reward' a ndarray of shape \[2\], expected a number"),
    ({"terminated": np.zeros(3, bool)}, r"for 'terminated' a ndarray of shape \[3\]"),
    ({"truncated": None}, r"for 'truncated' a NoneType None"),
    ({"observation": np.zeros(3)}, r"observation of shape \[3\], expected numbers of shape \[2\]"),
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("faults", "message"), [*NOT_FINITE, *NO_NUMBER])
def test_a_fault_names_environment_step_and_value(faults: dict[str, Any], message: str) -> None:
    with pytest.raises(EnvironmentFaultError, match=f"FaultyAtThird-v0: at step 3 .*{message}"):
        third_step(**faults)


@pytest.mark.parametrize(
    "reward", [2, 2.0, np.float64(2), np.float32(2), np.int64(2), np.array(2.0), np.array([2.0]),
               np.array([[2]]), True + True],
)  # fmt: skip
def test_one_number_is_a_reward_whatever_it_lies_in(reward: Any) -> None:
    seen, number, *flags = third_step(reward=reward, terminated=np.array([True]))
    assert (number, flags) == (2.0, [True, False])
    assert type(number) is float
    np.testing.assert_array_equal(seen, [1, 1])


def test_a_first_observation_is_looked_at_too() -> None:
    env = make_env("FaultyAtThird-v0", first=np.array([np.inf, 0]))
    with pytest.raises(EnvironmentFaultError, match="at the start the environment gave an obs"):
        checked_observation(env, env.reset(seed=0)[0], "the start")


@pytest.mark.filterwarnings("ignore:.*WARN")
@pytest.mark.parametrize(("faults", "message"), NOT_FINITE)
def test_an_evaluation_goes_on_and_the_episode_counts_as_nan(
    faults: dict[str, Any], message: str
) -> None:
    seen = []

    def policy(observations: np.ndarray) -> np.ndarray:
        seen.append(observations)
        return observations[..., :1] * 0

    with (
        Evaluator("FaultyAtThird-v0", 3, max_envs=2, **faults) as evaluator,
        pytest.warns(UserWarning, match=f"at step 3 of an evaluation .*{message}"),
    ):
        returns, lengths = evaluator.play(policy, [0])
    assert np.isnan(returns).all()
    assert lengths.tolist() == [[3, 3, 3]]
    assert np.isfinite(seen).all()  # the policy is never asked about it


def test_an_episode_that_begins_with_a_nan_is_not_played() -> None:
    first = np.array([np.nan, 0])
    with (
        Evaluator("FaultyAtThird-v0", 3, first=first) as evaluator,
        pytest.warns(UserWarning, match="at the start of an evaluation"),
    ):
        returns, lengths = evaluator.play(lambda seen: seen[..., :1], [0])
    assert np.isnan(returns).all()
    assert not lengths.any()
