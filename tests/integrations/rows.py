"""Rows that hang together, for conversions there and back."""

import numpy as np
from hypothesis import strategies as st

from synther.transitions import FIELDS, Transitions


@st.composite
def chained(draw: st.DrawFn) -> Transitions:
    """Episodes of every length from 1, terminated or cut off, one after the other."""
    lengths = draw(st.lists(st.integers(1, 5), min_size=1, max_size=6))
    terminated = draw(st.lists(st.booleans(), min_size=len(lengths), max_size=len(lengths)))
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    walks = [rng.normal(size=(length + 1, 2)) for length in lengths]
    count = sum(lengths)
    terminals = np.zeros(count)
    terminals[np.cumsum(lengths) - 1] = terminated
    return Transitions(
        observations=np.concatenate([walk[:-1] for walk in walks]),
        actions=rng.uniform(-1, 1, size=(count, 3)),
        rewards=rng.normal(size=count),
        next_observations=np.concatenate([walk[1:] for walk in walks]),
        terminals=terminals,
        metadata={"lengths": lengths},
    )


def assert_equal(a: Transitions, b: Transitions) -> None:
    for name in FIELDS:
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)
