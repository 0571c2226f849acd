"""Stream metadata, the public JSON schema of Fedora CoreOS (coreos/stream-metadata-go, stream/stream.go)."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

from machine.errors import MachineError, NotFoundError
from machine.image import fetch
from machine.image.reference import StreamReference
from machine.model.arch import Arch

FCOS_BASE_URL = "https://builds.coreos.fedoraproject.org/streams"

_PLATFORM = "qemu"
_FORMAT = "qcow2.xz"
_MAX_BYTES = 16 * 1024**2
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """One published disk image. Hashes are lower-case hex; an empty one is not known."""

    location: str
    sha256: str = ""
    uncompressed_sha256: str = ""
    signature: str = ""
    stream: str = ""
    release: str = ""


def metadata_url(reference: StreamReference, base_url: str) -> str:
    return f"{base_url.rstrip('/')}/{reference.stream}.json"


def find_artifact(reference: StreamReference, arch: Arch, *, local: Path, base_url: str | None) -> Artifact:
    """The disk image for QEMU of a stream; `local` is the folder of what was built on this host.

    Raises:
        MachineError: the metadata cannot be had, or has no such image.
    """
    base = local.as_uri() if reference.local and base_url is None else base_url or FCOS_BASE_URL
    url = metadata_url(reference, base)
    if reference.local and base_url is None and not (local / f"{reference.stream}.json").exists():
        raise NotFoundError(
            f"there is no {reference.stream} image on this host", hint="build one with: machine image build"
        )
    return parse_artifact(fetch.fetch_bytes(url, limit=_MAX_BYTES), url, arch)


def parse_artifact(text: bytes, url: str, arch: Arch) -> Artifact:
    """The disk image for QEMU in stream metadata; locations may be relative to the metadata's own URL.

    Raises:
        MachineError: it is not stream metadata, or has no such image.
    """
    try:
        document = json.loads(text)
        architectures: dict[str, Any] = document["architectures"]
        stream = str(document["stream"])
        known = ", ".join(sorted(architectures.keys())) or "none"
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise MachineError(f"{url} is not stream metadata") from error
    if arch.value not in architectures:
        raise MachineError(f"stream {stream} has no image for {arch}", hint=f"its architectures are: {known}")
    try:
        platform = architectures[arch.value]["artifacts"][_PLATFORM]
        disk = platform["formats"][_FORMAT]["disk"]
        signature = disk.get("signature", "")
        return Artifact(
            location=urljoin(url, disk["location"]),
            sha256=_sha256(disk["sha256"]),
            uncompressed_sha256=_sha256(disk["uncompressed-sha256"]) if "uncompressed-sha256" in disk else "",
            signature=urljoin(url, signature) if signature else "",
            stream=stream,
            release=str(platform["release"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise MachineError(f"{url} describes no {_FORMAT} image for QEMU on {arch}") from error


def _sha256(text: str) -> str:
    """The hash itself, in lower case: it becomes the name of a file, and an empty one would check nothing."""
    if not _SHA256.fullmatch(text.lower()):
        raise ValueError(text)
    return text.lower()
