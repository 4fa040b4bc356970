"""The random numbers of an environment are saved, put back and seeded, wherever they come from.

``reset(seed=...)`` seeds gymnasium's ``np_random`` and the generator of a dm_control task. Some
environments keep further generators, in attributes of their own, of their class or of their module,
or draw from the global ones of numpy, Python and torch. These are found here by their type.
"""

from __future__ import annotations

import contextlib
import random
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

from synther.envs.dmc import suite_environment

GENERATORS = (np.random.Generator, np.random.RandomState, random.Random)
_SEEDED_BY_RESET = ("_np_random", "_random")
_GLOBAL = ("numpy", "python", "torch")
_LIBRARIES = ("builtins", "abc", "typing", "gymnasium", "mujoco", "dm_control", "shimmy", "synther")
"""Packages whose classes and modules hold no generators."""

Generators = dict[str, Any]
"""Generators by the place where they were found."""
States = dict[str, Any]
"""Their states, in numbers, text, arrays, and dicts and tuples of these."""


def objects_of(env: Any) -> Iterator[Any]:
    """Everything that holds a part of the state: wrappers, environment, dm_control's own parts."""
    while hasattr(env, "env"):
        yield env
        env = env.env
    yield env
    if suite := suite_environment(env):
        yield suite
        yield suite.task


def generators_of(thing: Any) -> Generators:
    """The generators in the attributes of an object: themselves, by a bound method such as
    ``rng.normal``, or those that its spaces sample from."""
    found: Generators = {}
    for key, value in vars(thing).items():
        owner = getattr(value, "__self__", None)
        if isinstance(value, GENERATORS):
            found[key] = value
        elif isinstance(owner, GENERATORS):
            found[key] = owner
        elif _is_space(value):
            sampling = vars(value).get("_np_random")  # made at the first sample
            found |= {} if sampling is None else {f"{key}.np_random": sampling}
    return found


def take_own(thing: Any) -> States:
    """The states of an object's generators."""
    return {key: _state(each) for key, each in generators_of(thing).items()}


def put_back_own(thing: Any, states: Mapping[str, Any]) -> None:
    """Set the generators of an object to what :func:`take_own` gave; those that it has not made yet
    are made."""
    for key, state in states.items():
        space, _, of_space = key.partition(".")
        if of_space:
            generator = vars(thing)[space].np_random  # which makes it
        elif (generator := generators_of(thing).get(key)) is None:
            generator = vars(thing)[key] = _made_for(state)
        _set_state(generator, state)


def take_shared(env: Any) -> States:
    """The states of the generators that environments of a kind share: those of their classes and
    modules, and the global ones."""
    return {
        "numpy": np.random.get_state(legacy=False),  # noqa: NPY002 - environments draw from it
        "python": random.getstate(),
        "torch": torch.get_rng_state().numpy().copy(),
        **{key: _state(each) for key, each in _shared(env).items()},
    }


def drawn_from(before: States, now: States) -> States:
    """The states ``now``, but for those of the global generators that are what they were
    ``before``: nobody draws from these."""
    return {
        key: each
        for key, each in now.items()
        if key not in _GLOBAL or not same_states(each, before.get(key))
    }


def same_states(one: Any, other: Any) -> bool:
    """Whether two states, or dicts of states, are equal."""
    if isinstance(one, np.ndarray):
        return np.array_equal(one, other)
    if isinstance(one, dict):
        return isinstance(other, dict) and all(same_states(one[key], other.get(key)) for key in one)
    return bool(one == other)


def put_back_shared(env: Any, states: Mapping[str, Any]) -> None:
    """Set generators that environments share to what :func:`take_shared` gave, or some of it."""
    if "numpy" in states:
        np.random.set_state(states["numpy"])  # noqa: NPY002
    if "python" in states:
        random.setstate(states["python"])
    if "torch" in states:
        torch.set_rng_state(torch.from_numpy(np.ascontiguousarray(states["torch"])))
    for key, generator in _shared(env).items():
        if key in states:
            _set_state(generator, states[key])


def reseed_own(env: Any, seed: int) -> None:
    """Seed the generators in the environment's attributes that ``reset(seed=...)`` does not."""
    for number, thing in enumerate(objects_of(env)):
        for key, generator in generators_of(thing).items():
            if key not in _SEEDED_BY_RESET:
                _seed(generator, (seed, number, *key.encode()))


@contextlib.contextmanager
def shared_apart(env: Any, seeds: list[int]) -> Iterator[None]:
    """Inside, the generators that environments share begin from ``seeds``; after it they go on as
    if nothing had been drawn."""
    before = take_shared(env)
    words = np.random.SeedSequence(seeds).generate_state(1)
    np.random.seed(words)  # noqa: NPY002
    random.seed(int(words[0]))
    torch.default_generator.manual_seed(int(words[0]))  # the CPU's alone: a GPU's is not put back
    for key, generator in _shared(env).items():
        _seed(generator, (int(words[0]), *key.encode()))
    try:
        yield
    finally:
        put_back_shared(env, before)


def _shared(env: Any) -> Generators:
    found: Generators = {}
    for thing in objects_of(env):
        for kind in type(thing).__mro__:
            if kind.__module__.split(".")[0] in _LIBRARIES:
                continue
            places = {kind.__name__: vars(kind), kind.__module__: {}}
            if (module := sys.modules.get(kind.__module__)) is not None:
                places[kind.__module__] = vars(module)
            for place, names in places.items():
                for key, value in names.items():
                    if isinstance(value, GENERATORS):
                        found[f"{place}.{key}"] = value
                    elif _is_space(value):
                        found[f"{place}.{key}.np_random"] = value.np_random
    return found


def _is_space(value: Any) -> bool:
    return type(value).__module__.startswith("gymnasium.spaces")


def _state(generator: Any) -> Any:
    if isinstance(generator, random.Random):
        return generator.getstate()
    if isinstance(generator, np.random.RandomState):
        return generator.get_state(legacy=False)
    return dict(generator.bit_generator.state)


def _made_for(state: Any) -> Any:
    """A generator of the kind that ``state`` is of."""
    if not isinstance(state, Mapping):
        return random.Random()
    if "has_gauss" in state:
        return np.random.RandomState()
    return np.random.Generator(getattr(np.random, state["bit_generator"])())


def _set_state(generator: Any, state: Any) -> None:
    if isinstance(generator, random.Random):
        generator.setstate(state)
    elif isinstance(generator, np.random.RandomState):
        generator.set_state(state)
    else:
        generator.bit_generator.state = state


def _seed(generator: Any, words: tuple[int, ...]) -> None:
    number = int(np.random.SeedSequence(words).generate_state(1)[0])
    if isinstance(generator, np.random.Generator):
        generator.bit_generator.state = type(generator.bit_generator)(number).state
    else:
        generator.seed(number)
