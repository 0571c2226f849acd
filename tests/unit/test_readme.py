"""What the README says of which the tests know."""

from __future__ import annotations

from pathlib import Path

from tests.support.folder_semantics import documented


def test_readme_has_the_table_of_what_works_in_folders() -> None:
    assert documented() in (Path(__file__).parents[2] / "README.md").read_text()
