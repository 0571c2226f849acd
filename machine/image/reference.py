"""What a person can type after `--image` (pure)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from machine.errors import BadInputError

LOCAL_STREAM = "boot2podman"
FCOS_STREAMS = ("stable", "testing", "next")
DEFAULT_REFERENCE = "fcos:stable"

_CHOICES = "fcos:stable, fcos:testing, fcos:next, boot2podman, a path or an http(s) URL"


@dataclass(frozen=True, kw_only=True)
class StreamReference:
    """A stream by its name; `local` says that it was built on this host."""

    stream: str
    local: bool

    def __str__(self) -> str:
        return self.stream if self.local else f"fcos:{self.stream}"


@dataclass(frozen=True, kw_only=True)
class FileReference:
    path: Path

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True, kw_only=True)
class UrlReference:
    url: str

    def __str__(self) -> str:
        return self.url


Reference = StreamReference | FileReference | UrlReference


def parse_reference(text: str) -> Reference:
    """What `text` refers to; only something that looks like a path is taken for one.

    Raises:
        BadInputError: it is nothing that we know.
    """
    if text == LOCAL_STREAM:
        return StreamReference(stream=LOCAL_STREAM, local=True)
    if text in FCOS_STREAMS:
        return StreamReference(stream=text, local=False)
    kind, colon, rest = text.partition(":")
    if colon and kind == "fcos":
        if rest not in FCOS_STREAMS:
            raise BadInputError(f'unknown stream "{rest}"', hint=f"choose one of: {', '.join(FCOS_STREAMS)}")
        return StreamReference(stream=rest, local=False)
    if kind in ("http", "https") and rest.startswith("//"):
        if not _has_host(text):
            raise BadInputError(f'"{text}" is not a URL that can be fetched', hint=f"choose one of: {_CHOICES}")
        return UrlReference(url=text)
    if colon and rest.startswith("//"):
        raise BadInputError(f'images of kind "{kind}://" cannot be fetched', hint=f"choose one of: {_CHOICES}")
    if "/" in text or "." in text:
        return FileReference(path=Path(text).expanduser())
    raise BadInputError(f'unknown image "{text}"', hint=f"choose one of: {_CHOICES}")


def _has_host(url: str) -> bool:
    try:
        return bool(urlsplit(url).hostname)
    except ValueError:
        return False
