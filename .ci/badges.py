"""Writes the README's badges, docs/badges/*.svg, from what they are true of.

    python3 .ci/badges.py

tests/test_documentation.py compares the pictures with what this makes.
"""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "badges"
PICTURE = """<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="20" role="img" aria-label="{what}: {value}">
<title>{what}: {value}</title>
<rect width="{width}" height="20" rx="3" fill="#444"/>
<path d="M{left} 0h{flat}a3 3 0 0 1 3 3v14a3 3 0 0 1-3 3h-{flat}z" fill="#3b6ea5"/>
<g fill="#fff" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11" text-anchor="middle">
<text x="{first}" y="14">{what}</text><text x="{second}" y="14">{value}</text>
</g>
</svg>
"""  # noqa: E501


def badges() -> dict[str, str]:
    """File name -> picture."""
    setup = (ROOT / "setup.py").read_text(encoding="utf-8")
    (floor,) = re.findall(r"^COVERAGE_FLOOR \?= (\d+)$", (ROOT / "Makefile").read_text(), re.M)
    (first, end) = map(int, re.findall(r"range\((\d+), (\d+)\)", setup)[0])
    licence = (ROOT / "LICENSE").read_text(encoding="utf-8").split()[0]
    said = {
        "tests": f"at least {floor} % of the lines",
        "licence": licence,
        "Python": f"3.{first} to 3.{end - 1}",
    }
    return {f"{what.lower()}.svg": picture(what, value) for what, value in said.items()}


def picture(what: str, value: str) -> str:
    """Two texts side by side, the second on a coloured ground."""
    left, right = (round(6.6 * len(text)) + 12 for text in (what, value))
    return PICTURE.format(
        width=left + right, left=left, flat=right - 3, what=what, value=value,
        first=left / 2, second=left + right / 2,
    )  # fmt: skip


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, text in badges().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
