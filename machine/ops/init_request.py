"""Describe the options of `machine init`, and the keys of the file that `export` writes and `init -f` reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from enum import Enum, auto
from typing import TypeVar

from machine.model.config import MachineConfig, Provisioning, Script, UserIgnition
from machine.model.folders import without_variables
from machine.model.host import AcceleratorChoice
from machine.model.image import ImageOptions
from machine.model.provider import Provider, RemoteHost
from machine.model.settings import Value, check_value
from machine.ops import init_file_values as values
from machine.ops.init_first_boot import FirstBootRequest
from machine.ops.shared.timezone import LOCAL

_T = TypeVar("_T", "InitRequest", FirstBootRequest)


@dataclass(frozen=True, kw_only=True)
class InitRequest:
    """The options of `machine init`. An option that was not given is None.

    `file` is the path of a TOML file that has values for options that were not given. Labels are `KEY=VALUE`.
    """

    name: str | None = None
    file: str | None = None
    image: str | None = None
    image_options: ImageOptions = field(default_factory=ImageOptions)
    cpus: int | None = None
    memory_mib: int | None = None
    disk_gib: int | None = None
    username: str | None = None
    timezone: str | None = None
    rootful: bool | None = None
    volumes: tuple[str, ...] | None = None
    accelerator: AcceleratorChoice | None = None
    provider: str | None = None
    swap_mib: int | None = None
    usbs: tuple[str, ...] | None = None
    arch: str | None = None
    volume_driver: str | None = None
    mount_inotify: bool | None = None
    first_boot: FirstBootRequest = field(default_factory=FirstBootRequest)
    labels: tuple[str, ...] | None = None
    native_ca: bool | None = None
    idle_suspend: str | None = None
    provisioning: Provisioning | None = None
    host: str | None = None
    """The host that is reached over SSH, `[USER@]HOST[:PORT]`."""

    identity: str | None = None
    proxy_command: str | None = None
    host_key: str | None = None
    """The host's public key, `TYPE KEY`."""

    accept_host_key: bool | None = None
    """Whether to accept whatever key the host has, if the user knows none."""

    install: bool | None = None
    """Whether to mend what the host lacks."""

    machines_file: str | None = None
    """The absolute path of the machines file that describes the machine; None outside `machine up`."""

    @property
    def flags(self) -> dict[str, Value]:
        """The options that were given and that config.toml can set as well. The keys are those of Settings."""
        options = {
            "image": self.image,
            "cpus": self.cpus,
            "memory": self.memory_mib,
            "disk_size": self.disk_gib,
            "username": self.username,
            "timezone": self.timezone,
            "rootful": self.rootful,
            "volumes": self.volumes,
            "accel": self.accelerator,
            "import_native_ca": self.native_ca,
            "idle_suspend": None if self.idle_suspend is None else check_value("idle_suspend", self.idle_suspend),
        }
        return {key: value for key, value in options.items() if value is not None}

    def completed_by(self, file: InitRequest) -> InitRequest:
        """Return this request with the options that were not given taken from `file`."""
        own, other = self.image_options, file.image_options
        # The sha256 in the file is that of the image in the file.
        sha256 = own.sha256 or (other.sha256 if self.image is None else None)
        base_url = own.stream_base_url or other.stream_base_url
        verify_tls = other.verify_tls if own.verify_tls is None else own.verify_tls
        return replace(
            _filled(self, file),
            image_options=replace(own, sha256=sha256, stream_base_url=base_url, verify_tls=verify_tls),
            first_boot=_filled(self.first_boot, file.first_boot),
        )


def _filled(request: _T, other: _T) -> _T:
    """Return `request` with each None replaced by the value of `other`."""
    missing = [each.name for each in fields(request) if getattr(request, each.name) is None]
    return replace(request, **{name: getattr(other, name) for name in missing})


# The file of `machine init -f`, which `machine export` writes


class Part(Enum):
    """The part of an InitRequest that a key of the TOML file sets."""

    MACHINE = auto()
    IMAGE = auto()
    FIRST_BOOT = auto()


Written = bool | int | str | tuple[str, ...] | Mapping[str, str] | UserIgnition | Script | list[Script]
"""What a key of the file can hold."""


@dataclass(frozen=True)
class Key:
    """A key of the TOML file, the field of the request that it sets, and how the key's value is read and written."""

    part: Part
    field: str

    read: values.Reader
    write: Callable[[MachineConfig], Written | None]
    """Returns the value to write to the file for a machine. If the value is None, the key is left out."""


def _volumes(config: MachineConfig) -> tuple[str, ...]:
    # A file without this key would mean the default folders.
    return tuple(without_variables(str(folder)) for folder in config.folders) or ("",)


def _ignition_replaces(config: MachineConfig) -> bool | None:
    ignition = config.first_boot.ignition
    return (ignition is not None and ignition.replaces) or None


def _of_vm(write: Callable[[MachineConfig], Written | None]) -> Callable[[MachineConfig], Written | None]:
    """Return `write` for virtual machines. For a remote host, the key is left out."""
    return lambda config: None if config.remote else write(config)


def _of_remote(write: Callable[[RemoteHost], Written | None]) -> Callable[[MachineConfig], Written | None]:
    """Return `write` for remote hosts. For a virtual machine, the key is left out."""
    return lambda config: write(config.remote) if config.remote else None


