"""The README as it is outside the checkout, where relative links lead nowhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from machine import DOCUMENTATION
from scripts.readme import absolute

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("[a page](docs/start/linux.md)", "[a page](https://site/start/linux.html)"),
        ("([how](docs/start/macos.md#install))", "([how](https://site/start/macos.html#install))"),
        ("![a picture](docs/images/one.svg)", "![a picture](https://site/images/one.svg)"),
        ("[ARCHITECTURE.md](ARCHITECTURE.md)", "[ARCHITECTURE.md](https://site/architecture.html)"),
        ("see [CONTRIBUTING.md](CONTRIBUTING.md) too", "see CONTRIBUTING.md too"),
        ("[below](#here), [there](https://example.org/x.md)", "[below](#here), [there](https://example.org/x.md)"),
    ],
)
def test_relative_links_lead_to_the_site(text: str, written: str) -> None:
    assert absolute(text, "https://site/") == written


def test_readme_of_the_package_has_no_relative_link_and_names_pages_that_exist() -> None:
    text = absolute((ROOT / "README.md").read_text(), DOCUMENTATION)
    targets = re.findall(r"\]\(([^)]*)\)", text)
    assert all(target.startswith(("https://", "#")) for target in targets), targets
    pages = [target.removeprefix(DOCUMENTATION) for target in targets if target.startswith(DOCUMENTATION)]
    assert len(pages) > 15
    for page in pages:
        path, _, _ = page.partition("#")
        assert (ROOT / "docs" / re.sub(r"\.html$", ".md", path)).exists(), page
