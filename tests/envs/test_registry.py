from typing import Any

import numpy as np
import pytest

gymnasium = pytest.importorskip("gymnasium")
pytest.importorskip("mujoco")

from synther.envs import UnknownEnvironmentError, make_env  # noqa: E402

pytestmark = pytest.mark.arithmetic


def test_a_data_set_name_makes_its_environment() -> None:
    a, b = make_env("hopper-medium-replay-v2"), make_env("Hopper-v2")
    np.testing.assert_array_equal(a.reset(seed=3)[0], b.reset(seed=3)[0])
    assert a.spec is not None
    assert (a.spec.id, a.spec.max_episode_steps) == ("Hopper-v2", 1000)


@pytest.mark.filterwarnings("ignore:.*out of date:DeprecationWarning")
@pytest.mark.parametrize("env_id", ["Hopper-v4", "Hopper-v5"])
def test_gymnasiums_own_versions_are_left_as_they_are(env_id: str) -> None:
    ours, plain = make_env(env_id), gymnasium.make(env_id)
    np.testing.assert_allclose(ours.reset(seed=1)[0], plain.reset(seed=1)[0], rtol=1e-6)
    action = np.array([0.5, -0.5, 1.0], np.float32)
    for _ in range(10):
        mine, theirs = ours.step(action), plain.step(action)
        np.testing.assert_allclose(mine[0], theirs[0], rtol=1e-6, atol=1e-7)
        assert mine[1] == theirs[1]


def test_v4_and_v2_are_different_physics() -> None:
    v2: Any = make_env("Hopper-v2").unwrapped
    v5: Any = make_env("Hopper-v5").unwrapped
    assert np.abs(v2.model.body_mass - v5.model.body_mass).max() > 0.1


@pytest.mark.parametrize("env_id", ["Hopper-v2", "Pendulum-v1", "cartpole-balance-v0"])
def test_the_time_limit_can_be_chosen(env_id: str) -> None:
    if env_id.startswith("cartpole"):
        pytest.importorskip("dm_control")
    env = make_env(env_id, max_episode_steps=3)
    env.reset(seed=0)
    action = np.zeros(env.action_space.shape, np.float32)
    assert [env.step(action)[3] for _ in range(3)] == [False, False, True]


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("Hoper-v2", "Hopper-v2"),
        ("hoper-medium-v2", "hopper-medium-v2"),
        ("hopper-v2", "Hopper-v2"),
        ("Hopper-v9", "Hopper-v2"),
        ("Hopper-v3", "Hopper-v2"),
        ("antmaze-umase-v2", "antmaze-umaze-v2"),
        ("maze2d-umaze-v0", "maze2d-umaze-v1"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*out of date:DeprecationWarning")
def test_an_unknown_name_is_refused_with_the_nearest(name: str, nearest: str) -> None:
    with pytest.raises(UnknownEnvironmentError, match=f"'{name}'; nearest: .*{nearest}"):
        make_env(name)


def test_a_name_like_no_other() -> None:
    with pytest.raises(UnknownEnvironmentError, match="nearest: none"):
        make_env("zzzzzzzzzzzz")


def test_an_environment_with_discrete_actions_is_refused() -> None:
    with pytest.raises(TypeError, match=r"CartPole-v1.*Discrete\(2\)"):
        make_env("CartPole-v1")
