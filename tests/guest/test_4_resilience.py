"""What may happen to a machine that runs, and how it comes back."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.free_ports import choose_port
from tests.support.guest_machines import MainMachine
from tests.support.guest_network import SERVE, answers, fetch, reachable
from tests.support.guests import BOOT_S
from tests.support.processes import processes_of, qemu_pid, supervisor_pid
from tests.support.waiting import wait_until
from tests.support.world import World

pytestmark = pytest.mark.usefixtures("box")

BACK_S = 120


def test_start_takes_a_guest_over_whose_supervisor_was_killed(world: World, main_machine: MainMachine) -> None:
    main_machine.run_sleeper()
    web = main_machine.publish_web()
    freed = choose_port()
    world.remote("box", "run", "--detach", "--name", "brief", "-p", f"127.0.0.1:{freed}:80", "busybox", "sleep", "1000")
    assert reachable("127.0.0.1", freed)
    os.kill(supervisor_pid(world.runtime("box")), signal.SIGKILL)
    world.must("ssh", "box", "podman", "rm", "--force", "--time", "0", "brief")  # nobody hears of its end
    wait_until(lambda: world.state("box")[0] == "degraded", timeout_s=10, what="ls to notice")
    assert world.state("box")[1] == "its supervisor has ended"
    started = world.must("start", "box")
    assert "takes over the running guest" in started.stderr
    assert world.state("box") == ("running", "")
    # The same guest, not another boot of it: what ran goes on running.
    assert "sleeper" in world.remote("box", "ps", "--format", "{{.Names}}").stdout
    assert all(fetch(address) == "hello\n" for address in web.addresses)
    wait_until(lambda: not reachable("127.0.0.1", freed), timeout_s=BACK_S, what="the port of a container that ended")


# Makes the supervisor's Python find names as if they were in /etc/hosts, or known to a VPN's server.
KNOWS_NAME = """
import socket
find = socket.getaddrinfo
def getaddrinfo(name, *words, **settings):
    if name in (b"on.host.example", b"off.host.example"):
        return [(2, 1, 6, "", ("192.0.2.7", 0))]
    return find(name, *words, **settings)
