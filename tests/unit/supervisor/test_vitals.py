"""What a running guest tells about itself."""

from __future__ import annotations

import pytest

from machine.supervisor.vitals import (
    ClosedSocket,
    FileSystem,
    JournalLine,
    Memory,
    OutOfMemoryKill,
    SocketState,
    Vitals,
    parse_vitals,
)

BRIEF = """uptime 379.87
space 2908945 4096 775922 784896 ext2/ext3 /var
space 100 4096 0 0 fuseblk /home/core
space 188056 4096 1048569 1048576 tmpfs /tmp
MemTotal:        1504448 kB
MemAvailable:    1305380 kB
SwapFree:              0 kB
oom_kill 3
btime 1795661421
000000003afa5ce8: 00000002 00000000 00010000 0001 01  3542 /run/user/1000/podman/podman.sock
00000000766da82d: 00000002 00000000 00010000 0001 01  3257 /run/podman/podman.sock
done
"""
FULL = """uptime 379.87
read-only
[  371.501234] Out of memory: Killed process 631 (podman) total-vm:1949804kB, anon-rss:1289452kB
podman-failed socket
failed   cron.service loaded failed failed Regular background program
failed   cron.service loaded failed failed Regular background program
podman-failed service
failed ● a-b@1.mount loaded failed failed /srv
journal 1795661526.226317 dbg podman[634]: Error: configure storage: no space left: really
journal 1795661526.240997 dbg systemd[331]: podman.service: Failed with result 'exit-code'.
journal                   which goes on
done
"""


def test_brief_answer() -> None:
    assert parse_vitals(BRIEF) == Vitals(
        clock=1795661800.87,
        file_systems=(
            FileSystem(path="/var", free_bytes=2908945 * 4096, free_inodes=775922, inodes=784896),
            FileSystem(path="/tmp", free_bytes=188056 * 4096, free_inodes=1048569, inodes=1048576),
        ),
        memory=Memory(total=1504448, available=1305380, free_swap=0),
        oom_kills=3,
        sockets=frozenset({"/run/user/1000/podman/podman.sock", "/run/podman/podman.sock"}),
    )


def test_full_answer() -> None:
    vitals = parse_vitals(FULL)
    assert vitals is not None
    assert vitals.last_oom_kill is not None
    assert vitals.last_oom_kill.age_s == pytest.approx(8.37, abs=0.01)
    assert vitals == Vitals(
        is_read_only=True,
        last_oom_kill=OutOfMemoryKill(program="podman", age_s=vitals.last_oom_kill.age_s),
        socket_failed=True,
        service_failed=True,
        failed_units=("cron.service", "a-b@1.mount"),
        journal=(
            JournalLine(
                time=1795661526.226317,
                source="podman",
                text="Error: configure storage: no space left: really",
            ),
            JournalLine(
                time=1795661526.240997,
                source="systemd",
                text="podman.service: Failed with result 'exit-code'.",
            ),
        ),
    )


def test_podman_that_is_closed_or_gone() -> None:
    text = "no-podman\npodman-closed root masked\npodman-closed a loaded\npodman-closed b \npodman-closed c x\ndone\n"
    closed = (("root", SocketState.MASKED), ("a", SocketState.STOPPED), ("b", SocketState.NO_MANAGER))
    assert parse_vitals(text) == Vitals(
        has_podman=False, closed_sockets=tuple(ClosedSocket(owner=owner, state=state) for owner, state in closed)
    )


def test_users_systemd_that_is_on_its_way() -> None:
    assert parse_vitals("podman-starting\ndone\n") == Vitals(is_starting=True)


def test_kernel_log_without_times_does_not_tell_when() -> None:
    vitals = parse_vitals("uptime 10.0\nOut of memory: Kill process 7 (a b) score 900\ndone\n")
    assert vitals is not None
    assert vitals.last_oom_kill == OutOfMemoryKill(program="a b", age_s=None)


def test_container_that_used_up_its_own_share_is_no_kill_of_the_guests() -> None:
    vitals = parse_vitals("[ 1.0] Memory cgroup out of memory: Killed process 7 (a)\ndone\n")
    assert vitals is not None
    assert vitals.last_oom_kill is None


@pytest.mark.parametrize("text", ["", "uptime 379.87\n", BRIEF.removesuffix("done\n")])
def test_answer_that_ends_early_is_none(text: str) -> None:
    assert parse_vitals(text) is None


def test_nothing_is_made_of_lines_without_sense() -> None:
    text = "uptime x\nspace - - - - - /\nspace\nMemTotal: much\noom_kill\nfailed \njournal x\ndone\n"
    assert parse_vitals(text) == Vitals()
