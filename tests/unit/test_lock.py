"""Locks that go with the descriptors that hold them."""

from __future__ import annotations

import fcntl
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from machine import lock
from machine.errors import DeadlineError


def test_lock_without_a_file_is_held_by_nobody(tmp_path: Path) -> None:
    assert not lock.is_held(tmp_path / "lock")
    assert not (tmp_path / "lock").exists()


def test_lock_is_held_until_its_last_descriptor_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    descriptor = lock.acquire(path)
    assert descriptor is not None
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    inherited = os.dup(descriptor)
    os.close(descriptor)
    assert lock.is_held(path)
    os.close(inherited)
    assert not lock.is_held(path)


def test_probe_takes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with lock.held(path) as free:
        assert free
        assert lock.is_held(path)
        assert lock.is_held(path)
    assert not lock.is_held(path)
    with lock.held(path) as free:
        assert free


def test_probes_at_the_same_time_do_not_see_each_other(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.touch()
    with path.open() as other:
        fcntl.flock(other, fcntl.LOCK_SH)  # as a probe has it for a moment
        assert not lock.is_held(path)


def test_second_taker_is_told_that_it_is_not_free(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with lock.held(path), lock.held(path) as free:
        assert not free
    assert not lock.is_held(path)


def test_descriptor_is_not_inherited_unless_it_is_passed(tmp_path: Path) -> None:
    descriptor = lock.acquire(tmp_path / "lock")
    assert descriptor is not None
    assert not os.get_inheritable(descriptor)
    os.close(descriptor)


def test_holder_of_a_lock_can_be_ended(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    descriptor = lock.acquire(path)
    assert descriptor is not None
    assert lock.holder_pid(path) is None
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], pass_fds=[descriptor]) as process:
        lock.write_holder(descriptor, process.pid)
        os.close(descriptor)
        assert lock.holder_pid(path) == process.pid
        assert lock.signal_holder(path, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    assert lock.holder_pid(path) is None
    assert not lock.signal_holder(path, signal.SIGKILL)


def test_next_taker_of_a_lock_is_not_taken_for_the_last(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.write_text("1")
    with lock.held(path):
        assert lock.holder_pid(path) is None


def test_shared_lock_has_several_holders_and_none_beside_an_exclusive_one(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with lock.shared(path, timeout_s=0), lock.shared(path, timeout_s=0), lock.held(path) as free:
        assert not free
    with (
        lock.held(path),
        pytest.raises(DeadlineError, match=r"^timed out after 0 s waiting for whoever is there$"),
        lock.shared(path, timeout_s=0, waits_for="whoever is there"),
    ):
        pass


def test_who_waits_for_a_lock_hears_of_it_once(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    heard: list[str] = []
    with lock.exclusively(path, timeout_s=0, on_wait=lambda: heard.append("free")) as waited:
        assert not waited
    other = lock.acquire(path)
    assert other is not None

    def let_go() -> None:
        heard.append("waiting")
        os.close(other)

    with lock.exclusively(path, timeout_s=5, on_wait=let_go) as waited:
        assert waited
    assert heard == ["waiting"]


def test_lock_whose_file_was_removed_is_still_held(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    descriptor = lock.acquire(path)
    assert descriptor is not None
    lock.write_holder(descriptor, 7)
    lock.keep(path)
    path.unlink()
    assert lock.is_held(path)
    path.unlink()
    assert lock.acquire(path) is None
    assert lock.holder_pid(path) == 7
    os.close(descriptor)
    assert not lock.is_held(path)


def test_lock_of_a_copied_directory_is_kept_by_its_own_file(tmp_path: Path) -> None:
    """The second name that was copied is another file."""
    path, copied = tmp_path / "lock", tmp_path / ".lock"
    copied.touch()
    descriptor = lock.acquire(path)
    lock.keep(path)
    assert copied.samefile(path)
    path.unlink()
    assert lock.is_held(path)
    assert descriptor is not None
    os.close(descriptor)


def test_lock_file_without_a_second_name_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert not lock.is_held(path)
    descriptor = lock.acquire(path)
    assert descriptor is not None
    os.close(descriptor)
    assert path.exists()
    assert not path.with_name(".lock").exists()


def test_lock_file_keeps_its_space_between_two_holders(tmp_path: Path) -> None:
    """On a full disk, no file that was empty can be written."""
    path = tmp_path / "lock"
    for pid in (123456, 7):
        descriptor = lock.acquire(path)
        assert descriptor is not None
        assert lock.holder_pid(path) is None
        lock.write_holder(descriptor, pid)
        assert lock.holder_pid(path) == pid
        os.close(descriptor)
    with lock.held(path):
        assert path.read_bytes() == b" "
