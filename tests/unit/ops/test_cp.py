"""What is found below a directory that is going to be copied."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from machine.errors import BadInputError, NotFoundError
from machine.ops.cp import take_survey
from machine.ops.cp_host_files import HostFiles


@pytest.fixture
def base(tmp_path: Path) -> Path:
    directory = tmp_path / "base"
    directory.mkdir()
    return directory


def survey(top: Path) -> tuple[list[str], list[str]]:
    found = take_survey(HostFiles(), os.fspath(top))
    return [entry.name for entry in found.entries], sorted(found.skipped)


def test_directories_come_before_what_is_in_them(base: Path) -> None:
    (base / "a" / "b").mkdir(parents=True)
    (base / "a" / "b" / "c").write_text("12345")
    (base / "z").write_text("123")
    names, _ = survey(base)
    assert sorted(names) == ["", "a", "a/b", "a/b/c", "z"]
    assert all(os.path.dirname(name) in names[:index] for index, name in enumerate(names) if name)  # noqa: PTH120
    assert take_survey(HostFiles(), os.fspath(base)).size == 8


def test_links_are_followed_but_not_in_a_circle(base: Path) -> None:
    elsewhere = base / "elsewhere"
    (elsewhere / "d").mkdir(parents=True)
    (elsewhere / "f").touch()
    top = base / "top"
    (top / "below").mkdir(parents=True)
    (top / "to-file").symlink_to(elsewhere / "f")
    (top / "to-directory").symlink_to(elsewhere)
    (elsewhere / "d" / "back").symlink_to(elsewhere)
    (elsewhere / "out").symlink_to(base)  # by which `top` is reached a second time
    (top / "below" / "up").symlink_to("..")
    (top / "self").symlink_to("self")
    (top / "nowhere").symlink_to("nowhere-at-all")
    names, skipped = survey(top)
    loop = "the link points to a directory that contains the link"
    assert {"", "to-file", "to-directory", "to-directory/f", "to-directory/d", "below"} <= set(names)
    assert f"Skipped {top}/below/up: {loop}" in skipped
    assert f"Skipped {top}/to-directory/d/back: {loop}" in skipped
    assert f"Skipped {top}/to-directory/out/top: {loop}" in skipped
    assert f"Skipped {top}/self: the target of the link does not exist" in skipped
    assert f"Skipped {top}/nowhere: the target of the link does not exist" in skipped
    assert len(names) < 20


def test_special_file_is_skipped_below_and_refused_alone(base: Path) -> None:
    os.mkfifo(base / "fifo")
    assert survey(base) == (
        [""],
        [f"Skipped {base}/fifo: it is neither a regular file nor a directory"],
    )
    with pytest.raises(BadInputError, match=r"fifo\" is neither a regular file nor a directory"):
        survey(base / "fifo")


def test_nothing_there(base: Path) -> None:
    with pytest.raises(NotFoundError, match=f"cannot read {base}/no: No such file or directory"):
        survey(base / "no")
