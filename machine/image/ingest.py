"""Add an image to the cache: fetch, verify, unpack and publish it."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Protocol

from machine.errors import DiskError, MachineError, NotFoundError, Page, ProgramError, reason_of
from machine.files import sha256_of
from machine.image.base import BaseImage
from machine.image.cache import ImageCache
from machine.image.download import ChangedError, Download
from machine.image.intact import note_intact
from machine.image.known import FileStamp, remember
from machine.image.pace import MAX_WORKERS
from machine.image.readers import Digests, DownloadSource, FileSource, Job, Source, digest
from machine.image.streams import Artifact
from machine.image.unpack import DiskFormat, Unpacked
from machine.image.verify import DetachedSignature, SignatureCheck, Signer
from machine.image.web import FetchError, Web, WebSettings, fetch_bytes, local_path, public_url
from machine.model.config import Verified
from machine.model.units import bytes_size
from machine.report import Reporter

_READ_ONLY = 0o444
_SIGNATURE_BYTES = 64 * 1024


class DiskTools(Protocol):
    """The operations of qemu-img that adding an image needs."""

    def check(self, image: Path) -> None: ...
    def convert_raw(self, source: Path, target: Path) -> None: ...


@dataclass(frozen=True, kw_only=True)
class _Checked:
    """An image that has been unpacked and verified. `signer` is None if no signature was required."""

    unpacked: Unpacked
    digests: Digests
    signer: Signer | None


class Ingest:
    """Adds images to the cache. Its fields are the cache, qemu-img, the settings of requests, and the reporter."""

    def __init__(self, cache: ImageCache, tools: DiskTools, web: WebSettings, report: Reporter) -> None:
        self._cache = cache
        self._tools = tools
        self._web = web
        self._report = report

    def ensure(self, artifact: Artifact, keys: Sequence[bytes] | None) -> BaseImage:
        """Return the base image of an artifact. If the cache does not have it, fetch, verify and unpack it.

        If `keys` is not None, one of these keys must have signed the image. The location is the artifact's, even if the
        cache has the image from another.

        Raises:
            MachineError: the image cannot be fetched, does not match its digests or signature, or is not a disk image.
        """
        return replace(self._ensure(artifact, keys), location=public_url(artifact.location))

    def _ensure(self, artifact: Artifact, keys: Sequence[bytes] | None) -> BaseImage:
        has_checksum = artifact.has_checksum
        path = local_path(artifact.location)
        if path is not None:
            check_readable(path)
            if not has_checksum and keys is None:
                return self._ensure_file(path, artifact)
        with self._cache.making(artifact, on_wait=self._announce_wait) as waited:
            base = self._cache.find(artifact, signed=keys is not None)
            if base is not None:
                return self._cache.mark_verified(base) if has_checksum else base
            if not has_checksum and path is None and (waited or self._web.offline):
                # Another process has just fetched the image, or this process may not fetch it.
                base = self._cache.find_location(artifact.location)
                if base is not None:
                    return base
            if path is None and self._web.offline:
                raise NotFoundError(f"{artifact.reference} is not in the cache", hint="leave out --offline to fetch it")
            # Fetched first, because an image without a signature need not be fetched.
            signature = None if keys is None else self._fetch_signature(artifact, keys)
            return self._make(artifact, signature, has_checksum=has_checksum)

    def _ensure_file(self, path: Path, artifact: Artifact) -> BaseImage:
        """Return the base image that is made from the file `path` on this host.

        If the file has been read before and has not changed, the base image in the cache is used.
        """
        stamp = FileStamp.of(path)
        if stamp and (known := self._cache.find_file(stamp)):
            return known
        with self._cache.making(artifact, on_wait=self._announce_wait) as waited:
            if waited and stamp and (known := self._cache.find_file(stamp)):
                return known
            base = self._make(artifact, None, has_checksum=False)
            if stamp and stamp.is_settled and FileStamp.of(path) == stamp:
                remember(base, stamp)
        return base

    def _announce_wait(self) -> None:
        self._report.notice("Waiting for another process that is fetching the same image")

    def _fetch_signature(self, artifact: Artifact, keys: Sequence[bytes]) -> DetachedSignature:
        bypass = "use --no-verify-signature if you trust the image anyway"
        if artifact.signature is None:
            raise MachineError(f"{_name(artifact)} has no signature", hint=bypass, page=Page.SIGNATURE)
        try:
            data = fetch_bytes(artifact.signature, Web(self._web), limit=_SIGNATURE_BYTES)
        except FetchError as error:
            hint = bypass if error.status in (403, 404, 410) else None
            reason = f"the signature of the image is missing: {error.line}"
            raise MachineError(reason, hint=hint, page=Page.SIGNATURE if hint else None) from error
        return DetachedSignature(data=data, keys=keys)

    def _make(self, artifact: Artifact, signature: DetachedSignature | None, *, has_checksum: bool) -> BaseImage:
        try:
            return self._attempt(artifact, signature, has_checksum=has_checksum, max_workers=MAX_WORKERS)
        except ChangedError as error:
            self._report.notice(f"{error.line}; starting over")
        # Try once more, from the start, on one connection.
        return self._attempt(artifact, signature, has_checksum=has_checksum, max_workers=1)

    def _attempt(
        self, artifact: Artifact, signature: DetachedSignature | None, *, has_checksum: bool, max_workers: int
    ) -> BaseImage:
        with self._cache.workspace(artifact) as workspace:
            image = workspace / "image.qcow2"
            path = local_path(artifact.location)
            if path is not None:
                self._report.step(f"Unpacking {path.name}")
                checked = self._unpack(artifact, signature, FileSource(path), image)
                known = self._cache.find(replace(artifact, sha256=checked.digests.sha256), signed=signature is not None)
                if known:
                    return known
            else:
                self._report.step(f"Asking for {public_url(artifact.location)}")
                checked = self._download(artifact, signature, image, has_checksum=has_checksum, max_workers=max_workers)
            sha256 = checked.unpacked.sha256
            if checked.unpacked.format is DiskFormat.RAW:
                self._convert(image)
                sha256 = sha256_of(image)
            self._check_structure(image, artifact)
            image.chmod(_READ_ONLY)
            note_intact(image, sha256)
            base = self._base_of(artifact, checked, image, has_checksum=has_checksum)
            self._cache.publish(base, workspace)
        return base

    def _download(
        self,
        artifact: Artifact,
        signature: DetachedSignature | None,
        image: Path,
        *,
        has_checksum: bool,
        max_workers: int,
    ) -> _Checked:
        download = Download(
            artifact.location,
            self._cache.download_folder(artifact),
            self._web,
            artifact.authorize,
            check_size=partial(self._begin, artifact),
            will_be_verified=has_checksum,
            max_workers=max_workers,
        )
        try:
            with download:
                checked = self._unpack(artifact, signature, DownloadSource(download), image)
        except (FetchError, DiskError):
            raise  # what has arrived is good, and the next attempt goes on from there
        except ChangedError:
            download.discard()
            raise
        except MachineError as error:
            download.discard()
            if download.resumed:
                # An earlier attempt may have left parts of another file.
                raise ChangedError(error.message, hint=error.hint) from error
            raise
        download.discard()
        return checked

    def _begin(self, artifact: Artifact, size: int, missing: int) -> None:
        """Say what is fetched and how large it is, if there is space for it.

        Raises:
            DiskError: the disk of the cache has too little free space.
        """
        self._cache.check_space(size, missing)
        here = f", of which {bytes_size(size - missing)} are here already" if missing < size else ""
        self._report.step(f"Fetching {_title(artifact)}, {bytes_size(size)}{here}")

    def _unpack(self, artifact: Artifact, signature: DetachedSignature | None, source: Source, image: Path) -> _Checked:
        """Unpack a source into the file `image`, and meanwhile compute its digests and check its signature.

        Raises:
            MachineError: the image is damaged, does not match the published digests, or has no good signature.
        """

        def tick() -> None:
            self._report.progress(*source.progress())

        with contextlib.ExitStack() as stack:
            check = stack.enter_context(SignatureCheck(signature, image.parent)) if signature else None
            unpacking = Job(partial(source.unpack, image, _name(artifact)))
            digesting = None
            if check or artifact.sha512 or not source.is_plain:
                digesting = Job(partial(digest, source.reader(), check, with_sha512=artifact.sha512 is not None))

            def end() -> None:
                source.stop()
                for job in (digesting, unpacking):
                    if job and job.is_alive():
                        job.join()

            stack.callback(end)
            if digesting:
                digesting.start()
            unpacking.start()
            unpacked = unpacking.result(tick)
            digests = digesting.result(tick) if digesting else Digests(sha256=unpacked.sha256, sha512=None)
            _check_digests(artifact, digests, unpacked)
            try:
                signer = check.finish() if check else None
            except MachineError as error:
                raise MachineError(
                    f"the signature of {_name(artifact)} is invalid: {error.line}",
                    hint="nothing was stored; do not use the image",
                ) from error
            return _Checked(unpacked=unpacked, digests=digests, signer=signer)

    def _convert(self, image: Path) -> None:
        self._report.step("Converting the image")
        raw = image.with_name("image.raw")
        image.rename(raw)
        self._tools.convert_raw(raw, image)
        raw.unlink()

    def _check_structure(self, image: Path, artifact: Artifact) -> None:
        try:
            self._tools.check(image)
        except ProgramError as error:
            raise MachineError(
                f"{_name(artifact)} is damaged or cut short", details=error.details, page=Page.CHECKSUM
            ) from error

    def _base_of(self, artifact: Artifact, checked: _Checked, image: Path, *, has_checksum: bool) -> BaseImage:
        signer = checked.signer
        return BaseImage(
            digest=checked.unpacked.sha256,
            path=self._cache.path_of(checked.unpacked.sha256),
            reference=artifact.reference,
            arch=artifact.arch,
            stream=artifact.stream,
            release=artifact.release,
            location=public_url(artifact.location),
            sha256=checked.digests.sha256,
            sha512=checked.digests.sha512,
            uncompressed_sha256=artifact.uncompressed_sha256,
            verified=_verified(artifact, signer, has_checksum=has_checksum),
            signer=" ".join(filter(None, [signer.name, signer.fingerprint])) if signer else None,
            fetched=datetime.now(UTC).isoformat(timespec="seconds"),
            length=image.stat().st_size,
        )


def _verified(artifact: Artifact, signer: Signer | None, *, has_checksum: bool) -> Verified:
    if signer:
        return Verified.SIGNATURE
    if not has_checksum:
        return Verified.NOTHING
    return Verified.SHA256 if artifact.sha256 else Verified.SHA512


def _check_digests(artifact: Artifact, digests: Digests, unpacked: Unpacked) -> None:
    if artifact.sha256 not in (None, digests.sha256):
        raise _mismatch(artifact, f"sha256 {digests.sha256} instead of {artifact.sha256}")
    if artifact.sha512 not in (None, digests.sha512):
        raise _mismatch(artifact, f"sha512 {digests.sha512} instead of {artifact.sha512}")
    if artifact.uncompressed_sha256 not in (None, unpacked.sha256):
        raise _mismatch(
            artifact, f"unpacked, its sha256 is {unpacked.sha256} instead of {artifact.uncompressed_sha256}"
        )


def _mismatch(artifact: Artifact, what: str) -> MachineError:
    return MachineError(
        f"{_name(artifact)} is not the expected file: {what}",
        hint="nothing was stored; try again, and do not use the image if this happens again",
        page=Page.CHECKSUM,
    )


def _name(artifact: Artifact) -> str:
    """Return the path or URL of the artifact's file, for messages."""
    return str(local_path(artifact.location) or public_url(artifact.location))


def _title(artifact: Artifact) -> str:
    """Return what an artifact is, such as `fcos:stable 44.20260707.3.1 for x86_64`."""
    reference = public_url(artifact.reference)
    release = f" {artifact.release}" if artifact.release and artifact.release not in reference else ""
    return f"{reference}{release} for {artifact.arch}"


def check_readable(path: Path) -> None:
    """Check that an image on this host is a readable file or block device.

    Raises:
        MachineError: the image does not exist, cannot be read, or is neither a file nor a block device.
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
        raise MachineError(f"image {path} cannot be read: {reason_of(error)}") from error
