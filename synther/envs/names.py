"""The name of a D4RL data set says which environment it belongs to."""

from __future__ import annotations

_GYM_ENVIRONMENTS = {
    "halfcheetah": "HalfCheetah-v2",
    "hopper": "Hopper-v2",
    "walker2d": "Walker2d-v2",
    "ant": "Ant-v2",
}
_QUALITIES = (
    "random",
    "medium",
    "expert",
    "medium-replay",
    "medium-expert",
    "full-replay",
    "random-expert",
)
_ENVIRONMENT_OF = {
    f"{task}-{quality}-v{version}": env_id
    for task, env_id in _GYM_ENVIRONMENTS.items()
    for quality in _QUALITIES
    for version in (0, 1, 2)
}
# The diverse data sets were collected with other starts and goals; D4RL evaluates both kinds alike.
_ENVIRONMENT_OF |= {
    "antmaze-umaze-diverse-v2": "antmaze-umaze-v2",
    "antmaze-medium-diverse-v2": "antmaze-medium-play-v2",
    "antmaze-large-diverse-v2": "antmaze-large-play-v2",
}


def env_id_of(name: str) -> str:
    """The environment that a name stands for.

    ``hopper-medium-replay-v2`` -> ``Hopper-v2``; the names of environments (gym ids, DeepMind
    Control, maze2d, antmaze) stand for themselves. Whether an environment of that name exists shows
    in ``make_env`` only.
    """
    return _ENVIRONMENT_OF.get(name, name)


def other_environment(samples: str | None, data: str | None) -> str | None:
    """Two names that stand for different environments, in words; None where they stand for the same
    one, or one of them is not known."""
    if not samples or not data or env_id_of(samples) == env_id_of(data):
        return None
    return f"samples of {env_id_of(samples)}, and the data are of {env_id_of(data)}"


def data_set_names() -> list[str]:
    """The names of D4RL data sets that ``env_id_of`` translates."""
    return list(_ENVIRONMENT_OF)
