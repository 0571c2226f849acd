"""Name the directories in the image cache."""

from __future__ import annotations

from pathlib import Path


def base_image(directory: Path, digest: str) -> Path:
    """Return the path for the base image with this sha256 (hex), whether it exists or not."""
    return directory / f"sha256-{digest}" / "image.qcow2"


def digest_of(entry: Path) -> str:
    """Return the digest in the name of a base image's directory."""
    return entry.name.removeprefix("sha256-")
