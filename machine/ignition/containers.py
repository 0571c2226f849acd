"""Describe what starts a guest's containers after a boot, and stops them before the power goes (pure)."""

from __future__ import annotations

import hashlib

from machine.ignition import assets
from machine.ignition.document import File, Link, Unit

_SERVICE = "boot2podman-containers.service"
_USER_UNITS = "/etc/systemd/user"
# Containers of root and of users are in the first of each pair; those in pods are in slices below it, one for each pod.
_SLICES = (
    "/etc/systemd/system/machine.slice.d",
    "/etc/systemd/system/machine-.slice.d",
    f"{_USER_UNITS}/user.slice.d",
    f"{_USER_UNITS}/user-.slice.d",
)


def container_files() -> tuple[File, ...]:
    """Return the program that starts and stops containers, the user service that runs it, and settings of systemd.

    The settings keep containers up until the program stops them. SELinux lets services run programs in /usr/local/bin.
    """
    slice_conf = assets.load("files/containers-slice.conf")
    return (
        File(path="/usr/local/bin/boot2podman-containers", contents=assets.load("files/containers.sh"), mode=0o755),
        File(path=f"{_USER_UNITS}/{_SERVICE}", contents=assets.load("units/boot2podman-containers-user.service")),
        *(File(path=f"{directory}/containers.conf", contents=slice_conf) for directory in _SLICES),
        File(path="/etc/systemd/system/user@.service.d/stop.conf", contents=assets.load("files/stop-user.conf")),
        File(path="/etc/systemd/system/user@.service.d/restart.conf", contents=assets.load("files/restart-user.conf")),
    )


def container_links() -> tuple[Link, ...]:
    """Return the link that enables the user service for all users, because Ignition cannot enable user units."""
    return (Link(path=f"{_USER_UNITS}/default.target.wants/{_SERVICE}", target=f"{_USER_UNITS}/{_SERVICE}"),)


def container_units() -> tuple[Unit, ...]:
    return (Unit(name=_SERVICE, enabled=True, contents=assets.load(f"units/{_SERVICE}")),)


def service_files() -> tuple[File, ...]:
    """Return the files to give to a guest that has none or other ones. The guest's systemctl enables the units."""
    units = (File(path=f"/etc/systemd/system/{unit.name}", contents=unit.contents or "") for unit in container_units())
    return (*container_files(), *units)


def services_digest() -> str:
    """Return a digest of `service_files`, which changes with any of the files."""
    files = sorted((file.path, file.contents, file.mode) for file in service_files())
    return hashlib.sha256(repr(files).encode()).hexdigest()
