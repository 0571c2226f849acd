"""Writes README.md for readers outside the checkout, such as those of the package's page on PyPI."""

from __future__ import annotations

import re

_LINK = re.compile(r"(?P<text>!?\[[^\[\]]*\])\((?P<target>[^()\s]+)\)")
_KEPT = re.compile(r"https?://|#")


def absolute(text: str, site: str) -> str:
    """Return the text with its relative links leading to the documentation's site; `site` is its URL.

    Of a link to a file that the site does not have, only the text is kept.
    """

    def replaced(link: re.Match[str]) -> str:
        if _KEPT.match(link["target"]):
            return link[0]
        page = _page_of(link["target"])
        return link["text"].strip("![]") if page is None else f"{link['text']}({site}{page})"

    return _LINK.sub(replaced, text)


def _page_of(target: str) -> str | None:
    """Return the path of a file of the checkout on the site, or None if the site does not have it."""
    path, mark, anchor = target.partition("#")
    if path == "ARCHITECTURE.md":
        return f"architecture.html{mark}{anchor}"
    if not path.startswith("docs/"):
        return None
    page = re.sub(r"\.md$", ".html", path.removeprefix("docs/"))
    return f"{page}{mark}{anchor}"
