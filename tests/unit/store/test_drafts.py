"""A machine in the making is seen whole or not at all."""

from __future__ import annotations

import stat
import threading
from pathlib import Path

import pytest

from machine import lock
from machine.errors import BadInputError
from machine.store import drafts, records
from machine.store.names import machine_names
from tests.support.builders import make_record, make_roots


def test_draft_that_is_not_published_leaves_nothing(tmp_path: Path) -> None:
    roots = make_roots(tmp_path)
    with drafts.draft(roots, "box") as paths:
        paths.record.write_text("{}")
        assert stat.S_IMODE(paths.directory.stat().st_mode) == 0o700
        assert machine_names(roots) == []
    assert not paths.directory.exists()


def test_draft_becomes_a_machine_by_one_rename(tmp_path: Path) -> None:
    roots = make_roots(tmp_path)
    with drafts.draft(roots, "box") as paths:
        records.save(paths, make_record())
        drafts.publish(paths, roots, "box")
    assert records.load(roots, "box") == make_record()
    assert not lock.is_held(roots.machine("box").lock)
    assert [path.name for path in roots.machines.iterdir() if path.is_dir()] == ["box"]


def test_second_machine_of_a_name_is_refused_and_the_first_kept(tmp_path: Path) -> None:
    roots = make_roots(tmp_path)
    for port in (1, 2):
        with drafts.draft(roots, "box") as paths:
            records.save(paths, make_record(ssh_port=port))
            if port == 1:
                drafts.publish(paths, roots, "box")
            else:
                with pytest.raises(BadInputError, match='machine "box" already exists'):
                    drafts.publish(paths, roots, "box")
    assert records.load(roots, "box").config.ssh_port == 1


def test_withdrawn_machine_is_gone_with_its_sockets(tmp_path: Path) -> None:
    roots = make_roots(tmp_path)
    paths = roots.machine("box")
    paths.directory.mkdir(parents=True)
    paths.runtime.mkdir(parents=True)
    paths.podman_socket.touch()
    drafts.remove(roots, "box")
    assert list(roots.machines.iterdir()) == []
    assert not paths.runtime.exists()


def test_sweep_removes_what_nobody_makes_any_more(tmp_path: Path) -> None:
    roots = make_roots(tmp_path)
    dead = roots.machines / ".box.abc.tmp"
    dead.mkdir(parents=True)
    (dead / "id_ed25519").touch()
    with drafts.draft(roots, "other") as alive:
        alive.record.touch()
        assert drafts.find_leftovers(roots) == [dead]
        drafts.remove_leftovers(roots)
        assert drafts.find_leftovers(roots) == []
        assert alive.record.exists()
        assert not dead.exists()


def test_draft_is_never_swept_away_while_it_is_begun(tmp_path: Path) -> None:
    roots = make_roots(tmp_path)
    roots.machines.mkdir(parents=True)
    ended = threading.Event()

    def sweep_again_and_again() -> None:
        while not ended.is_set():
            with drafts.names_lock(roots):
                drafts.remove_leftovers(roots)

    sweeper = threading.Thread(target=sweep_again_and_again)
    sweeper.start()
    try:
        for _ in range(40):
            with drafts.draft(roots, "box") as paths:
                paths.record.write_text("{}")
    finally:
        ended.set()
        sweeper.join()
