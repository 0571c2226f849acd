"""What holds the expected texts of all other tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import golden as goldens
from tests.support.golden import Golden

ORDER = ["first", "second[a: b]", "third"]


def make_golden(directory: Path, test: str, *, update: bool = False) -> Golden:
    return Golden(
        texts=goldens.texts_of(directory / "test_module.py"), test=test, order=ORDER, update=update, used=set(),
    )  # fmt: skip


def test_texts_are_written_in_the_order_of_the_tests_and_read_back(tmp_path: Path) -> None:
    make_golden(tmp_path, "third", update=True).matches("the last\n\n  # with more\n")
    with_cases = make_golden(tmp_path, "second[a: b]", update=True)
    with_cases.matches("two", "one case")
    with_cases.matches("three", "another: case")
    make_golden(tmp_path, "first", update=True).matches("")
    assert (tmp_path / "golden" / "module.txt").read_text() == (
        "## first\n\n\n## second[a: b]: one case\ntwo\n\n## second[a: b]: another: case\nthree\n\n"
        "## third\nthe last\n\n  # with more\n"
    )
    make_golden(tmp_path, "first").matches("")
    make_golden(tmp_path, "second[a: b]").matches("three", "another: case")
    make_golden(tmp_path, "third").matches("the last\n\n  # with more")


def test_nothing_is_written_without_the_flag(tmp_path: Path) -> None:
    golden = make_golden(tmp_path, "first")
    with pytest.raises(AssertionError, match=r"module\.txt has no text for first; .*--update-golden"):
        golden.matches("text")
    with pytest.raises(AssertionError, match=r"no golden file box\.args"):
        golden.matches_file("text", "box.args")
    assert not (tmp_path / "golden").exists()


def test_texts_that_a_test_no_longer_has_are_refused_or_taken_out(tmp_path: Path) -> None:
    once = make_golden(tmp_path, "first", update=True)
    once.matches("a", "old")
    once.matches("b", "new")
    again = make_golden(tmp_path, "first")
    again.matches("b", "new")
    with pytest.raises(AssertionError, match="first: old"):
        again.drop_unused()
    updated = make_golden(tmp_path, "first", update=True)
    updated.matches("b", "new")
    updated.drop_unused()
    assert goldens.read_sections(goldens.texts_of(tmp_path / "test_module.py")) == {"first: new": "b"}


@pytest.mark.parametrize(
    ("heading", "test"),
    [
        ("ssh", "ssh"),
        ("ssh: too old", "ssh"),
        ("ssh: [odd]", "ssh"),
        ("ssh[x: y]", "ssh[x: y]"),
        ("ssh[x: y]: case", "ssh[x: y]"),
    ],
)
def test_heading_names_its_test(heading: str, test: str) -> None:
    assert goldens.test_of(heading) == test
