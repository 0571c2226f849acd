"""What a user may say about fetching an image, apart from which one it is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ImageOptions:
    """How an image is fetched and checked."""

    stream_base_url: str | None = None
    """Where stream metadata is; None is where the settings say."""

    sha256: str | None = None
    """What the published file must have, as it was typed; None where only its publisher's word counts."""

    offline: bool = False
    """Use what is in the cache, and never the network."""

    verify_signature: bool = True
    """Check the signature of a stream's image."""

    verify_tls: bool = True
    """Check the certificates of servers."""
