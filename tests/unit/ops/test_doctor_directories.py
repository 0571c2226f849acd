"""What doctor says of directories, on made-up hosts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from machine.model.host import HostOS
from machine.model.units import GIB, MIB
from machine.ops import doctor_directories as checks
from machine.ops.doctor_directories import SessionFacts
from machine.store.filesystem import DirectoryFacts
from tests.support.checks import text_of
from tests.support.golden import Golden

LINUX, MAC = HostOS.LINUX, HostOS.MACOS


DATA = Path("/home/me/data")


GOOD = DirectoryFacts(
    path=DATA, nearest=DATA, is_directory=True, writable=True, owner=1000, free_bytes=80 * GIB, file_system="ext4"
)


DIRECTORIES: dict[str, dict[str, object]] = {
    "good": {},
    "not there yet": {"nearest": Path("/home/me")},
    "unknown file system": {"file_system": None},
    "cannot be made": {"nearest": Path("/home"), "writable": False},
    "not writable": {"writable": False},
    "below a file": {"nearest": Path("/home/me"), "is_directory": False},
    "below a link to nothing": {
        "nearest": Path("/home/me"),
        "broken_link": "/home/me/data is a symbolic link to /gone, which does not exist",
    },
    "full": {"free_bytes": 200 * MIB},
    "nearly full": {"free_bytes": 3 * GIB},
    "without links": {"file_system": "vfat"},
    "on a network": {"file_system": "nfs4"},
    "in memory": {"file_system": "tmpfs"},
}


@pytest.mark.parametrize("changes", DIRECTORIES.values(), ids=DIRECTORIES)
def test_directory_of_machines(changes: dict[str, object], golden: Golden) -> None:
    golden.matches(text_of(checks.directory_check("data", replace(GOOD, **changes), keeps=True)))  # type: ignore[arg-type]


LOGIN, FALLBACK = Path("/run/user/1000"), Path("/tmp/b2p-1000")


SESSION = SessionFacts(session="/run/user/1000", login=LOGIN, fallback=FALLBACK, uid=1000, lingers=True)


BELOW_LOGIN = LOGIN / "boot2podman"


RUNTIMES: dict[str, tuple[Path, dict[str, object], dict[str, object], HostOS]] = {
    "of the login": (BELOW_LOGIN, {}, {}, LINUX),
    "of a login that does not linger": (BELOW_LOGIN, {}, {"lingers": False}, LINUX),
    "elsewhere": (Path("/home/me/run"), {}, {"lingers": False}, LINUX),
    "of a Mac": (Path("/var/folders/x/T"), {}, {"lingers": False}, MAC),
    "XDG_RUNTIME_DIR not set": (FALLBACK, {}, {"session": ""}, LINUX),
    "XDG_RUNTIME_DIR of another user": (FALLBACK, {}, {"session": "/run/user/0"}, LINUX),
    "TMPDIR not set": (FALLBACK, {}, {"session": ""}, MAC),
    "long path": (FALLBACK / "0badcafe", {}, {}, LINUX),
    "another user's": (BELOW_LOGIN, {"owner": 0}, {}, LINUX),
    "not writable": (BELOW_LOGIN, {"writable": False}, {}, LINUX),
    "full": (BELOW_LOGIN, {"free_bytes": 0}, {}, LINUX),
    "without sockets": (BELOW_LOGIN, {"file_system": "vfat"}, {}, LINUX),
    "in memory": (BELOW_LOGIN, {"file_system": "tmpfs", "free_bytes": 2 * MIB}, {}, LINUX),
}


@pytest.mark.parametrize(("path", "changes", "session", "host_os"), RUNTIMES.values(), ids=RUNTIMES)
def test_runtime_directory(
    path: Path, changes: dict[str, object], session: dict[str, object], host_os: HostOS, golden: Golden
) -> None:
    facts = replace(GOOD, path=path, nearest=path, **changes)  # type: ignore[arg-type]
    golden.matches(text_of(checks.runtime_check(facts, replace(SESSION, **session), host_os)))  # type: ignore[arg-type]
