"""The decision which transport brings the host's folders into a guest: pure, over facts that folders.probe collects."""

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
    """A command line of virtiofsd for each folder, which has been tried; or why there is none."""

    has_sftp_server: bool
    missing_devices: frozenset[Transport] = frozenset()
    """The transports that need a device which QEMU lacks; empty before QEMU has been asked."""

    def with_devices(self, devices: frozenset[Transport]) -> TransportFacts:
        """The facts when QEMU has told for which transports it has devices."""
        needed = {transport for transport in Transport if transport.is_device}
        return replace(self, missing_devices=frozenset(needed - devices))


def host_obstacles(choice: TransportChoice, facts: TransportFacts) -> dict[Transport, Obstacle]:
    """Why this host cannot use transports; the transports that it can use are absent."""
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
            return Obstacle("files of root's that it shares belong to the wrong user in the guest")
        case _:
            return None


def choose_transport(
    choice: TransportChoice, facts: TransportFacts, guest: frozenset[Transport] | None = None
) -> Transport | Obstacle:
    """The transport to use from a start on: the one that is asked for, or the fastest that works.

    `guest` is what the guest supports; None before it has been asked, and then it counts as able.
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
    return Obstacle(f"no transport for folders works here ({reasons})")


@dataclass(frozen=True, kw_only=True)
class MountedFolder:
    """A folder of a machine that runs, with its transport; `problem` is why it is not in the guest."""

    folder: Folder
    transport: Transport | None
    problem: str | None = None
    virtiofsd: Sequence[str] = ()
    """The command line of the folder's virtiofsd, which listens on `socket`; empty where it needs none."""

    socket: Path = Path()

    @property
    def share(self) -> Share | None:
        """The folder as a device of QEMU's, where its transport is one."""
        if self.transport is None or not self.transport.is_device:
            return None
        return Share(folder=self.folder, transport=self.transport, socket=PurePosixPath(self.socket))


def plan_folders(
    sources: Mapping[Folder, Obstacle | None],
    transport: Transport | Obstacle,
    virtiofsd: Mapping[Folder, Sequence[str]] | Obstacle,
    sockets: Sequence[Path],
) -> list[MountedFolder]:
    """Give each folder its transport; `sources` has for each why its directory cannot be shared, `sockets` its own."""
    commands = virtiofsd if transport is Transport.VIRTIOFS and not isinstance(virtiofsd, Obstacle) else {}
    planned = []
    for (folder, missing), socket in zip(sources.items(), sockets, strict=True):
        obstacle = missing or (transport if isinstance(transport, Obstacle) else None)
        planned.append(
            MountedFolder(
                folder=folder,
                transport=None if isinstance(transport, Obstacle) or missing else transport,
                problem=obstacle.reason if obstacle else None,
                virtiofsd=() if missing else commands.get(folder, ()),
                socket=socket,
            )
        )
    return planned
