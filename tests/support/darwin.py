"""Run the tests as if this host were a Mac, as a plugin: `pytest -p tests.support.darwin` (`scripts/test darwin`).

The processes of `machine` that a test starts imitate a Mac, too; other programs are Linux's. A test that needs Linux
itself is marked with `linux` and the reason, and left out, as on a Mac.

The plugin leaves the user as it is. `scripts/test darwin` runs pytest by `scripts/as-mac-user`, so that all programs
have a Mac's first user, uid 501 with gid 20, and tests that need root are left out. In the namespace that this takes,
no file is root's: if root runs the tests, root's files are that user's own, and else nobody's. So these tests do not
show what a Mac's user cannot do to root's files. Nor is that user in any of a Mac's other groups, such as admin.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from tests.support.imitated_mac import IMITATED, become_mac

REAL_PATH = "MACHINE_TESTS_REAL_PATH"
"""The environment variable with this host's own PATH."""

# Programs that macOS does not come with.
_NO_PROGRAMS = frozenset({
    "gpgv", "gpg", "sqv", "ip", "nft", "loginctl", "systemctl", "journalctl", "unshare", "nsenter", "newuidmap",
    "newgidmap", "virtiofsd", "podman",
})  # fmt: skip


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_DIRECTORY] = directory = tempfile.TemporaryDirectory(prefix="mac-")
    _give_home(Path(directory.name))
    _hide_programs(Path(directory.name))
    os.environ[IMITATED] = "1"
    become_mac()


def pytest_report_header() -> str:
    return f"as on a Mac, by uid {os.getuid()} with gid {os.getgid()}"


_DIRECTORY = pytest.StashKey[tempfile.TemporaryDirectory[str]]()


def pytest_unconfigure(config: pytest.Config) -> None:
    config.stash[_DIRECTORY].cleanup()


def _give_home(directory: Path) -> None:
    home = directory / "My Home"
    home.mkdir()
    os.environ["HOME"] = os.fspath(home)
    for name in ("XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME"):
        os.environ.pop(name, None)


def _hide_programs(directory: Path) -> None:
    """Make a PATH with all programs of this host but those that a Mac lacks."""
    programs = directory / "bin"
    programs.mkdir()
    os.environ.setdefault(REAL_PATH, os.environ["PATH"])  # a worker has that of the first process
    for place in os.environ["PATH"].split(":"):
        for program in sorted(Path(place).glob("*")):
            link = programs / program.name
            if program.name not in _NO_PROGRAMS and not os.path.lexists(link):
                link.symlink_to(program)
    os.environ["PATH"] = os.fspath(programs)
