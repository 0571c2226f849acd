"""Read and write the description of a base image, which is the file artifact.json beside the image."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from machine.files import FILE_PRIVATE, write_atomic
from machine.image.layout import base_image, digest_of
from machine.model.arch import Arch
from machine.model.config import Verified

_FILE = "artifact.json"
# The file stores None as an empty string.
_OPTIONAL = ("stream", "release", "sha512", "uncompressed_sha256", "signer")


@dataclass(frozen=True, kw_only=True)
class BaseImage:
    """An unpacked, verified image in the cache, on which machines' disks are overlays. Digests are lower-case hex."""

    digest: str
    """The sha256 of the unpacked image; the image's directory in the cache is named after this digest."""

    path: Path
    reference: str
    arch: Arch

    location: str
    """The URL that the image was fetched from, without credentials."""

    verified: Verified

    fetched: str
    """The time of the fetch in ISO 8601, UTC."""

    length: int
    """Length of the unpacked image file in bytes."""

    sha256: str
    """The sha256 of the published file, whether the publisher states it or not."""

    sha512: str | None = None
    """The sha512 of the published file; None unless the publisher states a sha512."""

    uncompressed_sha256: str | None = None
    """The sha256 of the unpacked image as the publisher states it."""

    stream: str | None = None
    release: str | None = None

    signer: str | None = None
    """Name and fingerprint of the key whose signature was verified."""

    @property
    def size(self) -> int:
        """The bytes that the image occupies on disk."""
        return self.path.stat().st_blocks * 512


def read_base(entry: Path) -> BaseImage | None:
    """Read the base image in one directory of the cache.

    Return None if the image is missing or truncated, or if its description is missing or invalid.
    """
    base = read_description(entry)
    try:
        return base if base and base.path.stat().st_size == base.length else None
    except OSError:
        return None


def read_description(entry: Path) -> BaseImage | None:
    """Read the description of a base image, whether or not the image is damaged. Return None if there is none."""
    digest = digest_of(entry)
    path = base_image(entry.parent, digest)
    try:
        fields = json.loads((entry / _FILE).read_bytes())
        length = fields.pop("length")
        if not all(isinstance(value, str) for value in fields.values()):
            return None
        optional: dict[str, Any] = {name: fields.pop(name, "") or None for name in _OPTIONAL}
        arch, verified = Arch(fields.pop("arch")), Verified(fields.pop("verified"))
        return BaseImage(
            digest=digest, path=path, length=length, arch=arch, verified=verified, **optional, **fields
        )  # fmt: skip
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def write_description(base: BaseImage, directory: Path) -> None:
    """Write the artifact.json that `read_base` reads."""
    fields = {key: value for key, value in asdict(base).items() if key not in ("digest", "path")}
    fields |= {name: fields[name] or "" for name in _OPTIONAL}
    write_atomic(directory / _FILE, json.dumps(fields, indent=2) + "\n", mode=FILE_PRIVATE)
