"""Decide which transport shares the host's folders with a guest, from facts that folders.probe collects (pure)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from machine.model.folders import Folder, Share
from machine.model.obstacle import Obstacle
from machine.model.transport import Transport, TransportChoice

_NO_GUEST_SUPPORT = "the guest has no support for it"
_NO_DEVICE = "QEMU has no device for it on this host"


@dataclass(frozen=True, kw_only=True)
class TransportFacts:
    """What this host has for sharing folders."""

    is_root: bool
    virtiofsd: Mapping[Folder, Sequence[str]] | Obstacle
    """A working command line of virtiofsd for each folder, or why there is none."""

    has_sftp_server: bool
    missing_devices: frozenset[Transport] = frozenset()
    """The transports that need a device which QEMU lacks; empty before QEMU has been asked."""

    def with_devices(self, devices: frozenset[Transport]) -> TransportFacts:
        """Return these facts, completed with the transports for which QEMU has a device."""
        needed = {transport for transport in Transport if transport.is_device}
        return replace(self, missing_devices=frozenset(needed - devices))


def host_obstacles(choice: TransportChoice, facts: TransportFacts) -> dict[Transport, Obstacle]:
    """Map each transport that this host cannot use to the reason."""
    found = {transport: _host_obstacle(transport, choice, facts) for transport in Transport}
    return {transport: obstacle for transport, obstacle in found.items() if obstacle}


def _host_obstacle(transport: Transport, choice: TransportChoice, facts: TransportFacts) -> Obstacle | None:
    match transport:
        case Transport.VIRTIOFS if isinstance(facts.virtiofsd, Obstacle):
            return facts.virtiofsd
        case Transport.SSHFS if not facts.has_sftp_server:
            return Obstacle("sftp-server is not installed on this host")
        case _ if transport in facts.missing_devices:
            return Obstacle(_NO_DEVICE)
        case Transport.NINEP if facts.is_root and choice is TransportChoice.AUTO:
            return Obstacle("root's files would have the wrong owner in the guest")
        case _:
            return None


def choose_transport(
    choice: TransportChoice, facts: TransportFacts, guest: frozenset[Transport] | None = None
) -> Transport | Obstacle:
    """Return the transport that the user chose or else the fastest that works, or why there is none.

    `guest` has the transports that the guest supports. None means that the guest has not been asked yet; all transports
    then count as supported.
    """
    obstacles = host_obstacles(choice, facts)
    if guest is not None:
        obstacles = {**dict.fromkeys(set(Transport) - guest, Obstacle(_NO_GUEST_SUPPORT)), **obstacles}
    if choice is not TransportChoice.AUTO:
        transport = Transport(choice.value)
        obstacle = obstacles.get(transport)
        return Obstacle(f"{transport} cannot be used: {obstacle}", obstacle.remedy) if obstacle else transport
    usable = [transport for transport in Transport if transport not in obstacles]
    if usable:
        return usable[0]
    reasons = "; ".join(f"{transport}: {obstacles[transport]}" for transport in Transport)
    return Obstacle(f"no transport for folders works on this host ({reasons})")


@dataclass(frozen=True, kw_only=True)
class MountedFolder:
    """A folder of a running machine, with its transport. `problem` says why the folder is not mounted in the guest."""

    folder: Folder
    transport: Transport | None
    problem: str | None = None
    virtiofsd: Sequence[str] = ()
    """The command line of the folder's virtiofsd, which listens on `socket`; empty if the folder needs none."""

    socket: Path = Path()

    @property
    def share(self) -> Share | None:
        """The QEMU device that shares the folder; None if the transport needs no device."""
        if self.transport is None or not self.transport.is_device:
            return None
        return Share(folder=self.folder, transport=self.transport, socket=PurePosixPath(self.socket))


def plan_folders(
    sources: Mapping[Folder, Obstacle | None],
    transport: Transport | Obstacle,
    virtiofsd: Mapping[Folder, Sequence[str]] | Obstacle,
    sockets: Sequence[Path],
) -> list[MountedFolder]:
    """Assign the transport to each folder that can be shared.

    `sources` maps each folder to why its directory cannot be shared, or to None if it can. `sockets` has a path for
    each folder.
    """
    commands = virtiofsd if transport is Transport.VIRTIOFS and not isinstance(virtiofsd, Obstacle) else {}
    planned = []
    for (folder, source_obstacle), socket in zip(sources.items(), sockets, strict=True):
        obstacle = source_obstacle or (transport if isinstance(transport, Obstacle) else None)
        planned.append(
            MountedFolder(
                folder=folder,
                transport=None if isinstance(transport, Obstacle) or source_obstacle else transport,
                problem=obstacle.reason if obstacle else None,
                virtiofsd=() if source_obstacle else commands.get(folder, ()),
                socket=socket,
            )
        )
    return planned
