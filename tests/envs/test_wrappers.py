from typing import Any

import numpy as np
import pytest

gymnasium = pytest.importorskip("gymnasium")

from gymnasium import spaces  # noqa: E402

from synther.action_bounds import ActionBounds, DiscreteActionsError  # noqa: E402
from synther.envs.wrappers import in_action_units, own_action_space, standardise  # noqa: E402

LOW, HIGH = np.array([-2.0, 0.0]), np.array([4.0, 1e6])


class Recorder(gymnasium.Env):  # type: ignore[misc, name-defined]
    """Remembers the action it was given; its observations are a dict of different shapes."""

    def __init__(self, action_space: Any = None, observation_space: Any = None) -> None:
        self.action_space = action_space or spaces.Box(LOW, HIGH, dtype=np.float64)
        self.observation_space = observation_space or spaces.Dict(
            {
                "zebra": spaces.Box(-1, 1, (2, 2), np.float64),
                "ant": spaces.Box(-1, 1, (), np.float64),
            }
        )

    def reset(self, **kwargs: Any) -> Any:
        return {"zebra": np.array([[1.0, 2.0], [3.0, 4.0]]), "ant": np.array(5.0)}, {}

    def step(self, action: Any) -> Any:
        self.action = action
        return self.reset()[0], 0.0, False, False, {}


def test_observations_are_flattened_in_the_given_order() -> None:
    observation, _ = standardise(Recorder(), ["zebra", "ant"]).reset()
    np.testing.assert_array_equal(observation, [1, 2, 3, 4, 5])
    assert observation.dtype == np.float32
    observation, _ = standardise(Recorder()).reset()  # gymnasium sorts the keys of a space
    np.testing.assert_array_equal(observation, [5, 1, 2, 3, 4])


def test_actions_are_clipped_then_rescaled() -> None:
    env = standardise(Recorder())
    recorder: Any = env.unwrapped
    for action, expected in [
        ([-1, 1], [-2, 1e6]),
        ([0, 0], [1, 5e5]),
        ([9, -9], [4, 0]),  # outside the range: the ends of the environment's own
    ]:
        env.step(np.array(action, np.float32))
        np.testing.assert_allclose(recorder.action, expected, rtol=1e-12)
        assert recorder.action.dtype == np.float64


def test_the_spaces_are_finite_and_float32() -> None:
    env = standardise(Recorder())
    assert env.action_space == spaces.Box(-1, 1, (2,), np.float32)
    assert env.observation_space.shape == (5,)
    assert env.observation_space.dtype == np.float32
    observation, _ = env.reset()
    assert observation in env.observation_space


def test_a_range_of_minus_one_to_one_is_passed_on_bit_for_bit() -> None:
    unit = spaces.Box(-1, 1, (2,), np.float32)
    env = standardise(Recorder(action_space=unit))
    action = np.array([0.1, -0.7], np.float32)
    env.step(action)
    np.testing.assert_array_equal(env.unwrapped.action, action)


def reached(space: Any, actions: list[float]) -> list[Any]:
    """What an environment with that space gets for actions of ``make_env``."""
    env = standardise(Recorder(action_space=space))
    got = []
    for action in actions:
        env.step(np.array([action], np.float32))
        got.append(env.unwrapped.action[0])
        assert env.unwrapped.action.dtype == space.dtype
    return got


@pytest.mark.parametrize(
    ("low", "high", "kind", "expected"),
    [
        (0, 10, np.int64, [0, 3, 5, 7, 10]),
        (0, 255, np.uint8, [0, 64, 128, 191, 255]),
        (-5, 5, np.int32, [-5, -2, 0, 2, 5]),
        (-1, 1, np.int64, [-1, 0, 0, 0, 1]),
        (-(2**63), 2**63 - 1, np.int64, [-(2**63), -(2**62), 0, 2**62, 2**63 - 1]),
    ],
)
def test_whole_numbers_get_the_nearest_one(
    low: int, high: int, kind: Any, expected: list[int]
) -> None:
    got = reached(spaces.Box(low, high, (1,), kind), [-1, -0.499, 0, 0.499, 1])
    if abs(high) < 2**40:
        assert got == expected
    else:  # float32's -0.499 of such a span is what it is
        assert (got[0], got[4]) == (expected[0], expected[4])
        assert got == sorted(got)
        assert abs(int(got[2])) <= 1


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_a_span_that_leaves_the_type_makes_no_nan(kind: Any) -> None:
    largest = float(np.finfo(kind).max)
    got = reached(spaces.Box(-largest, largest, (1,), kind), [-1, -0.5, 0, 0.5, 1])
    np.testing.assert_allclose(np.float64(got) / largest, [-1, -0.5, 0, 0.5, 1], rtol=1e-3)


def test_discrete_actions_are_refused_as_everywhere() -> None:
    for space in (spaces.Discrete(3), spaces.MultiDiscrete([2, 2]), spaces.MultiBinary(2)):
        with pytest.raises(DiscreteActionsError, match="discrete actions; only continuous ones"):
            standardise(Recorder(action_space=space))


def test_actions_in_the_units_of_a_data_set() -> None:
    """The recorded actions reach the environment as they were recorded."""
    env = in_action_units(standardise(Recorder()), ActionBounds.of(LOW, HIGH, 2))
    assert own_action_space(standardise(Recorder())) == Recorder().action_space
    for action in ([-2, 0], [4, 1e6], [1.5, 123.0]):
        env.step(np.array(action, np.float32))
        np.testing.assert_allclose(env.unwrapped.action, action, rtol=1e-5, atol=0.1)


@pytest.mark.parametrize(
    "space",
    [
        spaces.Discrete(3),
        spaces.Box(-np.inf, 1, (2,), np.float64),
        spaces.Box(-2, 2, (2, 2), np.float64),
    ],
)
def test_unusable_action_spaces_are_refused(space: Any) -> None:
    with pytest.raises(TypeError, match="action space"):
        standardise(Recorder(action_space=space))


def test_unusable_observation_spaces_are_refused() -> None:
    with pytest.raises(TypeError, match="observation space"):
        standardise(Recorder(observation_space=spaces.Dict({"count": spaces.Discrete(3)})))
