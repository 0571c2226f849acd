"""Describe a problem of a machine that has been up, other than those that the guest tells of (see `diagnosis`)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Area(StrEnum):
    """The part of a machine that has a problem."""

    QEMU = "qemu"
    KERNEL = "kernel"
    CONNECTION = "connection"
    """The way to the guest: its SSH server or Podman's API does not answer yet, or does not answer any more."""

    MONITOR = "monitor"
    FORWARDS = "forwards"
    FOLDERS = "folders"


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A problem of one part of a machine, and its text for people."""

    area: Area
    text: str

    def remedy(self, name: str) -> str:
        """Return what the user can do about a problem of this machine."""
        return {
            Area.QEMU: f"wait until it goes on, or end it with: machine kill {name}",
            Area.KERNEL: f"wait until it reboots; look for the cause with: machine logs {name}",
            Area.CONNECTION: f"wait a minute; then look into the guest with: machine console {name}, or restart it "
            f"with: machine restart {name}",
            Area.MONITOR: f"machine restart {name}",
            Area.FORWARDS: f"see the forwards with: machine port ls {name}; end the program that has the port, or "
            "publish another port",
            Area.FOLDERS: f"if a folder is missing on this host, make or mount it again; then: machine restart {name}",
        }[self.area]
