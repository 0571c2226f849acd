"""A machine as its record keeps it: what was asked for, what was chosen for it, what it was made from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING

from machine.errors import BadInputError
from machine.model.arch import Arch
from machine.model.host import AcceleratorChoice

if TYPE_CHECKING:
    from machine.model.folders import Folder
    from machine.model.ports import Endpoint, Forward, SocketPath

DEFAULT_IMAGE = "fcos:stable"
DEFAULT_USERNAME = "core"
DEFAULT_MEMORY_MIB = 2048
DEFAULT_DISK_GIB = 100
MAX_DISK_GIB = 2 * 1024**2  # qcow2 with clusters of 64 KiB: its first-level table has at most 32 MiB
MIN_MEMORY_MIB = 512


class Provisioning(StrEnum):
    """How a guest learns at its first boot which machine it is."""

    IGNITION = "ignition"
    CLOUD_INIT = "cloud-init"
    """By a seed disk, as cloud-init's data source NoCloud has it."""

    @property
    def fetches_s(self) -> float:
        """Seconds that a first boot may wait for a mirror of packages, which is no quicker on a quick host."""
        return {Provisioning.IGNITION: 0.0, Provisioning.CLOUD_INIT: 900.0}[self]


class Verified(StrEnum):
    """How an image was verified, the strongest first; a signature includes a digest."""

    SIGNATURE = "signature"
    SHA256 = "sha256"
    SHA512 = "sha512"
    NOTHING = "nothing"


@dataclass(frozen=True, kw_only=True)
class Resources:
    cpus: int
    memory_mib: int
    disk_gib: int


@dataclass(frozen=True, kw_only=True)
class ImageOrigin:
    """Where a machine's base image came from; `digest` is the sha256 of the unpacked image, its cache key.

    `digest` is empty for a disk without a base, `stream` and `release` for what no stream describes. `verified` and
    `signer` say what of it was checked, as image.cache has it. `promised` is the sha256 that a person has given for
    the image's file, empty where none was.
    """

    reference: str
    digest: str
    stream: str = ""
    release: str = ""
    location: str = ""
    verified: str = "nothing"
    signer: str = ""
    promised: str = ""

    @property
    def refetch(self) -> str:
        """The reference that means this image, also when its stream has moved on."""
        moving = self.reference.startswith("fcos:") and "@" not in self.reference and self.release
        return f"{self.reference}@{self.release}" if moving else self.reference


@dataclass(frozen=True, kw_only=True)
class Script:
    """A text of the user's that the guest runs once, as root or as its user; `name` is its file's."""

    name: str
    text: str
    as_user: bool = False


@dataclass(frozen=True, kw_only=True)
class UserIgnition:
    """The user's own Ignition config, as JSON; `name` is its file's. It is merged over ours, or `replaces` it."""

    name: str
    text: str
    replaces: bool = False


@dataclass(frozen=True, kw_only=True)
class FirstBoot:
    """What the user gives a new guest. Scripts run in their order, the playbook after them.

    `environment` are variables of everything in the guest, by name. An empty `hostname` is the machine's name.
    """

    ignition: UserIgnition | None = None
    scripts: tuple[Script, ...] = ()
    playbook: Script | None = None
    environment: tuple[tuple[str, str], ...] = ()
    ssh_keys: tuple[str, ...] = ()
    hostname: str = ""


@dataclass(frozen=True, kw_only=True)
class MachineConfig:
    """`uid` is the guest user's; `provisioned` says that a first boot has completed; `forwards` are the user's own.

    `provisioning` is how that first boot learns all this.

    `usbs` are devices of the host, as model.usb writes them. `protected` keeps the machine from being removed.
    `guest_outdated` says that the guest does not know yet what has changed here: it is told at the next start.
    `renamed_from` is the old name while a rename has not come to its end. `identity_pending` says that the guest is a
    clone which does not have its own keys and name yet: it is given them at the next start. `volume_driver` is a
    TransportChoice; `guest_transports` are what the guest has told that it can mount, None before it has been asked.
    `timezone` is what the guest has; with `timezone_local` it follows the host's. `native_ca` says that the guest
    trusts the host's certificates. `followed` is a digest of what it has of the host's own settings, empty for none.
    `provision_pending` says that the scripts and the playbook of `first_boot` have not run yet.
    """

    name: str
    created: datetime
    last_up: datetime | None
    arch: Arch
    accelerator: AcceleratorChoice
    resources: Resources
    username: str
    uid: int
    rootful: bool
    timezone: str
    ssh_port: int
    mac: str
    image: ImageOrigin
    provisioned: bool = False
    forwards: tuple[Forward, ...] = ()
    protected: bool = False
    guest_outdated: bool = False
    renamed_from: str = ""
    identity_pending: bool = False
    swap_mib: int = 0
    usbs: tuple[str, ...] = ()
    folders: tuple[Folder, ...] = ()
    volume_driver: str = "auto"
    mount_inotify: bool = False
    guest_transports: tuple[str, ...] | None = None
    timezone_local: bool = False
    native_ca: bool = False
    followed: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    first_boot: FirstBoot = FirstBoot()
    provision_pending: bool = False
    provisioning: Provisioning = Provisioning.IGNITION

    def with_forward(self, forward: Forward) -> MachineConfig:
        """Add one of the user's own forwards.

        Raises:
            BadInputError: the machine has a forward there already.
        """
        rival = next((own for own in self.forwards if own.collides_with(forward)), None)
        if rival is None:
            return replace(self, forwards=(*self.forwards, forward))
        no_room = "" if rival.endpoint == forward.endpoint else f", which leaves no room for {forward.endpoint}"
        raise BadInputError(
            f"{self.name} forwards {rival.endpoint} already{no_room}", hint=f"see: machine port ls {self.name}"
        )

    def without_forward(self, endpoint: Endpoint | SocketPath) -> MachineConfig:
        """Remove the user's own forward of this endpoint, if there is one."""
        return replace(self, forwards=tuple(own for own in self.forwards if own.endpoint != endpoint))

    @property
    def user_socket(self) -> str:
        """The rootless Podman socket's path in the guest."""
        return f"/run/user/{self.uid}/podman/podman.sock"

    @property
    def root_socket(self) -> str:
        """The rootful Podman socket's path in the guest."""
        return "/run/podman/podman.sock"

    @property
    def api_socket(self) -> str:
        """The preferred one of the two, in the guest."""
        return self.root_socket if self.rootful else self.user_socket

    @property
    def root_connection(self) -> str:
        return f"{self.name}-root"

    @property
    def connections(self) -> tuple[str, str]:
        """The names of the Podman connections, the preferred one first."""
        pair = (self.name, self.root_connection)
        return (pair[1], pair[0]) if self.rootful else pair
