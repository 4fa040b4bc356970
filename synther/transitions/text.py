"""What a person is told of transitions: what is in them, and how arrays of other names fit."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

OTHER_NAMES: Mapping[str, tuple[str, ...]] = {
    "observations": ("obs", "observation", "states", "state", "s"),
    "actions": ("act", "acts", "action", "a"),
    "rewards": ("rew", "rews", "reward", "r"),
    "next_observations": (
        "next_obs", "obs_next", "next_observation", "next_states", "next_state", "obs2", "s2",
    ),
    "terminals": ("terminal", "terminated", "terminations", "dones", "done", "d"),
}  # fmt: skip
"""What other projects call the five arrays."""


def mapping_hint(missing: Collection[str], found: Collection[str]) -> str:
    """The end of a message about missing arrays; empty where the names that are there say nothing.

    Args:
        missing: of the five names.
        found: the names that are there; upper and lower case are the same.
    """
    pairs = {}
    written = {each.lower(): each for each in found}  # as it is in the file
    for name in missing:
        if given := next((each for each in (name, *OTHER_NAMES[name]) if each in written), None):
            pairs[name] = written[given]
    parts = []
    if pairs:
        renamed = ", ".join(f"'{name}': data['{given}']" for name, given in pairs.items())
        parts.append(f"; rename yours: {{{renamed}}}")
    if pairs.get("terminals", "").lower() in ("dones", "done", "d"):
        parts.append(" (without the rows that only ran out of time, which are no terminals)")
    elif "terminals" in missing and "terminals" not in pairs:
        parts.append("; where no episode truly ends, terminals are zeros [N]")
    return "".join(parts)


def summary(transitions: Any) -> str:
    """A few lines on ``Transitions``: rows and columns, origin, and the verdict on samples."""
    count, terminals = len(transitions), int(transitions.terminals.sum())
    lines = [
        f"Transitions: {count} rows of {transitions.observation_dim} observation and "
        f"{transitions.action_dim} action columns, {terminals} of them terminal"
    ]
    if count:
        low, high = transitions.rewards.min(), transitions.rewards.max()
        lines[0] += f", rewards from {low:.4g} to {high:.4g}"
    about = transitions.metadata
    made: Mapping[str, Any] = about.get("synther") or {}
    origin = str(about.get("source") or transitions.source)
    if made.get("rows"):
        origin += f", by a model of {made['rows']} rows"
    data = " in ".join(str(about[key]) for key in ("dataset", "env_id") if about.get(key))
    lines.append(f"  from {origin}" + (f" of {data}" if data else ""))
    if made.get("verdict"):
        lines.append(f"  verdict: {made['verdict']}")
    return "\n".join(lines)
