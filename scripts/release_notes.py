"""Prints the version, or the changelog's notes of a tag after it has compared both; called by scripts/release."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from machine import __version__

CHANGELOG = Path(__file__).resolve().parents[1] / "CHANGELOG.md"


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts.release_notes")
    choice = parser.add_mutually_exclusive_group(required=True)
    choice.add_argument("--version", action="store_true", help="print the version of this checkout")
    choice.add_argument("--tag", help="print the notes of this version, which must be that of the tag")
    arguments = parser.parse_args()
    if arguments.version:
        print(__version__)
    elif problem := problem_with(arguments.tag, __version__, CHANGELOG.read_text()):
        parser.exit(1, f"Error: {problem}\n")
    else:
        print(notes_of(__version__, CHANGELOG.read_text()))


def problem_with(tag: str, version: str, changelog: str) -> str | None:
    """Return what keeps this checkout from being released under a tag."""
    if tag != f"v{version}":
        return f'the tag is {tag}, but machine/__init__.py says "{version}"; tag v{version}, or change the version'
    if notes_of(version, changelog) is None:
        return f"CHANGELOG.md has no section for {version} with a date: ## [{version}] - YYYY-MM-DD"
    return None


def notes_of(version: str, changelog: str) -> str | None:
    """Return the text below a released version's heading."""
    heading = rf"^## \[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d\n(.*?)(?=^## |\Z)"
    found = re.search(heading, changelog, re.MULTILINE | re.DOTALL)
    return found[1].strip() if found else None


if __name__ == "__main__":
    main()
