"""Describe a machine's configuration: what the user wants, and what was chosen when the machine was made."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING

from machine.errors import BadInputError
from machine.model.arch import Arch
from machine.model.dataclass import dataclass
from machine.model.host import AcceleratorChoice
from machine.model.idle import OFF
from machine.model.provider import Provider, RemoteHost, RootAccess
from machine.model.transport import TransportChoice

if TYPE_CHECKING:
    from machine.model.folders import Folder
    from machine.model.ports import Endpoint, Forward, SocketPath

DEFAULT_IMAGE = "fcos:stable"
DEFAULT_USERNAME = "core"
DEFAULT_MEMORY_MIB = 2048
DEFAULT_DISK_GIB = 100
MAX_DISK_GIB = 2 * 1024**2  # for qcow2 with clusters of 64 KiB, since its first-level table has at most 32 MiB
MIN_MEMORY_MIB = 512


class Provisioning(StrEnum):
    """How a guest is set up at its first boot."""

    IGNITION = "ignition"
    CLOUD_INIT = "cloud-init"
    """By cloud-init, which reads a seed disk (cloud-init's data source NoCloud)."""

    @property
    def download_s(self) -> float:
        """How many seconds a first boot may spend on downloading packages, whatever the accelerator is."""
        return {Provisioning.IGNITION: 0.0, Provisioning.CLOUD_INIT: 900.0}[self]


class Verified(StrEnum):
    """How an image was verified, the most reliable way first. If the signature was verified, so was the digest."""

    SIGNATURE = "signature"
    SHA256 = "sha256"
    SHA512 = "sha512"
    NOTHING = "nothing"


@dataclass(frozen=True, kw_only=True)
class Resources:
    """How many of the host's CPUs, and how much of its memory and disk, a machine gets."""

    cpus: int
    memory_mib: int
    disk_gib: int


@dataclass(frozen=True, kw_only=True)
class ImageOrigin:
    """Where the base image of a machine's disk came from."""

    reference: str
    """The image as the user named it."""

    digest: str | None
    """The SHA-256 of the unpacked image, which is its name in the cache. None for a disk without a base image."""

    stream: str | None = None
    """The stream that the image belongs to; None for an image that no stream describes."""

    release: str | None = None
    """The image's version in its stream; None for an image that no stream describes."""

    location: str | None = None
    """The URL or path that the image was read from; None for a disk without a base image."""

    verified: Verified = Verified.NOTHING
    """How the image was verified when it was fetched."""

    signer: str | None = None
    """The key that signed the image; None if no signature was verified."""

    promised: str | None = None
    """The SHA-256 that the user gave for the image's file; None if the user gave none."""

    @property
    def is_fedora_coreos(self) -> bool:
        """Whether this is an image of Fedora CoreOS, as far as its reference and the name of its file tell."""
        file_name = (self.location or self.reference).rpartition("/")[2]
        return self.reference.startswith("fcos:") or file_name.startswith("fedora-coreos-")

    @property
    def pinned(self) -> str:
        """A reference that names exactly this image, even after its stream has published a newer image."""
        moving = self.reference.startswith("fcos:") and "@" not in self.reference and self.release
        return f"{self.reference}@{self.release}" if moving else self.reference


@dataclass(frozen=True, kw_only=True)
class Script:
    """A user's script or playbook, which the guest runs once."""

    name: str
    """The name of the file from which the script was read."""

    text: str
    as_user: bool = False
    """Run the script as the guest's user instead of root."""


@dataclass(frozen=True, kw_only=True)
class UserIgnition:
    """The user's own Ignition config."""

    name: str
    """The name of the file from which the config was read."""

    text: str
    """The config, in JSON."""

    replaces: bool = False
    """Use this config in place of the machine's own; if False, merge it over the machine's own."""


@dataclass(frozen=True, kw_only=True)
class FirstBoot:
    """What the user adds to a new guest."""

    ignition: UserIgnition | None = None
    scripts: tuple[Script, ...] = ()
    """The scripts, in the order in which they run."""

    playbook: Script | None = None
    """An Ansible playbook, which runs after the scripts."""

    environment: tuple[tuple[str, str], ...] = ()
    """Environment variables for all programs in the guest, as pairs of name and value."""

    ssh_keys: tuple[str, ...] = ()
    """Public keys that may log in, besides the machine's own key."""

    hostname: str | None = None
    """The guest's host name; None to derive it from the machine's name."""


@dataclass(frozen=True, kw_only=True)
class MachineConfig:
    """What the user wants of a machine, and what was chosen when the machine was made."""

    name: str
    created: datetime
    arch: Arch
    accelerator: AcceleratorChoice
    resources: Resources
    username: str
    """The name of the guest's user."""

    uid: int
    """The user ID of `username` in the guest."""

    rootful: bool
    """Whether clients use root's Podman in the guest by default, instead of the user's Podman."""

    timezone: str
    """The guest's time zone, by its name in the IANA database."""

    ssh_port: int
    """The port that leads to the guest's SSH server.

    A virtual machine's is on 127.0.0.1, and if it is taken, `start` chooses another port.
    """

    mac: str
    """The guest's MAC address, different for each machine."""

    image: ImageOrigin
    forwards: tuple[Forward, ...] = ()
    """The forwards that the user added, without the forwards that containers publish."""

    protected: bool = False
    """Whether `machine rm` refuses to remove the machine."""

    swap_mib: int = 0
    """The size in MiB of the guest's swap device in compressed memory. 0 if the guest has no swap device."""

    usbs: tuple[str, ...] = ()
    """The host's USB devices that the guest gets, in the notation of model.usb."""

    folders: tuple[Folder, ...] = ()
    """The host's folders that the guest mounts."""

    volume_driver: TransportChoice = TransportChoice.AUTO
    """How the folders reach the guest."""

    mount_inotify: bool = False
    """Whether changes that the host makes in the folders raise inotify events in the guest."""

    idle_suspend: str = OFF
    """When the machine is suspended because nobody uses it, in the notation of model.idle."""

    timezone_local: bool = False
    """Whether the guest's time zone follows the host's."""

    native_ca: bool = False
    """Whether the guest trusts the certificate authorities that the host trusts."""

    labels: tuple[tuple[str, str], ...] = ()
    """Labels of the machine, as pairs of key and value."""

    first_boot: FirstBoot = FirstBoot()
    provisioning: Provisioning = Provisioning.IGNITION
    machines_file: str | None = None
    """The absolute path of the machines file that `machine up` made the machine from; None if `init` made it."""

    verify_tls: bool = True
    """Whether the certificates of the servers that have the image are checked; False only if the user said so."""

    remote: RemoteHost | None = None
    """The host that is reached over SSH, and that plays the part of the guest. None for a virtual machine."""

    @property
    def provider(self) -> Provider:
        return Provider.SSH if self.remote else Provider.QEMU

    @property
    def has_our_units(self) -> bool:
        """Whether the guest has our systemd units. One of them reports when a boot is ready for SSH."""
        if self.remote:
            return False
        ignition = self.first_boot.ignition
        return ignition is None or not ignition.replaces

    @property
    def user_socket(self) -> str:
        """The path of the rootless Podman socket in the guest. If root logs in to a remote host, it is root's."""
        return self.remote.socket if self.remote else f"/run/user/{self.uid}/podman/podman.sock"

    @property
    def root_socket(self) -> str:
        """The path of the rootful Podman socket in the guest. On a remote host, it is one of ours if sudo makes it."""
        if self.remote and self.remote.root_access is RootAccess.SUDO:
            return f"{self.remote.socket.rpartition('/')[0]}/machine-{self.mac.replace(':', '')}-root.sock"
        return self.remote.socket if self.remote else "/run/podman/podman.sock"

    @property
    def has_root_socket(self) -> bool:
        """Whether the machine has a socket of root's Podman."""
        return self.remote is None or self.remote.root_access is not RootAccess.NONE

    @property
    def api_socket(self) -> str:
        """The path, in the guest, of the Podman socket that clients use by default."""
        return self.socket_in_guest(rootful=self.rootful)

    def socket_in_guest(self, *, rootful: bool) -> str:
        """Return the path, in the guest, of root's or the user's Podman socket."""
        return self.root_socket if rootful else self.user_socket

    @property
    def root_connection(self) -> str:
        """The name of the Podman connection to the rootful socket."""
        return f"{self.name}-root"

    @property
    def connections(self) -> tuple[str, str]:
        """The names of the machine's two Podman connections. Clients use the first by default."""
        pair = (self.name, self.root_connection)
        return (pair[1], pair[0]) if self.rootful else pair

    def with_forward(self, forward: Forward) -> MachineConfig:
        """Return this config with `forward` added to the user's forwards.

        Raises:
            BadInputError: another of the user's forwards listens on the same endpoint.
        """
        rival = next((own for own in self.forwards if own.collides_with(forward)), None)
        if rival is None:
            return replace(self, forwards=(*self.forwards, forward))
        overlap = "" if rival.endpoint == forward.endpoint else f", which overlaps with {forward.endpoint}"
        raise BadInputError(
            f"{self.name} already forwards {rival.endpoint}{overlap}", hint=f"see: machine port ls {self.name}"
        )

    def without_forward(self, endpoint: Endpoint | SocketPath) -> MachineConfig:
        """Return this config without the user's forward from `endpoint`."""
        return replace(self, forwards=tuple(own for own in self.forwards if own.endpoint != endpoint))

    def with_folder(self, folder: Folder) -> MachineConfig:
        """Return this config with one more folder.

        Raises:
            BadInputError: the target is one of the guest's own directories, or overlaps with another folder's target.
        """
        from machine.model.folders import check_targets  # not for `machine ls`

        folders = (*self.folders, folder)
        check_targets(folders, self.username)
        return replace(self, folders=folders)

    def without_folder(self, target: str) -> MachineConfig:
        """Return this config without the folder that the guest mounts at `target`."""
        return replace(self, folders=tuple(folder for folder in self.folders if folder.target != target))