socket.getaddrinfo = getaddrinfo
"""


def test_names_that_only_the_host_knows_are_found_in_the_guest(
    world: World, main_machine: MainMachine, tmp_path: Path
) -> None:
    """A supervisor that takes over follows the setting."""
    main_machine.import_busybox()
    (tmp_path / "sitecustomize.py").write_text(KNOWS_NAME)
    for choice, known in (("on", True), ("off", False)):
        world.must("config", "set", "host_resolver", choice)
        os.kill(supervisor_pid(world.runtime("box")), signal.SIGKILL)
        wait_until(lambda: world.state("box")[0] == "degraded", timeout_s=10, what="ls to notice")
        world.must("start", "box", PYTHONPATH=str(tmp_path))
        name = f"{choice}.host.example"  # another each time, because the guest remembers answers
        guest = world.machine("ssh", "box", "getent", "ahostsv4", name).stdout
        inside = world.remote("box", "run", "--rm", "busybox", "busybox", "nslookup", name, check=False).stdout
        assert ("192.0.2.7" in guest, "192.0.2.7" in inside) == (known, known)
    world.must("config", "unset", "host_resolver")


def guests_clock(world: World) -> float:
    said = world.machine("ssh", "box", "date", "+%s").stdout
    return float(said) if said.strip() else 0.0


def as_root(world: World, script: str) -> None:
    world.must("ssh", "--username", "root", "box", script)


def becomes(world: World, state: str, reason: str = "") -> None:
    """Wait for a state that the supervisor learns by asking the guest, which it does once a minute."""
    wait_until(lambda: world.state("box") == (state, reason), timeout_s=BACK_S + 120, what=f"{state} {reason}")


REFUSED_CONF = "/home/core/.config/containers/containers.conf"


@pytest.fixture
def full_guest(world: World) -> Iterator[World]:
    """The main machine, whose guest has no space left. After a test that failed, the guest is as good as before."""
    as_root(world, "fallocate -l $(($(stat -f -c '%a*%S' /))) /root/hole")
    yield world
    world.machine("ssh", "--username", "root", "box", f"rm -f /root/hole {REFUSED_CONF}")


def test_full_disk_of_the_guest_is_told_while_it_is_full(full_guest: World) -> None:
    world = full_guest
    becomes(world, "degraded", "the guest's disk is full")
    assert world.inspect("box")["Machine"]["Reason"] == "the guest's disk is full"
    as_root(world, "rm /root/hole")
    becomes(world, "running")


def test_start_of_a_guest_in_trouble_says_which_and_leaves_it_running(full_guest: World) -> None:
    world, conf = full_guest, REFUSED_CONF
    world.must("stop", "box")
    failed = world.machine("start", "box")
    assert failed.status == 125
    error = failed.stderr[failed.stderr.index("Error: ") :]
    assert error.startswith(
        'Error: unable to start "box" in phase api: the guest\'s disk is full; the guest keeps running, degraded; '
        "remove files with: machine ssh box, or enlarge the disk with: machine stop box"
    )
    assert "no space left on device" in error or "database or disk is full" in error
    assert "the console's last lines" not in error
    assert world.state("box") == ("degraded", "the guest's disk is full")
    # It can be mended from inside, and says what else is wrong. Only root has space left for that.
    as_root(world, "install -d -o core -g core ~core/.config ~core/.config/containers")
    as_root(world, f"printf '[containers]\\nnetns=5\\n' >{conf}; rm /root/hole")
    becomes(world, "degraded", f"Podman refuses line 2 of the guest's {conf}")
    as_root(world, f"rm {conf}")
    becomes(world, "running")
    assert answers(world, "box")


def test_guests_clock_is_set_when_it_is_far_off(world: World) -> None:
    as_root(world, "date -s @1600000000")
    wait_until(lambda: abs(guests_clock(world) - time.time()) < 60, timeout_s=BACK_S + 120, what="the guest's clock")
    becomes(world, "running")


def test_the_sockets_work_again_after_a_reboot_from_inside(world: World, main_machine: MainMachine) -> None:
    before = world.must("ssh", "box", "cat", "/proc/sys/kernel/random/boot_id").stdout
    web = main_machine.publish_web()
    freed = choose_port()
    world.remote(
        "box", "run", "--detach", "--name", "once", "-p", f"127.0.0.1:{freed}:80", "busybox", "sh", "-c", SERVE
    )
    assert fetch(f"127.0.0.1:{freed}") == "hello\n"
    world.machine("ssh", "box", "sudo", "systemctl", "--no-block", "reboot")
    wait_until(lambda: world.state("box")[0] == "degraded", timeout_s=120, what="ls to notice the reboot")
    wait_until(lambda: world.state("box")[0] == "running", timeout_s=BOOT_S, what="the machine to be up again")
    assert answers(world, "box")
    assert world.must("ssh", "box", "cat", "/proc/sys/kernel/random/boot_id").stdout != before
    # The reboot has ended the containers and freed their ports; those that start with the guest have them again.
    assert not reachable("127.0.0.1", freed)
    wait_until(
        lambda: all(reachable(*split(address)) for address in web.addresses),
        "the container that starts with the guest",
        timeout_s=BACK_S,
    )
    assert all(fetch(address) == "hello\n" for address in web.addresses)
    main_machine.unpublish_web()
    world.remote("box", "rm", "--force", "--time", "1", "once")
    assert not any(reachable(*split(address)) for address in web.addresses)


def split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def test_a_machine_without_qemu_is_stopped_and_starts_again(ordinary_world: World, box2: str) -> None:
    os.kill(qemu_pid(ordinary_world.runtime("box2")), signal.SIGKILL)
    wait_until(lambda: ordinary_world.state("box2")[0] == "stopped", timeout_s=10, what="ls to notice")
    wait_until(lambda: not processes_of(ordinary_world.runtime("box2")), timeout_s=10, what="its processes to end")


def test_stop_ends_a_machine_whose_supervisor_was_killed(world: World) -> None:
    os.kill(supervisor_pid(world.runtime("box")), signal.SIGKILL)
    stopped = world.must("stop", "box")
    assert stopped.stdout == 'Machine "box" stopped successfully\n'
    # Powered down, neither told to quit nor killed.
    assert stopped.stderr == "Waiting for VM to exit...\n"
    assert world.state("box") == ("stopped", "")
    assert not processes_of(world.runtime("box"))


def test_guest_without_supervisor_and_sockets_is_adopted_and_told_over_ssh_to_power_down(
    world: World, main_machine: MainMachine
) -> None:
    forwarded = main_machine.forward_socket()
    kill_supervisor_and_sockets(world)
    started = world.must("start", "box")
    problem = "the socket of QEMU's monitor was removed; a restart of the machine makes it anew"
    assert problem[1:] in started.stderr
    assert world.state("box") == ("degraded", problem)
    assert answers(world, "box")
    ping = ("curl", "--silent", "--fail", "--unix-socket", str(forwarded), "http://d/_ping")
    assert world.run(*ping).stdout == "OK"
    world.must("ssh", "box", "touch written")
    kill_supervisor_and_sockets(world)
    stopped = world.must("stop", "box")
    assert stopped.stderr == ("Waiting for VM to exit...\nPowering the guest down over SSH...\n")
    assert "reboot: Power down" in (world.machines / "box" / "serial.log").read_text(errors="replace")
    assert world.state("box") == ("stopped", "")
    assert not processes_of(world.runtime("box"))


def kill_supervisor_and_sockets(world: World) -> None:
    runtime = world.runtime("box")
    os.kill(supervisor_pid(runtime), signal.SIGKILL)
    shutil.rmtree(runtime)
