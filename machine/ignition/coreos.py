"""Decide which kernel arguments Fedora CoreOS needs for a machine, and which of its units to switch off (pure).

Sources: ostreedev/ostree (ostree-prepare-root), coreos/fedora-coreos-config (platforms.yaml, overlay.d).
"""

from __future__ import annotations

from pathlib import PurePosixPath

from machine.ignition.document import KernelArguments, Unit
from machine.model.arch import Arch
from machine.model.config import MachineConfig
from machine.model.guest_os import NO_COMPOSEFS

# What the root directory of Fedora CoreOS contains. Below some of these nothing can be created either, but with or
# without composefs.
_ROOT_DIRECTORY = frozenset(
    {"bin", "boot", "dev", "etc", "home", "lib", "lib64", "media", "mnt", "opt", "ostree", "proc", "root", "run",
     "sbin", "srv", "sys", "sysroot", "tmp", "usr", "var"}
)  # fmt: skip

_LOGIN_MESSAGES = (
    # It warns of a root directory without composefs.
    "coreos-warn-invalid-mounts.service",
    # They take a system without Zincati for one that has to be moved to images of a registry, and to signed ones.
    "coreos-oci-migration-motd.service",
    "coreos-container-signing-migration-motd.service",
    "console-login-helper-messages-gensnippet-os-release.service",
    "console-login-helper-messages-gensnippet-ssh-keys.service",
)

# Fedora CoreOS makes the display the primary console on this architecture, and systemd writes to no other.
_WITHOUT_DISPLAY = {Arch.PPC64LE: ("console=tty0",)}


def kernel_arguments(config: MachineConfig) -> KernelArguments:
    """Return the kernel arguments for the machine's guest. There are none unless the guest is Fedora CoreOS.

    Other guests may be unable to change their kernel arguments, which Ignition would take for a failure.
    """
    if not config.image.is_fedora_coreos:
        return KernelArguments()
    return KernelArguments(
        present=(NO_COMPOSEFS,) if any(needs_root_directory(folder.target) for folder in config.folders) else (),
        absent=_WITHOUT_DISPLAY.get(config.arch, ()),
    )


def needs_root_directory(target: str) -> bool:
    """Whether Fedora CoreOS has to create a directory in its root directory in order to mount a folder at `target`."""
    return PurePosixPath(target).parts[1] not in _ROOT_DIRECTORY


def quiet_units() -> tuple[Unit, ...]:
    """Return units of Fedora CoreOS that are off, because what they tell at each login is wrong or of no use here."""
    return tuple(Unit(name=name, enabled=False) for name in _LOGIN_MESSAGES)
