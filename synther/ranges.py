"""The range of every number that can be set stands beside it, in its annotation.

    class Trainer:
        @checked
        def __init__(self, train_num_steps: Count = 100_000, ema_decay: Share = 0.995): ...

``Count`` is ``Annotated[int, Range(1)]``: an int to everybody else. :func:`problem` says what is
wrong with a value, and is the only place that compares. Settings of dataclasses
(:mod:`synther.runs.settings`), gin's bindings (:mod:`synther.runs.gin_config`), flags of commands
(:mod:`synther.runs.commands`) and the arguments of :func:`checked` functions all ask it.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import math
import numbers
import types
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, Literal, TypeVar, Union, cast, get_args, get_origin

from synther.errors import InputError
from synther.suggestions import did_you_mean

ClassT = TypeVar("ClassT")
FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])
MOST = 10**15
"""A count beyond it is a slip, and would overflow the sizes of tensors."""


@dataclasses.dataclass(frozen=True)
class Range:
    """The numbers from ``low`` to ``high``, themselves included unless ``open``; all are finite."""

    low: float = -math.inf
    high: float = math.inf
    open: Literal["", "low", "high", "both"] = ""

    def __contains__(self, value: float) -> bool:
        above = value > self.low if self.open in ("low", "both") else value >= self.low
        below = value < self.high if self.open in ("high", "both") else value <= self.high
        return above and below and _is_finite(value)

    def __str__(self) -> str:
        if self.open == "" and math.isfinite(self.low) and self.high < MOST:
            return f"from {self.low} to {self.high}"
        low = f"more than {self.low}" if self.open in ("low", "both") else f"{self.low} or more"
        high = f"less than {self.high}" if self.open in ("high", "both") else f"at most {self.high}"
        parts = [low] if math.isfinite(self.low) else []
        if math.isfinite(self.high) and self.high < MOST:
            parts.append(high)
        return " and ".join(parts) or "a finite number"

    def expected(self, value: float) -> str:
        """The range as a message about ``value`` says it; bounds that nobody meets are named only
        where they are passed."""
        if MOST <= self.high < value < math.inf:
            return f"at most {self.high}"
        return str(self)


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number that no float holds
        return False


Count = Annotated[int, Range(1, MOST)]
CountFrom0 = Annotated[int, Range(0, MOST)]
Place = Annotated[int, Range(-MOST, MOST)]
"""A column's number; negative ones count from the end."""
Rows = Annotated[int, Range(2, MOST)]
"""So many that their distribution can be compared with another."""
Width = Annotated[int, Range(1, 1_000_000)]
Depth = Annotated[int, Range(1, 1000)]
Members = Annotated[int, Range(1, 10_000)]
Pixels = Annotated[int, Range(1, 4096)]
Seed = Annotated[int, Range(0, 2**63 - 1)]
Threads = Annotated[int, Range(0, 1024)]
Share = Annotated[float, Range(0, 1)]
PositiveShare = Annotated[float, Range(0, 1, "low")]
Positive = Annotated[float, Range(0, math.inf, "low")]
Fraction = Annotated[float, Range(0, 1, "both")]
Beta = Annotated[float, Range(0, 1, "high")]
"""The decay of a moving average that has to move, as Adam's."""
Dropout = Annotated[float, Range(0, 0.99, "low")]
"""The share of rows that something is left out of: of some, and not of nearly all."""
NotNegative = Annotated[float, Range(0)]
Finite = Annotated[float, Range()]


def problem(value: Any, kind: Any) -> str | None:
    """What was expected in place of ``value``, where it does not fit the annotation ``kind``; None
    where it fits, and where nothing is known about such a kind."""
    expected = _expected(value, kind)
    choices = map(str, _choices(kind))
    return expected and expected + did_you_mean(str(value), choices, listed=0)


def _choices(kind: Any) -> list[Any]:
    inner = get_args(kind)
    return list(inner) if get_origin(kind) is Literal else [c for k in inner for c in _choices(k)]


def _expected(value: Any, kind: Any) -> str | None:
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Annotated:
        expected = _expected(value, inner[0])
        spans = [each for each in inner[1:] if isinstance(each, Range)]
        if expected is not None:
            return ", ".join([expected, *map(str, spans)])
        return next((span.expected(value) for span in spans if value not in span), None)
    if origin in (Union, types.UnionType):
        found = [_expected(value, each) for each in inner]
        return None if None in found else ", or ".join(dict.fromkeys(filter(None, found)))
    if origin is Literal:
        return None if value in inner else "one of " + ", ".join(map(str, inner))
    if kind in (None, type(None)):
        return None if value is None else "None"
    if kind in (bool, int, float, str):
        return None if _is_a(value, kind) else str(kind.__name__)
    if _is_many(origin):
        return _problem_of_many(value, origin, inner)
    if kind in (tuple, list, dict):
        return None if isinstance(value, kind) else str(kind.__name__)
    return None


