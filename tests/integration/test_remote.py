"""Machines whose guest is a host that is reached over SSH: a real SSH server, with a stand-in for Podman."""

from __future__ import annotations

import json
import os
import signal
import subprocess

import pytest

from machine.lock import holder_pid
from machine.store.ssh_ports import choose
from tests.support.machines_elsewhere import (
    MARKS,
    PAGE,
    init,
    made,
    nothing_is_left,
    read_port,
    started,
    times_up,
)
from tests.support.processes import command_lines
from tests.support.relay import relay_command
from tests.support.remote_host import SOCKET, UID, USER, RemoteHost
from tests.support.waiting import wait_until
from tests.support.world import World

pytestmark = MARKS


def test_host_becomes_a_machine_that_clients_find(world: World, host: RemoteHost) -> None:
    made(world, host)
    assert world.must("ls", "--format", "{{.VMType}} {{.Port}}").stdout == f"ssh {host.port}\n"
    assert world.record("far")["schema"] == 3
    assert list(world.connections["Connections"]) == ["far"]  # core cannot become root
    assert not (world.machines / "far" / "id_ed25519").exists()
    start = world.must("start", "far")
    assert "set --rootful" not in start.stdout  # which would be refused
    told = start.stderr
    assert "Waiting for the Podman API" in told
    assert "folders" not in told
    assert "guest" not in told + world.must("logs", "far").stdout
    assert "QEMU" not in told + world.must("logs", "far").stdout
    (usage,) = json.loads(world.must("top", "--no-stream", "--format", "json", "far").stdout)
    assert {usage[key] for key in ("CPUPerc", "MemUsage", "MemPerc", "DiskUsage", "BlockInput", "PIDs")} == {None}
    assert usage["MemLimit"] > 0
    assert world.state("far") == ("running", "")
    assert world.must("ssh", "far", "id", "-un").stdout == f"{USER}\n"
    (world.root / "x").write_text("hello")
    world.must("cp", "-q", "x", f"far:{host.directory}/home/y")
    assert (host.directory / "home" / "y").read_text() == "hello"
    assert (
        world.must("url", "far").stdout == f"unix://{world.inspect('far')['ConnectionInfo']['PodmanSocket']['Path']}\n"
    )
    assert SOCKET in world.must("port", "ls", "far").stdout
    assert "Connecting to" in world.must("logs", "far").stdout
    api = world.must("url", "far").stdout.strip()
    assert f"export DOCKER_HOST={api}\n" in world.must("env", "far").stdout.replace("'", "").replace('"', "")
    contexts = [json.loads(path.read_text()) for path in (world.root / "docker").glob("contexts/meta/*/meta.json")]
    assert [(each["Name"], each["Endpoints"]["docker"]["Host"]) for each in contexts] == [("far", api)]
    world.must("doctor")
    world.must("stop", "far")
    assert world.state("far") == ("stopped", "")
    world.must("rm", "--force", "far")
    assert nothing_is_left(world)


def test_root_logs_in_or_sudo_leads_to_roots_podman(world: World, host: RemoteHost) -> None:
    host.listens("/run/podman/podman.sock")
    host.has_sudo()
    for user in ("root", USER):
        started(world, host, user=user)
        assert set(world.connections["Connections"]) == {"far", "far-root"}
        rootful = world.must("url", "--rootful", "far").stdout.strip().removeprefix("unix://")
        assert subprocess.run(
            ["curl", "-sS", "--unix-socket", rootful, "http://d/_ping"], check=True, capture_output=True
        ).stdout.startswith(b"OK")
        world.must("rm", "--force", "far")


def test_ports_of_containers_appear_here_and_go_again(world: World, host: RemoteHost) -> None:
    started(world, host)
    port, other = choose(()), choose(())
    host.serves(port, "from afar")
    host.publishes(("127.0.0.1", port, "tcp"), ("", 5353, "udp"))
    wait_until(lambda: read_port(port) == "from afar", "the port")
    assert "5353" not in world.must("port", "ls", "far").stdout
    assert "The host's port *:5353/udp is not opened here: SSH does not carry UDP" in world.must("logs", "far").stdout
    host.publishes()
    wait_until(lambda: read_port(port) is None, "the port's end")
    world.must("port", "add", "far", f"127.0.0.1:{other}:{port}")
    wait_until(lambda: read_port(other) == "from afar", "the forward")
    refused = world.machine("port", "add", "far", "53:53/udp")
    assert refused.status == 125
    assert refused.stderr == 'Error: "far" is a host that is reached over SSH, so UDP is not carried to it\n'


