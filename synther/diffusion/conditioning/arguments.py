"""These arguments of a command say what samples can be asked for, and what they are asked for."""

from __future__ import annotations

import argparse

from synther.ranges import Finite
from synther.runs.commands import argument


def add_condition(group: argparse._ActionsContainer) -> None:
    """``--condition``, of training."""
    text = "what samples can be asked for by: return, reward, a column such as 'observations[3]', "
    text += "or an .npy of a number or a label for each row"
    group.add_argument("--condition", metavar="NAME", help=text)


def add_target(group: argparse._ActionsContainer) -> None:
    """``--target`` and ``--guidance``, of sampling."""
    text = "what samples are asked for, of the model's condition: a number, a label, or 'top 10%%'"
    # It stays a word until the condition is known: a label may read as a number.
    group.add_argument("--target", help=text)
    text = "how strongly they follow it (default: 1; any other but 0 costs twice the time)"
    group.add_argument("--guidance", type=argument(Finite), help=text)
