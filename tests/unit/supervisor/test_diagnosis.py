"""What a guest's trouble is, by what it tells."""

from __future__ import annotations

from dataclasses import replace

import pytest

from machine.supervisor.diagnosis import Diagnosis, GuestTrouble, PodmanHealth, diagnose, keeps_failing, podmans_words
from machine.supervisor.vitals import (
    ClosedSocket,
    FileSystem,
    JournalLine,
    Memory,
    OutOfMemoryKill,
    SocketState,
    Vitals,
)

NOW = 1000.0
_AGAIN = "start podman.socket again with: machine ssh box"
HEALTHY = Vitals(
    clock=NOW,
    file_systems=(
        FileSystem(path="/var", free_bytes=10**9, free_inodes=10**6, inodes=10**6),
        FileSystem(path="/tmp", free_bytes=10**8, free_inodes=10**6, inodes=10**6),
    ),
    memory=Memory(total=2_000_000, available=1_000_000, free_swap=0),
)
CONFIG = (
    'Failed to obtain podman configuration: reading system config "/home/core/.config/containers/containers.conf": '
    "decode configuration /home/core/.config/containers/containers.conf: toml: line 3 (last key "
    "\"containers\"): expected '.' or '=', but got 'i' instead"
)
STORAGE = 'time="2026" level=warning msg="Failed to read /home/core/.config/containers/storage.conf toml: line 2: no"'
REFRESH = (
    'time="2026" level=error msg="Rolling back transaction to refresh database state: cannot rollback"',
    "Error: removing container exit codes: database or disk is full",
)


def disk(path: str = "/var", *, free_bytes: int = 10**9, free_inodes: int = 10**6, inodes: int = 10**6) -> Vitals:
    return replace(
        HEALTHY,
        file_systems=(
            *HEALTHY.file_systems,
            FileSystem(path=path, free_bytes=free_bytes, free_inodes=free_inodes, inodes=inodes),
        ),
    )


def failing(*texts: str, ended: str = "exit-code", at: float = NOW, count: int = 1) -> Vitals:
    """A guest whose Podman has ended with these lines."""
    run = [
        JournalLine(time=at - 50, source="systemd", text="Starting podman.service - Podman API Service..."),
        JournalLine(time=at - 20, source="podman", text='time="2026" level=info msg="Using sqlite"'),
        *(JournalLine(time=at - 1, source="podman", text=text) for text in texts),
        JournalLine(time=at, source="systemd", text=f"podman.service: Failed with result '{ended}'."),
    ]
    return replace(HEALTHY, journal=tuple(run) * count)


@pytest.mark.parametrize(
    ("vitals", "trouble", "text"),
    [
        (replace(HEALTHY, is_read_only=True), GuestTrouble.READ_ONLY, "the guest's disk is read-only"),
        (disk(free_bytes=0), GuestTrouble.DISK_FULL, "the guest's disk is full"),
        (disk("/home/core", free_bytes=4 * 1024**2 - 1), GuestTrouble.DISK_FULL, "the guest's disk is full"),
        (disk("/run/user/1000", free_bytes=0), GuestTrouble.MEMORY_DISK_FULL, "the guest's /run/user/1000 is full"),
        (disk(free_inodes=0), GuestTrouble.INODES_FULL, "the guest's disk has no free inodes"),
        (disk("/tmp", free_inodes=3), GuestTrouble.INODES_FULL, "the guest's /tmp has no free inodes"),
        (
            replace(HEALTHY, memory=Memory(total=2_000_000, available=30_000, free_swap=5_000)),
            GuestTrouble.OUT_OF_MEMORY,
            "the guest is out of memory",
        ),
        (
            replace(HEALTHY, last_oom_kill=OutOfMemoryKill(program="podman", age_s=20.0)),
            GuestTrouble.OUT_OF_MEMORY,
            "the guest is out of memory and has killed podman",
        ),
        (failing(ended="oom-kill"), GuestTrouble.OUT_OF_MEMORY, "the guest is out of memory"),
        (
            failing(CONFIG),
            GuestTrouble.PODMAN_CONFIG,
            "Podman refuses line 3 of the guest's /home/core/.config/containers/containers.conf",
        ),
        (
            failing(STORAGE, "Failed to obtain podman configuration: toml: line 2: expected '.'"),
            GuestTrouble.PODMAN_CONFIG,
            "Podman refuses line 2 of the guest's /home/core/.config/containers/storage.conf",
        ),
        (
            failing('Failed to obtain podman configuration: unsupported database backend: "x"'),
            GuestTrouble.PODMAN_BROKEN,
            'Podman fails in the guest: Failed to obtain podman configuration: unsupported database backend: "x"',
        ),
        (
            failing(*REFRESH),
            GuestTrouble.PODMAN_BROKEN,
            "Podman fails in the guest: removing container exit codes: database or disk is full",
        ),
        (
            failing('time="2026" level=fatal msg="cannot \\"load\\" it" file=x'),
            GuestTrouble.PODMAN_BROKEN,
            'Podman fails in the guest: cannot \\"load\\" it',
        ),
        (
            failing("podman.service: Unable to locate executable '/usr/bin/podman': No such file or directory"),
            GuestTrouble.PODMAN_BROKEN,
            "Podman fails in the guest: Unable to locate executable '/usr/bin/podman': No such file or directory",
        ),
        (failing(), GuestTrouble.PODMAN_BROKEN, "Podman fails in the guest"),
        (Vitals(), GuestTrouble.PODMAN_BROKEN, "Podman fails in the guest"),
        (
            Vitals(has_podman=False),
            GuestTrouble.PODMAN_BROKEN,
            "Podman fails in the guest: podman is missing, or may not be executed",
        ),
    ],
)
def test_trouble_of_a_guest_whose_podman_fails(vitals: Vitals, trouble: GuestTrouble, text: str) -> None:
    assert diagnose(vitals, clock_off_s=0, podman=PodmanHealth.FAILING) == Diagnosis(trouble=trouble, text=text)


