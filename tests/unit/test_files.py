"""Files that are written whole, and the errors of disks in words."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from machine.errors import MachineError, NotWritableError
from machine.files import atomic_writer, disk_errors, make_directory, write_atomic


def test_content_is_replaced_with_the_mode_that_was_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text("old")
    path.chmod(0o666)
    write_atomic(path, "nèw", mode=0o640)
    assert path.read_text() == "nèw"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_mode_is_private_unless_told_and_the_umask_has_no_say(tmp_path: Path) -> None:
    write_atomic(tmp_path / "private", b"")
    old = os.umask(0o077)
    try:
        write_atomic(tmp_path / "public", b"", mode=0o644)
    finally:
        os.umask(old)
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("private", "public")]
    assert modes == [0o600, 0o644]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """An empty one."""
    made = tmp_path / "d"
    made.mkdir()
    return made


@pytest.mark.parametrize("failure", [RuntimeError("x"), KeyboardInterrupt()])
def test_error_while_writing_leaves_the_old_content_and_no_other_file(directory: Path, failure: BaseException) -> None:
    path = directory / "f"
    path.write_text("old")
    with pytest.raises(type(failure)), atomic_writer(path) as stream:  # noqa: PT012  (the file is one of the two)
        stream.write(b"half")
        raise failure
    assert path.read_text() == "old"
    assert list(directory.iterdir()) == [path]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_full_disk_is_told_by_its_directory(directory: Path, number: int) -> None:
    path = directory / "f"
    with pytest.raises(MachineError) as caught, atomic_writer(path):
        raise OSError(number, os.strerror(number))
    assert caught.value.line == f"no space left on the disk that holds {directory}; free some space and try again"
    assert list(directory.iterdir()) == []


def test_file_that_may_not_be_written_is_told_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(MachineError) as caught, disk_errors(tmp_path / "f"):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))
    assert caught.value.line == f"cannot write {tmp_path / 'f'}: Read-only file system"


def test_file_below_a_link_to_nothing_is_told_by_the_link(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to("gone/f")
    broken = f"{link} is a symbolic link to gone/f, which does not exist"
    for path, make in ((link / "a" / "f", make_directory), (link, lambda path: write_atomic(path.resolve(), "x"))):
        with pytest.raises(NotWritableError) as caught, disk_errors(path):
            make(path)
        assert caught.value.line == f"cannot write {path}: {broken}"


def test_what_is_missing_otherwise_passes(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), disk_errors(tmp_path / "a" / "f"):
        (tmp_path / "a" / "f").touch()


def test_other_errors_pass(tmp_path: Path) -> None:
    with pytest.raises(BlockingIOError), disk_errors(tmp_path):
        raise BlockingIOError(errno.EAGAIN, "")
