"""The content-addressed cache: one base image per digest of its content, and overlays of machines on top.

A base appears under its final name only when it is whole and verified, and never changes after that.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import IO, Generic, Protocol, TypeVar, cast

from machine import lock
from machine.errors import DeadlineError, DiskError, MachineError, NotFoundError, ProgramError
from machine.files import FILE_PRIVATE, disk_errors, fsync_directory, fsync_file, sha256_of, write_atomic
from machine.image.download import MAX_WORKERS, ChangedError, Download
from machine.image.layout import base_image, digest_of
from machine.image.streams import Artifact
from machine.image.unpack import DiskFormat, Unpacked, unpack
from machine.image.verify import SignatureCheck, Signer
from machine.image.web import CHUNK_BYTES, FetchError, Web, WebSettings, fetch_bytes, local_path, public_url
from machine.model.arch import Arch
from machine.model.config import Verified
from machine.report import Reporter

_READ_ONLY = 0o444
_SIGNATURE_BYTES = 64 * 1024
_MIB = 1024**2
_USERS_S = 2.0
_REMOVERS_S = 60.0
_OTHER_MAKER_S = 4 * 3600.0
_NEW = ".new-"
_TICK_S = 0.1

T = TypeVar("T")


class DiskTools(Protocol):
    """The part of qemu-img that the cache needs."""

    def check(self, image: Path) -> None: ...
    def convert_raw(self, source: Path, target: Path) -> None: ...


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

    `sha256` is that of the file it came from, promised or not, `sha512` too where that was promised, `length` the bytes
    of the image's own file. `signer` is empty where no signature was checked. `fetched` is in ISO 8601, UTC.
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
    length: int
    sha512: str = ""

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
            same = artifact.sha256 in ("", base.sha256) and artifact.sha512 in ("", base.sha512)
            if not (artifact.promised and same) and not (
                artifact.uncompressed_sha256 and base.uncompressed_sha256 == artifact.uncompressed_sha256
            ):
                continue
            if wanted.keys is None or base.verified is Verified.SIGNATURE:
                return base
        return None

    def find_location(self, location: str) -> BaseImage | None:
        """The newest base that came from there."""
        return next((base for base in self.bases() if base.location == public_url(location)), None)

    def _read(self, entry: Path) -> BaseImage | None:
        digest = digest_of(entry)
        path = base_image(self._directory, digest)
        try:
            fields = json.loads((entry / "artifact.json").read_bytes())
            length = fields.pop("length")
            if not all(isinstance(value, str) for value in fields.values()):
                return None
            fields["verified"] = Verified(fields["verified"])
            base = BaseImage(digest=digest, path=path, length=length, **fields)
            return base if path.stat().st_size == length else None  # or it was cut short
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return None

    # Who may touch it

    @contextlib.contextmanager
    def using(self) -> Iterator[None]:
        """Keep others from removing bases for the block, in which a machine is being made."""
        waits_for = "another command to let go of the cache of images"
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

    def _lock_file(self, name: str) -> Path:
        path = self._directory / name
        with disk_errors(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def remove(self, base: BaseImage) -> None:
        """Remove a base: first its name. The caller knows that nobody uses it."""
        hidden = base.path.parent.with_name(f"{_NEW}{base.digest}.gone")
        base.path.parent.rename(hidden)
        shutil.rmtree(hidden, ignore_errors=True)

    def remove_leftovers(self) -> int:
        """Remove half-made and damaged bases, and downloads that nobody goes on with; returns the bytes they took."""
        freed = 0
        broken = [entry for entry in self._directory.glob("sha256-*") if self._read(entry) is None]
        for path in (*broken, *self._directory.glob(f"{_NEW}*"), *self._directory.glob("downloads/*")):
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
        promised = wanted.artifact.promised
        path = local_path(wanted.artifact.location)
        if path is not None:
            check_readable(path)
            if not promised:
                report.step(f"Verifying {path.name}")
                wanted = replace(wanted, artifact=replace(wanted.artifact, sha256=sha256_of(path)))
        with self._sole_maker(wanted.artifact, report) as others:
            base = self.find(wanted)
            if base is not None:
                return self._vouched(base) if promised else base
            if not promised and path is None and (others or self._web.offline):
                # Another process has just fetched it, or nobody may now.
                base = self.find_location(wanted.artifact.location)
                if base is not None:
                    return base
            if path is None and self._web.offline:
                raise NotFoundError(f"{wanted.reference} is not in the cache", hint="leave out --offline to fetch it")
            signature = self._fetch_signature(wanted)
            try:
                return self._make(wanted, signature, report, promised=promised, most_workers=MAX_WORKERS)
            except ChangedError as error:
                report.notice(f"{error.line}: beginning again")
            # Once more, from nothing, on one connection.
            return self._make(wanted, signature, report, promised=promised, most_workers=1)

    @contextlib.contextmanager
    def _sole_maker(self, artifact: Artifact, report: Reporter) -> Iterator[bool]:
        """One process at a time makes a base: the second finds it made. Yields whether there was another."""

        def tell() -> None:
            report.notice("Another process fetches the same image: waiting for it")

        with lock.exclusively(
            self._lock_file(f"downloads/{_key(artifact)}.lock"),
            timeout_s=_OTHER_MAKER_S,
            waits_for="another process to fetch the image",
            on_wait=tell,
        ) as waited:
            yield waited

    def _vouched(self, base: BaseImage) -> BaseImage:
        """A base whose file has been promised since it was fetched."""
        if base.verified is Verified.NOTHING:
            base = replace(base, verified=Verified.SHA256)
            self._describe(base, base.path.parent)
        return base

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
        self, wanted: Wanted, signature: bytes | None, report: Reporter, *, promised: bool, most_workers: int
    ) -> BaseImage:
        artifact = wanted.artifact
        with contextlib.ExitStack() as stack:
            directory = stack.enter_context(_workspace(self._directory / f"{_NEW}{_key(artifact)}"))
            image = directory / "image.qcow2"
            path = local_path(artifact.location)
            if path is not None:
                report.step(f"Unpacking {path.name}")
                unpacked, digests, signer = self._ingest(wanted, signature, image, _FileSource(path), report)
            else:
                report.step(f"Fetching {public_url(artifact.location)}")
                unpacked, digests, signer = self._download(wanted, signature, image, report, promised, most_workers)
            if unpacked.format is DiskFormat.RAW:
                report.step("Converting the image")
                image.rename(directory / "image.raw")
                self._tools.convert_raw(directory / "image.raw", image)
                (directory / "image.raw").unlink()
            self._check(image, artifact)
            image.chmod(_READ_ONLY)
            digest_checked = Verified.SHA256 if artifact.sha256 else Verified.SHA512
            verified = Verified.SIGNATURE if signer else digest_checked if promised else Verified.NOTHING
            base = BaseImage(
                digest=unpacked.sha256,
                path=base_image(self._directory, unpacked.sha256),
                reference=wanted.reference,
                arch=wanted.arch.value,
                stream=artifact.stream,
                release=artifact.release,
                location=public_url(artifact.location),
                sha256=digests.sha256,
                sha512=digests.sha512,
                uncompressed_sha256=artifact.uncompressed_sha256,
                verified=verified,
                signer=f"{signer.name} {signer.fingerprint}".strip() if signer else "",
                fetched=datetime.now(UTC).isoformat(timespec="seconds"),
                length=image.stat().st_size,
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
        most_workers: int,
    ) -> tuple[Unpacked, _Digests, Signer | None]:
        artifact = wanted.artifact
        download = Download(
            artifact.location,
            self._directory / "downloads" / _key(artifact),
            self._web,
            artifact.authorize,
            check_size=self._check_space,
            will_be_verified=promised,
            most_workers=most_workers,
        )
        try:
            with download:
                result = self._ingest(wanted, signature, image, _DownloadSource(download), report)
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
        self, wanted: Wanted, signature: bytes | None, image: Path, source: _Source, report: Reporter
    ) -> tuple[Unpacked, _Digests, Signer | None]:
        """Unpack a source's bytes into `image` while they are hashed and checked.

        Raises:
            MachineError: they are not what they should be.
        """
        artifact = wanted.artifact

        def tick() -> None:
            report.progress(*source.progress())

        with contextlib.ExitStack() as stack:
            check = None
            if signature is not None:
                check = stack.enter_context(SignatureCheck(signature, wanted.keys or (), image.parent))
            digesting = _Job(partial(_digest, source.reader(), check, with_sha512=bool(artifact.sha512)))
            unpacking = _Job(partial(unpack, stack.enter_context(source.reader()), image, _name(artifact)))

            def end() -> None:
                source.stop()
                for job in (digesting, unpacking):
                    if job.is_alive():
                        job.join()

            stack.callback(end)
            digesting.start()
            unpacking.start()
            unpacked = unpacking.result(tick)
            digests = digesting.result(tick)
            if artifact.sha256 not in ("", digests.sha256):
                raise _mismatch(artifact, f"sha256 {digests.sha256} instead of {artifact.sha256}")
            if artifact.sha512 not in ("", digests.sha512):
                raise _mismatch(artifact, f"sha512 {digests.sha512} instead of {artifact.sha512}")
            if artifact.uncompressed_sha256 not in ("", unpacked.sha256):
                raise _mismatch(
                    artifact, f"unpacked, its sha256 is {unpacked.sha256} instead of {artifact.uncompressed_sha256}"
                )
            try:
                return unpacked, digests, check.finish() if check else None
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
        """Give a base its name; one of the same content that is there already gives way to what was checked now."""
        waits_for = "another process to publish the same image"
        path = self._lock_file(f"downloads/{base.digest}.publish.lock")
        with lock.exclusively(path, timeout_s=_REMOVERS_S, waits_for=waits_for):
            known = self._read(base.path.parent)
            if known and known.verified is Verified.SIGNATURE and base.verified is not Verified.SIGNATURE:
                return
            fsync_file(directory / base.path.name)
            if not base.path.parent.exists():
                self._describe(base, directory)
                directory.rename(base.path.parent)
            else:
                os.replace(directory / base.path.name, base.path)
                self._describe(base, base.path.parent)
            fsync_directory(self._directory)

    def _describe(self, base: BaseImage, directory: Path) -> None:
        fields = {key: value for key, value in asdict(base).items() if key not in ("digest", "path")}
        write_atomic(directory / "artifact.json", json.dumps(fields, indent=2) + "\n", mode=FILE_PRIVATE)


class _Job(threading.Thread, Generic[T]):
    """Work in a thread of its own, so that the main thread does nothing but wait.

    ^C is an exception at any place in the main thread: where it holds a lock, nobody would ever get it again.
    """

    def __init__(self, work: Callable[[], T]) -> None:
        super().__init__(daemon=True)
        self._work = work
        self._results: list[T] = []
        self._error: Exception | None = None

    def run(self) -> None:
        try:
            self._results.append(self._work())
        except Exception as error:  # noqa: BLE001  (raised by `result`)
            self._error = error

    def result(self, tick: Callable[[], None]) -> T:
        """What the work returns, or raises; `tick` is called while it goes on."""
        while self.is_alive():
            self.join(_TICK_S)
            tick()
        if self._error:
            raise self._error
        return self._results[0]


@dataclass(frozen=True, kw_only=True)
class _Digests:
    """Of a file as it was published; `sha512` is empty where nobody wants to know."""

    sha256: str
    sha512: str


def _digest(reader: IO[bytes], check: SignatureCheck | None, *, with_sha512: bool) -> _Digests:
    """The digests of a file, which the signature's check reads along."""
    sha256 = hashlib.sha256()
    sha512 = hashlib.sha512() if with_sha512 else None
    with reader:
        while chunk := reader.read(CHUNK_BYTES):
            sha256.update(chunk)
            if sha512:
                sha512.update(chunk)
            if check:
                check.feed(chunk)
    return _Digests(sha256=sha256.hexdigest(), sha512=sha512.hexdigest() if sha512 else "")


