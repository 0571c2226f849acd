"""What the supervisor writes into its log."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from machine.store.paths import MachinePaths
from machine.supervisor import log


def test_qmp_librarys_own_messages_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It prints a traceback, and asks to be told of it, where a session that is given up ends badly."""
    root, library = logging.getLogger(), logging.getLogger("qemu.qmp.protocol.machine")
    for name, value in (("handlers", []), ("level", root.level)):
        monkeypatch.setattr(root, name, value)
    for name in ("qemu", "asyncio"):
        monkeypatch.setattr(logging.getLogger(name), "level", logging.NOTSET)
    monkeypatch.setattr(logging, "raiseExceptions", True)
    paths = MachinePaths(directory=tmp_path, runtime=tmp_path)
    log.log_to(paths)
    library.critical("Unexpected bottom half exception.\nTraceback (most recent call last):")
    logging.getLogger("machine.supervisor").warning("the start was given up")
    written = paths.supervisor_log.read_text()
    for handler in root.handlers:
        handler.close()
    assert "the start was given up" in written
    assert "Traceback" not in written