def test_machine_heals_when_connections_end_and_the_host_reboots(world: World, host: RemoteHost) -> None:
    started(world, host)
    port = choose(())
    host.serves(port, "from afar")
    host.publishes(("127.0.0.1", port, "tcp"))
    wait_until(lambda: read_port(port) == "from afar", "the port")
    host.end_sessions()  # as a restart of sshd with its sessions
    wait_until(lambda: read_port(port) == "from afar", "the port after a restart")
    host.go_down()
    wait_until(lambda: world.state("far")[0] == "degraded", "the loss to be noticed")
    assert not {"QEMU", "guest", "guest's"} & set(world.state("far")[1].split())
    host.publishes()  # as a reboot
    host.go_up()
    wait_until(lambda: world.state("far") == ("running", ""), "the machine to heal")
    wait_until(lambda: read_port(port) is None, "the port's end")
    world.must("ssh", "far", "true")


def test_killed_supervisor_leaves_a_stopped_machine(world: World, host: RemoteHost) -> None:
    started(world, host)
    pid = holder_pid(world.machines / "far" / "supervisor.lock")
    assert pid
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: world.state("far")[0] == "stopped", "the end")
    world.must("start", "far")
    assert world.state("far") == ("running", "")
    pid = holder_pid(world.machines / "far" / "supervisor.lock")
    assert pid
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: world.state("far")[0] == "stopped", "the end")
    world.must("rm", "-f", "far")
    identity = f'IdentityFile="{host.identity}"'
    wait_until(lambda: not any(identity in line for _, line in command_lines()), "the end of the SSH master")


def test_folders_are_mounted_and_leave_nothing_behind(world: World, host: RemoteHost) -> None:
    host.program("apt-get", "exit 1")
    (world.root / "src").mkdir()
    bare = init(world, host, "--volume", f"{world.root}/src:/run/src")
    assert bare.status == 125
    assert bare.stderr.splitlines()[-2] == (
        f"Error: 127.0.0.1:{host.port} is not ready: sshfs, which mounts folders, is not installed; run there: "
        "sudo apt-get update && sudo apt-get install -y sshfs; --install cannot, because core has no sudo without a "
        "password there"
    )
    assert nothing_is_left(world)
    host.has_sshfs()
    refused = init(world, host, "--volume", f"{world.root}/src:/run/src")
    assert refused.status == 125
    assert "folders need root, and core cannot become root on" in refused.stderr
    host.listens("/run/podman/podman.sock")
    started(world, host, "--volume", f"{world.root}/src:/run/src", user="root")
    assert host.read("/run/src/seen") == "shared\n"
    world.must("mount", "add", "far", f"{world.root}/src:/run/more")
    assert host.read("/run/more/seen") == "shared\n"
    world.must("mount", "rm", "far", "/run/more")
    assert host.read("/run/more/seen") is None
    host.end_sessions()
    wait_until(lambda: times_up(world) == 2, "the machine to heal")
    assert host.read("/run/src/seen") == "shared\n"
    world.must("stop", "far")
    assert "folder-" not in (host.read("/proc/mounts") or "")


def test_running_machine_whose_host_has_no_sshfs_says_what_mends_it(world: World, host: RemoteHost) -> None:
    host.listens("/run/podman/podman.sock")
    host.program("apt-get", "exit 1")
    host.program("modprobe", "exit 0")
    (world.root / "src").mkdir()
    started(world, host, user="root")
    refused = world.machine("mount", "add", "far", f"{world.root}/src:/run/src")
    assert refused.status == 125
    assert refused.stderr.splitlines()[-2] == (
        "Error: the machine has no sshfs, which is needed to add a folder while it runs; run there as root: "
        "apt-get update && apt-get install -y sshfs"
    )
    world.must("stop", "far")
    world.must("mount", "add", "far", f"{world.root}/src:/run/src")
    start = world.machine("start", "far")
    assert (
        "/run/src is not mounted: the host has no sshfs; run there as root: apt-get update && apt-get install -y sshfs"
        in start.stderr
    )
    host.has_sshfs()
    world.must("stop", "far")
    world.must("start", "far")
    assert host.read("/run/src/seen") == "shared\n"


