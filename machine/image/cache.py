"""Store the base images, each under its digest. The disks of machines are overlays on base images.

A base image gets its final name only when it is complete and verified, and never changes after that.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from machine import lock
from machine.errors import DeadlineError, DiskError, Page
from machine.files import disk_errors, fsync_directory, fsync_file, make_directory
from machine.image.base import BaseImage, read_base, read_description, write_description
from machine.image.intact import NOTE, has_changed
from machine.image.known import FileStamp, is_made_from
from machine.image.layout import base_image
from machine.image.streams import Artifact
from machine.image.web import public_url
from machine.model.config import Verified

_MIB = 1024**2
_WAIT_FOR_USERS_S = 2.0
_WAIT_FOR_REMOVAL_S = 60.0
_WAIT_FOR_FETCH_S = 4 * 3600.0
_NEW = ".new-"
_DOWNLOADS = "downloads"


class ImageCache:
    """The base images in one directory that several processes share."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    # Lookup

    def bases(self) -> list[BaseImage]:
        """List the base images that have their whole length, newest first."""
        return self._sorted(read_base)

    def described(self) -> list[BaseImage]:
        """List all base images that have a description, newest first. Some of them may be damaged."""
        return self._sorted(read_description)

    def _sorted(self, read: Callable[[Path], BaseImage | None]) -> list[BaseImage]:
        found = (read(entry) for entry in self._directory.glob("sha256-*"))
        return sorted((base for base in found if base), key=lambda base: base.fetched, reverse=True)

    def _unchanged(self) -> list[BaseImage]:
        """List the base images that machines may be made from, because they have not changed since they were made."""
        return [base for base in self.bases() if not has_changed(base.path)]

    def find(self, artifact: Artifact, *, signed: bool) -> BaseImage | None:
        """Find the base image made from this artifact. With `signed`, its signature must have been verified."""
        for base in self._unchanged():
            if _is_made_from(base, artifact) and (not signed or base.verified is Verified.SIGNATURE):
                return base
        return None

    def find_location(self, location: str) -> BaseImage | None:
        """Find the newest base image that was fetched from this URL."""
        return next((base for base in self._unchanged() if base.location == public_url(location)), None)

    def find_file(self, stamp: FileStamp) -> BaseImage | None:
        """Find the base image that was made from the file on this host that has this stamp."""
        return next((base for base in self._unchanged() if is_made_from(base, stamp)), None)

    def path_of(self, digest: str) -> Path:
        """Return the path for the base image with this digest, whether it exists or not."""
        return base_image(self._directory, digest)

    # Locks

    @contextlib.contextmanager
    def using(self) -> Iterator[None]:
        """Prevent other processes from removing base images during the block."""
        waits_for = "another command to release the image cache"
        with lock.shared(self._lock_file(".lock"), timeout_s=_WAIT_FOR_REMOVAL_S, waits_for=waits_for):
            yield

    @contextlib.contextmanager
    def removing(self) -> Iterator[None]:
        """Prevent other processes from using base images during the block.

        Raises:
            DeadlineError: another process has been fetching an image, or making a machine, for too long.
        """
        with lock.held(self._lock_file(".lock"), timeout_s=_WAIT_FOR_USERS_S) as free:
            if not free:
                raise DeadlineError(
                    "another command is fetching an image or creating a machine",
                    hint="try again when that command has ended",
                )
            yield

    @contextlib.contextmanager
    def making(self, artifact: Artifact, *, on_wait: Callable[[], None]) -> Iterator[bool]:
        """Prevent other processes from fetching the same artifact during the block.

        If another process is fetching the artifact, call `on_wait`, and wait until that process has finished. Yields
        whether it had to wait.
        """
        with lock.exclusively(
            self._lock_file(f"{_DOWNLOADS}/{_key(artifact)}.lock"),
            timeout_s=_WAIT_FOR_FETCH_S,
            waits_for="another process to fetch the image",
            on_wait=on_wait,
        ) as waited:
            yield waited

    @property
    def is_empty(self) -> bool:
        """Whether the cache has nothing that could be removed."""
        patterns = ("sha256-*", f"{_NEW}*", f"{_DOWNLOADS}/*")
        return not any(next(self._directory.glob(pattern), None) for pattern in patterns)

    def _lock_file(self, name: str) -> Path:
        path = self._directory / name
        with disk_errors(path.parent):
            make_directory(path.parent)
        return path

    # Adding images

    def download_folder(self, artifact: Artifact) -> Path:
        """Return the path of the folder in which a partial download of the artifact is kept."""
        return self._directory / _DOWNLOADS / _key(artifact)

    @contextlib.contextmanager
    def workspace(self, artifact: Artifact) -> Iterator[Path]:
        """Make an empty directory for a new base image. After the block, remove it, unless the image was published."""
        directory = self._directory / f"{_NEW}{_key(artifact)}"
        with disk_errors(directory):
            shutil.rmtree(directory, ignore_errors=True)  # left by a killed process
            directory.mkdir(mode=0o700)
        try:
            yield directory
        finally:
            shutil.rmtree(directory, ignore_errors=True)

    def check_space(self, size: int, missing: int) -> None:
        """Check that there is space for the `missing` bytes of a download of `size` bytes, and for the unpacked image.

        Raises:
            DiskError: the disk of the cache has too little free space.
        """
        free = shutil.disk_usage(self._directory).free
        needed = missing + size  # the unpacked image is at least as large as the packed one
        if needed > free:
            raise DiskError(
                f"not enough space for the image in {self._directory}: it needs at least {needed // _MIB} MiB, and"
                f" {free // _MIB} MiB are free",
                hint="free some space, for example with: machine image prune",
                page=Page.HOST_DISK_FULL,
            )

    def publish(self, base: BaseImage, workspace: Path) -> None:
        """Move a new base image from `workspace` to its final path, unless a signed base image is already there."""
        waits_for = "another process to publish the same image"
        path = self._lock_file(f"{_DOWNLOADS}/{base.digest}.publish.lock")
        with lock.exclusively(path, timeout_s=_WAIT_FOR_REMOVAL_S, waits_for=waits_for):
            old = None if has_changed(base.path) else read_base(base.path.parent)
            if old and old.verified is Verified.SIGNATURE and base.verified is not Verified.SIGNATURE:
                return
            fsync_file(workspace / base.path.name)
            if not base.path.parent.exists():
                write_description(base, workspace)
                workspace.rename(base.path.parent)
            else:
                os.replace(workspace / base.path.name, base.path)
                os.replace(workspace / NOTE, base.path.with_name(NOTE))
                write_description(base, base.path.parent)
            fsync_directory(self._directory)

    def mark_verified(self, base: BaseImage) -> BaseImage:
        """Note that the sha256 of a base image has been confirmed after the image was fetched without verification."""
        if base.verified is Verified.NOTHING:
            base = replace(base, verified=Verified.SHA256)
            write_description(base, base.path.parent)
        return base

    # Removing images

    def remove(self, base: BaseImage) -> None:
        """Remove a base image from the cache. The caller must have made sure that no machine uses the base image."""
        hidden = base.path.parent.with_name(f"{_NEW}{base.digest}.gone")
        base.path.parent.rename(hidden)
        shutil.rmtree(hidden, ignore_errors=True)

    def remove_leftovers(self) -> int:
        """Remove incomplete or damaged base images, and partial downloads. Return how many bytes that has freed."""
        freed = 0
        broken = [entry for entry in self._directory.glob("sha256-*") if read_base(entry) is None]
        for path in (*broken, *self._directory.glob(f"{_NEW}*"), *self._directory.glob(f"{_DOWNLOADS}/*")):
            files = [entry for entry in path.rglob("*") if entry.is_file()] if path.is_dir() else [path]
            freed += sum(entry.stat().st_blocks * 512 for entry in files)
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink()
        return freed


def _is_made_from(base: BaseImage, artifact: Artifact) -> bool:
    """Return whether the base image has the digests that were published for the artifact."""
    same_file = artifact.sha256 in (None, base.sha256) and artifact.sha512 in (None, base.sha512)
    if artifact.has_checksum and same_file:
        return True
    return artifact.uncompressed_sha256 is not None and artifact.uncompressed_sha256 == base.uncompressed_sha256


def _key(artifact: Artifact) -> str:
    """Return the name that an artifact's files have in the cache.

    It is the artifact's digest or, if none is known, the digest of the artifact's URL.
    """
    return (
        artifact.sha256 or artifact.sha512 or f"url-{hashlib.sha256(os.fsencode(artifact.location)).hexdigest()}"
    )  # fmt: skip
