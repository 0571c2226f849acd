"""End the SSH masters of a supervisor that has ended. Their control socket may have been removed."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from pathlib import Path

from machine.ssh.command import control_option

log = logging.getLogger(__name__)


def end_leftover_masters(control: Path) -> None:
    """Kill every SSH master that this user has started with the control socket `control`."""
    import psutil  # slow to import, and not needed by most commands

    for process in psutil.process_iter(["cmdline"]):
        if is_master(process.info["cmdline"] or (), control):
            log.info("ending the SSH master %d, which has no supervisor", process.pid)
            with contextlib.suppress(psutil.Error):
                process.kill()


def is_master(argv: Sequence[str], control: Path) -> bool:
    """Return whether this is the command line of an SSH master with the control socket `control`."""
    return "-M" in argv and control_option(control) in argv
