"""The documentation's pages: what is generated is current, and each failure that the program names has its entry."""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import Enum
from pathlib import Path

import pytest

from machine.errors import Page
from machine.folders.table import ProblemOf
from machine.supervisor.diagnosis import GuestTrouble
from machine.supervisor.events import PauseCause, SshSilence
from machine.supervisor.evidence import FailureKind
from machine.supervisor.launch_files import Needed
from machine.supervisor.phases import Phase
from scripts.docs_hook import on_page_markdown
from scripts.docs_pictures import IMAGES, pictures
from scripts.docs_reference import GENERATED
from tests.support.folder_semantics import documented
from tests.support.pages import Place, Step, blocks

DOCS = Path(__file__).parents[3] / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
OPS = Path(__file__).parents[3] / "machine" / "ops"

NAMED_FAILURES: dict[str, type[Enum]] = {
    "": FailureKind,
    "file": Needed,
    "folder": ProblemOf,
    "paused": PauseCause,
    "phase": Phase,
    "ssh": SshSilence,
    "trouble": GuestTrouble,
}
"""The enums whose members are failures, by the prefix of their anchors."""

# How the names of doctor's checks are written where they are made; a check of a thing has the thing in its name.
_CHECK = re.compile(r"""\b(?:ok|warning|failure|failure_from)\(\s*f?"(?P<name>[a-z -]+?)(?: \{[^}]*\})?",""")


def anchors() -> set[str]:
    text = (DOCS / "troubleshooting.md").read_text()
    return {one or other for one, other in re.findall(r"\{#([\w-]+)\}|<span id=\"([\w-]+)\">", text)}


def anchor(prefix: str, member: Enum) -> str:
    text = member.value if isinstance(member.value, str) else member.name
    words = re.sub(r"[^a-z0-9 -]", "", text.lower()).replace(" ", "-")
    return f"{prefix}-{words}" if prefix else words


@pytest.mark.parametrize("prefix", NAMED_FAILURES)
def test_each_failure_that_the_program_names_has_its_entry(prefix: str) -> None:
    assert {anchor(prefix, member) for member in NAMED_FAILURES[prefix]} <= anchors()


def test_each_entry_that_an_error_names_exists() -> None:
    assert set(Page) <= anchors()


def test_each_check_of_doctor_has_its_entry() -> None:
    names = {match["name"] for path in OPS.glob("doctor_*.py") for match in _CHECK.finditer(path.read_text())}
    assert len(names) > 15
    assert {f"doctor-{name.replace(' ', '-')}" for name in names} <= anchors()


def test_pictures_are_those_that_the_script_draws() -> None:
    assert {path.name: path.read_text() for path in IMAGES.glob("*.svg") if path.name in pictures()} == pictures()


def test_each_text_that_can_be_generated_is_on_a_page() -> None:
    assert marks(path.read_text() for path in PAGES) == set(GENERATED)


def marks(texts: Iterable[str]) -> set[str]:
    return {name for text in texts for name in re.findall(r"^<!-- generated: (\S+) -->$", text, re.MULTILINE)}


def test_marks_are_replaced_and_remarks_for_tests_removed() -> None:
    text = on_page_markdown(
        "# Files\n\n<!-- guest -->\n```console\n$ machine ls\n```\n\n<!-- generated: runtime-files -->\n"
    )
    assert text.startswith("# Files\n\n```console\n$ machine ls\n```\n\n| socket | what it is |\n| --- | --- |\n")
    assert "| `podman.sock` | The API of rootless Podman, and Docker's API. |" in text


def test_included_file_has_no_second_title_and_links_to_pages() -> None:
    text = on_page_markdown("# Architecture\n\n<!-- included: ARCHITECTURE.md -->\n")
    assert text.count("\n# ") == 0
    assert "[README](index.md)" in text


def test_page_about_folders_has_the_table_of_what_works_in_them() -> None:
    assert documented() in (DOCS / "guides" / "folders.md").read_text()


STEPS = {
    "same": (("web stopped",), "web stopped\n", True),
    "another": (("web stopped",), "web running\n", False),
    "one line too many": (("web stopped",), "web stopped\ndb stopped\n", False),
    "any text": (("unix:///…",), "unix:///run/x.sock\n", True),
    "any lines": (("first", "…"), "first\nsecond\nthird\n", True),
    "unsaid": ((), "whatever\n", True),
}


@pytest.mark.parametrize(("expected", "output", "matches"), STEPS.values(), ids=list(STEPS))
def test_transcript_is_compared_with_the_output(expected: tuple[str, ...], output: str, matches: bool) -> None:
    assert Step("machine ls", expected).matches(output) is matches


def test_transcript_runs_where_its_remark_says() -> None:
    page = (
        "```console\n$ machine ls\nNAME …\n$ machine info\n```\n\n"
        "<!-- guest -->\n```console\n$ machine ssh box\n```\n\n"
        "<!-- not run: it takes a week -->\n```console\n$ sleep 1w\n```\n"
    )
    first, *others = blocks(page)
    assert [first.place, *(block.place for block in others)] == [Place.HOST, Place.GUEST, Place.NOWHERE]
    assert first.steps == (Step("machine ls", ("NAME …",)), Step("machine info", ()))
    assert first.script == "machine ls\nprintf '\\0'\nmachine info\nprintf '\\0'\n"
