"""A machine that was stopped, was changed and starts again."""

from __future__ import annotations

import signal
import socket
import time
from pathlib import Path

from machine.model.ports import Endpoint, Protocol
from machine.ports.holder import find_holder
from machine.store.ssh_ports import choose
from tests.conftest import machine_program
from tests.guest.conftest import BOOT_S, SECOND_PROXY, World, processes_of, wait_until
from tests.guest.net import SERVE, api_socket, fetch


def test_stopping_a_stopped_machine_is_success(world: World) -> None:
    assert world.machine("stop", "box").stdout == 'Machine "box" stopped successfully\n'


def test_ssh_into_a_stopped_machine_is_refused(world: World) -> None:
    refused = world.machine("ssh", "box", "true", check=False)
    assert (refused.returncode, refused.stderr) == (125, 'Error: vm "box" is not running\n')


def test_machine_that_was_changed_starts_as_it_was_asked_to(world: World, ordinary_world: World) -> None:
    """Also: the second boot after QEMU was killed, and with another port driver, at the same time: it costs a boot."""
    port = world.inspect("box")["SSHConfig"]["Port"]
    changed = world.machine("set", "--disk-size", "16", "--cpus", "1", "--rootful", "box")
    assert "The root file system of box grows into the larger disk at the next start" in changed.stderr
    world.machine("rename", "box", "crate")
    ordinary_world.machine("config", "set", "port_driver", "ssh")
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections of the last boot linger
        holder.bind(("127.0.0.1", port))
        holder.listen()
        other = ordinary_world.popen([machine_program(), "start", "--quiet", "box2"], SECOND_PROXY)
        started = world.machine("start", "crate")
    assert f"detected port conflict on machine ssh port [{port}], reassigning" in started.stderr
    assert world.inspect("crate")["SSHConfig"]["Port"] != port
    out, err = other.communicate(timeout=BOOT_S)
    assert (out, other.returncode) == ('Machine "box2" started successfully\n', 0), err
    assert proxies(ordinary_world) == ["http://proxy.example:8080 "] * 2
    script = "id -un; hostname; nproc; readlink /run/docker.sock; df --output=size -B1 / | tail -1"
    user, hostname, cpus, docker_socket, size = world.machine("ssh", "crate", script).stdout.split()
    assert (user, hostname, cpus, docker_socket) == ("root", "crate", "1", "/run/podman/podman.sock")
    assert int(size) > 15 * 1024**3
    assert api_socket(world, "crate").endswith("/crate/podman-root.sock")
    connections = world.run("podman", "system", "connection", "list", "--format", "{{.Name}} {{.Default}}").stdout
    assert set(connections.splitlines()) == {"crate false", "crate-root true"}
    assert "sleeper" in world.podman("crate", "ps", "--all", "--format", "{{.Names}}").stdout


def proxies(world: World) -> list[str]:
    """What a login shell and a service see of those that the host had at this start."""
    show = """'echo "$ftp_proxy $NO_PROXY"'"""
    return world.machine(
        "ssh", "box2", f"bash -lc {show}; systemd-run --quiet --wait --pipe --expand-environment=no sh -c {show}"
    ).stdout.splitlines()


def test_ssh_carries_published_ports_where_that_is_wanted(ordinary_world: World, busybox: Path) -> None:
    port = choose(set())
    ordinary_world.podman("box2-root", "import", "--quiet", str(busybox), "busybox")
    publish = ("--publish", f"127.0.0.1:{port}:80")
    ordinary_world.podman("box2-root", "run", "--detach", "--name", "web", *publish, "busybox", "sh", "-c", SERVE)
    assert fetch(f"127.0.0.1:{port}") == "hello\n"
    holder = find_holder(Endpoint(protocol=Protocol.TCP, address="127.0.0.1", port=port))
    assert holder.startswith("ssh ")


def test_machines_are_restarted(ordinary_world: World) -> None:
    before = ordinary_world.machine("ssh", "box2", "cat", "/proc/sys/kernel/random/boot_id").stdout
    ordinary_world.machine("restart", "box2")
    assert proxies(ordinary_world) == [" "] * 2
    # A machine's own variables are not its host's.
    assert ordinary_world.machine("ssh", "box2", "bash -lc 'echo ${#GREETING}'").stdout == "21\n"
    assert ordinary_world.machine("status", "box2").stdout == "running\n"
    assert ordinary_world.machine("ssh", "box2", "cat", "/proc/sys/kernel/random/boot_id").stdout != before


def test_stop_does_not_wait_for_a_container_that_ignores_sigterm(world: World) -> None:
    world.podman("crate", "start", "sleeper")
    began = time.monotonic()
    stopped = world.machine("stop", "crate")
    assert stopped.stderr == "Waiting for VM to exit...\n"
    # Not a measurement: systemd's own default would be 90 s.
    assert time.monotonic() - began < 80


def test_a_guest_that_powers_itself_off_is_stopped(ordinary_world: World) -> None:
    assert ordinary_world.state("box2") == ("running", "")
    ordinary_world.machine("ssh", "box2", "systemctl", "--no-block", "poweroff", check=False)
    wait_until(lambda: ordinary_world.state("box2")[0] == "stopped", timeout_s=180, what="the guest to power off")
    wait_until(lambda: not processes_of(ordinary_world.root), timeout_s=10, what="its processes to end")


def test_a_start_in_the_foreground_lasts_as_long_as_its_machine(world: World) -> None:
    """What systemd and launchd do with it: SIGTERM stops the machine, and the exit status says that all went well."""
    process = world.popen([machine_program(), "start", "--foreground", "--no-info", "crate"])
    wait_until(lambda: world.state("crate")[0] == "running", timeout_s=BOOT_S, what="the machine to be up")
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=300)
    assert (process.returncode, out.splitlines()[-1]) == (0, 'Machine "crate" stopped'), err
    assert world.state("crate") == ("stopped", "")
