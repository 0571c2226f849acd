"""Find images in stream metadata of Fedora CoreOS's public schema (coreos/stream-metadata-go, stream/stream.go)."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypedDict, TypeVar
from urllib.parse import urljoin, urlsplit

from machine.errors import BadInputError, MachineError, NotFoundError, Page
from machine.files import DIRECTORY_PRIVATE, disk_errors, make_directory, write_atomic
from machine.image.reference import StreamReference
from machine.image.web import FetchError, Web, fetch_bytes, local_path, read_body, retried
from machine.model.arch import Arch
from machine.report import Reporter

FCOS_BASE_URL = "https://builds.coreos.fedoraproject.org/streams"

_PLATFORM = "qemu"
_FORMAT = "qcow2.xz"
_MAX_BYTES = 16 * 1024**2
_T = TypeVar("_T")

_SHA256 = re.compile(r"[0-9a-f]{64}")
_CONTAINER_BY_DIGEST = re.compile(r"[a-z0-9][a-z0-9._:/-]*@sha256:[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """One published disk image. Its digests are lower-case hex, or None if they have not been published."""

    reference: str
    """The reference by which the image was looked up."""

    arch: Arch
    location: str

    sha256: str | None = None
    """The sha256 of the published file. Some distributions publish only the `sha512`."""

    sha512: str | None = None
    uncompressed_sha256: str | None = None

    signature: str | None = None
    """The URL of the published file's detached signature."""

    stream: str | None = None
    release: str | None = None

    authorize: Callable[[], Mapping[str, str]] | None = None
    """Logs in to an OCI registry, and returns the headers of the login. When called again, it logs in again."""

    @property
    def has_checksum(self) -> bool:
        """Whether a digest of the published file is known."""
        return self.sha256 is not None or self.sha512 is not None


@dataclass(frozen=True, kw_only=True)
class _Cached:
    """A cached document, and the response headers that name its version. A header that was not sent is empty."""

    url: str
    etag: str
    modified: str
    fetched: str
    body: str

    @property
    def conditions(self) -> dict[str, str]:
        headers = {"If-None-Match": self.etag, "If-Modified-Since": self.modified}
        return {name: value for name, value in headers.items() if value}


class MetadataCache:
    """Fetches metadata and keeps copies. A copy is used while it is current, or while its server cannot be reached."""

    def __init__(self, directory: Path, web: Web, *, offline: bool, report: Reporter) -> None:
        self._directory = directory
        self._web = web
        self._offline = offline
        self._report = report

    def get(self, url: str, parse: Callable[[bytes], _T]) -> _T:
        """Fetch and parse a document. Use the cached copy if it is current, or if the server cannot be reached.

        Raises:
            MachineError: the document cannot be fetched and is not in the cache, or `parse` rejects it. A rejected
                document is not cached.
        """
        if local_path(url) is not None:
            return parse(fetch_bytes(url, self._web, limit=_MAX_BYTES))
        cached = self._read(url)
        if self._offline:
            if cached is None:
                raise NotFoundError(f"{url} was never fetched on this host", hint="run once without --offline")
            return parse(cached.body.encode())
        try:
            return retried(lambda: self._fetch(url, cached, parse))
        except FetchError as error:
            if cached is None or not error.transient:
                raise
            self._report.notice(f"{error.line}; using the copy fetched on {cached.fetched[:10]}")
            return parse(cached.body.encode())

    def _fetch(self, url: str, cached: _Cached | None, parse: Callable[[bytes], _T]) -> _T:
        with self._web.get(url, cached.conditions if cached else {}) as response:
            if response.status_code == 304 and cached:
                return parse(cached.body.encode())
            body = read_body(response, url, limit=_MAX_BYTES)
            headers = response.headers
        parsed = parse(body)  # first, so that a captive portal's page never replaces the cached document
        fresh = _Cached(
            url=url,
            etag=headers.get("ETag", ""),
            modified=headers.get("Last-Modified", ""),
            fetched=datetime.now(UTC).isoformat(timespec="seconds"),
            body=body.decode(errors="replace"),
        )
        with disk_errors(self._directory):
            make_directory(self._directory, mode=DIRECTORY_PRIVATE)
        write_atomic(self._path(url), json.dumps(asdict(fresh)))
        return parsed

    def _read(self, url: str) -> _Cached | None:
        try:
            fields = json.loads(self._path(url).read_bytes())
            return _Cached(**fields) if all(isinstance(value, str) for value in fields.values()) else None
        except (OSError, ValueError, TypeError, AttributeError):
            return None

    def _path(self, url: str) -> Path:
        return self._directory / f"{hashlib.sha256(os.fsencode(url)).hexdigest()[:16]}.json"


