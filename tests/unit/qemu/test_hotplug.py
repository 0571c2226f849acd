"""Unplugging the devices that share folders."""

from __future__ import annotations

import asyncio

import pytest

from machine.deadline import Deadline
from machine.errors import MachineError
from machine.qemu import hotplug, monitor
from machine.qemu.monitor import Monitor


def unplug(monkeypatch: pytest.MonkeyPatch, *, busy: int, timeout_s: float) -> int:
    """Unplug a folder whose socket is busy for some time; returns how often QEMU was asked to remove the socket."""
    asked = 0

    async def execute(_: Monitor, command: str, arguments: dict[str, object] | None = None) -> object:
        nonlocal asked
        match command:
            case "query-chardev":
                return [{"label": "folder0", "filename": "unix:"}, {"label": "qmp", "filename": "unix:"}]
            case "chardev-remove":
                assert arguments == {"id": "folder0"}
                asked += 1
                if asked <= busy:
                    raise MachineError("Chardev 'folder0' is busy")
            case _:
                pass
        return []

    monkeypatch.setattr(monitor, "execute", execute)
    monkeypatch.setattr(hotplug, "_POLL_S", 0.001)
    asyncio.run(hotplug.unplug(Monitor(), Deadline.after(timeout_s, "the guest")))
    return asked


def test_socket_that_is_busy_for_a_moment_is_removed_then(monkeypatch: pytest.MonkeyPatch) -> None:
    assert unplug(monkeypatch, busy=3, timeout_s=30) == 4


def test_socket_that_stays_busy_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MachineError, match="is busy"):
        unplug(monkeypatch, busy=10**6, timeout_s=0.05)
