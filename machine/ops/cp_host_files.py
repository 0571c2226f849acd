"""Read and write the host's files for `machine cp`."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path

from machine.errors import MachineError, reason_of
from machine.files import DIRECTORY_PRIVATE, FILE_PRIVATE, disk_errors
from machine.model.transfer import CHUNK_BYTES, Facts, kind_of, part_path, printable

_LEADS_NOWHERE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})


class HostFiles:
    """The files of this host, with the interface of model.transfer.Files."""

    def show(self, path: str) -> str:
        return printable(path)

    def stat(self, path: str) -> Facts | None:
        with _translated_errors("read", path):
            try:
                return _facts(Path(path).stat())
            except OSError as error:
                if error.errno in _LEADS_NOWHERE:
                    return None
                raise

    def real(self, path: str) -> str:
        with _translated_errors("read", path):
            return os.fspath(Path(path).resolve())

    def entries(self, path: str) -> list[tuple[str, Facts]]:
        with _translated_errors("read", path), os.scandir(path) as found:
            return sorted(
                ((entry.name, _facts(entry.stat(follow_symlinks=False))) for entry in found), key=lambda pair: pair[0]
            )

    def read(self, path: str, size: int) -> Generator[bytes]:  # noqa: ARG002  (the guest's side needs it)
        with _translated_errors("read", path), Path(path).open("rb", buffering=0) as stream:
            while chunk := stream.read(CHUNK_BYTES):
                yield chunk

    def write(self, path: str, chunks: Iterable[bytes], facts: Facts, replaced: Facts | None) -> None:
        part = part_path(path, secrets.token_hex(4))
        with _translated_errors("write", path):
            descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_PRIVATE)
            try:
                with os.fdopen(descriptor, "wb") as stream:
                    for chunk in chunks:
                        stream.write(chunk)
                    stream.flush()
                    if replaced:
                        with contextlib.suppress(PermissionError):
                            os.fchown(stream.fileno(), replaced.uid, replaced.gid)
                    os.fchmod(stream.fileno(), facts.kept_mode)
                    os.utime(stream.fileno(), (facts.accessed, facts.modified))
                    if replaced:  # a crash after this must not lose the old content
                        os.fsync(stream.fileno())
                os.replace(part, path)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(part)
                raise

    def make_directory(self, path: str) -> None:
        with _translated_errors("make", path):
            Path(path).mkdir(mode=DIRECTORY_PRIVATE)

    def set_facts(self, path: str, facts: Facts) -> None:
        with _translated_errors("write", path):
            Path(path).chmod(facts.kept_mode)
            os.utime(path, (facts.accessed, facts.modified))


def _facts(found: os.stat_result) -> Facts:
    return Facts(
        kind=kind_of(found.st_mode),
        size=found.st_size,
        mode=found.st_mode & 0o7777,
        uid=found.st_uid,
        gid=found.st_gid,
        accessed=int(found.st_atime),
        modified=int(found.st_mtime),
    )


@contextlib.contextmanager
def _translated_errors(verb: str, path: str) -> Iterator[None]:
    """Turn an error of the file system into a MachineError, whose message says that `verb` failed for `path`."""
    shown = Path(printable(path))
    try:
        with disk_errors(shown) if verb == "write" else contextlib.nullcontext():
            yield
    except OSError as error:
        raise MachineError(f"cannot {verb} {shown}: {reason_of(error)}") from error