class _Source(Protocol):
    """Where the bytes of an artifact come from: two readers of the whole, and an end to both."""

    def reader(self) -> IO[bytes]: ...
    def stop(self) -> None: ...
    def progress(self) -> tuple[int, int | None]: ...


class _FileSource:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._size = path.stat().st_size
        self._stopped = False
        self._position = 0

    def reader(self) -> IO[bytes]:
        return cast("IO[bytes]", io.BufferedReader(_StoppableFile(self, self._path.open("rb", buffering=0))))

    def stop(self) -> None:
        self._stopped = True

    def progress(self) -> tuple[int, int | None]:
        return self._position, self._size

    def passed(self, position: int) -> None:
        """A reader has come so far.

        Raises:
            MachineError: nobody wants it any more.
        """
        if self._stopped:
            raise MachineError(f"reading {self._path} was stopped")
        self._position = max(self._position, position)


class _StoppableFile(io.RawIOBase):
    def __init__(self, source: _FileSource, file: io.FileIO) -> None:
        super().__init__()
        self._source = source
        self._file = file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        self._source.passed(self._file.tell())
        return self._file.readinto(buffer) or 0  # type: ignore[arg-type]  # io wants object, and gives a buffer

    def close(self) -> None:
        self._file.close()
        super().close()


class _DownloadSource:
    def __init__(self, download: Download) -> None:
        self._download = download

    def reader(self) -> IO[bytes]:
        return cast("IO[bytes]", self._download.reader())

    def stop(self) -> None:
        self._download.stop()

    def progress(self) -> tuple[int, int | None]:
        """What has arrived: unpacking follows it closely."""
        return self._download.received, self._download.size


def _key(artifact: Artifact) -> str:
    """A file name for what is being fetched: its digest, or one of its location."""
    if artifact.promised:
        return artifact.sha256 or artifact.sha512
    return f"url-{hashlib.sha256(artifact.location.encode()).hexdigest()}"


def _name(artifact: Artifact) -> str:
    """What a person calls it: a path or a URL."""
    return str(local_path(artifact.location) or public_url(artifact.location))


def _mismatch(artifact: Artifact, what: str) -> MachineError:
    return MachineError(
        f"{_name(artifact)} is not what was promised: {what}",
        hint="nothing of it was kept; try again, and if it stays so, do not use it",
    )


def check_readable(path: Path) -> None:
    """Raises:
    MachineError: it is not there, may not be read, or is neither a file nor a disk.
    """
    if path.is_dir():
        raise MachineError(f"image {path} is a directory")
    if path.exists() and not path.is_file() and not path.is_block_device():
        raise MachineError(f"image {path} is neither a file nor a disk")
    try:
        path.open("rb").close()
    except FileNotFoundError as error:
        raise NotFoundError(f"stat {path}: no such file or directory") from error
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
