"""Man pages of commands that are made up, and of our own as far as every one has to have them."""

from __future__ import annotations

from datetime import UTC, datetime

import click
import pytest

from machine.cli.main import ALIASES, COMMANDS, SECTIONS, cli
from scripts.manual import Program, escaped, is_example, pages, summary

DAY = datetime(2026, 1, 2, tzinfo=UTC)
MACHINE = Program(name="machine", command=cli, aliases=ALIASES, sections=SECTIONS)


@click.group("tool")
def tool() -> None:
    """A tool of many uses.

    \b
    Examples:
      tool cut a
      tool cut b
    """


@tool.command("cut")
@click.argument("what")
@click.option("-d", "--deep", is_flag=True, help="Not only the surface; it's ~1.5 mm.")
@click.option("--edge", metavar="KIND", default="sharp", show_default=True, help="Which one.")
@click.option("--secret", hidden=True)
def cut(**_: object) -> None:
    """Cut it; no more than that. It is `quick`
    and clean.

    .profile is not read.

    \b
    A table:
      a  b
    """


SLICING = Program(name="tool", command=tool, aliases={"slice": "cut"})

PAGE = r"""
.TH "TOOL\-CUT" 1 2026-01-02 "boot2podman 1.2"
.SH NAME
tool\-cut \- Cut it
.SH SYNOPSIS
\fBtool cut\fP [OPTIONS] WHAT
.SH DESCRIPTION
Cut it; no more than that. It is \(gaquick\(ga and clean.
.PP
\&.profile is not read.
.PP
.nf
A table:
  a  b
.fi
.SH OPTIONS
.TP
\fB\-d,\fP \fB\-\-deep\fP
Not only the surface; it\(aqs \(ti1.5 mm.
.TP
\fB\-\-edge\fP \fIKIND\fP
Which one.  [default: sharp]
.TP
\fB\-\-help\fP
Show this message and exit.
.SH SEE ALSO
\fBtool\fP(1), \fBpodman\fP(1)
.PP
https://boot2podman.github.io/
"""


def test_page_of_a_command_whole() -> None:
    assert pages(Program(name="tool", command=tool), "1.2", DAY)["tool-cut.1"] == PAGE.lstrip()


def test_page_of_a_group_has_its_commands_and_examples() -> None:
    page = pages(SLICING, "1.2", DAY)["tool.1"]
    assert ".SH COMMANDS\n.TP\n\\fBtool cut\\fP\nCut it\n" in page
    assert ".SH EXAMPLES\n.nf\ntool cut a\ntool cut b\n.fi\n" in page
    assert page.endswith(
        ".SH SEE ALSO\n\\fBtool\\-cut\\fP(1), \\fBpodman\\fP(1)\n.PP\nhttps://boot2podman.github.io/\n"
    )


def test_sections_title_the_commands_of_the_page() -> None:
    sectioned = Program(name="tool", command=tool, sections={"Sharp things": ["cut"]})
    page = pages(sectioned, "1.2", DAY)["tool.1"]
    assert ".SH COMMANDS\n.SS Sharp things\n.TP\n\\fBtool cut\\fP\nCut it\n" in page


def test_every_command_is_in_one_section_of_the_programs_page() -> None:
    page = pages(MACHINE, "1.2", DAY)["machine.1"]
    assert [page.count(f"\n\\fBmachine {escaped(name)}\\fP\n") for name in COMMANDS] == [1] * len(COMMANDS)


def test_alias_has_a_page_of_its_own() -> None:
    found = pages(SLICING, "1.2", DAY)
    assert sorted(found) == ["tool-cut.1", "tool-slice.1", "tool.1"]
    assert "tool\\-slice \\- Cut it\n" in found["tool-slice.1"]


def test_every_command_of_ours_has_a_page_with_an_example() -> None:
    found = pages(MACHINE, "1.2", DAY)
    assert {f"machine-{name}.1" for name in (*COMMANDS, *ALIASES)} | {"machine.1", "machine-port-add.1"} <= set(found)
    for name, page in found.items():
        assert ".SH EXAMPLES\n.nf\n" in page, name
        assert page.isascii(), name


@pytest.mark.parametrize(
    ("text", "roff"),
    [
        ("plain", "plain"),
        ("a-b", r"a\-b"),
        (r"\t", r"\et"),
        ("'quoted'", r"\(aqquoted\(aq"),
        (".start", r"\&.start"),
        ("^~`", r"\(ha\(ti\(ga"),
        ("… é", r"\[u2026] \[u00E9]"),
    ],
)
def test_text_is_printed_as_it_is(text: str, roff: str) -> None:
    assert escaped(text) == roff


@pytest.mark.parametrize(
    ("prose", "sentence"),
    [
        (["Stop it."], "Stop it"),
        (["Stop it; now.", "Second."], "Stop it"),
        (["Read ~/.ssh/config and\nmore. Then stop."], "Read ~/.ssh/config and more"),
        ([], ""),
    ],
)
def test_summary_is_the_first_sentence(prose: list[str], sentence: str) -> None:
    assert summary(prose) == sentence


@pytest.mark.parametrize(
    ("paragraph", "example"),
    [("\b\nExamples:\n  x", True), ("\b\nExample:\n  x", True), ("Example:\n  x", False), ("\b\nA table:\n  x", False)],
)
def test_examples_are_verbatim_and_named_so(paragraph: str, example: bool) -> None:
    assert is_example(paragraph) is example