def test_two_machines_may_be_the_same_host_by_a_proxy_command(world: World, host: RemoteHost) -> None:
    proxy = relay_command(host.port)
    place = ("--provider", "ssh", "--host", f"{USER}@far.invalid", "--identity", str(host.identity))
    world.must("init", *place, "--host-key", host.host_key, "--proxy-command", proxy, "far")
    world.must("init", *place, "--host-key", host.host_key, "--proxy-command", proxy, "farther")
    world.must("start", "far", "farther")
    assert world.must("ssh", "farther", "id", "-un").stdout == f"{USER}\n"
    (world.root / "x").write_text("hello")
    world.must("cp", "-q", "x", f"far:{host.directory}/home/y")
    host.end_sessions()
    wait_until(lambda: world.state("far") == ("running", ""), "the machine to heal")


def test_each_lack_is_told_with_what_mends_it(world: World, host: RemoteHost) -> None:
    (host.bin / "podman").unlink()
    host.program("apt-get", "exit 1")
    bare = init(world, host)
    assert bare.status == 125
    assert bare.stderr.endswith(
        f"Error: 127.0.0.1:{host.port} is not ready: Podman is not installed; Podman's API socket is not enabled; "
        "run there: sudo apt-get update && sudo apt-get install -y podman; --install cannot, because core has no sudo "
        f"without a password there\n{PAGE}"
    )
    host.program("sudo", "echo a password is required >&2; exit 1")
    assert init(world, host, "--install").stderr.splitlines()[-2:] == bare.stderr.splitlines()[-2:]
    host.has_sudo()
    assert "&& sudo apt-get install -y podman; or let machine init --install do it\n" in init(world, host).stderr
    (host.bin / "sudo").unlink()
    host.has_podman("3.4.4")
    old = init(world, host)
    assert "its Podman 3.4.4 is older than version 4" in old.stderr
    host.has_podman()
    rootful = init(world, host, "--rootful")
    assert "core cannot become root on" in rootful.stderr
    host.run("mkdir", "-p", "/run/systemd/system")
    lingering = init(world, host)
    assert "containers of core end when core logs out; run there: sudo loginctl enable-linger core" in lingering.stderr
    assert nothing_is_left(world)


