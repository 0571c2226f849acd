"""Base images that have changed, and what a note beside them says of it."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from machine.errors import MachineError
from machine.image.intact import NOTE, Condition, examine, has_changed, note_intact


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / f"sha256-{digest(b'whole')}" / "image.qcow2"
    path.parent.mkdir()
    path.write_bytes(b"whole")
    return path


def spoil(image: Path) -> None:
    """Change the content alone, as a failing disk does."""
    before = image.stat()
    image.write_bytes(b"spoil")
    os.utime(image, ns=(before.st_atime_ns, before.st_mtime_ns))


def read(image: Path) -> Condition:
    return examine(image, lambda _: None)


def test_image_with_another_size_or_time_has_changed(image: Path) -> None:
    note_intact(image, digest(b"whole"))
    assert not has_changed(image)
    os.utime(image, ns=(0, 1))
    assert has_changed(image)
    assert read(image) is Condition.INTACT
    assert not has_changed(image)
    image.write_bytes(b"longer than before")
    assert has_changed(image)
    assert read(image) is Condition.DAMAGED


def test_image_that_was_found_damaged_has_changed_until_it_is_whole_again(image: Path) -> None:
    note_intact(image, digest(b"whole"))
    spoil(image)
    assert not has_changed(image)
    assert read(image) is Condition.DAMAGED
    assert has_changed(image)
    image.write_bytes(b"whole")
    assert has_changed(image)
    assert read(image) is Condition.INTACT
    assert not has_changed(image)


def test_converted_image_has_another_digest_than_its_directory(image: Path) -> None:
    image.write_bytes(b"converted")
    note_intact(image, digest(b"converted"))
    assert read(image) is Condition.INTACT


@pytest.mark.parametrize("note", [None, b"", b"[]", b"{}", b"\xff"])
def test_image_of_an_earlier_version_is_only_known_to_be_intact(image: Path, note: bytes | None) -> None:
    if note is not None:
        image.with_name(NOTE).write_bytes(note)
    assert not has_changed(image)
    spoil(image)
    assert read(image) is Condition.UNKNOWN
    image.write_bytes(b"whole")
    assert read(image) is Condition.INTACT
    spoil(image)
    assert read(image) is Condition.DAMAGED


def test_missing_image_has_not_changed_and_cannot_be_read(image: Path) -> None:
    note_intact(image, digest(b"whole"))
    image.unlink()
    assert not has_changed(image)
    with pytest.raises(MachineError, match="cannot read"):
        read(image)
