"""A machine whose memory waits on disk."""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import shlex
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from machine import control, lock
from machine.model.state import State
from machine.qemu.img import QemuImg
from tests.support.brewed import brewed_program
from tests.support.free_ports import choose_port
from tests.support.guest_machines import MainMachine
from tests.support.guest_network import SERVE, answers, fetch
from tests.support.hammer import Address, connect, hammering
from tests.support.processes import processes_of, supervisor_pid
from tests.support.waiting import wait_until
from tests.support.world import World, machine_program

# Over a TCP connection in the guest, which has to go on as well.
_WRITER = (
    "sleep 99999 | busybox nc -l -p 9999 >/numbers & sleep 3; i=0; "
    "while :; do echo $i; i=$((i + 1)); sleep 0.01; done | busybox nc 127.0.0.1 9999"
)
_LEFT_BYTES = 96 * 1024**2
_CLIENTS = 50
_KILLS = 10
Clients = Callable[[str], list[str]]
# Each session costs an emulated guest's SSH server a second.
_SSH_EVERY = 8
# Clients come for five seconds, or longer if the suspend takes longer.
_CALL_EVERY_S = 0.1
_BOOT_ID = "cat /proc/sys/kernel/random/boot_id"


@pytest.fixture(autouse=True)
def awake(world: World, main_machine: MainMachine) -> Iterator[None]:
    """Run `box`. What a failed test has left asleep is woken."""
    main_machine.run()
    yield
    if world.state("box")[0] == "suspended":
        world.must("start", "box")


def memory(world: World) -> Path:
    return world.machines / "box" / "memory.state"


def suspend(world: World) -> None:
    assert world.must("suspend", "box").stdout == 'Machine "box" suspended successfully\n'
    assert world.state("box") == ("suspended", "")
    assert "Currently suspended" in world.must("ls").stdout
    assert not processes_of(world.machines / "box")
    assert lock.is_held(world.machines / "box" / "waiting.lock")
    assert memory(world).stat().st_mode & 0o777 == 0o600


def start_writer(world: World) -> None:
    """Run a container that writes a number every 10 ms."""
    world.remote("box", "run", "--detach", "--name", "writer", "busybox", "sh", "-c", _WRITER)


def end_writer(world: World) -> None:
    """Check that the container has written every number once, and remove it."""
    # The last one may be on its way.
    *numbers, _ = world.remote("box", "exec", "writer", "cat", "/numbers").stdout.split()
    assert numbers == [str(number) for number in range(len(numbers))]
    assert numbers
    world.remote("box", "rm", "--force", "--time", "0", "writer")


def test_everything_goes_on_where_it_was(world: World, main_machine: MainMachine) -> None:
    main_machine.run_sleeper()
    web = main_machine.publish_web()
    before = world.must("ssh", "box", _BOOT_ID).stdout
    start_writer(world)
    world.must("ssh", "box", "echo kept >/tmp/kept")
    started = world.remote("box", "inspect", "--format", "{{.State.StartedAt}}", "sleeper", "writer").stdout
    for _ in range(2):
        suspend(world)
        time.sleep(5)
        assert "started successfully" in world.must("start", "box").stdout
        assert world.state("box") == ("running", "")
    assert not memory(world).exists()
    assert world.must("ssh", "box", f"{_BOOT_ID} /tmp/kept").stdout == f"{before}kept\n"
    assert abs(float(world.must("ssh", "box", "date", "+%s").stdout) - time.time()) < 5
    assert world.remote("box", "inspect", "--format", "{{.State.StartedAt}}", "sleeper", "writer").stdout == started
    assert all(fetch(address) == "hello\n" for address in web.addresses)
    end_writer(world)


def test_ssh_wakes_the_machine(world: World, main_machine: MainMachine) -> None:
    suspend(world)
    refused = world.machine("set", "--memory", "1024", "box")
    assert (refused.status, "box is suspended" in refused.stderr) == (125, True)
    assert world.must("ssh", "box", "echo", "awake").stdout == "awake\n"
    assert world.state("box") == ("running", "")
    assert answers(world, "box")
    suspend(world)
    world.must("port", "add", "box", "127.0.0.1:45678:22")
    assert world.state("box") == ("running", "")
    world.must("port", "rm", "box", "127.0.0.1:45678")


