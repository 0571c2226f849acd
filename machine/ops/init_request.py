"""What `machine init` is asked to do, by flags and by a file."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import TypeVar

from machine.model.config import Provisioning
from machine.model.host import AcceleratorChoice
from machine.model.image import ImageOptions
from machine.model.settings import Value
from machine.ops.init_first_boot import FirstBootRequest

_T = TypeVar("_T", "InitRequest", FirstBootRequest)


@dataclass(frozen=True, kw_only=True)
class InitRequest:
    """What was asked for; None means that the option was not given, and the settings decide.

    `file` is a file for `ops.init_file`, which supplies what was not given otherwise. Labels are `KEY=VALUE`.
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
    provisioning: Provisioning | None = None

    @property
    def flags(self) -> dict[str, Value]:
        """What was asked for, by the keys of Settings."""
        asked = {
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
        }
        return {key: value for key, value in asked.items() if value is not None}

    def completed_by(self, file: InitRequest) -> InitRequest:
        """Return this request, completed by the values of the file for everything that was not given."""
        mine, its = self.image_options, file.image_options
        # The file's sha256 belongs to the file's image.
        sha256 = mine.sha256 or (its.sha256 if self.image is None else None)
        base_url = mine.stream_base_url or its.stream_base_url
        return replace(
            _filled(self, file),
            image_options=replace(mine, sha256=sha256, stream_base_url=base_url),
            first_boot=_filled(self.first_boot, file.first_boot),
        )


def _filled(request: _T, other: _T) -> _T:
    """Return `request` with the values of `other` in place of None."""
    missing = [each.name for each in fields(request) if getattr(request, each.name) is None]
    return replace(request, **{name: getattr(other, name) for name in missing})
