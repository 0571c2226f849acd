"""The names inside the image cache."""

from __future__ import annotations

from pathlib import Path


def base_image(directory: Path, digest: str) -> Path:
    """Where the base with this content (sha256, hex) is, or would be."""
    return directory / f"sha256-{digest}" / "image.qcow2"


def digest_of(entry: Path) -> str:
    """The digest in the name of a base's directory."""
    return entry.name.removeprefix("sha256-")