def _is_a(value: Any, kind: type) -> bool:
    if isinstance(value, bool) or type(value).__name__ == "bool_":
        return kind is bool  # it is an int to Python, and no number to anybody else
    if kind is int:
        return isinstance(value, numbers.Integral)
    if kind is float:
        return isinstance(value, numbers.Real)
    return isinstance(value, kind)


def _is_many(origin: Any) -> bool:
    return isinstance(origin, type) and issubclass(origin, Iterable)


def _problem_of_many(value: Any, origin: Any, inner: tuple[Any, ...]) -> str | None:
    if issubclass(origin, Mapping):
        if not isinstance(value, Mapping):
            return "names with values"
        value, inner = tuple(value.values()), inner[1:]
    if not isinstance(value, (tuple, list, range)):  # an array, say, or what gives them only once
        return None if isinstance(value, Iterable) and not isinstance(value, str) else "a list"
    if origin is tuple and inner and inner[-1] is not Ellipsis:
        if len(value) != len(inner):
            return f"{len(inner)} values"
        pairs = list(zip(value, inner, strict=True))
    else:
        pairs = [(each, inner[0]) for each in value if inner]
    wrong = next((expected for pair in pairs if (expected := _expected(*pair))), None)
    return wrong and f"of each value {wrong}"


def plain_types(config_class: type[ClassT]) -> type[ClassT]:
    """Leave the ranges of a dataclass to its annotations, and the bare types to its fields, for
    libraries that look there."""
    for field in dataclasses.fields(config_class):  # type: ignore[arg-type]
        field.type = bare(field.type)
    return config_class


def bare(kind: Any) -> Any:
    """The kind without its ranges."""
    if get_origin(kind) is Annotated:
        return get_args(kind)[0]
    if get_origin(kind) is Union:
        return Union[tuple(map(bare, get_args(kind)))]  # noqa: UP007 - pyrallis knows no other
    return kind


def hints(function: Callable[..., Any]) -> Mapping[str, Any]:
    """The annotations of a function's parameters, ranges included; those that name what is not
    imported at run time are left out, since they are no numbers."""
    found = {}
    inside = inspect.unwrap(function)
    for name, kind in inspect.get_annotations(inside).items():
        try:
            found[name] = eval(kind, inside.__globals__) if isinstance(kind, str) else kind
        except NameError:
            continue
    return found


def checked(function: FunctionT) -> FunctionT:
    """Compare a function's arguments with its annotations at each call.

    Raises:
        InputError: of the function, an argument that its annotation leaves out.
        TypeError: of the function, arguments that it does not have, or that are missing.
    """
    signature, name = inspect.signature(function), function.__qualname__.removesuffix(".__init__")

    @functools.cache
    def kinds() -> Mapping[str, Any]:
        return {key: kind for key, kind in hints(function).items() if is_checked(kind)}

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            given = signature.bind(*args, **kwargs).arguments
        except TypeError as error:  # of bind, which does not know whose arguments they are
            raise TypeError(f"{name}: {error}{_by_config(signature, kwargs)}") from None
        for key, kind in kinds().items():
            if key in given and (expected := problem(given[key], kind)):
                raise InputError(f"{name}: {key} is {given[key]!r:.80}, expected {expected}")
        return function(*args, **kwargs)

    vars(wrapper)["__signature__"] = signature  # gin looks for the parameters here
    return cast(FunctionT, wrapper)


def _by_config(signature: inspect.Signature, given: Mapping[str, Any]) -> str:
    """Where unknown arguments belong, if the function takes settings by ``config``."""
    unknown = {key: value for key, value in given.items() if key not in signature.parameters}
    if not unknown or "config" not in signature.parameters:
        return ""
    return f"; settings go by config, such as config={unknown!r:.80}"


def is_checked(kind: Any) -> bool:
    """Whether a kind is of numbers and choices, alone or in lists, with None and texts or not."""
    return _is_plain(kind) and _has_numbers(kind)


def _is_plain(kind: Any) -> bool:
    origin = get_origin(kind)
    if origin in (Annotated, Literal):
        return True
    if origin in (Union, types.UnionType) or _is_many(origin):
        return all(_is_plain(each) for each in get_args(kind) if each is not Ellipsis)
    return kind in (bool, int, float, str, None, type(None))


def _has_numbers(kind: Any) -> bool:
    if get_origin(kind) in (Annotated, Literal) or kind in (bool, int, float):
        return True
    return any(_has_numbers(each) for each in get_args(kind))
