"""The content-addressed cache: one base image per digest of its content, and overlays of machines on top.

A base appears under its final name only when it is whole and verified, and never changes after that.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import IO, Protocol, cast

from machine.errors import DeadlineError, DiskError, MachineError, NotFoundError, ProgramError
from machine.files import FILE_PRIVATE, disk_errors, fsync_directory, write_atomic
from machine.image.download import ChangedError, Download
from machine.image.layout import base_image, digest_of
from machine.image.streams import Artifact
from machine.image.unpack import DiskFormat, Unpacked, unpack
from machine.image.verify import SignatureCheck, Signer
from machine.image.web import CHUNK_BYTES, FetchError, Web, WebSettings, fetch_bytes, local_path
from machine.model.arch import Arch
from machine.report import Reporter

_READ_ONLY = 0o444
_SIGNATURE_BYTES = 64 * 1024
_MIB = 1024**2
_USERS_S = 2.0
_NEW = ".new-"


class DiskTools(Protocol):
    """The part of qemu-img that the cache needs."""

    def check(self, image: Path) -> None: ...
    def convert_raw(self, source: Path, target: Path) -> None: ...


class Verified(StrEnum):
    """What of an image was checked; each includes the next."""

    SIGNATURE = "signature"
    SHA256 = "sha256"
    NOTHING = "nothing"


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """An image to be had; `keys` are those that may have signed it, None where no signature is asked for."""

    artifact: Artifact
    reference: str
    arch: Arch
    keys: Sequence[bytes] | None = None


@dataclass(frozen=True, kw_only=True)
class BaseImage:
    """A base in the cache, as its artifact.json has it; `digest` is the sha256 of its content, as it was unpacked.

    `signer` is empty where no signature was checked. `fetched` is in ISO 8601, UTC.
    """

    digest: str
    path: Path
    reference: str
    arch: str
    stream: str
    release: str
    location: str
    sha256: str
    uncompressed_sha256: str
    verified: Verified
    signer: str
    fetched: str

    @property
    def size(self) -> int:
        """Bytes on the disk."""
        return self.path.stat().st_blocks * 512


class ImageCache:
    def __init__(self, directory: Path, tools: DiskTools, web: WebSettings | None = None) -> None:
        self._directory = directory
        self._tools = tools
        self._web = web or WebSettings()

    # What is here

    def bases(self) -> list[BaseImage]:
        """Every base, the newest first; what cannot be read is no base."""
        found = (self._read(entry) for entry in self._directory.glob("sha256-*"))
        return sorted((base for base in found if base), key=lambda base: base.fetched, reverse=True)

    def find(self, wanted: Wanted) -> BaseImage | None:
        """The base that was made from this artifact, if it is here and was checked as is wanted now."""
        artifact = wanted.artifact
        for base in self.bases():
            same = artifact.sha256 and base.sha256 == artifact.sha256
            if not same and not (
                artifact.uncompressed_sha256 and base.uncompressed_sha256 == artifact.uncompressed_sha256
            ):
                continue
            if wanted.keys is None or base.verified is Verified.SIGNATURE:
                return base
        return None

    def _read(self, entry: Path) -> BaseImage | None:
        digest = digest_of(entry)
        path = base_image(self._directory, digest)
        try:
            fields = json.loads((entry / "artifact.json").read_bytes())
            fields["verified"] = Verified(fields["verified"])
            base = BaseImage(digest=digest, path=path, **fields)
        except (OSError, ValueError, TypeError, KeyError):
            return None
        return base if path.exists() else None

    # Who may touch it

    @contextlib.contextmanager
    def using(self) -> Iterator[None]:
        """While a machine is being made, nobody removes a base."""
        with self._lock(".lock") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH)
            yield

    @contextlib.contextmanager
    def removing(self) -> Iterator[None]:
        """Nobody begins to use a base.

        Raises:
            DeadlineError: an image is being fetched or a machine made.
        """
        with self._lock(".lock") as lock:
            until = time.monotonic() + _USERS_S
            while not _try_lock(lock):
                if time.monotonic() > until:
                    raise DeadlineError("an image is being fetched or a machine made", hint="try again when it is done")
                time.sleep(0.1)
            yield

    @contextlib.contextmanager
    def _lock(self, name: str) -> Iterator[IO[str]]:
        path = self._directory / name
        with disk_errors(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = path.open("a")
        with lock:
            yield lock

    def remove(self, base: BaseImage) -> None:
        """Remove a base: first its name. The caller knows that nobody uses it."""
        hidden = base.path.parent.with_name(f"{_NEW}{base.digest}.gone")
        base.path.parent.rename(hidden)
        shutil.rmtree(hidden, ignore_errors=True)

    def remove_leftovers(self) -> int:
        """Remove half-made bases and downloads that nobody goes on with; returns the bytes that they took."""
        freed = 0
        for path in (*self._directory.glob(f"{_NEW}*"), *self._directory.glob("downloads/*")):
            files = [entry for entry in path.rglob("*") if entry.is_file()] if path.is_dir() else [path]
            freed += sum(entry.stat().st_blocks * 512 for entry in files)
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink()
        return freed

    # What is to come

    def ensure(self, wanted: Wanted, report: Reporter) -> BaseImage:
        """The base of this artifact, fetched and verified unless it is here already.

        Raises:
            MachineError: it cannot be had, is not what its metadata promises, or is no disk image.
        """
        promised = bool(wanted.artifact.sha256)
        path = local_path(wanted.artifact.location)
        if path is not None:
            _check_readable(path)
            if not promised:
                wanted = replace(wanted, artifact=replace(wanted.artifact, sha256=_sha256(path)))
        with self._sole_maker(wanted.artifact, report):
            base = self.find(wanted)
            if base is not None:
                return base
            if path is None and self._web.offline:
                raise NotFoundError(f"{wanted.reference} is not in the cache", hint="leave out --offline to fetch it")
            signature = self._fetch_signature(wanted)
            try:
                return self._make(wanted, signature, report, promised=promised, most_workers=None)
            except ChangedError as error:
                report.notice(f"{error.line}: beginning again")
            # Once more, from nothing, on one connection.
            return self._make(wanted, signature, report, promised=promised, most_workers=1)

    @contextlib.contextmanager
    def _sole_maker(self, artifact: Artifact, report: Reporter) -> Iterator[None]:
        """One process at a time makes a base: the second finds it made."""
        with self._lock(f"downloads/{_key(artifact)}.lock") as lock:
            if not _try_lock(lock):
                report.notice("Another process fetches the same image: waiting for it")
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _fetch_signature(self, wanted: Wanted) -> bytes | None:
        """Before the image: where it is missing, nothing else needs to be fetched."""
        if wanted.keys is None:
            return None
        way_out = "use --no-verify-signature if you trust it nevertheless"
        url = wanted.artifact.signature
        if not url:
            raise MachineError(f"{_name(wanted.artifact)} has no signature", hint=way_out)
        try:
            return fetch_bytes(url, Web(self._web), limit=_SIGNATURE_BYTES)
        except FetchError as error:
            hint = way_out if error.status in (403, 404, 410) else None
            raise MachineError(f"the signature of the image is missing: {error.line}", hint=hint) from error

    def _make(
        self, wanted: Wanted, signature: bytes | None, report: Reporter, *, promised: bool, most_workers: int | None
    ) -> BaseImage:
        artifact = wanted.artifact
        with contextlib.ExitStack() as stack:
            directory = stack.enter_context(_workspace(self._directory / f"{_NEW}{_key(artifact)}"))
            image = directory / "image.qcow2"
            path = local_path(artifact.location)
            if path is not None:
                report.step(f"Unpacking {path.name}")
                unpacked, signer = self._ingest(
                    wanted, signature, image, (path.open("rb"), path.open("rb")), _FileProgress(path, report)
                )
            else:
                report.step(f"Fetching {artifact.location}")
                unpacked, signer = self._download(wanted, signature, image, report, promised, most_workers)
            if unpacked.format is DiskFormat.RAW:
                report.step("Converting the image")
                image.rename(directory / "image.raw")
                self._tools.convert_raw(directory / "image.raw", image)
                (directory / "image.raw").unlink()
            self._check(image, artifact)
            image.chmod(_READ_ONLY)
            verified = Verified.SIGNATURE if signer else Verified.SHA256 if promised else Verified.NOTHING
            base = BaseImage(
                digest=unpacked.sha256,
                path=base_image(self._directory, unpacked.sha256),
                reference=wanted.reference,
                arch=wanted.arch.value,
                stream=artifact.stream,
                release=artifact.release,
                location=artifact.location,
                sha256=artifact.sha256,
                uncompressed_sha256=artifact.uncompressed_sha256,
                verified=verified,
                signer=f"{signer.name} {signer.fingerprint}".strip() if signer else "",
                fetched=datetime.now(UTC).isoformat(timespec="seconds"),
            )
            self._publish(base, directory)
        return base

    def _download(
        self,
        wanted: Wanted,
        signature: bytes | None,
        image: Path,
        report: Reporter,
        promised: bool,
        most_workers: int | None,
    ) -> tuple[Unpacked, Signer | None]:
        artifact = wanted.artifact
        download = Download(
            artifact.location,
            self._directory / "downloads" / _key(artifact),
            self._web,
            artifact.headers,
            check_size=self._check_space,
            will_be_verified=promised,
            **({} if most_workers is None else {"most_workers": most_workers}),
        )
        try:
            with download:
                readers = cast("tuple[IO[bytes], IO[bytes]]", (download.reader(), download.reader()))
                result = self._ingest(wanted, signature, image, readers, _DownloadProgress(download, report))
        except (FetchError, DiskError):
            raise  # what has arrived is good, and the next attempt goes on from there
        except ChangedError:
            download.discard()
            raise
        except MachineError as error:
            download.discard()
            if download.resumed:
                # What an earlier attempt left may be of another file.
                raise ChangedError(error.message, hint=error.hint) from error
            raise
        download.discard()
        return result

    def _ingest(
        self,
        wanted: Wanted,
        signature: bytes | None,
        image: Path,
        readers: tuple[IO[bytes], IO[bytes]],
        progress: _Progress,
    ) -> tuple[Unpacked, Signer | None]:
        """Unpack one reader's bytes while the other's are hashed and checked.

        Raises:
            MachineError: they are not what they should be.
        """
        artifact = wanted.artifact
        for_content, for_digest = readers
        with contextlib.ExitStack() as stack:
            check = stack.enter_context(SignatureCheck(signature, wanted.keys or ())) if signature is not None else None
            digest = _Digest(for_digest, check)
            stack.callback(digest.join)
            stack.callback(progress.stop)
            digest.start()
            unpacked = unpack(cast("IO[bytes]", _Watched(for_content, progress)), image, _name(artifact))
            sha256 = digest.result()
            if artifact.sha256 not in ("", sha256):
                raise _mismatch(artifact, f"sha256 {sha256} instead of {artifact.sha256}")
            if artifact.uncompressed_sha256 not in ("", unpacked.sha256):
                raise _mismatch(
                    artifact, f"unpacked, its sha256 is {unpacked.sha256} instead of {artifact.uncompressed_sha256}"
                )
            try:
                return unpacked, check.finish() if check else None
            except MachineError as error:
                raise MachineError(
                    f"the signature of {_name(artifact)} is not good: {error.line}",
                    hint="nothing of it was kept; do not use it",
                ) from error

    def _check_space(self, size: int, missing: int) -> None:
        free = shutil.disk_usage(self._directory).free
        needed = missing + size  # unpacked, it will not be smaller than packed
        if needed > free:
            raise DiskError(
                f"no space for the image in {self._directory}: it needs {needed // _MIB} MiB and more, and"
                f" {free // _MIB} MiB are free",
                hint="free some, perhaps with: machine image prune",
            )

    def _check(self, image: Path, artifact: Artifact) -> None:
        try:
            self._tools.check(image)
        except ProgramError as error:
            raise MachineError(f"{_name(artifact)} is damaged or cut short", details=error.details) from error

    def _publish(self, base: BaseImage, directory: Path) -> None:
        fields = {key: value for key, value in asdict(base).items() if key not in ("digest", "path")}
        text = json.dumps(fields, indent=2) + "\n"
        if base.path.exists():
            # The same content from another place, or checked more than before.
            if base.verified is Verified.SIGNATURE:
                write_atomic(base.path.parent / "artifact.json", text, mode=FILE_PRIVATE)
            return
        write_atomic(directory / "artifact.json", text, mode=FILE_PRIVATE)
        directory.rename(base.path.parent)
        fsync_directory(self._directory)


class _Digest(threading.Thread):
    """The sha256 and the signature of a file, beside its being unpacked."""

    def __init__(self, reader: IO[bytes], check: SignatureCheck | None) -> None:
        super().__init__(name="digest", daemon=True)
        self._reader = reader
        self._check = check
        self._digest = hashlib.sha256()
        self._error: Exception | None = None

    def run(self) -> None:
        try:
            with self._reader:
                while chunk := self._reader.read(CHUNK_BYTES):
                    self._digest.update(chunk)
                    if self._check:
                        self._check.feed(chunk)
        except Exception as error:  # noqa: BLE001  (raised by `result`)
            self._error = error

    def result(self) -> str:
        self.join()
        if self._error:
            raise self._error
        return self._digest.hexdigest()


class _Progress(Protocol):
    def tick(self, position: int) -> None: ...
    def stop(self) -> None: ...


class _FileProgress:
    def __init__(self, path: Path, report: Reporter) -> None:
        self._size = path.stat().st_size
        self._report = report

    def tick(self, position: int) -> None:
        self._report.progress(position, self._size)

    def stop(self) -> None: ...


class _DownloadProgress:
    """A download's is what has arrived: unpacking follows it closely."""

    def __init__(self, download: Download, report: Reporter) -> None:
        self._download = download
        self._report = report

    def tick(self, position: int) -> None:
        self._report.progress(max(position, self._download.received), self._download.size)

    def stop(self) -> None:
        self._download.stop()


class _Watched:
    """A reader that tells how far it has come."""

    def __init__(self, reader: IO[bytes], progress: _Progress) -> None:
        self._reader = reader
        self._progress = progress
        self._position = 0

    def read(self, size: int) -> bytes:
        chunk = self._reader.read(size)
        self._position += len(chunk)
        self._progress.tick(self._position)
        return chunk


def _try_lock(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


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


def _mismatch(artifact: Artifact, what: str) -> MachineError:
    return MachineError(
        f"{_name(artifact)} is not what was promised: {what}",
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
def _workspace(directory: Path) -> Iterator[Path]:
    """An empty directory, its maker's alone by the lock; gone after the block unless it was renamed."""
    with disk_errors(directory):
        shutil.rmtree(directory, ignore_errors=True)  # of a process that was killed
        directory.mkdir(mode=0o700)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