_REMOTE_KEYS = frozenset({"host", "identity", "proxy_command", "host_key", "accept_new_host_key"})
"""The keys that concern hosts over SSH alone."""

_COMMON_KEYS = frozenset({"name", "provider", "rootful", "volume", "label"})


def suits(key: str, provider: object) -> bool:
    """Return whether a key concerns machines of this provider. A file without a provider means virtual machines."""
    return key in _COMMON_KEYS or (key in _REMOTE_KEYS) == (provider == Provider.SSH)


KEYS: Mapping[str, Key] = {
    "name": Key(Part.MACHINE, "name", values.string, lambda config: config.name),
    "provider": Key(Part.MACHINE, "provider", values.string, lambda config: config.provider if config.remote else None),
    "host": Key(Part.MACHINE, "host", values.string, _of_remote(lambda remote: remote.named)),
    "identity": Key(Part.MACHINE, "identity", values.path, _of_remote(lambda remote: remote.identity)),
    "proxy_command": Key(Part.MACHINE, "proxy_command", values.string, _of_remote(lambda remote: remote.proxy_command)),
    # The machine's known_hosts file has the key.
    "host_key": Key(Part.MACHINE, "host_key", values.string, lambda _: None),
    "accept_new_host_key": Key(Part.MACHINE, "accept_host_key", values.switch, lambda _: None),
    # An image of a stream is named with its release, because later the stream may have a newer one.
    "image": Key(Part.MACHINE, "image", values.image, _of_vm(lambda config: config.image.pinned)),
    "image_sha256": Key(Part.IMAGE, "sha256", values.string_or_none, lambda config: config.image.promised),
    # The record does not have this value.
    "stream_base_url": Key(Part.IMAGE, "stream_base_url", values.string_or_none, lambda _: None),
    "tls_verify": Key(Part.IMAGE, "verify_tls", values.switch, lambda config: None if config.verify_tls else False),
    "provisioning": Key(Part.MACHINE, "provisioning", values.provisioning, _of_vm(lambda config: config.provisioning)),
    "arch": Key(Part.MACHINE, "arch", values.string, _of_vm(lambda config: config.arch)),
    "accel": Key(Part.MACHINE, "accelerator", values.setting("accel"), _of_vm(lambda config: config.accelerator)),
    "cpus": Key(Part.MACHINE, "cpus", values.setting("cpus"), _of_vm(lambda vm: vm.resources.cpus)),
    "memory": Key(Part.MACHINE, "memory_mib", values.setting("memory"), _of_vm(lambda vm: vm.resources.memory_mib)),
    "disk_size": Key(Part.MACHINE, "disk_gib", values.setting("disk_size"), _of_vm(lambda vm: vm.resources.disk_gib)),
    "swap": Key(Part.MACHINE, "swap_mib", values.whole_number, lambda config: config.swap_mib or None),
    "username": Key(Part.MACHINE, "username", values.setting("username"), _of_vm(lambda config: config.username)),
    "rootful": Key(Part.MACHINE, "rootful", values.setting("rootful"), lambda config: config.rootful),
    "timezone": Key(
        Part.MACHINE,
        "timezone",
        values.setting("timezone"),
        _of_vm(lambda config: LOCAL if config.timezone_local else config.timezone),
    ),
    "hostname": Key(Part.FIRST_BOOT, "hostname", values.string, lambda config: config.first_boot.hostname),
    "import_native_ca": Key(
        Part.MACHINE, "native_ca", values.setting("import_native_ca"), _of_vm(lambda config: config.native_ca)
    ),
    "idle_suspend": Key(
        Part.MACHINE, "idle_suspend", values.setting("idle_suspend"), _of_vm(lambda config: config.idle_suspend)
    ),
    "volume": Key(Part.MACHINE, "volumes", values.volumes, _volumes),
    "volume_driver": Key(Part.MACHINE, "volume_driver", values.string, _of_vm(lambda config: config.volume_driver)),
    "mount_inotify": Key(Part.MACHINE, "mount_inotify", values.switch, lambda config: config.mount_inotify or None),
    "usb": Key(Part.MACHINE, "usbs", values.strings, lambda config: config.usbs or None),
    "ssh_authorized_key": Key(
        Part.FIRST_BOOT, "ssh_keys", values.ssh_keys, lambda config: config.first_boot.ssh_keys or None
    ),
    "ignition_replace": Key(Part.FIRST_BOOT, "ignition_replaces", values.switch, _ignition_replaces),
    "env": Key(
        Part.FIRST_BOOT, "environment", values.table, lambda config: dict(config.first_boot.environment) or None
    ),
    "label": Key(Part.MACHINE, "labels", values.table, lambda config: dict(config.labels) or None),
    "ignition_path": Key(Part.FIRST_BOOT, "ignition", values.ignition, lambda config: config.first_boot.ignition),
    "playbook": Key(Part.FIRST_BOOT, "playbook", values.playbook, lambda config: config.first_boot.playbook),
    "provision": Key(
        Part.FIRST_BOOT, "scripts", values.scripts, lambda config: list(config.first_boot.scripts) or None
    ),
}
"""The keys of the file, in the order in which `export` writes them. They are the flags of init."""
