"""Describe the guest of a machine that is to run elsewhere, such as on a cluster (pure)."""

from __future__ import annotations

from dataclasses import replace

from machine.ignition.document import Appended, Document, File
from machine.ignition.provision import MARKER, MARKER_UP_TO_5, READY_UNIT


def without_this_host(document: Document) -> Document:
    """Return the description without what works only in QEMU's network, and with a supervisor on the same host.

    Without the markers, Podman publishes ports in the guest itself. Without the lines for /etc/hosts, which have
    addresses of QEMU's network, Podman gives containers the address of the guest as that of their host.
    """
    return replace(
        document,
        files=tuple(file for file in document.files if not _is_for_this_host(file)),
        units=tuple(unit for unit in document.units if unit.name != READY_UNIT),
    )


def _is_for_this_host(file: File | Appended) -> bool:
    return file.path in (MARKER, MARKER_UP_TO_5) or (isinstance(file, Appended) and file.path == "/etc/hosts")
