"""Describe a user's options for fetching an image, and what our own guest image may contain."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, kw_only=True)
class ImageOptions:
    """How an image is fetched and checked."""

    stream_base_url: str | None = None
    """The base URL of stream metadata; None to use the URL in the settings."""

    sha256: str | None = None
    """The SHA-256 that the published file must have, as the user typed it; None if the user gave none."""

    offline: bool = False
    """Whether to use only the cache and never the network."""

    verify_signature: bool = True
    """Whether to check the signature of a stream's image."""

    verify_tls: bool | None = None
    """Whether to check the certificates of servers; None to check all but those of registries that may be insecure."""


class ImageVariant(StrEnum):
    """How much our own guest image contains. The recipe lists the packages of each variant."""

    SMALL = "small"
    FULL = "full"
    """With buildah, skopeo, and what runs containers of other architectures."""