def test_clients_of_the_api_wake_the_machine(world: World, main_machine: MainMachine, clients: Clients) -> None:
    main_machine.run_sleeper()
    listed = world.remote("box", "ps", "--quiet").stdout.split()
    podman_4, podman_5 = ["podman", "--remote"], clients("bin/podman-remote")
    docker = [*clients("bin/docker"), "--context", "box"]
    for client in ([*podman_4, "--connection", "box"], [*podman_5, "--connection", "box"], docker):
        suspend(world)
        several = [world.spawn(*client, "ps", "--quiet") for _ in range(2)]
        said = [each.communicate(timeout=world.timeout_s) for each in several]
        assert [(each.returncode, sorted(out.split())) for each, (out, _) in zip(several, said, strict=True)] == [
            (0, sorted(listed))
        ] * 2, said
        world.must("wait", "--for", "running", "box")


def test_client_of_a_published_port_wakes_the_machine(world: World, main_machine: MainMachine) -> None:
    web = main_machine.publish_web()
    suspend(world)
    addresses = [address for _ in range(_CLIENTS) for address in web.addresses][:_CLIENTS]
    with ThreadPoolExecutor(_CLIENTS) as pool:
        assert list(pool.map(fetch, addresses)) == ["hello\n"] * _CLIENTS
    world.must("wait", "--for", "running", "box")
    suspend(world)
    page = world.run("curl", "--silent", "--show-error", "--noproxy", "*", f"http://127.0.0.1:{web.one}/")
    assert page.stdout == "hello\n"  # curl does not try again
    world.must("wait", "--for", "running", "box")


@dataclass(frozen=True, kw_only=True)
class Call:
    """A client that has connected at a time, and been answered at another, or not at all."""

    place: str
    began: float
    ended: float
    said: bytes
    refused: str | None = None


def call(place: str, address: Address, words: bytes, timeout_s: float) -> Call:
    began = time.monotonic()
    try:
        client = connect(address, timeout_s)
    except OSError as error:
        return Call(place=place, began=began, ended=time.monotonic(), said=b"", refused=str(error))
    with client, contextlib.suppress(ConnectionResetError, BrokenPipeError):
        client.sendall(words)
        if said := client.recv(4096):
            return Call(place=place, began=began, ended=time.monotonic(), said=said)
    return Call(place=place, began=began, ended=time.monotonic(), said=b"")


def test_no_client_is_refused_while_a_machine_falls_asleep_and_wakes(world: World, main_machine: MainMachine) -> None:
    web, config = main_machine.publish_web(), world.record("box")["config"]
    api = Path(world.inspect("box")["ConnectionInfo"]["PodmanSocket"]["Path"])
    places: dict[str, tuple[Address, bytes]] = {
        "api": (api, b"GET /_ping HTTP/1.0\r\n\r\n"),
        "web": (("127.0.0.1", web.one), b"GET / HTTP/1.0\r\n\r\n"),
        "six": (("::1", web.six), b"GET / HTTP/1.0\r\n\r\n"),
        "ssh": (("127.0.0.1", config["ssh_port"]), b"SSH-2.0-test\r\n"),
    }
    with ThreadPoolExecutor(_CLIENTS * len(places)) as pool:
        suspending = world.spawn(machine_program(), "suspend", "box")
        calls, asleep = [], math.inf
        for number in itertools.count():
            if suspending.poll() is not None:
                asleep = min(asleep, time.monotonic())
                if number >= _CLIENTS:
                    break
            for place, (address, words) in places.items():
                if place != "ssh" or number % _SSH_EVERY == 0:
                    calls.append(pool.submit(call, place, address, words, world.timeout_s))
            time.sleep(_CALL_EVERY_S)
        said = suspending.communicate(timeout=world.timeout_s)
        results = [future.result() for future in calls]
    assert suspending.returncode == 0, said
    # QEMU takes a port over from the process that waits: for a few milliseconds nobody listens on it.
    assert len([one for one in results if one.refused]) <= 1, results
    for place in places:
        here = [one for one in results if one.place == place]
        # Those that are answered later have waited for the wake, or have come after it.
        kept = [one.began for one in here if one.said and one.ended > asleep]
        assert kept, here
        assert [one for one in here if not one.said and one.began > min(kept)] == []
    world.must("wait", "--for", "running", "box")


def test_suspends_at_once_and_during_a_wake(world: World) -> None:
    at_once = [world.spawn(machine_program(), "suspend", "box") for _ in range(2)]
    said = [command.communicate(timeout=world.timeout_s) for command in at_once]
    assert [command.returncode for command in at_once] == [0, 0], said
    assert world.state("box") == ("suspended", "")
    waking = world.spawn(machine_program(), "start", "box")
    wait_until(lambda: world.state("box")[0] == "starting", timeout_s=60)
    refused = world.machine("suspend", "box")
    assert (refused.status, refused.stderr.strip()) == (125, 'Error: unable to suspend "box": it is starting')
    assert "started successfully" in waking.communicate(timeout=world.timeout_s)[0]
    assert world.state("box") == ("running", "")


