"""The units of actions are stated, the environment's, or unknown; what is assumed is said."""

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from synther.action_bounds import ActionBounds
from synther.datasets.action_units import (
    ActionUnitsWarning,
    in_action_bounds,
    sample_bounds,
    with_action_bounds,
)
from synther.transitions import TransitionError, Transitions
from tests.data import random_transitions

pytest.importorskip("gymnasium")

UNIFORM = random_transitions(400, 3, 1)  # actions in [-1, 1], which reach both ends


def rows(scale: float, env_id: str | None = "Pendulum-v1", **metadata: Any) -> Transitions:
    known = {} if env_id is None else {"env_id": env_id}
    return replace(UNIFORM, actions=scale * UNIFORM.actions, metadata={**known, **metadata})


def bounds_of(data: Transitions, **given: Any) -> tuple[float, float] | None:
    found = with_action_bounds(data, **given).action_bounds
    return None if found is None else (float(found.low[0]), float(found.high[0]))


@pytest.mark.parametrize(
    ("data", "given", "expected"),
    [
        (rows(2.0), {}, (-2, 2)),  # as Pendulum-v1 has them
        (rows(2.0, None), {"env_id": "Pendulum-v1"}, (-2, 2)),
        (rows(2.0), {"low": -4, "high": 4}, (-4, 4)),  # who says it is believed
        (rows(0.5, action_low=-0.5, action_high=[0.5]), {}, (-0.5, 0.5)),
        (rows(1.0, "halfcheetah-medium-v2"), {}, (-1, 1)),
        (rows(5.0, None), {}, None),
        (rows(1.0, None), {}, None),
        (rows(1.0, "NoSuch-v0"), {}, None),
    ],
)
def test_what_is_known_is_taken_without_a_word(
    data: Transitions, given: dict[str, Any], expected: tuple[float, float] | None
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert bounds_of(data, **given) == expected


def test_a_narrower_space_is_the_own_one_unless_the_rows_leave_it() -> None:
    humanoid = replace(random_transitions(400, 3, 17), metadata={"env_id": "Humanoid-v2"})
    own = replace(humanoid, actions=np.float32(0.4) * humanoid.actions)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert bounds_of(own) == pytest.approx((-0.4, 0.4))
    with pytest.warns(ActionUnitsWarning, match=r"actions in \[-1, 1\] that stand for it"):
        assert bounds_of(humanoid) == (-1, 1)


def test_rows_that_fit_two_readings_are_read_by_how_far_they_reach_and_it_is_said() -> None:
    with pytest.warns(ActionUnitsWarning, match="taken for actions in .* that stand for it"):
        assert bounds_of(rows(1.0)) == (-1, 1)
    with pytest.warns(ActionUnitsWarning, match="taken for actions in its units"):
        assert bounds_of(rows(0.7)) == (-2, 2)


def test_rows_outside_every_range_are_said_and_those_far_outside_refused() -> None:
    with pytest.warns(ActionUnitsWarning, match=r"rows 'actions' lie outside .* of Pendulum-v1"):
        assert bounds_of(rows(2.2)) == (-2, 2)
    with pytest.raises(TransitionError, match=r"lie far outside those of Pendulum-v1, \[-2, 2\]"):
        with_action_bounds(rows(100.0))


def test_an_environment_of_discrete_actions_is_refused() -> None:
    with pytest.raises(TransitionError, match=r"CartPole-v1: .*Discrete\(2\): discrete actions;"):
        with_action_bounds(rows(1.0, "CartPole-v1"))


@pytest.mark.parametrize("given", [{"low": -1}, {"low": 1, "high": -1}, {"low": [1, 2], "high": 3}])
def test_bounds_of_the_caller_are_checked(given: dict[str, Any]) -> None:
    with pytest.raises(TransitionError, match=r"transitions: .*'action_"):
        with_action_bounds(rows(1.0), **given)


def test_without_bounds_samples_keep_to_the_data() -> None:
    """As `upsample` always had it; whole numbers 0 to 3 come back in their range."""
    data = random_transitions(200, 3, 2)
    actions = np.stack([data.actions[:, 0], np.arange(200) % 4], axis=1)
    assert sample_bounds(data) == ActionBounds.unit(2)
    found = sample_bounds(replace(data, actions=actions))
    np.testing.assert_array_equal([found.low, found.high], [[-1, 0], [1, 3]])
    with pytest.warns(ActionUnitsWarning, match="nothing says between which bounds"):
        sample_bounds(replace(data, actions=actions), warn=True)


def test_rows_are_brought_into_other_bounds() -> None:
    mapped = in_action_bounds(rows(2.0, action_low=-2, action_high=2), -1, 1)
    np.testing.assert_allclose(mapped.actions, UNIFORM.actions, rtol=1e-6, atol=1e-7)
    assert mapped.action_bounds == ActionBounds.unit(1)
    with pytest.raises(TransitionError, match="are not known"):
        in_action_bounds(rows(2.0), -1, 1)


def test_making_the_environment_draws_nothing() -> None:
    from synther.envs import action_spaces

    action_spaces._bounds_of.cache_clear()
    np.random.seed(3)  # noqa: NPY002
    expected = np.random.random()  # noqa: NPY002
    np.random.seed(3)  # noqa: NPY002
    with_action_bounds(rows(2.0))
    assert np.random.random() == expected  # noqa: NPY002
