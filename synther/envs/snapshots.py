"""A snapshot saves where an environment stands in its episode, and puts it back there.

What follows a restored snapshot is equal, bit for bit, for everything on MuJoCo (gymnasium's
environments, ours, and DeepMind Control) and for environments whose state is all in plain
attributes and in generators of random numbers, wherever these are found (``randomness.py``), such
as gymnasium's classic control. Of any other there is no snapshot.
"""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from synther.envs import randomness
from synther.envs.dmc import suite_environment
from synther.envs.randomness import GENERATORS, objects_of
from synther.envs.simulators import require

if TYPE_CHECKING:
    import gymnasium

State = dict[str, Any]
"""Tensors, numbers, text, and dicts of these: what a checkpoint may hold."""

_PLAIN = (bool, int, float, str, type(None), np.generic)
_WITHOUT_STATE = (types.ModuleType, type, *GENERATORS)
"""Modules and classes, and generators, which are saved apart."""
_FUNCTIONS = (types.FunctionType, types.MethodType, types.BuiltinFunctionType)
_OF_CONSTRUCTION = ("_saved_kwargs", "_ezpickle_args", "_ezpickle_kwargs", "env_type", "env")
_SAVED_OR_FIXED = (
    "mujoco", "dm_control", "shimmy", "synther.envs",
    "gymnasium.spaces", "gymnasium.envs.registration", "gymnasium.envs.mujoco",
)  # fmt: skip
"""Modules of attributes that are saved by themselves, that never change, or that only draw."""


class Snapshots:
    """Snapshots of one environment.

    Args:
        env: from ``make_env``, before its model has been changed by a ``reset``.
    """

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        self.env = env
        self._shared = randomness.take_shared(env)
        self._model = {key: value.copy() for key, value in _arrays(_mujoco(env)[0])}

    def take(self) -> State | None:
        """The state of the environment; None where it cannot be read."""
        objects = list(objects_of(self.env))
        if any(_unknown(each, objects) for each in objects):
            return None
        model, data = _mujoco(self.env)
        changed = {
            key: value
            for key, value in _arrays(model)
            if not np.array_equal(value, self._model[key])
        }
        return {
            "objects": [_stored(_plain_attributes(each)) for each in objects],
            "generators": [_stored(randomness.take_own(each)) for each in objects],
            "shared": _stored(
                randomness.drawn_from(self._shared, randomness.take_shared(self.env))
            ),
            "model": _stored(changed),
            "data": _stored(dict(_arrays(data))),
            "integration": None if data is None else torch.from_numpy(_integration(model, data)),
        }

    def put_back_shared(self, state: State) -> None:
        """Let the generators that other environments draw from as well, such as numpy's global one,
        go on where ``state`` was taken; for use after those others have been made."""
        if "shared" in state:
            randomness.put_back_shared(self.env, _loaded(state["shared"]))

    def put_back(self, state: State) -> None:
        """Continue where ``state`` was taken, in an environment of the same name."""
        self.env.reset(seed=0)  # so that everything that a reset makes is there
        objects = list(objects_of(self.env))
        for each, attributes, generators in zip(
            objects, state["objects"], _generators(state, objects), strict=True
        ):
            vars(each).update(_loaded(attributes))
            randomness.put_back_own(each, _loaded(generators))
        self.put_back_shared(state)
        model, data = _mujoco(self.env)
        if data is None:
            return
        changed = _loaded(state["model"])
        for key, value in _arrays(model):
            value[...] = changed.get(key, self._model[key])
        mujoco = require("mujoco")
        spec = mujoco.mjtState.mjSTATE_INTEGRATION
        mujoco.mj_setState(model, data, state["integration"].numpy(), spec)
        # Contacts and constraints of this state, which dm_control's next step starts from.
        mujoco.mj_step1(model, data)
        before = _loaded(state["data"])
        for key, value in _arrays(data):
            if key in before and before[key].shape == value.shape:
                value[...] = before[key]


def _generators(state: State, objects: list[Any]) -> list[dict[str, Any]]:
    """The states of each object's generators by their places."""
    if "generators" in state:
        return list(state["generators"])
    # A snapshot of an earlier version has the one that ``reset`` seeds, and not its place.
    return [
        {} if random is None else {next(iter(randomness.generators_of(each))): random}
        for each, random in zip(objects, state["random"], strict=True)
    ]


def _mujoco(env: Any) -> tuple[Any, Any]:
    """MjModel and MjData; None and None where the environment is not on MuJoCo."""
    simulation = env.unwrapped
    if suite := suite_environment(simulation):
        return suite.physics.model.ptr, suite.physics.data.ptr
    model, data = getattr(simulation, "model", None), getattr(simulation, "data", None)
    on_mujoco = type(data).__module__.split(".")[0] == "mujoco"
    return (model, data) if on_mujoco else (None, None)


def _arrays(struct: Any) -> Iterator[tuple[str, NDArray[Any]]]:
    """The arrays of an MjModel or MjData by name, as views; nothing of None."""
    for name in () if struct is None else dir(struct):
        if not name.startswith("_"):
            value = getattr(struct, name)
            if isinstance(value, np.ndarray) and value.dtype != object and value.size:
                yield name, value


def _integration(model: Any, data: Any) -> NDArray[np.float64]:
    mujoco = require("mujoco")
    spec = mujoco.mjtState.mjSTATE_INTEGRATION
    state = np.empty(mujoco.mj_stateSize(model, spec))
    mujoco.mj_getState(model, data, state, spec)
    return state


def _is_plain(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(_is_plain(each) for pair in value.items() for each in pair)
    return isinstance(value, _PLAIN) or (isinstance(value, np.ndarray) and value.dtype != object)


def _plain_attributes(thing: Any) -> State:
    return {key: value for key, value in vars(thing).items() if _is_plain(value)}


def _unknown(thing: Any, objects: list[Any]) -> list[str]:
    """The attributes that may hold state and cannot be saved."""
    return [
        key
        for key, value in vars(thing).items()
        if key not in _OF_CONSTRUCTION and not _is_known(value, objects)
    ]


def _is_known(value: Any, objects: list[Any]) -> bool:
    """Whether a value is saved, by itself or as one of the environment's objects, or never
    changes."""
    if isinstance(value, _FUNCTIONS):
        owner = getattr(value, "__self__", None)
        cells = [each.cell_contents for each in getattr(value, "__closure__", None) or ()]
        # A generator inside a function is out of reach; that of a bound method is not.
        return _is_known(owner, objects) and not any(
            isinstance(each, GENERATORS) or not _is_known(each, objects) for each in cells
        )
    return (
        _is_plain(value)
        or isinstance(value, _WITHOUT_STATE)
        or type(value).__module__.startswith(_SAVED_OR_FIXED)
        or any(value is each for each in objects)
    )


def _stored(value: Any) -> Any:
    """Arrays as tensors, numpy's numbers as Python's, all through."""
    if isinstance(value, Mapping):
        return {key: _stored(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(map(_stored, value))
    if isinstance(value, np.ndarray):
        return torch.from_numpy(np.ascontiguousarray(value)).clone()
    return value.item() if isinstance(value, np.generic) else value


def _loaded(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _loaded(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(map(_loaded, value))
    return value.numpy().copy() if isinstance(value, torch.Tensor) else value
