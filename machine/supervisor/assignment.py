"""What a supervisor is to do, as values from which `assembly` makes its objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from machine.folders.transports import MountedFolder
from machine.model.hardware import Hardware
from machine.model.host import Accelerator
from machine.model.ports import Driver
from machine.model.record import MachineRecord
from machine.ports.limits import PublishLimits
from machine.qemu.plan import LaunchPlan
from machine.store.paths import MachinePaths


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """Which machine a supervisor is to supervise, and whether to start QEMU or to take over a running QEMU."""

    record: MachineRecord
    paths: MachinePaths

    plan: LaunchPlan | None
    """The command line by which to start QEMU. None if QEMU is running already and is to be taken over.

    Also None for a remote host, which runs anyway.
    """

    lock: int | None
    """The descriptor of the machine's lock, which the new QEMU inherits. None if a running QEMU holds the lock."""

    tcp_driver: Driver
    publish_limits: PublishLimits
    host_resolver: bool = False
    """Whether this host answers the guest's questions about names."""

    patience: int
    """The factor by which the deadlines of a start and a stop are longer than usual."""

    folders: Sequence[MountedFolder] = ()
    hardware: Hardware | None = None
    """What QEMU is started with, or was. None if an older program has started the QEMU that is to be taken over."""

    hypervisor: str | None = None
    """As in `Acceleration`. None also if a running QEMU is to be taken over."""

    base: Path | None = None
    """The base image of the machine's disk. None if the disk has none, or if QEMU is running already."""

    @property
    def resumes(self) -> bool:
        """Whether QEMU loads a saved memory instead of booting the guest."""
        return self.plan is not None and self.hardware is not None and self.hardware.is_suspended

    @property
    def accelerator(self) -> Accelerator:
        if self.record.config.remote:
            return Accelerator.KVM  # a remote host is as quick
        # The accelerator of an adopted guest is unknown; the timeouts of TCG are long enough for all.
        return self.plan.accelerator if self.plan else Accelerator.TCG

    @property
    def time_scale(self) -> int:
        """The factor by which the guest's timeouts are longer than with hardware acceleration and usual patience."""
        return self.accelerator.time_scale * self.patience

    @property
    def api_sockets(self) -> Mapping[Path, str]:
        """The guest's API sockets, by their paths on this host."""
        config, paths = self.record.config, self.paths
        root = {paths.podman_root_socket: config.root_socket} if config.has_root_socket else {}
        return {paths.podman_socket: config.user_socket, **root}
