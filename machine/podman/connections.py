"""Edit the connections of Podman 5 and later in podman-connections.json.

As in Podman (go.podman.io/common/pkg/config), the file is locked while it is edited, and unknown keys are kept.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from machine.deadline import Deadline
from machine.errors import DeadlineError, MachineError, reason_of
from machine.files import FILE_PUBLIC, disk_errors, make_directory, open_created, write_atomic
from machine.model.dataclass import dataclass
from machine.model.names import DEFAULT_MACHINE

CLIENTS = ("podman", "podman-remote")
"""The names of Podman's clients, the first that is tried first."""

_LOCK_S = 30


@dataclass(frozen=True, kw_only=True)
class Connection:
    """A Podman connection of a machine. Its `uri` is `unix:///…`."""

    name: str
    uri: str


def connections_file(environment: Mapping[str, str], home: Path) -> Path:
    configured = environment.get("PODMAN_CONNECTIONS_CONF")
    if configured:
        return Path(configured)
    return containers_directory(environment, home) / "podman-connections.json"


def containers_directory(environment: Mapping[str, str], home: Path) -> Path:
    """Return the directory of the user's settings for container tools."""
    config = environment.get("XDG_CONFIG_HOME")
    return (Path(config) if config else home / ".config") / "containers"


class ConnectionsFile:
    """A podman-connections.json file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def uris(self) -> dict[str, str]:
        """Return the URI of every connection, by the connection's name."""
        return _uris(self._read())

    def default(self) -> str | None:
        """Return the name of the default connection, or None if there is no default."""
        return _default(self._read())

    def default_connection(self) -> Connection | None:
        """Return the default connection, or None if there is no default."""
        document = self._read()
        name, uris = _default(document), _uris(document)
        return Connection(name=name, uri=uris[name]) if name in uris else None

    def add(self, connections: tuple[Connection, ...]) -> None:
        """Add or replace connections. If the file had no connections before, the first new one becomes the default.

        Raises:
            MachineError: the file is damaged or cannot be written.
        """
        with self._editing() as document:
            entries = _entries(document)
            if not entries:
                document["Connection"]["Default"] = connections[0].name
            for connection in connections:
                entries[connection.name] = {"URI": connection.uri}

    def remove(self, connections: tuple[Connection, ...], *, rootful: Collection[str] = ()) -> None:
        """Remove the given connections, except those to which the file now gives another URI.

        If one of the removed connections was the default, choose a new default as Podman does. `rootful` names the
        remaining machines that are rootful.
        """
        if not self._has_any(connections) and self.default() not in [connection.name for connection in connections]:
            return
        with self._editing() as document:
            entries = _entries(document)
            for connection in connections:
                if entries.get(connection.name, {}).get("URI") == connection.uri:
                    del entries[connection.name]
            default = document["Connection"].get("Default")
            if default in (connection.name for connection in connections) and default not in entries:
                document["Connection"]["Default"] = next_default(list(entries), rootful)

    def move_default(self, names: tuple[str, ...], to: str) -> None:
        """If the default connection is one of `names`, make `to` the default instead."""
        if self.default() in names and self.default() != to:
            with self._editing() as document:
                if document["Connection"].get("Default") in names and to in _entries(document):
                    document["Connection"]["Default"] = to

    def make_default(self, name: str) -> None:
        """Make an existing connection the default.

        Raises:
            MachineError: the file is damaged or cannot be written.
        """
        with self._editing() as document:
            if name in _entries(document):
                document["Connection"]["Default"] = name

    def replace(self, pairs: tuple[tuple[Connection, Connection], ...]) -> None:
        """Replace, for each pair, the first connection by the second. Write the file once for all pairs.

        A pair is left out if the file now has another URI for its first connection.
        """
        if not self._has_any([old for old, _ in pairs]):
            return
        with self._editing() as document:
            entries = _entries(document)
            for old, new in pairs:
                if entries.get(old.name, {}).get("URI") != old.uri:
                    continue
                del entries[old.name]
                entries.setdefault(new.name, {"URI": new.uri})
                if document["Connection"].get("Default") == old.name:
                    document["Connection"]["Default"] = new.name

    def _has_any(self, connections: Iterable[Connection]) -> bool:
        """Return whether the file has one of these connections with the same URI. If not, callers do not write it."""
        uris = self.uris()
        return any(uris.get(connection.name) == connection.uri for connection in connections)

    @contextlib.contextmanager
    def _editing(self) -> Iterator[dict[str, Any]]:
        with disk_errors(self._path):
            make_directory(self._path.parent)
            lock_path = self._path.with_name(f"{self._path.name}.lock")
            lock = open_created(lock_path, "ab", permissions=FILE_PUBLIC)
        with lock:
            _await_lock(lock, self._path)
            document = self._read()
            yield document
            # The file may be a symbolic link to the user's dotfiles.
            with disk_errors(self._path):
                write_atomic(self._path.resolve(), json.dumps(document, separators=(",", ":")), mode=FILE_PUBLIC)

    def _read(self) -> dict[str, Any]:
        try:
            document = json.loads(self._path.read_bytes() or b"{}")
        except (FileNotFoundError, NotADirectoryError):  # the latter in the home directory /dev/null
            document = {}
        except (OSError, ValueError) as error:
            raise MachineError(
                f"cannot read Podman's connections in {self._path}: {reason_of(error)}",
                hint="repair the file or move it away",
            ) from error
        try:
            document["Connection"] = document.get("Connection") or {}
            document["Connection"]["Connections"] = document["Connection"].get("Connections") or {}
            document.setdefault("Farm", {})
            is_valid = all(isinstance(entry, dict) for entry in _entries(document).values())
        except (AttributeError, TypeError):
            is_valid = False
        if not is_valid:
            raise MachineError(
                f"Podman's connections in {self._path} are not in Podman's format",
                hint="repair the file or move it away",
            )
        return dict(document)


def _await_lock(lock: IO[bytes], path: Path) -> None:
    """Wait for the POSIX record lock over the whole lock file, and take it. containers/storage takes the same lock."""

    def try_lock() -> bool:
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            return False
        return True

    try:
        Deadline.after(_LOCK_S, "Podman's lock").wait_until(try_lock)
    except DeadlineError as error:
        raise DeadlineError(
            f"timed out after {_LOCK_S} s, because another Podman client keeps {path} locked"
        ) from error


def _uris(document: dict[str, Any]) -> dict[str, str]:
    return {name: str(entry.get("URI", "")) for name, entry in _entries(document).items()}


def _default(document: dict[str, Any]) -> str | None:
    return str(document["Connection"].get("Default") or "") or None


def _entries(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    entries: dict[str, dict[str, Any]] = document["Connection"]["Connections"]
    return entries


def next_default(names: Collection[str], rootful: Collection[str]) -> str:
    """Choose a new default connection after the old default was removed, as Podman does.

    The machine with the default name is chosen or, if there is none, another machine. If `rootful` names the chosen
    machine, return the machine's rootful connection.
    """
    chosen = DEFAULT_MACHINE if DEFAULT_MACHINE in names else min(names, default="")
    preferred = f"{chosen}-root"
    return preferred if chosen in rootful and preferred in names else chosen


def connection_uri(socket: Path) -> str:
    return f"unix://{os.fspath(socket)}"


def socket_of(connection: Connection) -> Path | None:
    """Return the socket on this host to which a connection leads, or None if it leads elsewhere."""
    scheme, _, path = connection.uri.partition("://")
    return Path(path) if scheme == "unix" else None
