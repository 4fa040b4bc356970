"""Every number that can be set has a range, and is compared with it wherever it comes from."""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import math
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, Union, get_args, get_origin, get_type_hints

import gin
import numpy as np
import pytest

import synther
import synther.datasets
import synther.envs
from synther import demo, ranges, report, sweep
from synther.corl.algorithms.cql import CQLConfig
from synther.corl.algorithms.edac import EDACConfig
from synther.corl.algorithms.iql import IQLConfig
from synther.corl.algorithms.td3_bc import TD3BCConfig
from synther.corl.shared.config import DiffusionConfig
from synther.datasets import collect as collect_data
from synther.diffusion import evaluate_samples, train_diffuser
from synther.diffusion.fidelity.held_out import hold_out
from synther.errors import InputError
from synther.integrations.sb3 import SynthERCallback, SynthERReplayBuffer
from synther.online import online_exp, play_policy
from synther.online.config import OnlineConfig
from synther.pixels import collect, drq_bc, encode
from synther.pixels.config import DiffusionSource, PixelConfig, RecipeConfig
from synther.ranges import Count, Range, Share, checked, problem
from synther.runs import gin_config
from synther.runs.gin_config import GinError
from synther.sweeps import subset
from synther.upsampling import command as upsample_command
from synther.upsampling.config import UpsampleConfig
from tests.data import random_transitions

CONFIGS: list[type] = [
    TD3BCConfig, IQLConfig, EDACConfig, CQLConfig, DiffusionConfig, PixelConfig, DiffusionSource,
    RecipeConfig, OnlineConfig, UpsampleConfig,
]  # fmt: skip
PUBLIC: list[Any] = [
    *(getattr(synther, name) for name in synther.__all__),
    *(getattr(synther.datasets, name) for name in synther.datasets.__all__),
    *(getattr(synther.envs, name) for name in synther.envs.__all__),
    *(SynthERReplayBuffer.__init__, SynthERCallback),
]
COMMANDS = [
    train_diffuser, evaluate_samples, online_exp, collect, encode, drq_bc, subset, sweep, report,
    demo, collect_data, play_policy, upsample_command,
]  # fmt: skip
NO_SETTINGS = ("Transitions", "Verdict", "normalized_score", "SynthERReplayBuffer")
"""Data and results; and what Stable-Baselines3 calls, in whose way."""


def numbers(kind: Any, ranged: bool = False) -> Iterator[bool]:
    """For each number in an annotation, whether it has a range."""
    if get_origin(kind) is Annotated:
        yield from numbers(get_args(kind)[0], any(isinstance(e, Range) for e in get_args(kind)[1:]))
    elif kind in (int, float):
        yield ranged
    elif get_origin(kind) is not Literal:
        for each in get_args(kind):
            yield from numbers(each, ranged)


def spans(kind: Any) -> list[Range]:
    if get_origin(kind) is Annotated:
        return [each for each in get_args(kind) if isinstance(each, Range)]
    return [span for each in get_args(kind) for span in spans(each)]


def fields() -> list[Any]:
    found = []
    for config in CONFIGS:
        for name, kind in get_type_hints(config, include_extras=True).items():
            if get_origin(kind) is not ClassVar and list(numbers(kind)):
                found.append(pytest.param(config, name, kind, id=f"{config.__name__}.{name}"))
    return found


def configurables() -> list[Any]:
    found = []
    for selector, entry in gin.config._REGISTRY.items():
        function = entry.wrapped.__init__ if inspect.isclass(entry.wrapped) else entry.wrapped
        if function.__module__.startswith("synther.") and not dataclasses.is_dataclass(
            entry.wrapped
        ):
            name = selector.rsplit(".", 1)[-1]
            found += [
                pytest.param(f"{name}.{key}", kind, function, id=f"{name}.{key}")
                for key, kind in ranges.hints(function).items()
                if key != "return" and list(numbers(kind))
            ]
    return found


def below_and_above(span: Range) -> list[float]:
    wrong = [math.nan]
    if math.isfinite(span.low):
        wrong.append(span.low if span.open in ("low", "both") else span.low - 1)
    if math.isfinite(span.high):
        wrong.append(span.high if span.open in ("high", "both") else span.high + 1)
    return wrong


def of_kind(kind: Any, value: float) -> Any:
    """``value`` as a whole number or in a list, where the annotation wants one."""
    if get_origin(kind) in (Union, types.UnionType):
        kind = next((each for each in get_args(kind) if spans(each)), kind)
    if isinstance(get_origin(kind), type) and issubclass(get_origin(kind), Mapping):
        return {"name": of_kind(get_args(kind)[1], value)}
    if isinstance(get_origin(kind), type) and issubclass(get_origin(kind), Iterable):
        return (of_kind(get_args(kind)[0], value),) * (2 if len(get_args(kind)) < 3 else 1)
    whole = any(int in get_args(each) for each in (kind, *get_args(kind)))
    return int(value) if whole and math.isfinite(value) else value


@pytest.mark.parametrize(("config", "name", "kind"), fields())
def test_a_field_of_a_configuration(config: type, name: str, kind: Any) -> None:
    assert all(numbers(kind)), f"{config.__name__}.{name} has no range: see synther/ranges.py"
    for span in spans(kind):
        for wrong in below_and_above(span):
            value = of_kind(kind, wrong)
            with pytest.raises(InputError, match=rf"{name} is .*expected"):
                config(**{name: value})


@pytest.mark.parametrize(("binding", "kind", "function"), configurables())
def test_a_parameter_of_gin(binding: str, kind: Any, function: Any) -> None:
    assert all(numbers(kind)), f"{binding} has no range: see synther/ranges.py"
    name = binding.split(".")[1]
    assert hasattr(function, "__wrapped__"), f"{function.__qualname__} is not @checked"
    for span in spans(kind):
        for wrong in below_and_above(span):
            value = of_kind(kind, wrong)
            if math.isfinite(wrong):
                with pytest.raises(GinError, match=rf"{name} is .*expected"):
                    gin_config.parse(bindings=[f"{binding} = {value!r}"])