def in_terminal(words: list[str]) -> list[str]:
    """Return the command line that runs another in a terminal, and ends with its status."""
    return ["script", "--quiet", "--return", "--command", shlex.join(words), "/dev/null"]


def test_what_clients_follow_ends_when_the_machine_falls_asleep(
    world: World, main_machine: MainMachine, clients: Clients
) -> None:
    main_machine.run_sleeper()
    session = ["sleeper", "sleep", "99999"]
    streams = {
        f"{name} {what}": world.spawn(*(in_terminal([*client, *words]) if what == "terminal" else [*client, *words]))
        for name, client in {
            "podman 4": ["podman", "--remote", "--connection", "box"],
            "podman 5": [*clients("bin/podman-remote"), "--connection", "box"],
            "docker": [*clients("bin/docker"), "--context", "box"],
        }.items()
        for what, words in {
            "logs": ["logs", "--follow", "sleeper"],
            "exec": ["exec", *session],
            "terminal": ["exec", "--interactive", "--tty", *session],
        }.items()
    }
    count = "pgrep --count --exact --full 'sleep 99999' || :"
    wait_until(lambda: world.must("ssh", "box", count).stdout == "6\n", timeout_s=240)
    world.must("suspend", "box")  # a client of `exec` asks how its session has ended, which wakes the machine again
    said = {what: stream.communicate(timeout=world.timeout_s) for what, stream in streams.items()}
    assert streams["docker logs"].returncode == 1, said
    assert "unexpected EOF" in said["docker logs"][1], said  # the others say nothing
    assert world.remote("box", "exec", "sleeper", "echo", "alive").stdout == "alive\n"
    world.must("wait", "--for", "running", "box")


def begins(world: World, verb: str) -> bool:
    """Return whether a suspend or a start has begun, or has ended already."""
    if verb == "start":
        return lock.is_held(world.machines / "box" / "supervisor.lock")
    state = control.query_state(world.runtime("box") / "control.sock")
    return state is None or state.state is State.STOPPING


def run_and_kill(world: World, verb: str, after_s: float | None) -> float:
    """Run `machine VERB`, and kill its supervisor, or what that has become, some time after the beginning, or not.

    Returns how long the command has gone on since then.
    """
    command = world.spawn(machine_program(), verb, "box")
    wait_until(lambda: begins(world, verb), f"the {verb} to begin", timeout_s=60, every_s=0.005)
    began = time.monotonic()
    if after_s is not None:
        time.sleep(after_s)
        holders = (lock.holder_pid(world.machines / "box" / name) for name in ("supervisor.lock", "waiting.lock"))
        if pid := next(filter(None, holders), None):
            os.kill(pid, signal.SIGKILL)
    command.communicate(timeout=world.timeout_s)
    return time.monotonic() - began


@pytest.mark.long
@pytest.mark.parametrize("verb", ["suspend", "start"])
def test_supervisor_that_is_killed_while_memory_is_saved_or_loaded_loses_nothing(
    verb: str, world: World, main_machine: MainMachine
) -> None:
    main_machine.import_busybox()
    before = world.must("ssh", "box", _BOOT_ID).stdout
    start_writer(world)
    took_s = None
    for number in range(_KILLS + 1):
        if verb == "start":
            suspend(world)
        if took_s is None:
            took_s = run_and_kill(world, verb, None)
        else:  # the memory is saved or loaded soon after the beginning, so most of the moments are there
            run_and_kill(world, verb, took_s * ((number - 1) / _KILLS) ** 2)
        if world.state("box")[0] != "running":
            world.must("start", "box")
        assert (number, world.must("ssh", "box", _BOOT_ID).stdout) == (number, before)
        assert not memory(world).exists()
    end_writer(world)


def test_machine_of_a_removed_version_publishes_ports_sleeps_and_wakes(
    world: World, main_machine: MainMachine, short_path: Path
) -> None:
    brewed = brewed_program(short_path / "b")
    os.kill(supervisor_pid(world.runtime("box")), signal.SIGKILL)
    wait_until(lambda: world.state("box")[0] == "degraded", timeout_s=10, what="the supervisor's end")
    assert "takes over the running guest" in world.run(brewed.program, "start", "box").stderr
    brewed.upgrade()
    main_machine.import_busybox()
    late = f"127.0.0.1:{choose_port()}"
    world.remote("box", "run", "--detach", "--name", "late", "-p", f"{late}:80", "busybox", "sh", "-c", SERVE)
    assert fetch(late) == "hello\n"
    suspend(world)
    assert fetch(late) == "hello\n"
    world.must("wait", "--for", "running", "box")
    assert str(brewed.prefix) in " ".join(psutil.Process(supervisor_pid(world.runtime("box"))).cmdline())
    suspend(world)
    world.must("start", "box")  # by the program of the other tests again
    world.remote("box", "rm", "--force", "--time", "0", "late")


