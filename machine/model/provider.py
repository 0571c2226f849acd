"""Describe what is behind a machine: a virtual computer under QEMU, or a host that is reached over SSH (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from machine.errors import BadInputError
from machine.model.dataclass import dataclass


class Provider(StrEnum):
    """What makes, starts, stops and removes the computer behind a machine."""

    QEMU = "qemu"
    SSH = "ssh"
    """Nothing does. The computer is a host that runs anyway, and the machine is the connection to it."""


class Capability(StrEnum):
    """What a machine may be asked for, although not every provider can do it."""

    CONSOLE = "console"
    SUSPEND = "suspend"
    SNAPSHOT = "snapshot"
    CLONE = "clone"
    HARDWARE = "hardware"
    GUEST_SETTINGS = "guest settings"
    UPGRADE = "upgrade"
    IGNITION = "ignition"
    ON_DEMAND = "on demand"
    KUBEVIRT = "kubevirt"
    UDP = "udp"


_LACKING: Mapping[Provider, Mapping[Capability, str]] = {
    Provider.QEMU: {},
    Provider.SSH: {
        Capability.CONSOLE: "its console cannot be shown",
        Capability.SUSPEND: "it cannot be suspended",
        Capability.SNAPSHOT: "it cannot have snapshots",
        Capability.CLONE: "it cannot be cloned",
        Capability.HARDWARE: "its CPUs, memory, disk and USB devices cannot be changed",
        Capability.GUEST_SETTINGS: "its own settings are not changed, nor the way in which it gets folders",
        Capability.UPGRADE: "its operating system is not upgraded from here",
        Capability.IGNITION: "it has no Ignition config",
        Capability.ON_DEMAND: "it cannot be started by its clients",
        Capability.KUBEVIRT: "it cannot be described as a virtual machine",
        Capability.UDP: "UDP is not carried to it",
    },
}
"""What each provider cannot do, in the words that end the sentence that says so."""


def check_capability(name: str, provider: Provider, capability: Capability) -> None:
    """Check that the provider of the machine `name` can do this.

    Raises:
        BadInputError: the provider cannot.
    """
    if lack := _LACKING[provider].get(capability):
        raise BadInputError(f'"{name}" is a host that is reached over SSH, so {lack}')


class RootAccess(StrEnum):
    """How the user who logs in to a host becomes root there."""

    LOGIN = "login"
    """The user is root."""

    SUDO = "sudo"
    """By sudo, without a password."""

    NONE = "none"


@dataclass(frozen=True, kw_only=True)
class RemoteHost:
    """A host that is reached over SSH. Its port and the user who logs in are in the machine's config."""

    named: str
    """The host as the user has named it, `[USER@]HOST[:PORT]`."""

    address: str
    """The host's name or address, as its user would give it to ssh."""

    proxy_command: str | None
    """The command, for the user's shell, that connects to the host in place of a TCP connection."""

    identity: str | None
    """The path of the private key that logs in. None for a key in an agent, whose public half the machine keeps."""

    agent: str | None
    """The socket of the user's agent, or `none`, as for ssh's IdentityAgent. None for the agent of $SSH_AUTH_SOCK."""

    root_access: RootAccess
    socket: str
    """The path, on the host, of the socket of the Podman of the user who logs in."""
