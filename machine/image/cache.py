"""The content-addressed cache: one base image per digest of its content, and overlays of machines on top.

A base appears under its final name only when it is whole and verified, and never changes after that.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Protocol

from machine.errors import MachineError, NotFoundError, ProgramError
from machine.files import FILE_PRIVATE, disk_errors, fsync_directory, write_atomic
from machine.image.fetch import fetch_file, local_path
from machine.image.layout import base_image, digest_of
from machine.image.streams import Artifact
from machine.image.unpack import DiskFormat, unpack
from machine.report import Reporter

_READ_ONLY = 0o444


class DiskTools(Protocol):
    """The part of qemu-img that the cache needs."""

    def check(self, image: Path) -> None: ...
    def convert_raw(self, source: Path, target: Path) -> None: ...


@dataclass(frozen=True, kw_only=True)
class BaseImage:
    """A base in the cache; `digest` is the sha256 of the content that came out of the artifact."""

    digest: str
    path: Path
    artifact: Artifact


class ImageCache:
    def __init__(self, directory: Path, tools: DiskTools) -> None:
        self._directory = directory
        self._tools = tools

    def find(self, artifact: Artifact) -> BaseImage | None:
        """The base that was made from this artifact, if it is here."""
        for entry in self._directory.glob("sha256-*/artifact.json"):
            try:
                known = Artifact(**json.loads(entry.read_bytes()))
            except (OSError, ValueError, TypeError):
                continue
            same = artifact.sha256 and known.sha256 == artifact.sha256
            if same or (artifact.uncompressed_sha256 and known.uncompressed_sha256 == artifact.uncompressed_sha256):
                digest = digest_of(entry.parent)
                path = base_image(self._directory, digest)
                if path.exists():
                    return BaseImage(digest=digest, path=path, artifact=artifact)
        return None

    def ensure(self, artifact: Artifact, report: Reporter) -> BaseImage:
        """The base of this artifact, fetched and verified unless it is here already.

        Raises:
            MachineError: it cannot be had, is not what its metadata promises, or is no disk image.
        """
        path = local_path(artifact.location)
        if path is not None and not artifact.sha256:
            _check_readable(path)
            artifact = replace(artifact, sha256=_sha256(path))
        with self._locked(artifact, report):
            base = self.find(artifact)
            if base is not None:
                return base
            with self._downloaded(artifact, report) as packed:
                return self._add(packed, artifact, report)

    @contextlib.contextmanager
    def _locked(self, artifact: Artifact, report: Reporter) -> Iterator[None]:
        """One process at a time makes a base: the second finds it made."""
        downloads = self._directory / "downloads"
        with disk_errors(downloads):
            downloads.mkdir(parents=True, exist_ok=True)
            lock = (downloads / f"{_key(artifact)}.lock").open("a")
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                report.notice("Another process fetches the same image: waiting for it")
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    @contextlib.contextmanager
    def _downloaded(self, artifact: Artifact, report: Reporter) -> Iterator[Path]:
        """The artifact's file, verified. A download is removed when it is used up or wrong, else kept."""
        path = local_path(artifact.location)
        if path is not None:
            _check_readable(path)
            report.step(f"Verifying {path.name}")
            _verify(artifact, _sha256(path))
            yield path
            return
        part = self._directory / "downloads" / f"{_key(artifact)}.part"
        report.step(f"Fetching {artifact.location}")
        if not artifact.sha256:
            part.unlink(missing_ok=True)  # nothing could tell whether the two parts belong together
        resumed = part.exists()
        digest = fetch_file(artifact.location, part, report)
        if resumed and digest != artifact.sha256:
            # What an earlier attempt left may be of another file.
            part.unlink()
            digest = fetch_file(artifact.location, part, report)
        try:
            _verify(artifact, digest)
            yield part
        finally:
            part.unlink(missing_ok=True)

    def _add(self, packed: Path, artifact: Artifact, report: Reporter) -> BaseImage:
        report.step(f"Unpacking {packed.name if not artifact.release else artifact.release}")
        with _temporary_directory(self._directory) as directory:
            image = directory / "image.qcow2"
            unpacked = unpack(packed, image, report, name=_name(artifact))
            if artifact.uncompressed_sha256 not in ("", unpacked.sha256):
                raise MachineError(
                    f"the content of {artifact.location} is not what its metadata promises: sha256 "
                    f"{unpacked.sha256} instead of {artifact.uncompressed_sha256}"
                )
            if unpacked.format is DiskFormat.RAW:
                image.rename(directory / "image.raw")
                self._tools.convert_raw(directory / "image.raw", image)
                (directory / "image.raw").unlink()
            self._check(image, artifact)
            image.chmod(_READ_ONLY)
            write_atomic(directory / "artifact.json", json.dumps(asdict(artifact), indent=2) + "\n", mode=FILE_PRIVATE)
            base = BaseImage(
                digest=unpacked.sha256, path=base_image(self._directory, unpacked.sha256), artifact=artifact
            )
            if not base.path.exists():
                directory.rename(base.path.parent)
                fsync_directory(self._directory)
        return base

    def _check(self, image: Path, artifact: Artifact) -> None:
        try:
            self._tools.check(image)
        except ProgramError as error:
            raise MachineError(f"{_name(artifact)} is damaged or cut short", details=error.details) from error


def _key(artifact: Artifact) -> str:
    """A file name for what is being fetched: its digest, or one of its location."""
    if artifact.sha256:
        return artifact.sha256
    return f"url-{hashlib.sha256(artifact.location.encode()).hexdigest()}"


def _name(artifact: Artifact) -> str:
    """What a person calls it: a path or a URL."""
    return str(local_path(artifact.location) or artifact.location)


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _verify(artifact: Artifact, digest: str) -> None:
    if artifact.sha256 not in ("", digest):
        raise MachineError(
            f"{artifact.location} is not what its metadata promises: sha256 {digest} instead of {artifact.sha256}",
            hint="nothing of it was kept; try again, and if it stays so, do not use it",
        )


def _check_readable(path: Path) -> None:
    if path.is_dir():
        raise MachineError(f"image {path} is a directory")
    try:
        path.open("rb").close()
    except FileNotFoundError as error:
        raise NotFoundError(f"image {path} does not exist") from error
    except OSError as error:
        raise MachineError(f"image {path} cannot be read: {error.strerror}") from error


@contextlib.contextmanager
def _temporary_directory(parent: Path) -> Iterator[Path]:
    """A directory that is gone after the block unless it was renamed."""
    with disk_errors(parent):
        directory = Path(tempfile.mkdtemp(prefix=".new-", dir=parent))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
