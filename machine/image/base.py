"""A base image in the cache, and the artifact.json beside it that describes it."""

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
# In the file, an empty text says that there is none.
_OPTIONAL = ("stream", "release", "sha512", "uncompressed_sha256", "signer")


@dataclass(frozen=True, kw_only=True)
class BaseImage:
    """An unpacked and verified image, which machines use as the base of their disks. Digests are lower-case hex."""

    digest: str
    """The sha256 of its content, by which the cache names it."""

    path: Path
    reference: str
    arch: Arch

    location: str
    """Where it came from, without a login."""

    verified: Verified

    fetched: str
    """When, in ISO 8601, UTC."""

    length: int
    """Bytes of the image's own file."""

    sha256: str
    """That of the file as it was published, whether it was promised or not."""

    sha512: str | None = None
    """That of the file as it was published, where it was promised."""

    uncompressed_sha256: str | None = None
    """What the publisher says of the content."""

    stream: str | None = None
    release: str | None = None

    signer: str | None = None
    """Whose good signature it has, where one was checked."""

    @property
    def size(self) -> int:
        """Bytes on the disk."""
        return self.path.stat().st_blocks * 512


def read_base(entry: Path) -> BaseImage | None:
    """The base in a directory of the cache; None where it is damaged, cut short or not described."""
    digest = digest_of(entry)
    path = base_image(entry.parent, digest)
    try:
        fields = json.loads((entry / _FILE).read_bytes())
        length = fields.pop("length")
        if not all(isinstance(value, str) for value in fields.values()):
            return None
        optional: dict[str, Any] = {name: fields.pop(name, "") or None for name in _OPTIONAL}
        arch, verified = Arch(fields.pop("arch")), Verified(fields.pop("verified"))
        base = BaseImage(
            digest=digest, path=path, length=length, arch=arch, verified=verified, **optional, **fields
        )  # fmt: skip
        return base if path.stat().st_size == length else None
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def describe_base(base: BaseImage, directory: Path) -> None:
    """Write what `read_base` reads."""
    fields = {key: value for key, value in asdict(base).items() if key not in ("digest", "path")}
    fields |= {name: fields[name] or "" for name in _OPTIONAL}
    write_atomic(directory / _FILE, json.dumps(fields, indent=2) + "\n", mode=FILE_PRIVATE)