def find_artifact(
    reference: StreamReference, arch: Arch, metadata: MetadataCache, *, local: Path, base_url: str | None
) -> Artifact:
    """Find the disk image of a stream for QEMU guests of `arch`. `local` is the folder of streams built on this host.

    Raises:
        MachineError: the stream's metadata cannot be fetched, or lists no such disk image.
    """
    base = local.as_uri() if reference.local and base_url is None else base_url or FCOS_BASE_URL
    remedy = f"build one with: machine image build --arch {arch}" if reference.local else None
    if reference.local and base_url is None and not (local / f"{reference.stream}.json").exists():
        raise NotFoundError(f"there is no {reference.stream} image on this host", hint=remedy)
    if not base.startswith(("http://", "https://", "file://")):
        raise BadInputError(f'"{base}" is not a URL of stream metadata', hint=f"Fedora's is {FCOS_BASE_URL}")
    if reference.release is None:
        url = f"{base.rstrip('/')}/{reference.stream}.json"
        return metadata.get(url, lambda text: parse_artifact(text, url, reference, arch, remedy=remedy))
    url = _release_url(reference, reference.release, base, metadata)
    artifact = metadata.get(url, lambda text: parse_release(text, url, reference, arch))
    if (artifact.stream, artifact.release) != (reference.stream, reference.release):
        raise MachineError(
            f"{url} describes release {artifact.release} of {artifact.stream}, not {reference.release}"
            f" of {reference.stream}"
        )
    return artifact


def find_container_disk(
    reference: StreamReference, arch: Arch, metadata: MetadataCache, *, base_url: str | None
) -> str:
    """Find the container image with the disk of a stream of Fedora CoreOS for KubeVirt. Return it by its digest.

    Raises:
        MachineError: the stream's metadata cannot be fetched, or names no such image.
    """
    base = base_url or FCOS_BASE_URL
    url = f"{base.rstrip('/')}/{reference.stream}.json"
    place: tuple[str, ...] = ("images", "kubevirt")
    if reference.release is not None:
        url, place = _release_url(reference, reference.release, base, metadata), ("media", "kubevirt", "image")
    return metadata.get(url, lambda text: parse_container_disk(text, url, arch, place))


def parse_container_disk(text: bytes, url: str, arch: Arch, place: Sequence[str]) -> str:
    """Find the container image for KubeVirt in metadata. `place` has the keys that lead to it from an architecture.

    Raises:
        MachineError: `text` is not metadata, or names no such image.
    """
    stream, architectures = _header(text, url, "metadata")
    found: Any = _select_arch(architectures, arch, f"stream {stream}")
    try:
        for key in place:
            found = found[key]
        image = found["digest-ref"]
        if _CONTAINER_BY_DIGEST.fullmatch(image):
            return str(image)
    except (KeyError, TypeError):
        pass
    raise MachineError(f"{url} names no image for KubeVirt on {arch}")


def _release_url(reference: StreamReference, release: str, base: str, metadata: MetadataCache) -> str:
    """Return the URL of a release's metadata. The stream's index (stream-metadata-go, release/release.go) lists it."""
    index = urljoin(f"{base.rstrip('/')}/", f"../prod/streams/{reference.stream}/releases.json")

    def parse(text: bytes) -> dict[str, str]:
        try:
            return {str(entry["version"]): str(entry["metadata"]) for entry in _json(text, index)["releases"]}
        except (KeyError, TypeError) as error:
            raise MachineError(f"{index} is not an index of releases") from error

    releases = metadata.get(index, parse)
    if release not in releases:
        newest = list(releases)[-1:]
        raise NotFoundError(
            f'stream {reference.stream} has no release "{release}"',
            hint=f"its newest release is {newest[0]}" if newest else None,
        )
    return _resolve_url(index, releases[release])


