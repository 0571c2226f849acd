"""Decide which transport shares the host's folders with a guest, from facts that folders.probe collects (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from machine.folders.sources import Source
from machine.folders.virtiofsd import passes_state_on
from machine.model.folders import Folder, Share
from machine.model.hardware import Hardware
from machine.model.obstacle import Obstacle
from machine.model.transport import Transport, TransportChoice

_NO_GUEST_SUPPORT = "the guest has no support for it"
_NO_DEVICE = "QEMU has no device for it on this host"


@dataclass(frozen=True, kw_only=True)
class TransportFacts:
    """What this host has for sharing folders."""

    is_root: bool
    virtiofsd: Mapping[Folder, Sequence[str] | Obstacle] | Obstacle
    """For each folder a command line of virtiofsd that works, or the reason why virtiofsd does not work for it.

    If virtiofsd works for no folder, this is only the reason.
    """

    has_sftp_server: bool
    missing_devices: frozenset[Transport] = frozenset()
    """The transports that need a device which QEMU lacks. Empty as long as QEMU has not been asked."""

    def with_devices(self, devices: frozenset[Transport]) -> TransportFacts:
        """Return these facts with `missing_devices` set. `devices` has the transports for which QEMU has a device."""
        needed = {transport for transport in Transport if transport.is_device}
        return replace(self, missing_devices=frozenset(needed - devices))

    def virtiofsd_for(self, folder: Folder) -> Sequence[str] | Obstacle:
        """Return the command line of the folder's virtiofsd, or the reason why there is none."""
        if isinstance(self.virtiofsd, Obstacle):
            return self.virtiofsd
        return self.virtiofsd.get(folder, Obstacle("its source cannot be shared"))


def host_obstacles(choice: TransportChoice, facts: TransportFacts, folder: Folder) -> dict[Transport, Obstacle]:
    """Return the transports with which this host cannot share the folder, each with the reason."""
    found = {transport: _host_obstacle(transport, choice, facts, folder) for transport in Transport}
    return {transport: obstacle for transport, obstacle in found.items() if obstacle}


def _host_obstacle(
    transport: Transport, choice: TransportChoice, facts: TransportFacts, folder: Folder
) -> Obstacle | None:
    match transport:
        case Transport.VIRTIOFS if isinstance(refusal := facts.virtiofsd_for(folder), Obstacle):
            return refusal
        case Transport.SSHFS if not facts.has_sftp_server:
            return Obstacle("sftp-server is not installed on this host")
        case _ if transport in facts.missing_devices:
            return Obstacle(_NO_DEVICE)
        case Transport.NINEP if facts.is_root and choice is TransportChoice.AUTO:
            return Obstacle("root's files would have the wrong owner in the guest")
        case _:
            return None


def choose_transport(
    choice: TransportChoice, facts: TransportFacts, folder: Folder, guest: frozenset[Transport] | None = None
) -> Transport | Obstacle:
    """Return the transport that a start uses for the folder, or an obstacle if none can be used.

    If the user chose a transport, only that one is tried. Otherwise the fastest one that works is returned.

    `guest` has the transports that the guest supports. If `guest` is None, the guest has not been asked yet, and all
    transports count as supported.
    """
    obstacles = host_obstacles(choice, facts, folder)
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
    """The command line of the folder's virtiofsd, which listens on `socket`. Empty if the transport is not virtiofs."""

    socket: Path = Path()

    @property
    def can_stay_mounted(self) -> bool:
        """Whether the folder can stay mounted in a guest that is suspended."""
        return passes_state_on(self.virtiofsd) and not self.problem

    @property
    def share(self) -> Share | None:
        """The QEMU device that shares the folder, or None if the transport needs no device."""
        if self.transport is None or not self.transport.is_device:
            return None
        return Share(folder=self.folder, transport=self.transport, socket=PurePosixPath(self.socket))


def plan_folders(
    sources: Mapping[Folder, Source | Obstacle],
    choice: TransportChoice,
    facts: TransportFacts,
    guest: frozenset[Transport] | None,
    sockets: Sequence[Path],
) -> list[MountedFolder]:
    """Choose a transport for each folder. A folder that cannot be shared does not affect the others.

    `sources` maps each folder to its directory, or to the reason why it cannot be shared. `guest` has the same meaning
    as in `choose_transport`. `sockets` has a path for each folder.
    """
    planned = []
    for (folder, source), socket in zip(sources.items(), sockets, strict=True):
        chosen = source if isinstance(source, Obstacle) else choose_transport(choice, facts, folder, guest)
        if isinstance(chosen, Obstacle):
            planned.append(MountedFolder(folder=folder, transport=None, problem=chosen.reason, socket=socket))
            continue
        command = facts.virtiofsd_for(folder) if chosen is Transport.VIRTIOFS else ()
        words = () if isinstance(command, Obstacle) else command
        planned.append(
            MountedFolder(
                folder=folder,
                transport=chosen,
                virtiofsd=words,
                socket=socket,
            )
        )
    return planned


def shares_of(folders: Iterable[MountedFolder]) -> list[Share]:
    """Return the devices that share these folders, in the order of their numbers."""
    return [folder.share for folder in folders if folder.share]


def within_slots(folders: Sequence[MountedFolder], hardware: Hardware) -> list[MountedFolder]:
    """Return the folders of a guest that is resumed. Folders for which its hardware has no slot get no device."""
    kept, free = [], hardware.folder_slots
    for folder in folders:
        fits = free > 0 and (hardware.shared_memory or folder.transport is not Transport.VIRTIOFS)
        if folder.share and not fits:
            kept.append(replace(folder, transport=Transport.SSHFS, virtiofsd=()))
            continue
        free -= 1 if folder.share else 0
        kept.append(folder)
    return kept


def transport_notices(planned: Sequence[MountedFolder], facts: TransportFacts) -> list[str]:
    """Return notices for the user. Each names folders that virtiofsd cannot serve, and the transport used instead."""
    if isinstance(facts.virtiofsd, Obstacle):
        return []
    targets: dict[tuple[str, Transport], list[str]] = {}
    for each in planned:
        refusal = facts.virtiofsd_for(each.folder)
        if each.transport and isinstance(refusal, Obstacle):
            targets.setdefault((refusal.reason, each.transport), []).append(each.folder.target)
    return [
        f"{transport} is used instead of virtiofs for {', '.join(places)}: {reason}"
        for (reason, transport), places in targets.items()
    ]
