"""Edit the connections of Podman up to version 4.9 by running the client.

The client stores connections in one of several containers.conf files, and only the client knows in which one.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property

from machine import runner
from machine.errors import MachineError
from machine.podman.connections import CLIENTS, Connection, next_default

_CLIENT_TIMEOUT_S = 30
# The user's CONTAINER_HOST would make the client edit another service's connections.
_ENVIRONMENT = {"CONTAINER_HOST": "", "CONTAINER_CONNECTION": "", "CONTAINER_SSHKEY": ""}


def parse_version(text: str) -> tuple[int, int] | None:
    """Return the version in the output of `podman --version`."""
    match = re.search(r"version (\d+)\.(\d+)", text)
    return (int(match[1]), int(match[2])) if match else None


@dataclass(frozen=True, kw_only=True)
class Client:
    """A podman on PATH. `version` is None if the client reports its version in an unknown format."""

    program: str
    path: str
    version: tuple[int, int] | None

    @property
    def is_legacy(self) -> bool:
        """Whether the client is too old to read podman-connections.json."""
        return self.version is not None and self.version < (5, 0)


def find_client() -> Client | None:
    """Find a working podman, or else podman-remote, on PATH."""
    for program in CLIENTS:
        path = shutil.which(program)
        if path is None:
            continue
        try:
            output = runner.run([path, "--version"], timeout_s=_CLIENT_TIMEOUT_S).stdout
        except MachineError:  # it is broken
            continue
        return Client(program=program, path=path, version=parse_version(output))
    return None


class LegacyClient:
    """A podman of version 4.9 or older, which we run to edit its connections."""

    def __init__(self, program: str, listing: str | None) -> None:
        """Make the client. `listing` is what it has written about the URIs of its connections, if it was asked."""
        self._program = program
        self._listing = listing

    @cached_property
    def uris(self) -> dict[str, str]:
        """Map the name of every connection to its URI. The map is cached, because running the client takes 0.1 s."""
        rows = self._list("URI") if self._listing is None else _rows(self._listing)
        # Old clients mark the default with a `*` after its name.
        return {name.rstrip("*"): uri for name, uri in rows}

    def default(self) -> str | None:
        """Return the name of the default connection, or None if there is no default."""
        starred = [name for name, _ in self._list("URI") if name.endswith("*")]
        names = starred or [name for name, default in self._list("Default") if default == "true"]
        return names[0].rstrip("*") if names else None

    def default_connection(self) -> Connection | None:
        """Return the default connection, or None if there is no default."""
        name = self.default()
        return Connection(name=name, uri=self.uris[name]) if name in self.uris else None

    def _list(self, field: str) -> list[tuple[str, str]]:
        """Return, for every connection, its name and the value of its field `field`."""
        return _rows(self._run(_list_words(field)))

    @classmethod
    def find(cls, *, has_connections: bool) -> LegacyClient | None:
        """Return the podman on PATH if it is too old to read podman-connections.json.

        Return None if podman is newer, or is not installed. If `has_connections` is False, podman is known to have no
        connections, and is not asked for them.
        """
        asked = [_list_words("URI")] if has_connections else []
        path = shutil.which(CLIENTS[0])
        try:
            # At the same time, because each takes 0.1 s.
            version, *listings = runner.run_together(
                [[path or CLIENTS[0], *words] for words in (["--version"], *asked)],
                timeout_s=_CLIENT_TIMEOUT_S,
                environment=_ENVIRONMENT,
            )
        except MachineError:  # it is broken, or there is only a podman-remote
            client = find_client()
            return cls(client.program, None) if client and client.is_legacy else None
        client = Client(program=CLIENTS[0], path=path or CLIENTS[0], version=parse_version(version))
        return cls(client.program, listings[0] if listings else "") if client.is_legacy else None

    def add(self, connections: tuple[Connection, ...]) -> None:
        """Add the connections whose names are not taken yet.

        Raises:
            MachineError: the client failed.
        """
        for connection in connections:
            if connection.name not in self.uris:
                self._run(["system", "connection", "add", connection.name, connection.uri])
                self.uris[connection.name] = connection.uri

    def remove(self, connections: tuple[Connection, ...], *, rootful: Collection[str] = ()) -> None:
        """Remove the given connections, except those that now have another URI.

        If one of the removed connections was the default, choose a new default as Podman does.
        """
        ours = [connection.name for connection in connections if self.uris.get(connection.name) == connection.uri]
        if not ours:
            return
        loses_default = self.default() in ours
        for name in ours:
            self._run(["system", "connection", "remove", name])
            del self.uris[name]
        if loses_default and self.uris:
            self.make_default(next_default(self.uris, rootful))

    def move_default(self, names: tuple[str, ...], to: str) -> None:
        """If the default connection is one of `names`, make `to` the default instead."""
        if to in self.uris and self.default() in {*names} - {to}:
            self._run(["system", "connection", "default", to])

    def make_default(self, name: str) -> None:
        """Make an existing connection the default."""
        if name in self.uris:
            self._run(["system", "connection", "default", name])

    def replace(self, pairs: tuple[tuple[Connection, Connection], ...]) -> None:
        """Replace, for each pair, the first connection by the second.

        A pair is left out if its first connection now has another URI.
        """
        ours = [(old, new) for old, new in pairs if self.uris.get(old.name) == old.uri]
        for old, new in ours:
            self.add((new,))
            self.move_default((old.name,), new.name)
            self.remove((old,))

    def _run(self, words: list[str]) -> str:
        argv = [self._program, *words]
        return runner.run(argv, timeout_s=_CLIENT_TIMEOUT_S, environment=_ENVIRONMENT).stdout


def _list_words(field: str) -> list[str]:
    return ["system", "connection", "list", "--format", "{{.Name}}\t{{." + field + "}}"]


def _rows(listing: str) -> list[tuple[str, str]]:
    rows = [line.partition("\t") for line in listing.splitlines() if "\t" in line]
    return [(name, value) for name, _, value in rows if name != "Name"]
