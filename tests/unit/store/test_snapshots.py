"""A snapshot is seen whole or not at all, and what is not known of it is told."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from machine.errors import MachineError, NotFoundError
from machine.model.state import State
from machine.store import snapshots
from machine.store.names import snapshot_names
from machine.store.paths import MachinePaths
from tests.support.builders import make_record, make_roots, save_machine

RECORD = make_record()


@pytest.fixture
def box(tmp_path: Path) -> MachinePaths:
    paths = save_machine(make_roots(tmp_path), RECORD)
    paths.efi_vars.write_bytes(b"variables")
    return paths


def take(box: MachinePaths, name: str, comment: str | None = None) -> str:
    tag = snapshots.new_tag()
    with snapshots.draft(box, name, tag=tag, comment=comment, record=RECORD):
        assert snapshot_names(box) == []
    return tag


def test_snapshot_is_loaded_as_it_was_made(box: MachinePaths) -> None:
    tag = take(box, "clean", "all is well")
    loaded = snapshots.load("box", box, "clean")
    assert (loaded.name, loaded.comment, loaded.tag, loaded.record) == ("clean", "all is well", tag, RECORD)
    assert (loaded.memory_bytes, loaded.state) == (None, State.STOPPED)
    assert snapshots.folder(box, "clean").efi_vars.read_bytes() == b"variables"


def test_saved_memory_is_shared_and_outlives_the_machines_own(box: MachinePaths) -> None:
    box.memory.write_bytes(b"memory" * 1000)
    box.suspension.write_text("{}")
    take(box, "asleep")
    kept = snapshots.folder(box, "asleep").memory
    assert kept.samefile(box.memory)
    box.memory.unlink()
    assert kept.read_bytes() == b"memory" * 1000
    assert snapshots.load("box", box, "asleep").state is State.SUSPENDED


def test_memory_is_copied_where_a_file_has_one_name_only(box: MachinePaths, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    box.memory.write_bytes(b"memory")
    snapshots.copy_memory(box.memory, box.memory_in_work)
    assert box.memory_in_work.read_bytes() == b"memory"
    assert not box.memory_in_work.samefile(box.memory)
    assert box.memory_in_work.stat().st_mode & 0o777 == 0o600


def test_draft_that_fails_leaves_nothing(box: MachinePaths) -> None:
    with pytest.raises(MachineError), snapshots.draft(box, "clean", tag="machine-1", comment=None, record=RECORD):
        raise MachineError("the disk is full")
    assert list(box.snapshots.iterdir()) == []


def test_files_that_a_snapshot_does_not_have_are_taken_away(box: MachinePaths) -> None:
    take(box, "clean")
    box.rekey_table.write_bytes(b"keys")
    box.efi_vars.write_bytes(b"later")
    snapshots.copy_files(snapshots.folder(box, "clean"), box)
    assert (box.efi_vars.read_bytes(), box.rekey_table.exists()) == (b"variables", False)


@pytest.mark.parametrize(
    ("file", "text", "reason"),
    [
        ("snapshot.json", "{", "snapshot.json is not JSON"),
        ("snapshot.json", '{"created": 3}', "created"),
        ("record.json", "[]", "not a JSON object"),
        ("record.json", None, "it is missing"),
    ],
)
def test_damaged_snapshot_is_told_and_its_tag_is_not_called_unused(
    file: str, text: str | None, reason: str, box: MachinePaths
) -> None:
    tag = take(box, "clean")
    place = snapshots.folder(box, "clean").directory / file
    place.unlink() if text is None else place.write_text(text)
    with pytest.raises(MachineError, match=r'^the snapshot "clean" of "box" is damaged: ') as caught:
        snapshots.load("box", box, "clean")
    assert reason in caught.value.message
    assert caught.value.hint == "remove it with: machine snapshot rm box clean"
    known = snapshots.load_all("box", box)
    assert (known.snapshots, [error.line for error in known.broken]) == ([], [caught.value.line])
    assert snapshots.unused_tags("box", box, [tag, "machine-other"]) == []


def test_unused_are_only_tags_of_ours_without_a_snapshot(box: MachinePaths) -> None:
    tag = take(box, "clean")
    assert snapshots.unused_tags("box", box, [tag, "machine-1", "by hand"]) == ["machine-1"]
    hidden = snapshots.hide(box, "clean")
    assert (snapshot_names(box), hidden.is_dir()) == ([], True)
    assert snapshots.unused_tags("box", box, [tag]) == [tag]
    snapshots.remove_leftovers(box)
    assert not hidden.exists()


def test_name_that_is_not_known_brings_similar_ones(box: MachinePaths) -> None:
    take(box, "clean")
    for name, hint in (("claen", "did you mean clean?"), ("x", "see: machine snapshot ls box")):
        with pytest.raises(NotFoundError) as caught:
            snapshots.load("box", box, name)
        assert caught.value.hint == hint
