"""The documentation's pages in a real browser: wide and narrow, light and dark."""

from __future__ import annotations

import functools
import http.server
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.browser import Browser, browsing
from tests.support.pages import DOCS, ROOT

pytestmark = pytest.mark.linux("Chromium is Debian's")

PAGES = sorted(str(path.relative_to(DOCS).with_suffix(".html")) for path in DOCS.rglob("*.md"))
WIDTHS = (1400, 360)
SCHEMES = {"light": "default", "dark": "slate"}

MISSING_IMAGES = "[...document.images].filter(i => !i.complete || !i.naturalWidth).map(i => i.src)"
OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
SCHEME = "document.body.getAttribute('data-md-color-scheme')"


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the site, built anew and served on the loopback."""
    directory = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", directory],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr
    handler = functools.partial(Quiet, directory=str(directory))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browsing(tmp_path_factory.mktemp("browser")) as opened:
        yield opened


@pytest.mark.parametrize("page", PAGES)
def test_page_can_be_read_in_each_look(page: str, site: str, browser: Browser) -> None:
    browser.look(width=WIDTHS[0], scheme="light")
    browser.open(f"{site}/{page}")
    for width in WIDTHS:
        for scheme, expected in SCHEMES.items():
            browser.look(width=width, scheme=scheme)
            assert browser.evaluate(SCHEME) == expected
            assert browser.evaluate(OVERFLOW) <= 0, f"scrolls sideways, {width} pixels wide"
    assert browser.evaluate(MISSING_IMAGES) == []
    assert browser.errors == []
    assert {url for url in browser.requested if not url.startswith((site, "data:", "blob:"))} == set()


def test_site_has_a_page_for_each_source(site: str, browser: Browser) -> None:
    browser.open(f"{site}/index.html")
    linked = browser.evaluate("[...document.querySelectorAll('.md-nav__link[href]')].map(a => a.href.split('#')[0])")
    assert {f"{site}/{page}" for page in PAGES} <= set(linked)


def test_missing_picture_and_broken_script_would_be_seen(site: str, browser: Browser, tmp_path: Path) -> None:
    page = tmp_path / "bad.html"
    page.write_text('<img src="gone.svg"><script>nothing()</script><div style="width: 9000px">wide</div>')
    browser.look(width=WIDTHS[1], scheme="light")
    browser.open(page.as_uri())
    assert len(browser.evaluate(MISSING_IMAGES)) == 1
    assert "nothing is not defined" in "".join(browser.errors)
    assert browser.evaluate(OVERFLOW) > 0
