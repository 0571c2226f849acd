"""Name the directories in the image cache."""

from __future__ import annotations

from pathlib import Path


def base_image(directory: Path, digest: str) -> Path:
    """Return the path that the base image with this sha256 (hex) has in the cache, whether it is there or not."""
    return directory / f"sha256-{digest}" / "image.qcow2"


def digest_of(entry: Path) -> str:
    """Return the digest from the name of a base image's directory."""
    return entry.name.removeprefix("sha256-")