def test_folder_in_use_keeps_the_machine_running(world: World, tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text("host\n")
    world.must("mount", "add", "box", f"{tmp_path}:/mnt/here")
    world.must("ssh", "box", "systemd-run --user --unit=holder --working-directory=/mnt/here sleep 9999")
    refused = world.machine("suspend", "box")
    assert refused.status == 125
    assert 'unable to suspend "box": the guest uses folders of this host: /mnt/here sleep, process ' in refused.stderr
    assert world.state("box") == ("running", "")
    world.must("ssh", "box", "systemctl --user stop holder")
    suspend(world)
    (tmp_path / "hosts").write_text("changed meanwhile\n")
    assert world.must("ssh", "box", "cat", "/mnt/here/hosts").stdout == "changed meanwhile\n"
    world.must("mount", "rm", "box", "/mnt/here")


def test_full_disk_is_known_before(world: World) -> None:
    if not world.machines.is_mount():
        pytest.skip("a disk that may be filled has to be mounted")
    hole, free = world.machines / "hole", shutil.disk_usage(world.machines).free
    with hole.open("wb") as stream:
        os.posix_fallocate(stream.fileno(), 0, free - _LEFT_BYTES)
    try:
        refused = world.machine("suspend", "box")
        assert refused.status == 125
        assert 'unable to suspend "box": its memory takes up to ' in refused.stderr
    finally:
        hole.unlink()
    assert world.state("box") == ("running", "")


def test_start_can_give_the_memory_up(world: World, main_machine: MainMachine) -> None:
    before = world.must("ssh", "box", _BOOT_ID).stdout
    suspend(world)
    assert 'The saved memory of "box" is given up' in world.must("start", "--cold", "box").stderr
    assert world.must("ssh", "box", _BOOT_ID).stdout != before


def test_stop_of_a_suspended_machine_shuts_its_guest_down(world: World) -> None:
    suspend(world)
    world.must("stop", "box")
    assert world.state("box") == ("stopped", "")
    assert not memory(world).exists()


def test_snapshot_brings_disk_and_memory_back(world: World, main_machine: MainMachine) -> None:
    main_machine.run_sleeper()
    boot_id = world.must("ssh", "box", _BOOT_ID).stdout
    started = world.remote("box", "inspect", "--format", "{{.State.StartedAt}}", "sleeper").stdout
    world.must("ssh", "box", "echo early >marks")
    api = Path(world.inspect("box")["ConnectionInfo"]["PodmanSocket"]["Path"])
    with hammering([api], every_s=0.5) as attempts:  # each client would wake the machine before its snapshot is taken
        created = world.must("snapshot", "create", "-m", "all is well", "box").stdout
    assert (created, attempts.refused) == ('Snapshot "snapshot1" of "box" created\n', [])
    assert world.state("box") == ("running", "")
    world.must("ssh", "box", "echo late >>marks; sync")
    world.remote("box", "rm", "--force", "--time", "0", "sleeper")
    refused = world.machine("snapshot", "restore", "--force", "box", "snapshot1")
    assert refused.stderr == 'Error: unable to restore "box": it is running; stop it first: machine stop box\n'
    suspend(world)
    world.must("snapshot", "restore", "--force", "box", "snapshot1")
    assert world.must("snapshot", "ls", "--format", "{{.Name}} {{.State}}", "box").stdout.splitlines() == [
        "snapshot1 suspended",
        "before-restore suspended",
    ]
    world.must("start", "box")
    assert world.must("ssh", "box", _BOOT_ID).stdout == boot_id
    assert world.must("ssh", "box", "cat", "marks").stdout == "early\n"
    assert world.remote("box", "inspect", "--format", "{{.State.StartedAt}}", "sleeper").stdout == started
    assert world.remote("box", "exec", "sleeper", "echo", "alive").stdout == "alive\n"
    world.must("snapshot", "rm", "box", "snapshot1", "before-restore")
    assert QemuImg().snapshot_tags(world.machines / "box" / "disk.qcow2") == []
    assert (world.state("box"), world.must("snapshot", "ls", "--quiet", "box").stdout) == (("running", ""), "")
