"""The context of a command: the host, directories, user and environment. It is gathered once and passed on."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from machine.model.host import Host
from machine.store.paths import Roots, find_roots
from machine.this_host import current_host


@dataclass(frozen=True, kw_only=True)
class Context:
    """Everything that a command depends on besides its arguments."""

    host: Host
    roots: Roots
    uid: int
    home: Path
    environment: Mapping[str, str]

    @property
    def user(self) -> str:
        """The name of the user, or the uid if the user has no name."""
        import pwd

        try:
            return pwd.getpwuid(self.uid).pw_name
        except KeyError:
            return str(self.uid)


def current_context() -> Context:
    host = current_host()
    return Context(
        host=host,
        roots=find_roots(os.environ, host.os, os.getuid()),
        uid=os.getuid(),
        home=Path.home(),
        environment=os.environ,
    )
