"""The context of a command: the host, directories, user and environment. It is gathered once and passed on."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from machine.errors import MachineError
from machine.model.dataclass import dataclass
from machine.model.host import Host
from machine.store.paths import Roots, find_roots
from machine.this_host import current_host

_SET_HOME = "set HOME to a directory of yours"


@dataclass(frozen=True, kw_only=True)
class Context:
    """Everything about the host and the process that a command depends on, besides the command's arguments."""

    host: Host
    roots: Roots
    uid: int
    home: Path
    environment: Mapping[str, str]

    @property
    def user(self) -> str:
        """The name of this host's user who runs the command, or the uid if that user has no name."""
        import pwd

        try:
            return pwd.getpwuid(self.uid).pw_name
        except KeyError:
            return str(self.uid)


def current_context() -> Context:
    """Gather the context of this process.

    Raises:
        MachineError: this user has no home directory.
    """
    host = current_host()
    home = _home()
    return Context(
        host=host,
        roots=find_roots(os.environ, host.os, os.getuid()),
        uid=os.getuid(),
        home=home,
        environment=os.environ,
    )


def _home() -> Path:
    given = os.environ.get("HOME")
    if given is not None and not Path(given).is_absolute():
        raise MachineError(f'HOME must be an absolute path, not "{given}"', hint=_SET_HOME)
    try:
        return Path.home()
    except RuntimeError as error:  # no such variable, and no such user
        raise MachineError(
            f"HOME is not set, and user ID {os.getuid()} has no entry in /etc/passwd",
            hint=_SET_HOME,
        ) from error
