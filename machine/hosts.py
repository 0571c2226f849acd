"""The host that this process runs on, as a value."""

from __future__ import annotations

import os
import sys

from machine.errors import MachineError
from machine.model.host import Host, HostOS
from machine.model.units import MIB


def current_os() -> HostOS:
    """Raises:
    MachineError: this program does not know the operating system.
    """
    try:
        return HostOS(sys.platform)
    except ValueError as error:
        raise MachineError(f"this program runs on Linux and macOS, not on {sys.platform}") from error


def current_host() -> Host:
    return Host(
        os=current_os(),
        machine=os.uname().machine,
        cpus=os.cpu_count() or 1,
        memory_mib=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // MIB,
    )
