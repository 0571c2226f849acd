"""When a folder is mounted again."""

from __future__ import annotations

from machine.folders.retries import Retries
from machine.model.folders import Folder

FOLDER = Folder(source="/usr", target="/x")


def pauses(*lasting: float) -> list[float]:
    """Return the pauses before the mounts of a folder whose sessions last so many seconds each."""
    now, found = [0.0], []
    retries = Retries(clock=lambda: now[0])
    for seconds in lasting:
        now[0] += seconds
        retries.plan(FOLDER)
        ended = now[0]
        while not retries.take():
            now[0] += 1.0
        assert not retries.take()
        found.append(now[0] - ended)
    return found


def test_pauses_grow_while_sessions_end_soon() -> None:
    assert pauses(*[0.0] * 9) == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_session_that_has_lasted_is_mounted_again_soon() -> None:
    assert pauses(0.0, 0.0, 0.0, 1000.0) == [1, 2, 4, 1]


def test_nothing_is_due_once_all_folders_are_being_mounted() -> None:
    retries = Retries(clock=lambda: 0.0)
    retries.plan(FOLDER)
    retries.clear()
    assert retries.take() == []
