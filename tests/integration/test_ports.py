"""The port API of a real supervisor before a real QEMU, whose guest never boots: the host's side of publishing."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from machine import lock, sockets
from machine.store.ssh_ports import choose
from tests.support.disk_images import Images
from tests.support.port_api import ask, everything, listens, post, wait_for_qemu
from tests.support.start import control_socket, starting
from tests.support.waiting import wait_until
from tests.support.world import World

_CROWD = 100  # more than the server keeps, and less than a Mac's process may open


@pytest.fixture
def port_api(world: World, images: Images) -> Iterator[Path]:
    """The socket of the port API of a machine whose QEMU runs."""
    world.init("box", images.qcow2)
    with starting(world) as process:
        path = control_socket(world).with_name("ports.sock")
        wait_for_qemu(path)
        yield path
        world.machine("rm", "--force", "box")
        process.communicate(timeout=30)


def test_port_is_published_and_taken_back(port_api: Path) -> None:
    port = choose(set())
    local = f"127.0.0.1:{port}"
    fields = {"local": local, "remote": f":{port}", "protocol": "tcp"}
    assert post(port_api, "expose", **fields) == (200, "")
    assert listens(port)
    assert everything(port_api) == [fields]
    assert post(port_api, "expose", **fields) == (200, "")  # a container that died without a word starts again
    assert post(port_api, "expose", **{**fields, "remote": ":1"}) == (
        500,
        f"cannot publish {local}/tcp: this machine already forwards {local}/tcp; choose another host port",
    )
    assert post(port_api, "unexpose", local=local, protocol="tcp") == (200, "")
    assert not listens(port)
    assert everything(port_api) == []
    assert post(port_api, "unexpose", local=local, protocol="tcp") == (200, "")
    for _ in range(100):
        assert post(port_api, "expose", **fields) == (200, "")
        assert post(port_api, "unexpose", local=local, protocol="tcp") == (200, "")


def test_udp_and_every_address(port_api: Path) -> None:
    port = choose(set())
    assert post(port_api, "expose", local=f":{port}", remote=":53", protocol="udp") == (200, "")
    assert listens(port, socket.SOCK_DGRAM)
    assert post(port_api, "expose", local=f":{port}", remote=":80", protocol="tcp") == (200, "")
    assert listens(port)
    assert listens(port, address="127.0.0.2")


def test_port_that_is_taken_fails_with_a_sentence(port_api: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        local = f"127.0.0.1:{taken.getsockname()[1]}"
        status, sentence = post(port_api, "expose", local=local, remote=":80", protocol="tcp")
    assert status == 500
    assert sentence.startswith(f"cannot publish {local}/tcp: the port is taken by ")
    assert sentence.endswith("; choose another host port")
    assert everything(port_api) == []


def test_whoever_talks_nonsense_disturbs_nobody(port_api: Path) -> None:
    assert ask(port_api, b"nonsense\r\n\r\n")[0] == 400
    assert ask(port_api, b"x" * 100_000)[0] in (0, 431)
    assert ask(
        port_api, b"POST /services/forwarder/expose HTTP/1.1\r\nContent-Length: 1048576\r\n\r\n" + bytes(1024**2)
    )[0] in (0, 413)
    assert ask(port_api, b"POST /services/forwarder/expose HTTP/1.1\r\nContent-Length: 10\r\n\r\n{")[0] == 0
    assert post(port_api, "expose", local=":0", remote=":80", protocol="tcp")[0] == 400
    assert ask(port_api, b"")[0] == 0


def test_published_port_that_cannot_be_meant_is_refused(port_api: Path) -> None:
    for fields, sentence in (
        ({"remote": ":80"}, '"local" is missing'),
        ({"local": ":80"}, '"remote" is missing'),
        ({"local": "localhost:80", "remote": ":80"}, '"localhost" is not an IP address'),
        ({"local": ":70000", "remote": ":80"}, '"70000" is not a port number (1-65535)'),
        ({"local": ":80", "remote": ":0"}, '"0" is not a port number (1-65535)'),
        ({"local": ":80", "remote": "8.8.8.8:80"}, "8.8.8.8 is not the guest's address"),
        ({"local": "224.0.0.1:80", "remote": ":80"}, '"224.0.0.1" is a multicast or broadcast address'),
        ({"local": ":80", "remote": ":80", "protocol": ""}, 'protocol "" is not supported'),
        ({"local": ":80", "remote": ":80", "protocol": "sctp"}, 'protocol "sctp" is not supported'),
    ):
        status, said = post(port_api, "expose", **fields)
        assert (status, said.startswith(sentence)) == (400, True), said
    assert everything(port_api) == []


def test_crowd_that_says_nothing_keeps_nobody_out(port_api: Path) -> None:
    port = choose(set())
    with contextlib.ExitStack() as stack:
        for _ in range(_CROWD):
            connection = stack.enter_context(socket.socket(socket.AF_UNIX))
            connection.settimeout(5)
            connection.connect(str(port_api))
        fields = {"local": f"127.0.0.1:{port}", "remote": ":80", "protocol": "tcp"}
        assert post(port_api, "expose", **fields) == (200, "")
        assert listens(port)
    assert everything(port_api) == [fields]


def test_crowd_that_comes_at_once_is_kept_small(port_api: Path, world: World) -> None:
    """Each of them is a process on the host, and the guest may have as many as it likes."""
    supervisor = lock.holder_pid(world.machines / "box" / "supervisor.lock")
    assert supervisor
    with contextlib.ExitStack() as stack:
        os.kill(supervisor, signal.SIGSTOP)
        stack.callback(os.kill, supervisor, signal.SIGCONT)
        crowd = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(_CROWD)]
        for connection in crowd:
            connection.connect(str(port_api))
        os.kill(supervisor, signal.SIGCONT)
        assert everything(port_api) == []
        assert len(crowd) - len(select.select(crowd, [], [], 0)[0]) <= 64


def test_users_own_forwards_are_kept(world: World, images: Images) -> None:
    world.init("box", images.qcow2)
    port, other = choose(set()), choose(set())
    assert world.machine("port", "add", "box", f"{port}:53/udp").status == 0
    again = world.machine("port", "add", "box", f"127.0.0.1:{port}:54/udp")
    assert again.stderr == f"Error: box already forwards 127.0.0.1:{port}/udp; see: machine port ls box\n"
    heading, first, *_ = world.machine("port", "ls", "box").stdout.splitlines()
    assert heading.split() == ["HOST", "GUEST", "PROTOCOL", "ORIGIN", "STATE"]
    assert first.split() == [f"127.0.0.1:{port}", "53", "udp", "user", "stopped"]
    with starting(world) as process:
        wait_until(lambda: listens(port, socket.SOCK_DGRAM), "the port")
        assert world.machine("port", "add", "box", f"*:{other}:53/udp").status == 0
        assert listens(other, socket.SOCK_DGRAM)
        taken = world.machine("port", "add", "box", f"127.0.0.1:{other}:1/udp")
        assert taken.status == 125
        assert f"box already forwards *:{other}/udp" not in taken.stderr
        assert f"cannot publish 127.0.0.1:{other}/udp: the port is taken by machine box; choose" in taken.stderr
        assert taken.stderr.endswith("\n  see the documentation: troubleshooting#port-taken\n")
        assert world.machine("port", "rm", "box", f"{port}/udp").status == 0
        assert not listens(port, socket.SOCK_DGRAM)
        world.machine("stop", "box")
        process.communicate(timeout=30)
    gone = world.machine("port", "rm", "box", f"{port}:53/udp").stderr
    assert gone == f'Error: "{port}:53/udp" is not a forward that was added to box; see: machine port ls box\n'
    near = world.machine("port", "rm", "box", f"{other}").stderr
    assert near == f'Error: "{other}" is not a forward that was added to box; did you mean *:{other}:53/udp?\n'
    kept = json.loads(world.machine("port", "ls", "--format", "json", "box").stdout)
    assert [entry["host"] for entry in kept if entry["origin"] == "user"] == [f"*:{other}"]


def test_users_own_forwards_outlive_a_supervisor_and_are_nobody_elses(world: World, images: Images) -> None:
    world.init("box", images.qcow2)
    port, path = choose(set()), world.root / "x.sock"
    for forward in (f"{port}:53/udp", f"{path}:80"):
        assert world.machine("port", "add", "box", forward).status == 0
    with socket.socket(socket.AF_UNIX) as foreign:
        foreign.bind(str(path))
        foreign.listen()
        with starting(world) as process:
            api_socket = control_socket(world).with_name("ports.sock")
            fields = {"local": f"127.0.0.1:{port}", "protocol": "udp"}
            wait_until(lambda: listens(port, socket.SOCK_DGRAM), "the port")
            # A container cannot have what is the user's own, nor take it away when it goes.
            status, sentence = post(api_socket, "expose", **fields, remote=":53")
            forwards = f"this machine already forwards 127.0.0.1:{port}/udp; choose another host port"
            assert (status, sentence.endswith(forwards)) == (500, True)
            assert post(api_socket, "unexpose", **fields) == (200, "")
            assert listens(port, socket.SOCK_DGRAM)
            kept = json.loads((world.machines / "box" / "ports.json").read_text())["forwards"]
            assert [f"127.0.0.1:{port}:53/udp", "user"] in kept
            others = [choose(set()) for _ in range(4)]
            with contextlib.ExitStack() as stack:
                adding = [stack.enter_context(world.popen("port", "add", "box", f"{other}:53/udp")) for other in others]
                assert [one.wait(60) for one in adding] == [0] * len(others)
            world.machine("stop", "box")
            process.communicate(timeout=30)
        assert path.is_socket()  # not ours
    kept = json.loads(world.machine("port", "ls", "--format", "json", "box").stdout)
    own = {entry["host"] for entry in kept if entry["origin"] == "user"}
    assert own == {str(path), *(f"127.0.0.1:{number}" for number in (port, *others))}


def state_of(world: World, port: int) -> str:
    """What `machine port ls` says of the forward."""
    listed = json.loads(world.machine("port", "ls", "--format", "json", "box").stdout)
    (state,) = [str(entry["state"]) for entry in listed if entry["host"].endswith(f":{port}")]
    return state


def test_forward_that_cannot_be_opened_is_tried_again(world: World, images: Images) -> None:
    world.init("box", images.qcow2)
    port, by_ssh = choose(set()), choose(set())
    assert world.machine("port", "add", "box", f"{port}:53/udp").status == 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", port))
        with starting(world) as process:
            taken_by = f"cannot publish 127.0.0.1:{port}/udp: the port is taken by "
            wait_until(lambda: state_of(world, port).startswith(taken_by), "the attempt to open the port")
            taken.close()
            wait_until(lambda: state_of(world, port) == "open", "the next attempt")
            # What goes over SSH waits for a guest that can be logged in to.
            assert world.machine("port", "add", "box", f"{by_ssh}:80").status == 0
            assert state_of(world, by_ssh) == "waits for the SSH server"
            world.machine("rm", "--force", "box")
            process.communicate(timeout=30)


def test_supervisor_that_has_just_begun_is_waited_for(world: World, images: Images) -> None:
    world.init("box", images.qcow2)
    directory, path = world.machines / "box", control_socket(world)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (
        lock.exclusively(directory / "lock", timeout_s=5),
        lock.exclusively(directory / "supervisor.lock", timeout_s=5),
        socket.socket(socket.AF_UNIX) as server,
        world.popen("port", "ls", "box", "--noheading") as listing,
    ):
        with pytest.raises(subprocess.TimeoutExpired):
            listing.wait(2)
        server.bind(str(path))
        server.listen()
        answer = b'{"ok": {"forwards": [], "api": {"state": "waiting", "reason": "waits"}}}\n'
        while listing.poll() is None:
            connection, _ = server.accept()
            with connection, connection.makefile("rb") as lines, contextlib.suppress(BrokenPipeError):
                if b"port-list" in lines.readline():
                    connection.sendall(answer)
                    listing.wait(20)
        said, _ = listing.communicate()
    assert listing.returncode == 0
    assert [line.split()[-1] for line in said.splitlines()] == ["waits"] * 3


@pytest.mark.parametrize("command", [("port", "add", "box", "1:1"), ("mount", "add", "box", "/usr:/x")])
def test_who_cannot_ask_the_supervisor_is_told_what_to_type(
    command: tuple[str, ...], world: World, images: Images
) -> None:
    world.init("box", images.qcow2)
    with lock.exclusively(world.machines / "box" / "lock", timeout_s=5):
        refused = world.machine(*command)
        assert refused.stderr == "Error: another command is changing box; try again when that command has ended\n"
        assert world.machine(command[0], "ls", "box").status == 0  # who only looks is in nobody's way
    orphaned = lock.acquire(world.machines / "box" / "lock")
    assert orphaned is not None
    lock.write_holder(orphaned, os.getpid())
    refused = world.machine(*command)
    os.close(orphaned)
    assert refused.stderr == (
        "Error: the supervisor of box does not answer: No such file or directory; "
        "restart the supervisor with: machine start box\n"
        "  see the documentation: troubleshooting#running\n"
    )


def test_forward_that_cannot_be_kept_is_not_opened(world: World, images: Images) -> None:
    world.init("box", images.qcow2)
    port = choose(set())
    with starting(world) as process:
        with (
            lock.exclusively(world.machines / "box" / "record.lock", timeout_s=5),
            world.popen("port", "add", "box", f"{port}:53/udp") as adding,
        ):
            # Others are answered meanwhile.
            assert world.machine("port", "ls", "box").status == 0
            _, said = adding.communicate(timeout=30)
        assert adding.returncode == 125
        assert "waiting for another command to release" in said
        assert not listens(port, socket.SOCK_DGRAM)
        world.machine("rm", "--force", "box")
        process.communicate(timeout=30)


def test_sockets_come_back_when_the_runtime_directory_was_removed(world: World, images: Images) -> None:
    """As it is when a user logs out."""
    world.init("box", images.qcow2)
    path = control_socket(world)
    with starting(world) as process:
        shutil.rmtree(path.parent)
        wait_until(lambda: sockets.listens(path) and sockets.listens(path.with_name("ports.sock")), "the sockets")
        assert path.parent.stat().st_mode & 0o077 == 0
        assert everything(path.with_name("ports.sock")) == []
        world.machine("stop", "box")
        process.communicate(timeout=30)


def test_port_for_ssh_is_nobody_elses(world: World, images: Images) -> None:
    world.init("box", images.qcow2)
    port = world.inspect("box")["SSHConfig"]["Port"]
    refused = world.machine("port", "add", "box", f"{port}:80")
    assert (refused.status, refused.stderr) == (
        125,
        f"Error: port {port} is the SSH port of box; choose another host port\n",
    )


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (":80:80", '":80" has no address; write 80 for this host only, or *:80 for every address'),
        ("/a${HOME}:80", '"/a${HOME}" contains ${, which OpenSSH takes for a variable'),
        ("[::1]:53:53/udp", "UDP is forwarded on IPv4 only; give an IPv4 address"),
        ("8080", '"8080" is not HOST:GUEST'),
        ("/a.sock:80/udp", "UDP cannot be forwarded from a Unix socket"),
        ("/a:b.sock:80", '"/a:b.sock" contains a colon, which is not possible in the path of a forwarded socket'),
        (f"80:/{'a' * 107}", f'"/{"a" * 107}" is longer than 107 bytes, the limit of a socket\'s path'),
        ("0:80", '"0" is not a port number (1-65535)'),
        ("80:70000", '"70000" is not a port number (1-65535)'),
        ("host:80:80", '"host" is not an IP address'),
        ("80:80/sctp", 'protocol "sctp" is not supported; choose tcp or udp'),
    ],
)
def test_forward_that_cannot_be_meant(text: str, line: str, world: World, images: Images) -> None:
    world.init("box", images.qcow2)
    refused = world.machine("port", "add", "box", text)
    hint = "write [HOST_IP:]HOST_PORT:GUEST_PORT[/udp]; instead of a port, a socket's absolute path can be used"
    assert (refused.status, refused.stderr) == (125, f"Error: {line}; {hint}\n")
