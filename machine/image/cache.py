"""The content-addressed cache: one base image per digest of its content, and overlays of machines on top.

A base appears under its final name only when it is whole and verified, and never changes after that.
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
from machine.errors import DeadlineError, DiskError
from machine.files import disk_errors, fsync_directory, fsync_file
from machine.image.base import BaseImage, describe_base, read_base
from machine.image.layout import base_image
from machine.image.streams import Artifact
from machine.image.web import public_url
from machine.model.config import Verified

_MIB = 1024**2
_USERS_S = 2.0
_REMOVERS_S = 60.0
_OTHER_MAKER_S = 4 * 3600.0
_NEW = ".new-"
_DOWNLOADS = "downloads"


class ImageCache:
    """The base images in one directory, which several processes share."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    # What is here

    def bases(self) -> list[BaseImage]:
        """Every base, the newest first, without those that are damaged."""
        found = (read_base(entry) for entry in self._directory.glob("sha256-*"))
        return sorted((base for base in found if base), key=lambda base: base.fetched, reverse=True)

    def find(self, artifact: Artifact, *, signed: bool) -> BaseImage | None:
        """The base that was made from this artifact, if it is here; `signed` accepts one with a good signature only."""
        for base in self.bases():
            if _is_of(base, artifact) and (not signed or base.verified is Verified.SIGNATURE):
                return base
        return None

    def find_location(self, location: str) -> BaseImage | None:
        """The newest base that came from there."""
        return next((base for base in self.bases() if base.location == public_url(location)), None)

    def path_of(self, digest: str) -> Path:
        """Where the base with this content is, or would be."""
        return base_image(self._directory, digest)

    # Who may touch it

    @contextlib.contextmanager
    def using(self) -> Iterator[None]:
        """Keep others from removing bases for the block, in which a machine is being made."""
        waits_for = "another command to release the image cache"
        with lock.shared(self._lock_file(".lock"), timeout_s=_REMOVERS_S, waits_for=waits_for):
            yield

    @contextlib.contextmanager
    def removing(self) -> Iterator[None]:
        """Keep others from beginning to use a base for the block.

        Raises:
            DeadlineError: an image is being fetched or a machine made.
        """
        with lock.held(self._lock_file(".lock"), timeout_s=_USERS_S) as free:
            if not free:
                raise DeadlineError("an image is being fetched or a machine made", hint="try again when it is done")
            yield

    @contextlib.contextmanager
    def making(self, artifact: Artifact, *, on_wait: Callable[[], None]) -> Iterator[bool]:
        """Keep others from making the same base for the block; yields whether another process was at it before.

        `on_wait` is called when one is at it now.
        """
        with lock.exclusively(
            self._lock_file(f"{_DOWNLOADS}/{_key(artifact)}.lock"),
            timeout_s=_OTHER_MAKER_S,
            waits_for="another process to fetch the image",
            on_wait=on_wait,
        ) as waited:
            yield waited

    def _lock_file(self, name: str) -> Path:
        path = self._directory / name
        with disk_errors(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
        return path

    # What comes

    def download_folder(self, artifact: Artifact) -> Path:
        """Where the bytes of an artifact are while they arrive."""
        return self._directory / _DOWNLOADS / _key(artifact)

    @contextlib.contextmanager
    def workspace(self, artifact: Artifact) -> Iterator[Path]:
        """An empty directory for the maker of a base; gone after the block unless `publish` has taken it."""
        directory = self._directory / f"{_NEW}{_key(artifact)}"
        with disk_errors(directory):
            shutil.rmtree(directory, ignore_errors=True)  # of a process that was killed
            directory.mkdir(mode=0o700)
        try:
            yield directory
        finally:
            shutil.rmtree(directory, ignore_errors=True)

    def check_space(self, size: int, missing: int) -> None:
        """Check that an image of `size` packed bytes fits, of which so many are `missing`.

        Raises:
            DiskError: it does not.
        """
        free = shutil.disk_usage(self._directory).free
        needed = missing + size  # unpacked, it will not be smaller than packed
        if needed > free:
            raise DiskError(
                f"not enough space for the image in {self._directory}: it needs at least {needed // _MIB} MiB, and"
                f" {free // _MIB} MiB are free",
                hint="free some, perhaps with: machine image prune",
            )

    def publish(self, base: BaseImage, workspace: Path) -> None:
        """Give a base in `workspace` its name; it takes the place of one of the same content that is there already."""
        waits_for = "another process to publish the same image"
        path = self._lock_file(f"{_DOWNLOADS}/{base.digest}.publish.lock")
        with lock.exclusively(path, timeout_s=_REMOVERS_S, waits_for=waits_for):
            known = read_base(base.path.parent)
            if known and known.verified is Verified.SIGNATURE and base.verified is not Verified.SIGNATURE:
                return
            fsync_file(workspace / base.path.name)
            if not base.path.parent.exists():
                describe_base(base, workspace)
                workspace.rename(base.path.parent)
            else:
                os.replace(workspace / base.path.name, base.path)
                describe_base(base, base.path.parent)
            fsync_directory(self._directory)

    def vouched(self, base: BaseImage) -> BaseImage:
        """The base of a file whose digest has been promised since it was fetched."""
        if base.verified is Verified.NOTHING:
            base = replace(base, verified=Verified.SHA256)
            describe_base(base, base.path.parent)
        return base

    # What goes

    def remove(self, base: BaseImage) -> None:
        """Remove a base: first its name. The caller knows that nobody uses it."""
        hidden = base.path.parent.with_name(f"{_NEW}{base.digest}.gone")
        base.path.parent.rename(hidden)
        shutil.rmtree(hidden, ignore_errors=True)

    def remove_leftovers(self) -> int:
        """Remove half-made and damaged bases, and downloads that nobody goes on with; returns the bytes they took."""
        freed = 0
        broken = [entry for entry in self._directory.glob("sha256-*") if read_base(entry) is None]
        for path in (*broken, *self._directory.glob(f"{_NEW}*"), *self._directory.glob(f"{_DOWNLOADS}/*")):
            files = [entry for entry in path.rglob("*") if entry.is_file()] if path.is_dir() else [path]
            freed += sum(entry.stat().st_blocks * 512 for entry in files)
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink()
        return freed


def _is_of(base: BaseImage, artifact: Artifact) -> bool:
    """Compare the known digests of an artifact with those of a base."""
    same_file = artifact.sha256 in (None, base.sha256) and artifact.sha512 in (None, base.sha512)
    if artifact.promised and same_file:
        return True
    return artifact.uncompressed_sha256 is not None and artifact.uncompressed_sha256 == base.uncompressed_sha256


def _key(artifact: Artifact) -> str:
    """A file name for what is being fetched: its digest, or one of its location."""
    return (
        artifact.sha256 or artifact.sha512 or f"url-{hashlib.sha256(artifact.location.encode()).hexdigest()}"
    )  # fmt: skip