def closed(owner: str, state: SocketState) -> tuple[ClosedSocket, ...]:
    return (ClosedSocket(owner=owner, state=state),)


@pytest.mark.parametrize(
    ("sockets", "text", "remedy"),
    [
        ((), "nobody listens on a Podman socket in the guest", _AGAIN),
        (
            closed("core", SocketState.MASKED),
            "podman.socket of core is masked in the guest",
            (
                "start it with: machine ssh --username core box "
                "'systemctl --user unmask podman.socket && systemctl --user enable --now podman.socket'"
            ),
        ),
        (
            closed("root", SocketState.STOPPED),
            "podman.socket of root is stopped in the guest",
            "start it with: machine ssh --username root box systemctl enable --now podman.socket",
        ),
        (
            closed("root", SocketState.MISSING),
            "podman.socket of root is missing in the guest",
            "install Podman again with: machine ssh --username root box",
        ),
        (
            closed("core", SocketState.NO_MANAGER),
            "systemd of core does not run in the guest, so nobody listens on its Podman socket",
            (
                "start it with: machine ssh --username root box "
                "'loginctl enable-linger core && systemctl start user@$(id -u core)'"
            ),
        ),
    ],
)
def test_trouble_of_a_guest_that_does_not_listen_for_podman(
    sockets: tuple[ClosedSocket, ...], text: str, remedy: str
) -> None:
    vitals = replace(failing(CONFIG), closed_sockets=sockets)
    found = diagnose(vitals, clock_off_s=0, podman=PodmanHealth.CLOSED)
    assert found is not None
    assert (found.trouble, found.text, found.remedy("box")) == (GuestTrouble.PODMAN_CLOSED, text, remedy)


def test_file_that_has_been_corrected_is_not_blamed_for_later_failures() -> None:
    old, new = failing(CONFIG, at=100.0), failing("Error: no runtime")
    diagnosis = diagnose(replace(new, journal=old.journal + new.journal), clock_off_s=0, podman=PodmanHealth.FAILING)
    assert diagnosis is not None
    assert diagnosis.text == "Podman fails in the guest: no runtime"


@pytest.mark.parametrize(
    "vitals",
    [
        HEALTHY,
        Vitals(),
        failing(CONFIG),  # in the past, since Podman works
        disk(free_bytes=4 * 1024**2),
        disk(free_inodes=0, inodes=0),  # btrfs counts none
        replace(HEALTHY, memory=Memory(total=2_000_000, available=30_000, free_swap=100_000)),
        replace(HEALTHY, last_oom_kill=OutOfMemoryKill(program="x", age_s=301.0)),
        replace(HEALTHY, last_oom_kill=OutOfMemoryKill(program="x", age_s=None)),
    ],
)
def test_guest_without_trouble(vitals: Vitals) -> None:
    assert diagnose(vitals, clock_off_s=-30, podman=PodmanHealth.UNKNOWN) is None


@pytest.mark.parametrize(
    ("off_s", "text"),
    [
        (3600.4, "the guest's clock is about an hour ahead"),
        (-31.0, "the guest's clock is 31 seconds behind"),
        (-217829737.0, "the guest's clock is 6 years behind"),
    ],
)
def test_clock_that_is_off(off_s: float, text: str) -> None:
    diagnosis = diagnose(HEALTHY, clock_off_s=off_s, podman=PodmanHealth.UNKNOWN)
    assert diagnosis == Diagnosis(trouble=GuestTrouble.CLOCK_OFF, text=text)


@pytest.mark.parametrize(
    ("vitals", "fails"),
    [
        (failing(count=3), True),
        (failing(count=2), False),
        (failing(count=3, at=NOW - 31), False),
        (replace(HEALTHY, socket_failed=True), True),
        (HEALTHY, False),
    ],
)
def test_podman_keeps_failing_after_three_failures(vitals: Vitals, fails: bool) -> None:
    assert keeps_failing(vitals, for_s=30) is fails


def test_long_error_is_cut() -> None:
    diagnosis = diagnose(failing("Error: " + "x" * 1000), clock_off_s=0, podman=PodmanHealth.FAILING)
    assert diagnosis is not None
    assert diagnosis.text.endswith("xx…")
    assert len(diagnosis.text) < 350


def test_podmans_words_are_those_that_tell_something() -> None:
    said = ["Rolling back transaction to refresh database state: cannot rollback", REFRESH[1]]
    assert podmans_words(failing(*REFRESH, count=3).journal, count=5) == said
    assert podmans_words(failing(*REFRESH).journal, count=1) == [REFRESH[1]]


@pytest.mark.parametrize("trouble", GuestTrouble)
def test_every_trouble_has_a_remedy_that_names_the_machine(trouble: GuestTrouble) -> None:
    assert " box" in trouble.remedy("box")