def functions() -> Iterator[Any]:
    for public in PUBLIC:
        name = getattr(public, "__name__", "")
        if name in NO_SETTINGS or get_origin(public) is Literal or dataclasses.is_dataclass(public):
            continue
        if not inspect.isclass(public):
            yield pytest.param(public, id=name)
        elif not issubclass(public, Exception):
            for key, member in vars(public).items():
                if inspect.isfunction(member) and (key == "__init__" or key[0] != "_"):
                    yield pytest.param(member, id=f"{name}.{key}")


@pytest.mark.parametrize("function", list(functions()))
def test_an_argument_of_the_public_functions(function: Callable[..., Any]) -> None:
    kinds = {key: kind for key, kind in ranges.hints(function).items() if key != "return"}
    given = {key: kind for key, kind in kinds.items() if list(numbers(kind))}
    for key, kind in given.items():
        assert all(numbers(kind)), f"{key} has no range"
    assert not given or hasattr(function, "__wrapped__"), "it is not @checked"


class _Parsed(Exception):
    pass


@pytest.mark.parametrize(
    "module",
    [
        train_diffuser,
        evaluate_samples,
        online_exp,
        collect,
        encode,
        drq_bc,
        subset,
        sweep,
        report,
        demo,
        collect_data,
        play_policy,
        upsample_command,
    ],
)
def test_a_flag_of_a_command(module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    parsers: list[argparse.ArgumentParser] = []

    def parse_args(self: argparse.ArgumentParser, *_: object, **__: object) -> None:
        parsers.append(self)
        raise _Parsed

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_args)
    with pytest.raises(_Parsed):
        module.main([])
    for action in parsers[0]._actions:
        assert action.type not in (int, float), f"{action.option_strings} has no range"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--save_num_samples", "0"], "'0': expected 2 or more"),
        (["--save_num_samples", "many"], "expected a whole number, got 'many'"),
        (["--held_out", "1"], "'1': expected 0 or more and less than 1"),
        (["--held_out", "nan"], "expected a number, got 'nan'"),
        (["--seed", str(2**64)], f"expected at most {2**63 - 1}"),
        (["--threads", "-1"], "'-1': expected from 0 to 1024"),
    ],
)
def test_a_flag_out_of_its_range_is_refused(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        train_diffuser.main(words)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_a_message_names_the_whole_range() -> None:
    assert str(Range(0, 1)) == "from 0 to 1"
    assert str(Range(1, ranges.MOST)) == "1 or more"
    assert str(Range(0, math.inf, "low")) == "more than 0"
    assert str(Range(0, 1, "both")) == "more than 0 and less than 1"
    assert str(Range()) == "a finite number"
    assert Range(1, ranges.MOST).expected(10**16) == f"at most {10**15}"


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        (3, Count, None),
        (np.int64(3), Count, None),
        (np.float32(0.5), Share, None),
        (1, Share, None),
        (True, Count, "int, 1 or more"),
        (1.0, Count, "int, 1 or more"),
        ("3", Count, "int, 1 or more"),
        (0, Count, "1 or more"),
        (math.inf, Share, "from 0 to 1"),
        pytest.param(10**400, ranges.Finite, "a finite number", id="huge"),
        pytest.param(-(10**400), ranges.Finite, "a finite number", id="hugely negative"),
        (None, Count | None, None),
        (0, Count | None, "1 or more, or None"),
        ("mbpo", Count | Literal["mbpo"], None),
        ((1, 2), tuple[Count, ...], None),
        ((1, 0), tuple[Count, ...], "of each value 1 or more"),
        ({"a": 1, "b": -1.0}, Mapping[str, Share], "of each value from 0 to 1"),
        (range(3), Sequence[Count], "of each value 1 or more"),
        (np.zeros(3, int), Sequence[Count], None),
        ((0.9,), tuple[Share, Share], "2 values"),
        (3, tuple[Count, ...], "a list"),
        ("cosin", Literal["cosine"] | None, "one of cosine, or None; did you mean cosine?"),
        (object(), Callable[..., Any], None),
    ],
)
def test_a_problem_is_what_was_expected(value: Any, kind: Any, expected: str | None) -> None:
    assert problem(value, kind) == expected


def test_arguments_are_compared_however_they_are_given() -> None:
    @checked
    def learn(steps: Count, share: Share = 0.5, *, rows: object = None) -> tuple[int, float]:
        return steps, share

    assert learn(3) == learn(steps=3) == (3, 0.5)
    for args, kwargs in (((0,), {}), ((), {"steps": 0}), ((1, 2.0), {}), ((1,), {"share": -0.1})):
        with pytest.raises(InputError, match=r"learn: (steps|share) is .*, expected"):
            learn(*args, **kwargs)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="missing"):
        learn()  # type: ignore[call-arg]


@pytest.mark.parametrize(("rows", "share"), [(2, 0.1), (14, 0.1), (20, 0.99), (1, 0.0), (1, 0.1)])
def test_too_few_rows_are_refused_before_training(rows: int, share: float) -> None:
    with pytest.raises(InputError, match="expected 2 or more"):
        hold_out(random_transitions(rows), share, seed=0)


def test_enough_rows_are_split() -> None:
    training, held_out = hold_out(random_transitions(15), 0.1, seed=0)
    assert held_out is not None
    assert (len(training), len(held_out)) == (13, 2)
    assert len(hold_out(random_transitions(2), 0.0, seed=0)[0]) == 2
