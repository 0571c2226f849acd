"""The hook by which mkdocs puts generated and included text into pages of the documentation (see mkdocs.yml)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from scripts.docs_reference import GENERATED

ROOT = Path(__file__).parent.parent

_GENERATED = re.compile(r"^<!-- generated: (\S+) -->$", re.MULTILINE)
_INCLUDED = re.compile(r"^<!-- included: (\S+) -->$", re.MULTILINE)
_COMMENT = re.compile(r"^<!-- (?:guest|not run).*-->\n", re.MULTILINE)
# What an included file of the checkout links to, and the pages of the site that have the same.
_PAGES = {"README.md": "index.md", "ARCHITECTURE.md": "architecture.md"}


def on_page_markdown(markdown: str, **_: Any) -> str:  # noqa: ANN401  # mkdocs' own types
    """Return a page's text with the generated and the included text in the place of their marks."""
    text = _INCLUDED.sub(lambda mark: included(mark[1]), _COMMENT.sub("", markdown))
    return _GENERATED.sub(lambda mark: GENERATED[mark[1]](), text)


def included(name: str) -> str:
    """Return the text of a file of this checkout without its title, with links that lead to pages of the site."""
    _, _, text = (ROOT / name).read_text().partition("\n")
    for target, page in _PAGES.items():
        text = text.replace(f"]({target})", f"]({page})")
    return text
