"""docs/bad_input.md says what really happens."""

from pathlib import Path

import pytest

from tests.fuzz.documented import CASES, table_of_page, what_happens


@pytest.mark.parametrize("name", CASES)
def test_the_page_says_what_happens(name: str, tmp_path: Path) -> None:
    code, message = what_happens(CASES[name], tmp_path)
    shown = message.replace("|", "\\|").replace("`", "'")
    assert f"| {name} | {code} | `{shown}` |\n" in table_of_page()
    assert "Traceback" not in message


def test_the_page_has_no_other_rows() -> None:
    assert len(table_of_page().splitlines()) == len(CASES) + 2