def test_install_asks_and_mends(world: World, host: RemoteHost) -> None:
    """A host without Podman, its socket and lingering. The programs that mend this do what the real ones would."""
    host.has_sudo()
    for directory in ("/run/systemd/system", "/var/lib/systemd"):
        host.run("mkdir", "-p", directory)
    host.run("mount", "-t", "tmpfs", "-o", f"uid={UID}", "tmpfs", "/var/lib/systemd")
    (host.bin / "podman").rename(host.directory / "podman.deb")
    host.run("mv", SOCKET, f"{SOCKET}.off")
    os.chown(host.bin, UID, UID)
    lists, package = host.bin / "lists", host.directory / "podman.deb"
    install = f'test -e {lists} && test "$*" = "install -y podman" && cp {package} {host.bin}/podman'
    host.program("apt-get", f'if test "$*" = update; then touch {lists}; else {install}; fi')
    host.program("systemctl", f'test "$*" = "--user enable --now podman.socket" && mv {SOCKET}.off {SOCKET}')
    host.program("loginctl", f'test "$*" = "enable-linger {USER}" && cd /var/lib/systemd && mkdir linger linger/{USER}')
    declined = init(world, host, "--install", stdin="n\n")
    assert declined.status == 125
    assert (
        "Podman is not installed. Run there: sudo apt-get update && sudo apt-get install -y podman [y/N]"
        in declined.stdout
    )
    assert not (host.bin / "podman").exists()
    assert nothing_is_left(world)
    half = init(world, host, "--install", stdin="y\nn\n")
    assert half.stderr.splitlines()[-2] == (
        f"Error: 127.0.0.1:{host.port} is not ready: Podman's API socket is not enabled; containers of core end when "
        "core logs out; run there: systemctl --user enable --now podman.socket && sudo loginctl enable-linger core"
    )
    mended = init(world, host, "--install", stdin="y\ny\n")
    assert mended.status == 0, mended.stderr
    assert "Run there: sudo loginctl enable-linger core [y/N]" in mended.stdout
    world.must("start", "far")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "Error: the provider ssh needs a host; add: --host [USER@]HOST[:PORT]"),
        (("--host", "a b"), 'Error: "a b" is not a host; write [USER@]HOST[:PORT], such as core@server.example:22'),
        (("--host", "h", "--cpus", "2"), "Error: --cpus does not apply to a host that is reached over SSH"),
        (("--host", "h", "--image", "x"), "Error: --image does not apply to a host that is reached over SSH"),
        (("--host", "h", "--identity", "/no/such"), "Error: there is no key /no/such"),
        (
            ("--host", "h", "--host-key", "x"),
            'Error: "x" is not a host key; write the type and the key: "ssh-ed25519 AAAA…"',
        ),
        (
            ("--host", "h", "--host-key", "ssh-ed25519 AAAA"),
            'Error: "ssh-ed25519 AAAA" is not a host key; write the type and the key: "ssh-ed25519 AAAA…"',
        ),
    ],
)
def test_bad_input_is_one_line_and_changes_nothing(world: World, words: tuple[str, ...], message: str) -> None:
    before = world.files()
    outcome = world.machine("init", "--provider", "ssh", *words, "far")
    assert (outcome.status, outcome.stderr) == (125, f"{message}\n")
    assert world.files() == before


def test_hosts_that_cannot_be_reached(world: World, host: RemoteHost) -> None:
    failing = init(world, host, "--proxy-command", "false")
    assert failing.status == 125
    assert "cannot be reached by the proxy command" in failing.stderr
    assert failing.stderr.endswith(PAGE)
    host.go_down()
    gone = init(world, host)
    assert gone.status == 125
    assert f"127.0.0.1:{host.port} cannot be reached: connect to host 127.0.0.1 port {host.port}: " in gone.stderr
    assert "Connection refused" in gone.stderr
    assert gone.stderr.endswith(PAGE)
    host.go_up()
    made(world, host)
    host.go_down()
    start = world.machine("start", "far")
    assert 'unable to start "far": 127.0.0.1' in start.stderr
    assert start.stderr.endswith(PAGE)
    assert world.state("far") == ("stopped", "")


def test_what_the_provider_cannot_do_is_refused_in_one_sentence(world: World, host: RemoteHost) -> None:
    made(world, host)
    console, hardware = "its console cannot be shown", "its CPUs, memory, disk and USB devices cannot be changed"
    own = "its own settings are not changed, nor the way in which it gets folders"
    for words, reason in {
        ("console", "far"): console,
        ("logs", "--serial", "far"): console,
        ("suspend", "far"): "it cannot be suspended",
        ("snapshot", "create", "far", "x"): "it cannot have snapshots",
        ("clone", "far", "near"): "it cannot be cloned",
        ("upgrade", "far"): "its operating system is not upgraded from here",
        ("os", "upgrade", "far"): "its operating system is not upgraded from here",
        ("os", "apply", "fcos:next", "far"): "its operating system is not upgraded from here",
        ("set", "--memory", "1024", "far"): hardware,
        ("set", "--disk-size", "200", "far"): hardware,
        ("set", "--usb", "bus=1,devnum=2", "far"): hardware,
        ("set", "--volume-driver", "9p", "far"): own,
        ("set", "--import-native-ca", "far"): own,
        ("set", "--idle-suspend", "10m", "far"): "it cannot be suspended",
        ("ignition", "far"): "it has no Ignition config",
        ("start", "--on-demand", "far"): "it cannot be started by its clients",
        ("export", "--format", "kubevirt", "far"): "it cannot be described as a virtual machine",
    }.items():
        outcome = world.machine(*words)
        told = f'Error: "far" is a host that is reached over SSH, so {reason}\n'
        assert (outcome.status, outcome.stderr) == (125, told), words
