"""matplotlib is imported here by all who draw pictures, and every picture is saved here.

A notebook hands the name of its backend on to every process that it starts (``MPLBACKEND``), and
matplotlib does not import where this backend is not installed. Files need none of them.
"""

from __future__ import annotations

import contextlib
import glob
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from synther.files import atomic

if "matplotlib" not in sys.modules and (_backend := os.environ.pop("MPLBACKEND", None)):
    import matplotlib

    os.environ["MPLBACKEND"] = _backend
    with contextlib.suppress(ValueError):  # as matplotlib does, but for one that is not here
        matplotlib.rcParams["backend"] = _backend

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, LogLocator, MaxNLocator, NullFormatter

__all__ = [
    "BETTER", "BETTER_DOWN", "TEXT_WIDTH", "Axes", "Figure", "FixedLocator", "LogLocator",
    "MaxNLocator", "NullFormatter", "in_style", "save_figure",
]  # fmt: skip

TEXT_WIDTH = 6.75
"""Inches, of the text of a paper in two columns: a picture of this width is printed as it is, with
letters of the sizes below."""
BETTER, BETTER_DOWN = "\N{RIGHTWARDS ARROW} better", "better \N{LEFTWARDS ARROW}"
"""End the label of the one axis of a picture whose direction is good or bad: more is better, or
less is. On an upright axis the letters, and with them the arrow, are turned."""
DPI = 180
_STYLE = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7.5,
    "figure.titlesize": 8.5,
    "axes.linewidth": 0.6,
    "lines.linewidth": 1.2,
    "legend.frameon": False,
    "pdf.fonttype": 42,  # letters stay letters, as publishers ask
}


def in_style() -> contextlib.AbstractContextManager[None]:
    """The sizes of letters and lines of every picture, as a ``with`` block around its drawing."""
    return rc_context(_STYLE)  # type: ignore[arg-type]


def save_figure(pages: Figure | Sequence[Figure], path: str | os.PathLike[str]) -> Path:
    """Write a picture as ``.png`` and, beside it, as ``.pdf``.

    Args:
        pages: the picture, or its pages: the first ``.png`` has the name that is given, the others
            end in ``_page2.png``, ``_page3.png``, ...; the ``.pdf`` holds them all.
        path: the ``.png``. It is written last: where it is, the others are.

    Returns:
        ``path``.
    """
    first = Path(path)
    figures = [pages] if isinstance(pages, Figure) else list(pages)
    for old in first.parent.glob(f"{glob.escape(first.stem)}_page*.png"):
        old.unlink()
    # Without a date the same picture is the same file.
    with (
        in_style(),
        atomic.atomic_write(first.with_suffix(".pdf")) as file,
        PdfPages(file, metadata={"CreationDate": None}) as pdf,
    ):
        for figure in figures:
            pdf.savefig(figure, dpi=DPI)
    for number in range(len(figures), 0, -1):
        name = first.name if number == 1 else f"{first.stem}_page{number}.png"
        with atomic.atomic_write(first.with_name(name)) as file:
            figures[number - 1].savefig(file, dpi=DPI, format="png")
    return first
