"""Randomness of any origin: what a restored environment draws is what it would have drawn."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch

from synther.envs import Evaluator, make_env
from synther.envs.randomness import shared_apart
from synther.envs.snapshots import Snapshots
from synther.files import checkpoint
from tests.environments import registered

MODULE_RNG = np.random.default_rng(5)


class Noisy(gymnasium.Env):  # type: ignore[type-arg]
    """Observes nothing but noise."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)

    def draw(self) -> float:
        raise NotImplementedError

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        return np.array([self.draw(), self.draw()], np.float32), {}

    def step(self, action: Any) -> Any:
        return np.array([self.draw(), action[0]], np.float32), self.draw(), False, False, {}


class OwnGenerator(Noisy):
    def __init__(self) -> None:
        self.rng = np.random.default_rng()

    def draw(self) -> float:
        return float(self.rng.normal())


class OtherBits(Noisy):
    def __init__(self) -> None:
        self.rng = np.random.Generator(np.random.SFC64())

    def draw(self) -> float:
        return float(self.rng.random())


class OldGenerator(Noisy):
    def __init__(self) -> None:
        self.rng = np.random.RandomState()

    def draw(self) -> float:
        return float(self.rng.normal())


class PythonsGenerator(Noisy):
    def __init__(self) -> None:
        self.rng = random.Random()

    def draw(self) -> float:
        return self.rng.gauss(0, 1)


class BoundMethod(Noisy):
    def __init__(self) -> None:
        self.noise = np.random.default_rng().normal

    def draw(self) -> float:
        return float(self.noise())


class MadeLate(Noisy):
    """Makes its generator at the first step, which a restored one has not come to."""

    rng: Any = None

    def draw(self) -> float:
        return 0.0

    def step(self, action: Any) -> Any:
        if self.rng is None:
            self.rng = np.random.default_rng()
        return np.array([self.rng.normal(), 0], np.float32), 0.0, False, False, {}


class OfItsClass(Noisy):
    rng = np.random.default_rng(3)

    def draw(self) -> float:
        return float(type(self).rng.normal())


class OfItsModule(Noisy):
    def draw(self) -> float:
        return float(MODULE_RNG.normal())


class NumpysGlobal(Noisy):
    def draw(self) -> float:
        return float(np.random.normal())  # noqa: NPY002


class PythonsGlobal(Noisy):
    def draw(self) -> float:
        return random.gauss(0, 1)


class TorchsGlobal(Noisy):
    def draw(self) -> float:
        return float(torch.randn(()))


class OfItsSpace(Noisy):
    def draw(self) -> float:
        return float(self.observation_space.sample()[0])


class SomebodysObject(Noisy):
    def __init__(self) -> None:
        self.noise = iter(np.random.default_rng().normal, 9.0)

    def draw(self) -> float:
        return float(next(self.noise))


class InsideAFunction(Noisy):
    def __init__(self) -> None:
        rng = np.random.default_rng()
        self.noise = lambda: rng.normal()

    def draw(self) -> float:
        return float(self.noise())


class InAList(Noisy):
    def __init__(self) -> None:
        self.rngs = [np.random.default_rng()]

    def draw(self) -> float:
        return float(self.rngs[0].normal())


OWN = [OwnGenerator, OtherBits, OldGenerator, PythonsGenerator, BoundMethod, MadeLate, OfItsSpace]
SHARED = [OfItsClass, OfItsModule, NumpysGlobal, PythonsGlobal, TorchsGlobal]
OUT_OF_REACH = [SomebodysObject, InsideAFunction, InAList]


@pytest.fixture(autouse=True)
def _registered() -> Iterator[None]:
    with registered(*OWN, *SHARED, *OUT_OF_REACH, max_episode_steps=8):
        yield


def play(env: Any, steps: int) -> list[float]:
    numbers: list[float] = []
    for _ in range(steps):
        observation, reward, terminated, truncated, _ = env.step(np.zeros(1, np.float32))
        numbers += [*observation.tolist(), reward]
        if terminated or truncated:
            numbers += env.reset()[0].tolist()
    return numbers


@pytest.mark.parametrize("kind", [*OWN, *SHARED])
def test_a_restored_environment_draws_what_it_would_have_drawn(
    kind: type[Noisy], tmp_path: Path
) -> None:
    name = f"{kind.__name__}-v0"
    env = make_env(name)
    snapshots = Snapshots(env)
    env.reset(seed=0)
    play(env, 5)
    checkpoint.save(tmp_path / "state.pt", {"env": snapshots.take()})
    expected = play(env, 12)
    other = make_env(name)
    again = Snapshots(other)
    again.put_back(checkpoint.load(tmp_path / "state.pt")["env"])
    assert play(other, 12) == expected
    assert len(set(expected)) > 10


@pytest.mark.parametrize("kind", OUT_OF_REACH)
def test_a_generator_that_is_out_of_reach_means_no_snapshot(kind: type[Noisy]) -> None:
    env = make_env(f"{kind.__name__}-v0")
    snapshots = Snapshots(env)
    env.reset(seed=0)
    assert snapshots.take() is None


@pytest.mark.parametrize("kind", [*OWN, *SHARED])
def test_an_evaluation_depends_on_its_seeds_and_leaves_no_trace(kind: type[Noisy]) -> None:
    name = f"{kind.__name__}-v0"

    def returns(evaluator: Evaluator, seed: int) -> list[float]:
        return evaluator.run(lambda seen: seen[..., :1] * 0, [seed])[0].tolist()

    with Evaluator(name, 3) as one, Evaluator(name, 3) as other:
        before = float(np.random.random()), random.random()  # noqa: NPY002
        first = returns(one, 1)
        if kind not in (MadeLate, OfItsSpace):  # whose generators are not there before they draw
            assert len(set(first)) == 3
            assert returns(one, 1) == returns(other, 1) == first
            assert returns(other, 2) != first
        after = float(np.random.random()), random.random()  # noqa: NPY002
    assert before != after


@pytest.mark.parametrize("kind", SHARED)
def test_what_environments_share_goes_on_after_it_as_if_nothing_had_been_drawn(
    kind: type[Noisy],
) -> None:
    env = make_env(f"{kind.__name__}-v0")
    snapshots = Snapshots(env)
    env.reset(seed=0)
    state = snapshots.take()
    assert state is not None
    undisturbed = play(env, 5)
    snapshots.put_back(state)
    with shared_apart(env, [3]):
        inside = play(env, 2)
    with shared_apart(env, [3]):
        assert play(env, 2) == inside
    assert play(env, 1) == undisturbed[:3]
