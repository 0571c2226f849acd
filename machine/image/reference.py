"""Parse image references, which are the values of `--image` (pure)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from machine.errors import BadInputError

LOCAL_STREAM = "boot2podman"
FCOS_STREAMS = ("stable", "testing", "next")

CHOICES = (
    "fcos:stable, fcos:testing, fcos:next, fcos:STREAM@RELEASE, boot2podman, a path, an http(s) URL or "
    "docker://REGISTRY/NAME:TAG"
)
_CATALOGUE = re.compile(r"(?P<name>[a-z][a-z0-9-]*)(?::(?P<tag>[A-Za-z0-9][A-Za-z0-9._-]*))?")
# From regexp.go of distribution/reference, which containers/image uses; upper-case names are not accepted.
_REPOSITORY = re.compile(
    r"(?:(?P<registry>(?:localhost|[A-Za-z0-9.-]+\.[A-Za-z0-9.-]+|[A-Za-z0-9-]+(?=:[0-9]+/)|\[[0-9a-fA-F:]+\])"
    r"(?::[0-9]+)?)/)?"
    r"(?P<name>[a-z0-9]+(?:[._/-]+[a-z0-9]+)*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?"
    r"(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)
_DOCKER_HUB = "docker.io"


@dataclass(frozen=True, kw_only=True)
class StreamReference:
    """A release of a stream. If `release` is None, it is the newest. Images of a `local` stream are built here."""

    stream: str
    local: bool
    release: str | None = None

    def __str__(self) -> str:
        name = self.stream if self.local else f"fcos:{self.stream}"
        return f"{name}@{self.release}" if self.release else name


@dataclass(frozen=True, kw_only=True)
class FileReference:
    path: Path

    def __str__(self) -> str:
        return str(self.path.absolute())


@dataclass(frozen=True, kw_only=True)
class UrlReference:
    url: str

    def __str__(self) -> str:
        """Return the URL without credentials, for messages and files."""
        parts = urlsplit(self.url)
        return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


@dataclass(frozen=True, kw_only=True)
class RegistryReference:
    """A disk image in an OCI registry. `version` is a tag or a digest."""

    registry: str
    name: str
    version: str

    def __str__(self) -> str:
        separator = "@" if self.version.startswith("sha256:") else ":"
        return f"docker://{self.registry}/{self.name}{separator}{self.version}"


@dataclass(frozen=True, kw_only=True)
class CatalogueReference:
    """The name and tag of an image. Whether the catalogue has such an image is checked later."""

    name: str
    tag: str | None = None

    def __str__(self) -> str:
        return f"{self.name}:{self.tag}" if self.tag else self.name

    @staticmethod
    def is_one(text: str) -> bool:
        return bool(_CATALOGUE.fullmatch(text))


@dataclass(frozen=True, kw_only=True)
class EmptyReference:
    """The reference `/dev/null`, which means an empty disk, as in podman machine."""

    def __str__(self) -> str:
        return "/dev/null"


Reference = StreamReference | FileReference | UrlReference | RegistryReference | CatalogueReference | EmptyReference


def parse_reference(text: str) -> Reference:
    """Parse an image reference. A text without a slash or dot is never taken for a path.

    Raises:
        BadInputError: `text` is not an image reference.
    """
    if text == "/dev/null":
        return EmptyReference()
    if text == LOCAL_STREAM:
        return StreamReference(stream=LOCAL_STREAM, local=True)
    if text.partition("@")[0] in FCOS_STREAMS:
        return _stream(text)
    kind, colon, rest = text.partition(":")
    if colon and (kind == "fcos" or rest.startswith("//")):
        return _of_kind(kind, rest, text)
    if match := _CATALOGUE.fullmatch(text):
        return CatalogueReference(name=match["name"], tag=match["tag"])
    if "/" in text or "." in text:
        return FileReference(path=Path(text).expanduser())
    raise BadInputError(f'unknown image "{text}"', hint=f"choose one of: {CHOICES}")


def _of_kind(kind: str, rest: str, text: str) -> Reference:
    match kind:
        case "fcos":
            return _stream(rest)
        case "http" | "https":
            if not _has_host(text):
                raise BadInputError(f'"{text}" is not a URL that can be fetched', hint=f"choose one of: {CHOICES}")
            return UrlReference(url=text)
        case "docker":
            return _registry(text, rest.removeprefix("//"))
        case _:
            raise BadInputError(f'images cannot be fetched from "{kind}://"', hint=f"choose one of: {CHOICES}")


def _stream(text: str) -> StreamReference:
    stream, at, release = text.partition("@")
    if stream not in FCOS_STREAMS:
        raise BadInputError(f'unknown stream "{stream}"', hint=f"choose one of: {', '.join(FCOS_STREAMS)}")
    if at and not release:
        raise BadInputError(f'"{text}" has no release after the @', hint="leave out the @ for the newest release")
    return StreamReference(stream=stream, local=False, release=release or None)


def _registry(text: str, name: str) -> RegistryReference:
    match = _REPOSITORY.fullmatch(name)
    if not match:
        raise BadInputError(f'"{text}" does not name an image in a registry', hint="write docker://REGISTRY/NAME:TAG")
    registry, path = match["registry"] or _DOCKER_HUB, match["name"]
    if registry == _DOCKER_HUB and "/" not in path:
        path = f"library/{path}"
    return RegistryReference(registry=registry, name=path, version=match["digest"] or match["tag"] or "latest")


def _has_host(url: str) -> bool:
    try:
        return bool(urlsplit(url).hostname)
    except ValueError:
        return False
