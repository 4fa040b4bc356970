"""What README and docs tell people to type exists, and is understood as written."""

import argparse
import re
import runpy
import shlex
from pathlib import Path

import pytest

from synther.corl.shared import command as offline_command

ROOT = Path(__file__).parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)")


class Understood(Exception):
    """The words were read without an error; what they ask for is not done here."""


def blocks(language):
    for page in PAGES:
        for found, text in FENCE.findall(page.read_text(encoding="utf-8")):
            if found == language:
                yield page.name, text


def commands():
    """The words of each of the project's own commands, once."""
    seen = {}
    for page, block in blocks("bash"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            start = next((n for n, word in enumerate(words) if is_ours(word)), None)
            start = 0 if words[:1] == ["synther"] else start
            if start is not None:
                seen.setdefault(tuple(words[start:]), page)
    return [pytest.param(list(words), id=f"{page}: {words[0]}") for words, page in seen.items()]


def is_ours(word):
    return word.endswith(".py") or word.startswith("synther.")


@pytest.mark.parametrize("words", commands())
def test_a_command_is_understood(words, monkeypatch):
    parse = argparse.ArgumentParser.parse_known_args

    def only_parse(self, *args, **kwargs):
        parse(self, *args, **kwargs)
        raise Understood

    def do_not_run(*_):
        raise Understood

    script = words[0]
    monkeypatch.setattr("sys.argv", words)
    monkeypatch.chdir(ROOT)
    if script.startswith("benchmarks/"):  # as starting the file does
        monkeypatch.syspath_prepend(ROOT / "benchmarks")
    if script.startswith(("tests", "examples/demo")):
        assert (ROOT / script).exists()
        return
    monkeypatch.setattr(offline_command, "run_in_folder", do_not_run)  # no argparse
    monkeypatch.setattr(argparse.ArgumentParser, "parse_known_args", only_parse)
    run = runpy.run_path if script.endswith(".py") else runpy.run_module
    with pytest.raises(Understood):
        run(script, run_name="__main__")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    targets = LINK.findall(page.read_text(encoding="utf-8"))
    missing = [
        target
        for target in targets
        if not target.startswith("http") and not (page.parent / target).exists()
    ]
    assert not missing


@pytest.mark.parametrize(("page", "text"), list(blocks("python")))
def test_python_examples_are_python(page, text):
    compile(text, page, "exec")


def test_make_targets_exist():
    named = set()
    for page in PAGES:
        named |= set(re.findall(r"\bmake ([a-z][a-z-]*)`", page.read_text(encoding="utf-8")))
        named |= set(re.findall(r"^make ([a-z][a-z-]*)", page.read_text(encoding="utf-8"), re.M))
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.M))
    assert named <= targets


def test_the_page_of_commands_is_what_the_parsers_say():
    """python3 .ci/commands_page.py writes it again."""
    made = runpy.run_path(str(ROOT / ".ci" / "commands_page.py"))
    assert made["PAGE"].read_text(encoding="utf-8") == made["page"]()


def test_every_flag_and_gin_parameter_has_a_line():
    page = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    assert page.count("| `redq_sac.") > 40
    assert re.findall(r"^\| `.*\|  \|$", page, re.M) == []


def test_the_badges_are_true():
    """python3 .ci/badges.py writes them again."""
    made = runpy.run_path(str(ROOT / ".ci" / "badges.py"))
    for name, text in made["badges"]().items():
        assert (made["FOLDER"] / name).read_text(encoding="utf-8") == text


def test_the_readme_is_short():
    """What takes longer to say has a page in docs/."""
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 200


def test_every_package_has_a_page_in_the_reference():
    pages = ROOT / "docs" / "reference"
    shown = "".join(page.read_text(encoding="utf-8") for page in pages.glob("*.md"))
    for package in (ROOT / "synther").rglob("__init__.py"):
        parts = package.parent.relative_to(ROOT).parts
        above = {".".join(parts[:n]) for n in range(2, len(parts) + 1)}
        modules = {f"synther.diffusion.{path.stem}" for path in package.parent.glob("[!_]*.py")}
        if parts == ("synther", "diffusion"):  # each of its packages has a page of its own
            assert all(f"::: {module}\n" in shown for module in modules)
        elif len(parts) > 1:
            assert any(f"::: {name}\n" in shown for name in above), package
