"""The site in a browser: pages load, the search finds, nothing overflows.

``make docs-check`` installs what is needed but for the browser itself, headless Chromium: Debian's
package ``chromium``, or ``playwright install chromium``. Without one of them the tests are skipped.
"""

from __future__ import annotations

import functools
import http.server
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
WIDTHS = (400, 1000, 1400)
SCHEMES = {"light": "default", "dark": "slate"}

STILL = "* { transition: none !important; animation: none !important }"
"""What moves to its place after a change of width would be measured on its way."""

# Wide things may scroll inside a box of their own, but for code on a screen with room for it.
TOO_WIDE = """
() => {
  const width = document.documentElement.clientWidth;
  const found = [];
  const start = e => e.textContent.trim().slice(0, 60);
  const name = e => `${e.tagName.toLowerCase()} ${e.className}: ${start(e)}`;
  if (document.documentElement.scrollWidth > width)
    found.push(`the page is ${document.documentElement.scrollWidth} wide`);
  const boxed = e => {
    for (let p = e.parentElement; p && p !== document.body; p = p.parentElement)
      if (['auto', 'scroll', 'hidden'].includes(getComputedStyle(p).overflowX)) return true;
    return false;
  };
  for (const e of document.querySelectorAll('.md-content *')) {
    const box = e.getBoundingClientRect();
    if (box.width > 1 && box.right > width + 1 && !boxed(e)) found.push(name(e));
  }
  if (width >= 1000)
    for (const e of document.querySelectorAll('.md-content pre > code'))
      if (e.scrollWidth > e.clientWidth + 1) found.push(`cut off: ${name(e)}`);
  return found;
}
"""

pytestmark = pytest.mark.slow


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, list[str]]]:
    """The address of the site, built anew and served on this machine alone, and its pages."""
    pytest.importorskip("mkdocs", reason="needs the extra docs")
    pytest.importorskip("material", reason="needs the extra docs")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True)
    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        pages = sorted(
            f"{path.parent.relative_to(folder).as_posix()}/" for path in folder.rglob("index.html")
        )
        assert "reference/" in pages
        yield f"http://127.0.0.1:{server.server_port}/", pages
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Headless Chromium."""
    api = pytest.importorskip("playwright.sync_api", reason="needs the extra docs (playwright)")
    with api.sync_playwright() as playwright:
        installed = next(filter(None, map(shutil.which, NAMES)), None)
        own = playwright.chromium.executable_path
        if not (program := installed or (own if Path(own).exists() else None)):
            pytest.skip("needs Chromium: apt install chromium, or playwright install chromium")
        arguments = ["--no-sandbox"]  # which root has none of
        started = playwright.chromium.launch(executable_path=program, args=arguments)
        yield started
        started.close()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_pages_load_and_nothing_overflows(
    site: tuple[str, list[str]], browser: Any, scheme: str
) -> None:
    address, pages = site
    page = browser.new_page(color_scheme=scheme)
    faults: list[str] = []
    page.on("console", lambda said: said.type == "error" and faults.append(said.text))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("response", lambda one: one.status >= 400 and faults.append(f"{one.status} {one.url}"))
    # The site asks no other server for anything: it is to be read offline, too.
    page.on(
        "request",
        lambda one: one.url.startswith(("data:", address)) or faults.append(f"asks {one.url}"),
    )
    wrong: dict[str, list[str]] = {}
    for name in pages:
        page.goto(address + name.removeprefix("./"))
        assert page.get_attribute("body", "data-md-color-scheme") == SCHEMES[scheme]
        broken = page.evaluate(
            "() => [...document.images].filter(e => e.complete && !e.naturalWidth).map(e => e.src)"
        )
        found = [*faults, *(f"no picture {each}" for each in broken)]
        faults.clear()
        page.add_style_tag(content=STILL)
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 900})
            found += [f"at {width}: {each}" for each in page.evaluate(TOO_WIDE)]
        if found:
            wrong[name] = found
    page.close()
    assert wrong == {}, "\n".join(f"{page}: {found}" for page, found in wrong.items())


def test_the_search_finds_a_class(site: tuple[str, list[str]], browser: Any) -> None:
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    page.goto(site[0])
    page.click("input.md-search__input")
    page.keyboard.type("SimpleDiffusionGenerator")
    # What is shown for the first letters gives way to what is found for all of them.
    found = page.locator(".md-search-result__item a", has_text="SimpleDiffusionGenerator").first
    found.wait_for(state="visible")
    page.close()
