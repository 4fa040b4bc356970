import pytest

from synther.envs import env_id_of
from synther.envs.names import data_set_names


@pytest.mark.parametrize(
    ("name", "env_id"),
    [
        ("hopper-medium-replay-v2", "Hopper-v2"),
        ("halfcheetah-random-v0", "HalfCheetah-v2"),
        ("walker2d-full-replay-v2", "Walker2d-v2"),
        ("ant-medium-expert-v2", "Ant-v2"),
        ("Hopper-v2", "Hopper-v2"),
        ("quadruped-walk-v0", "quadruped-walk-v0"),
        ("hopper-hop-v0", "hopper-hop-v0"),  # DeepMind Control's hopper, not gym's
        ("walker-walk-v0", "walker-walk-v0"),
        ("antmaze-umaze-v2", "antmaze-umaze-v2"),
        ("antmaze-large-diverse-v2", "antmaze-large-play-v2"),
        ("maze2d-umaze-dense-v1", "maze2d-umaze-dense-v1"),
    ],
)
def test_a_name_stands_for_its_environment(name: str, env_id: str) -> None:
    assert env_id_of(name) == env_id


def test_every_data_set_name_is_translated() -> None:
    assert {env_id_of(name) for name in data_set_names()} == {
        "HalfCheetah-v2",
        "Hopper-v2",
        "Walker2d-v2",
        "Ant-v2",
        "antmaze-umaze-v2",
        "antmaze-medium-play-v2",
        "antmaze-large-play-v2",
    }
