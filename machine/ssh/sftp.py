"""Read and write a guest's files over SFTP, with paramiko. The user's own SSH configuration is ignored.

paramiko takes a tenth of a second to load, so import this module only where it is needed.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import posixpath
import secrets
import socket
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import paramiko
from paramiko.sftp import (
    CMD_CLOSE,
    CMD_EXTENDED,
    CMD_FSETSTAT,
    CMD_OPEN,
    CMD_READ,
    CMD_WRITE,
    SFTP_FLAG_CREATE,
    SFTP_FLAG_EXCL,
    SFTP_FLAG_READ,
    SFTP_FLAG_WRITE,
    int64,
)

from machine.errors import DeadlineError, DiskError, GuestError, MachineError, reason_of
from machine.files import DIRECTORY_PRIVATE, FILE_PRIVATE
from machine.model.transfer import CHUNK_BYTES, Facts, kind_of, part_path, printable
from machine.ssh.command import SshTarget
from machine.ssh.refusal import other_host_key, rejected_key, unanswered_page, unknown_host_key
from machine.ssh.sftp_session import openssh_session

IDLE_S = 60.0
_CONNECT_S = 10.0
_ANSWER_S = 60.0  # an emulated guest computes for seconds
_CLEAN_UP_S = 5.0
_REQUESTS = 64  # in flight at once, as in OpenSSH's client
_PACKET_BYTES = 4 * CHUNK_BYTES  # several answers in a packet cost little more than one
_LATEST = 2**32 - 1  # SFTP's times have 32 bits
_READ_ONLY = 1  # in the flags of statvfs@openssh.com

_ERRORS = (OSError, EOFError, paramiko.SSHException, paramiko.SFTPError)


@contextlib.contextmanager
def guest_files(name: str, target: SshTarget) -> Iterator[GuestFiles]:
    """Connect to a guest with its key, check the guest's host key, and yield access to its files.

    Raises:
        GuestError: the guest does not answer, has another host key, or rejects the key.
        MachineError: the machine's key or its known_hosts file is damaged or missing.
    """
    # Without a handler, paramiko's own messages about errors would appear on stderr.
    logging.getLogger("paramiko").addHandler(logging.NullHandler())
    if not target.has_own_key:
        with openssh_session(name, target) as session:
            try:
                sftp = _Sftp(cast("paramiko.Channel", session.socket))
            except _ERRORS as error:
                raise session.failure() from error
            yield GuestFiles(name=name, sftp=sftp)
        return
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(contextlib.closing(paramiko.SSHClient()))
        client.set_missing_host_key_policy(_RefuseUnknown(name, target))
        with _reading(target.identity, "a private key"):
            key = paramiko.Ed25519Key.from_private_key_file(os.fspath(target.identity))
        with _reading(target.known_hosts, "a list of host keys"):
            client.load_system_host_keys(os.fspath(target.known_hosts))
        with _connecting(name, target):
            connection = stack.enter_context(socket.create_connection((target.address, target.port), _CONNECT_S))
            client.connect(
                target.alias,
                sock=connection,
                username=target.username,
                pkey=key,
                allow_agent=False,
                look_for_keys=False,
                banner_timeout=_ANSWER_S,
                auth_timeout=_ANSWER_S,
                channel_timeout=_ANSWER_S,
            )
        with _opening(name, client):
            sftp = _open_sftp(client)
        yield GuestFiles(name=name, sftp=sftp)


def _open_sftp(client: paramiko.SSHClient) -> _Sftp:
    transport = client.get_transport()
    if transport is None:
        raise EOFError
    channel = transport.open_session(max_packet_size=_PACKET_BYTES, timeout=_ANSWER_S)
    channel.settimeout(IDLE_S)
    channel.invoke_subsystem("sftp")
    return _Sftp(channel)


class _RefuseUnknown(paramiko.MissingHostKeyPolicy):
    """Ends a connection to a server whose host key is not in the machine's known_hosts file."""

    def __init__(self, name: str, target: SshTarget) -> None:
        self._error = unknown_host_key(name, target)

    def missing_host_key(self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> None:  # noqa: ARG002
        raise self._error


@contextlib.contextmanager
def _reading(path: Path, content: str) -> Iterator[None]:
    """Raise a MachineError if the file at `path`, which is read in the block, cannot be read or is not `content`."""
    try:
        yield
    except OSError as error:
        raise MachineError(f"cannot read {path}: {reason_of(error)}") from error
    except Exception as error:  # paramiko lets every error of its parsers through
        raise MachineError(f"{path} is damaged: it is not {content}") from error


@contextlib.contextmanager
def _connecting(name: str, target: SshTarget) -> Iterator[None]:
    where, page = target.place, unanswered_page(target)
    try:
        yield
    except MachineError:
        raise
    except paramiko.BadHostKeyException as error:
        raise other_host_key(name, target) from error
    except paramiko.AuthenticationException as error:
        raise rejected_key(name, target) from error
    except TimeoutError as error:
        raise DeadlineError(f"{name} does not answer on {where}", page=page) from error
    except OSError as error:
        raise GuestError(f"{name} does not answer on {where}: {reason_of(error)}", page=page) from error
    except Exception as error:  # paramiko passes on every error of the thread in which it reads
        raise GuestError(f"no SSH session with {name} on {where}: {session_reason(error)}", page=page) from error


def session_reason(error: Exception) -> str:
    """Return why the guest's SSH server and paramiko did not get as far as a login."""
    if isinstance(error, paramiko.ssh_exception.IncompatiblePeer):
        return "its SSH server supports none of this program's algorithms"
    if not isinstance(error, (EOFError, paramiko.SSHException)) or isinstance(error.__context__, UnicodeError):
        return "what answers there is not an SSH server"
    if str(error).startswith("Error reading SSH protocol banner"):
        return "its SSH server ended the connection before greeting, or did not greet in time"
    return reason_of(error)


@contextlib.contextmanager
def _opening(name: str, client: paramiko.SSHClient) -> Iterator[None]:
    try:
        yield
    except paramiko.ChannelException as error:
        raise GuestError(f"the SSH server of {name} refuses a session: {error.text}") from error
    except TimeoutError as error:
        raise DeadlineError(f"{name} has not answered for {IDLE_S:.0f} s") from error
    except _ERRORS as error:
        transport = client.get_transport()
        if transport is None or not transport.is_active():
            raise GuestError(f"the connection to {name} is lost") from error
        raise GuestError(f"the SSH server of {name} offers no access to files (SFTP)") from error


class _Message(paramiko.Message):
    """A message whose file names need not be UTF-8."""

    def get_text(self) -> str:
        return os.fsdecode(self.get_string())


class _Sftp(paramiko.SFTPClient):
    """paramiko's SFTP client, extended to keep several requests in flight in a single thread.

    paramiko's own read-ahead uses a thread that prints a traceback when a connection ends. Its write-ahead ignores the
    last answers, so a full disk would go unnoticed. OpenSSH's SFTP server answers requests in order.
    """

    def _adjust_cwd(self, path: str) -> bytes:
        return os.fsencode(path)

    def _request(self, kind: int, *words: object) -> tuple[int, paramiko.Message]:
        return self.answer(self.send_request(kind, *words))

    def send_request(self, kind: int, *words: object) -> int:
        """Send a request, and return its number.

        To get the answer, pass this number to `answer`, which drops the answers to all earlier requests.
        """
        number: int = self._async_request(type(None), kind, *words)  # type: ignore[attr-defined]
        return number

    def answer(self, number: int) -> tuple[int, paramiko.Message]:
        """Return the answer to a request.

        Raises:
            EOFError: the file or the directory has ended.
            OSError: the guest reports an error.
            SSHException: the connection is lost.
        """
        kind, message = self._read_response(number)  # type: ignore[attr-defined]
        return kind, _Message(message.get_remainder())

    def open_handle(self, path: str, flags: int) -> bytes:
        attributes = paramiko.SFTPAttributes()
        if flags & SFTP_FLAG_CREATE:
            attributes.st_mode = FILE_PRIVATE
        return self._request(CMD_OPEN, os.fsencode(path), flags, attributes)[1].get_string()

    def chunks(self, handle: bytes, size: int) -> Iterator[bytes]:
        """Yield the content of a file. If the file is larger than `size`, read the rest with one request at a time."""
        in_flight: deque[int] = deque()
        asked = done = 0
        while True:
            while len(in_flight) < _REQUESTS and (asked < size or not in_flight):
                in_flight.append(self.send_request(CMD_READ, handle, int64(asked), CHUNK_BYTES))
                asked += CHUNK_BYTES
            try:
                chunk = self.answer(in_flight.popleft())[1].get_string()
            except EOFError:
                return
            yield chunk
            done += len(chunk)
            if len(chunk) < CHUNK_BYTES:
                if 0 < size <= done:
                    return
                in_flight.clear()
                asked = done

    def write_chunks(self, handle: bytes, chunks: Iterable[bytes]) -> None:
        in_flight: deque[int] = deque()
        position = 0
        for chunk in chunks:
            in_flight.append(self.send_request(CMD_WRITE, handle, int64(position), chunk))
            position += len(chunk)
            if len(in_flight) >= _REQUESTS:
                self.answer(in_flight.popleft())
        while in_flight:
            self.answer(in_flight.popleft())

    def set_attributes(self, handle: bytes, facts: Facts) -> None:
        self._request(CMD_FSETSTAT, handle, _attributes(facts))

    def set_owner(self, handle: bytes, facts: Facts) -> None:
        attributes = paramiko.SFTPAttributes()
        attributes.st_uid, attributes.st_gid = facts.uid, facts.gid
        self._request(CMD_FSETSTAT, handle, attributes)

    def sync(self, handle: bytes) -> None:
        self._request(CMD_EXTENDED, b"fsync@openssh.com", handle)

    def close_handle(self, handle: bytes) -> None:
        self._request(CMD_CLOSE, handle)

    def file_system(self, path: str) -> tuple[int, bool]:
        """Return how many bytes are free in the file system at `path`, and whether it is read-only."""
        message = self._request(CMD_EXTENDED, b"statvfs@openssh.com", os.fsencode(path))[1]
        _, fragment, _, _, available, _, _, _, _, flags, _ = (message.get_int64() for _ in range(11))
        return fragment * available, bool(flags & _READ_ONLY)


@dataclass(frozen=True, kw_only=True)
class GuestFiles:
    """The files of a guest, with the interface of model.transfer.Files."""

    name: str
    sftp: _Sftp

    def show(self, path: str) -> str:
        return f"{self.name}:{printable(path)}"

    def stat(self, path: str) -> Facts | None:
        with self._errors_of("read", path):
            try:
                return _facts(self.sftp.stat(path))
            except FileNotFoundError:
                return None

    def real(self, path: str) -> str:
        with self._errors_of("read", path):
            return self.sftp.normalize(path)

    def entries(self, path: str) -> list[tuple[str, Facts]]:
        with self._errors_of("read", path):
            found = [(entry.filename, _facts(entry)) for entry in self.sftp.listdir_attr(path)]
        for name, _ in found:
            if not name or "/" in name:  # it would lead out of the directory that we write to
                raise GuestError(f'{self.show(path)} has an invalid entry: "{printable(name)}"')
        return sorted(found, key=lambda pair: pair[0])

    def read(self, path: str, size: int) -> Generator[bytes]:
        with self._errors_of("read", path):
            handle = self.sftp.open_handle(path, SFTP_FLAG_READ)
            try:
                yield from self.sftp.chunks(handle, size)
            finally:
                with contextlib.suppress(OSError, EOFError):
                    self.sftp.send_request(CMD_CLOSE, handle)

    def write(self, path: str, chunks: Iterable[bytes], facts: Facts, replaced: Facts | None) -> None:
        part = part_path(path, secrets.token_hex(4))
        with self._errors_of("write", path):
            try:
                handle = self.sftp.open_handle(part, SFTP_FLAG_WRITE | SFTP_FLAG_CREATE | SFTP_FLAG_EXCL)
                self.sftp.write_chunks(handle, chunks)
                if replaced:
                    with contextlib.suppress(PermissionError):
                        self.sftp.set_owner(handle, replaced)
                self.sftp.set_attributes(handle, facts)
                if replaced:  # a crash now must not lose the old content
                    self.sftp.sync(handle)
                self.sftp.close_handle(handle)
                self.sftp.posix_rename(part, path)
            except _ERRORS as error:
                failure = self._translate("write", path, error)  # before removing the part frees disk space
                self._remove(part)
                raise failure from error
            except BaseException:
                self._remove(part)
                raise

    def make_directory(self, path: str) -> None:
        with self._errors_of("make", path):
            self.sftp.mkdir(path, DIRECTORY_PRIVATE)

    def set_facts(self, path: str, facts: Facts) -> None:
        with self._errors_of("write", path):
            self.sftp.chmod(path, facts.kept_mode)
            self.sftp.utime(path, (_seconds(facts.accessed), _seconds(facts.modified)))

    def _remove(self, part: str) -> None:
        self.sftp.sock.settimeout(_CLEAN_UP_S)
        with contextlib.suppress(*_ERRORS):
            self.sftp.remove(part)
        self.sftp.sock.settimeout(IDLE_S)

    @contextlib.contextmanager
    def _errors_of(self, verb: str, path: str) -> Iterator[None]:
        try:
            yield
        except _ERRORS as error:
            raise self._translate(verb, path, error) from error

    def _translate(self, verb: str, path: str, error: Exception) -> MachineError:
        """Return the MachineError for an error that the guest has reported, or for a lost connection."""
        what = f"cannot {verb} {self.show(path)}"
        if isinstance(error, TimeoutError):
            return DeadlineError(f"{what}: {self.name} has not answered for {IDLE_S:.0f} s")
        is_lost = isinstance(error, ConnectionError) or getattr(self.sftp.sock, "closed", False)
        if is_lost or not isinstance(error, OSError):
            garbled = isinstance(error, paramiko.SFTPError)
            lost = f"{self.name} sends invalid answers" if garbled else f"the connection to {self.name} is lost"
            return GuestError(f"{what}: {lost}")
        if error.errno is not None:
            return MachineError(f"{what}: {os.strerror(error.errno)}")
        # SFTP reports every other cause as a plain "Failure".
        with contextlib.suppress(*_ERRORS):
            left, read_only = self.sftp.file_system(posixpath.dirname(path) or ".")
            if read_only:
                return DiskError(f"{what}: {os.strerror(errno.EROFS)}")
            if left < CHUNK_BYTES:
                return DiskError(f"{what}: no space left on that disk")
        return MachineError(f"{what}: {reason_of(error)}")


def _facts(attributes: paramiko.SFTPAttributes) -> Facts:
    mode = attributes.st_mode or 0
    return Facts(
        kind=kind_of(mode),
        size=attributes.st_size or 0,
        mode=mode & 0o7777,
        uid=attributes.st_uid or 0,
        gid=attributes.st_gid or 0,
        accessed=attributes.st_atime or 0,
        modified=attributes.st_mtime or 0,
    )


def _attributes(facts: Facts) -> paramiko.SFTPAttributes:
    attributes = paramiko.SFTPAttributes()
    attributes.st_mode = facts.kept_mode
    attributes.st_atime, attributes.st_mtime = _seconds(facts.accessed), _seconds(facts.modified)
    return attributes


def _seconds(moment: int) -> int:
    return min(max(moment, 0), _LATEST)
