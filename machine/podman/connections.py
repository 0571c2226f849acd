"""Podman's remote destinations.

Podman 5 and later keep them in podman-connections.json (go.podman.io/common/pkg/config), which we edit as
they do: under their lock, whole, unknown keys kept. Up to 4.9 they stand in a containers.conf whose place
depends on who asks; there the client itself is told.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from machine import runner
from machine.errors import MachineError
from machine.files import disk_errors, write_atomic
from machine.model.names import DEFAULT_MACHINE

_FILE_MODE = 0o644
_CLIENT_TIMEOUT_S = 30


@dataclass(frozen=True, kw_only=True)
class Connection:
    """One destination: `uri` is `unix:///…` for all of ours."""

    name: str
    uri: str


def connections_file(environment: Mapping[str, str], home: Path) -> Path:
    configured = environment.get("PODMAN_CONNECTIONS_CONF")
    if configured:
        return Path(configured)
    config = environment.get("XDG_CONFIG_HOME")
    return (Path(config) if config else home / ".config") / "containers" / "podman-connections.json"


class ConnectionsFile:
    """podman-connections.json."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def uris(self) -> dict[str, str]:
        """The URI of every connection by its name."""
        return {name: str(entry.get("URI", "")) for name, entry in _entries(self._read()).items()}

    def default(self) -> str:
        """The name of the default connection, empty where there is none."""
        return str(self._read()["Connection"].get("Default", ""))

    def add(self, connections: tuple[Connection, ...]) -> None:
        """Add or replace; the first becomes the default where there was no connection before.

        Raises:
            MachineError: the file is damaged or cannot be written.
        """
        with self._editing() as document:
            entries = _entries(document)
            if not entries:
                document["Connection"]["Default"] = connections[0].name
            for connection in connections:
                entries[connection.name] = {"URI": connection.uri}

    def remove(self, connections: tuple[Connection, ...]) -> None:
        """Remove those that still have our URI; a default among them passes on as Podman would have it."""
        if not self._path.exists():
            return
        with self._editing() as document:
            entries = _entries(document)
            for connection in connections:
                if entries.get(connection.name, {}).get("URI") == connection.uri:
                    del entries[connection.name]
            default = document["Connection"].get("Default")
            if default in (connection.name for connection in connections) and default not in entries:
                document["Connection"]["Default"] = next_default(list(entries))

    @contextlib.contextmanager
    def _editing(self) -> Iterator[dict[str, Any]]:
        with disk_errors(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            lock = self._path.with_name(f"{self._path.name}.lock").open("a")
        with lock:
            # containers/storage takes a POSIX record lock over the whole file, so this one meets it.
            fcntl.lockf(lock, fcntl.LOCK_EX)
            document = self._read()
            yield document
            write_atomic(self._path, json.dumps(document, separators=(",", ":")), mode=_FILE_MODE)

    def _read(self) -> dict[str, Any]:
        try:
            document = json.loads(self._path.read_bytes() or b"{}")
        except FileNotFoundError:
            document = {}
        except (OSError, ValueError) as error:
            raise MachineError(
                f"cannot read Podman's connections in {self._path}: {error}", hint="repair it or move it away"
            ) from error
        if not isinstance(document, dict):
            raise MachineError(f"Podman's connections in {self._path} are not a JSON object")
        document["Connection"] = document.get("Connection") or {}
        document["Connection"]["Connections"] = document["Connection"].get("Connections") or {}
        document.setdefault("Farm", {})
        return document


def _entries(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    entries: dict[str, dict[str, Any]] = document["Connection"]["Connections"]
    return entries


def next_default(names: list[str]) -> str:
    """Whom Podman makes the default when the default goes: its default machine, else any."""
    return DEFAULT_MACHINE if DEFAULT_MACHINE in names else min(names, default="")


def parse_version(text: str) -> tuple[int, int] | None:
    """The version in the output of `podman --version`."""
    match = re.search(r"version (\d+)\.(\d+)", text)
    return (int(match[1]), int(match[2])) if match else None


class LegacyClient:
    """The podman on PATH where it is 4.9 or older: its connections are in a containers.conf of its choosing."""

    def __init__(self, program: str) -> None:
        self._program = program

    @classmethod
    def find(cls) -> LegacyClient | None:
        """The client, if there is one and it does not read podman-connections.json."""
        for program in ("podman", "podman-remote"):
            try:
                version = parse_version(runner.run([program, "--version"], timeout_s=_CLIENT_TIMEOUT_S).stdout)
            except MachineError:  # not installed, or broken in a way that is not our matter
                continue
            return cls(program) if version and version < (5, 0) else None
        return None

    def uris(self) -> dict[str, str]:
        """The URI of every connection by its name; the default's name ends with `*` in old clients."""
        words = ["system", "connection", "list", "--format", "{{.Name}}\t{{.URI}}"]
        rows = [line.split("\t") for line in self._run(words).splitlines() if "\t" in line]
        return {name.rstrip("*"): uri for name, uri in rows if name != "Name"}

    def add(self, connections: tuple[Connection, ...]) -> None:
        """Register the connections that it does not know yet.

        Raises:
            MachineError: the client failed, or has another connection of that name.
        """
        known = self.uris()
        for connection in connections:
            if known.get(connection.name) != connection.uri:
                self._run(["system", "connection", "add", connection.name, connection.uri])

    def remove(self, connections: tuple[Connection, ...]) -> None:
        known = self.uris()
        for connection in connections:
            if known.get(connection.name) == connection.uri:
                self._run(["system", "connection", "remove", connection.name])

    def _run(self, words: list[str]) -> str:
        # A CONTAINER_HOST of the user's would make the client talk to that service instead.
        clean = {"CONTAINER_HOST": "", "CONTAINER_CONNECTION": "", "CONTAINER_SSHKEY": ""}
        argv = [self._program, *words]
        return runner.run(argv, timeout_s=_CLIENT_TIMEOUT_S, environment=clean).stdout


def connection_uri(socket: Path) -> str:
    return f"unix://{os.fspath(socket)}"