def parse_artifact(
    text: bytes, url: str, reference: StreamReference, arch: Arch, *, remedy: str | None = None
) -> Artifact:
    """Find the disk image for QEMU guests of `arch` in the stream metadata `text`, which was fetched from `url`.

    URLs in the metadata may be relative to `url`. If the stream has no image for `arch`, the error's hint is `remedy`.

    Raises:
        MachineError: `text` is not stream metadata, or lists no such image.
    """
    stream, architectures = _header(text, url, "stream metadata")
    entry = _select_arch(architectures, arch, f"stream {stream}", remedy)
    try:
        platform = entry["artifacts"][_PLATFORM]
        disk, release = platform["formats"][_FORMAT]["disk"], str(platform["release"])
        return Artifact(reference=str(reference), arch=arch, stream=stream, release=release, **_parse_disk(disk, url))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise MachineError(f"{url} describes no {_FORMAT} image for QEMU on {arch}") from error


def parse_release(text: bytes, url: str, reference: StreamReference, arch: Arch) -> Artifact:
    """Find the disk image for QEMU guests of `arch` in the metadata of one release, which has a schema of its own.

    Raises:
        MachineError: `text` is not release metadata, or lists no such image.
    """
    stream, architectures = _header(text, url, "release metadata")
    release = str(_json(text, url).get("release", ""))
    entry = _select_arch(architectures, arch, f"release {release}")
    try:
        disk = entry["media"][_PLATFORM]["artifacts"][_FORMAT]["disk"]
        return Artifact(reference=str(reference), arch=arch, stream=stream, release=release, **_parse_disk(disk, url))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise MachineError(f"{url} describes no {_FORMAT} image for QEMU on {arch}") from error


def _header(text: bytes, url: str, kind: str) -> tuple[str, dict[str, Any]]:
    try:
        document = _json(text, url)
        return str(document["stream"]), dict(document["architectures"])
    except (ValueError, KeyError, TypeError) as error:
        raise MachineError(f"{url} is not {kind}") from error


def _select_arch(architectures: dict[str, Any], arch: Arch, where: str, remedy: str | None = None) -> dict[str, Any]:
    if arch.value not in architectures:
        names = ", ".join(sorted(architectures)) or "none"
        hint = "; ".join(filter(None, [f"its architectures are: {names}", remedy]))
        raise MachineError(f"{where} has no image for {arch}", hint=hint)
    entry: dict[str, Any] = architectures[arch.value]
    return entry


class _DiskFields(TypedDict):
    """The fields of an `Artifact` that stream and release metadata have for a disk image."""

    location: str
    sha256: str
    uncompressed_sha256: str | None
    signature: str | None


def _parse_disk(disk: dict[str, Any], url: str) -> _DiskFields:
    signature = disk.get("signature")
    return {
        "location": _resolve_url(url, disk["location"]),
        "sha256": _parse_sha256(disk["sha256"]),
        "uncompressed_sha256": _parse_sha256(disk["uncompressed-sha256"]) if "uncompressed-sha256" in disk else None,
        "signature": _resolve_url(url, signature) if signature else None,
    }


def _resolve_url(base: str, location: str) -> str:
    """Return the absolute URL of a link in metadata. Metadata from a server must not refer to files on this host.

    Raises:
        ValueError: the metadata comes from a server, but the link refers to a local file.
    """
    url = urljoin(base, location)
    kinds = ("http", "https", "file") if local_path(base) is not None else ("http", "https")
    if urlsplit(url).scheme not in kinds:
        raise ValueError(url)
    return url


def _json(text: bytes, url: str) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        what = "a web page" if text.lstrip()[:1] == b"<" else "not JSON"
        raise MachineError(f"{url} is {what} instead of metadata", page=Page.UNREACHABLE) from error
    if not isinstance(document, dict):
        raise TypeError("not a JSON object")
    return document


def _parse_sha256(text: str) -> str:
    """Check a digest, because it becomes part of a file name, and return it in lower case."""
    if not _SHA256.fullmatch(text.lower()):
        raise ValueError(text)
    return text.lower()
