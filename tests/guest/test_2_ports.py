"""Ports that containers publish, and forwards of the user's own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from machine.model.ports import Endpoint, Protocol
from machine.ports.holder import check_can_listen
from tests.support.free_ports import choose_port
from tests.support.guest_machines import MainMachine, occupied
from tests.support.guest_network import ECHO, SERVE, api_socket, fetch, reachable, udp_echo
from tests.support.guests import served
from tests.support.waiting import wait_until
from tests.support.world import World

pytestmark = pytest.mark.usefixtures("box", "box2")

RESTARTS = 10  # scripts/bench recovery has the hundred


BURST = 300
CLIENTS = 900
BURST_S = 300
CONNECTED_S = 3.0
GREETING = b"hello\n"
# Neither busybox's server nor nc lets as many clients wait.
GREET = """
use IO::Socket::INET;
my $server = IO::Socket::INET->new(LocalPort => 80, Listen => 1024) or die;
while (my $peer = $server->accept) { $peer->print("hello\\n"); close $peer; }
"""


def test_published_ports_answer_on_the_host_as_asked(main_machine: MainMachine) -> None:
    """Every form of `-p` that has a counterpart on the host."""
    web = main_machine.publish_web()
    for address in web.addresses:
        assert fetch(address) == "hello\n", address
    assert not reachable("127.0.0.2", web.one)
    assert all(reachable("127.0.0.1", port) for port in range(web.low, web.low + 10))


def test_port_whose_program_does_not_listen_yet_is_closed_to_clients_at_once(
    world: World, main_machine: MainMachine
) -> None:
    main_machine.import_busybox()
    port = choose_port()
    world.remote(
        "box", "run", "--detach", "--name", "silent", "-p", f"127.0.0.1:{port}:80", "busybox", "sleep", "100000"
    )
    with socket.create_connection(("127.0.0.1", port), timeout=60) as client, contextlib.suppress(ConnectionResetError):
        assert client.recv(1) == b""
    world.remote("box", "rm", "--force", "--time", "1", "silent")


def test_datagrams_are_published_too(world: World, main_machine: MainMachine) -> None:
    main_machine.import_busybox()
    udp = choose_port()
    world.remote("box", "run", "--detach", "--name", "echo", "-p", f"{udp}:53/udp", *ECHO)
    assert udp_echo(udp) == b"ping"
    world.remote("box", "rm", "--force", "--time", "1", "echo")
    check_can_listen(Endpoint(protocol=Protocol.UDP, address="", port=udp))


def greets(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=60) as client:
        return client.recv(100) == GREETING
    return False


async def greeted(port: int) -> tuple[bytes, float]:
    """Connect to a port, and return what its server says and how many seconds it took to be connected."""
    began = time.monotonic()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    connected_s = time.monotonic() - began
    try:
        return await reader.read(), connected_s
    finally:
        writer.close()


def test_bursts_of_clients_are_connected_at_once_and_served(world: World, main_machine: MainMachine) -> None:
    """Each client that has been served is followed by another one, so that always so many are at the port."""
    main_machine.import_busybox()
    port = choose_port()
    greet = ("-v", "/:/guest:ro", "busybox", "chroot", "/guest", "perl", "-e", GREET)
    world.remote("box", "run", "--detach", "--name", "greeter", "-p", f"127.0.0.1:{port}:80", *greet)

    wait_until(lambda: greets(port), timeout_s=BURST_S, what="the server")

    places = asyncio.Semaphore(BURST)

    async def client() -> tuple[bytes, float]:
        async with places:
            return await greeted(port)

    async def bursts() -> list[tuple[bytes, float]]:
        async with asyncio.timeout(BURST_S):
            return await asyncio.gather(*(client() for _ in range(CLIENTS)))

    answers = asyncio.run(bursts())
    assert [answer for answer, _ in answers] == [GREETING] * CLIENTS
    assert max(connected_s for _, connected_s in answers) < CONNECTED_S
    world.remote("box", "rm", "--force", "--time", "0", "greeter")


def test_port_that_is_taken_is_told_by_podman_run(world: World, main_machine: MainMachine) -> None:
    main_machine.import_busybox()
    first = choose_port()
    world.remote("box", "run", "-p", f"127.0.0.1:{first}:80", "busybox", "echo")
    wait_until(lambda: not reachable("127.0.0.1", first), timeout_s=60, what="the port of a container that ended")
    with occupied(first):
        conflict = world.remote("box", "run", "-p", f"127.0.0.1:{first}:80", "busybox", "echo", check=False)
    assert conflict.status != 0
    assert f"cannot publish 127.0.0.1:{first}/tcp: the port is taken by " in conflict.stderr


def test_privileged_port_is_refused_with_the_way_out(ordinary_world: World) -> None:
    low = int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text()) - 1
    if not ordinary_world.uid or low < 1:
        pytest.skip("every port is this user's")
    body = json.dumps({"local": f"127.0.0.1:{low}", "remote": ":80", "protocol": "tcp"})
    expose = f"curl --silent -d '{body}' http://gateway.containers.internal/services/forwarder/expose"
    assert ordinary_world.must("ssh", "box2", expose).stdout == (
        f"cannot publish 127.0.0.1:{low}/tcp: only root may listen below port {low + 1} on this host; choose "
        f"{low + 1} or higher, or allow it with: sudo sysctl net.ipv4.ip_unprivileged_port_start={low}"
    )


def test_gateway_leads_to_the_port_api_alone(ordinary_world: World, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("of the host\n")
    with served(tmp_path) as url:
        ask = f"curl --silent --max-time 20 {url.replace('127.0.0.1', '{}')}/"
        hosts, gateways = (
            ordinary_world.machine("ssh", "box2", ask.format(f"{name}.containers.internal")).stdout
            for name in ("host", "gateway")
        )
    assert hosts == "of the host\n"
    # Some other answer is that of the network around this host, where it has something at that address.
    assert "of the host" not in gateways


def ask_from_container(world: World, *requests: tuple[str, dict[str, str]]) -> str:
    """Send requests to the port API from a container, and return the list of ports that the API has afterwards."""
    api = "http://gateway.containers.internal/services/forwarder"
    posts = [f"wget -q -O - --post-data '{json.dumps(fields)}' {api}/{verb}" for verb, fields in requests]
    script = " && ".join([*posts, f"wget -q -O - {api}/all"])
    return world.remote("box", "run", "--rm", "busybox", "sh", "-c", script).stdout


def test_container_can_neither_have_a_port_without_podman_nor_take_one_from_another(
    world: World, main_machine: MainMachine
) -> None:
    main_machine.import_busybox()
    false, true = choose_port(), choose_port()
    publish = ("-p", f"127.0.0.1:{true}:80")
    world.remote("box", "run", "--detach", "--name", "other", *publish, "busybox", "sleep", "100000")
    requests = (
        ("expose", {"local": f"0.0.0.0:{false}", "remote": ":22", "protocol": "tcp"}),
        ("unexpose", {"local": f"127.0.0.1:{true}", "protocol": "tcp"}),
    )
    ask_from_container(world, *requests)
    wait_until(lambda: not reachable("127.0.0.1", false), timeout_s=60, what="the port to be taken back")
    wait_until(lambda: reachable("127.0.0.1", true), timeout_s=60, what="the port to be opened again")
    log = (world.machines / "box" / "supervisor.log").read_text()
    assert f"closed 0.0.0.0:{false}/tcp, because no running container publishes it" in log
    assert f"opened 127.0.0.1:{true}/tcp, because a running container publishes it" in log
    # Once caught, requests about the same ports change nothing.
    listed = ask_from_container(world, *requests)
    assert f"0.0.0.0:{false}" not in listed
    assert f"127.0.0.1:{true}" in listed
    world.remote("box", "rm", "--force", "--time", "0", "other")
    wait_until(lambda: not reachable("127.0.0.1", true), timeout_s=60, what="the port of a container that ended")


@pytest.fixture
def docker_client(world: World, main_machine: MainMachine) -> Iterator[docker.DockerClient]:
    main_machine.import_busybox()
    client = docker.DockerClient(base_url=f"unix://{api_socket(world, 'box')}", timeout=300)
    yield client
    client.close()


def test_container_that_starts_again_and_again_is_published_each_time(docker_client: docker.DockerClient) -> None:
    port = choose_port()
    container = docker_client.containers.run(
        "busybox", ["sh", "-c", SERVE], name="again", ports={"80/tcp": ("127.0.0.1", port)}, detach=True
    )
    for _ in range(RESTARTS):
        container.stop(timeout=0)
        # Whoever cleans up after the container frees its port, on a busy guest when the stop has returned.
        wait_until(lambda: not reachable("127.0.0.1", port), timeout_s=30, what="the port to be freed")
        container.start()
        assert fetch(f"127.0.0.1:{port}") == "hello\n"
    container.remove(force=True)
    assert not reachable("127.0.0.1", port)


def test_users_own_forwards_reach_the_guest(world: World, main_machine: MainMachine) -> None:
    host, published = choose_port(), main_machine.publish_web().every
    world.must("port", "add", "box", f"{host}:{published}")
    assert fetch(f"127.0.0.1:{host}") == "hello\n"
    listed = json.loads(world.must("port", "ls", "--format", "json", "box").stdout)
    own = {"host": f"127.0.0.1:{host}", "guest": str(published), "protocol": "tcp", "origin": "user", "state": "open"}
    assert own in listed
    assert {port["state"] for port in listed} == {"open"}
    assert {port["origin"] for port in listed} == {"user", "published", "api", "ssh"}
    world.must("port", "rm", "box", f"{host}:{published}")
    assert not reachable("127.0.0.1", host)


def test_sockets_are_forwarded_on_either_side(world: World, main_machine: MainMachine) -> None:
    port, path = choose_port(), main_machine.forward_socket()
    guest = "/run/podman/podman.sock"
    world.must("port", "add", "box", f"{port}:{guest}")
    ping = ("curl", "--silent", "--fail")
    assert world.run(*ping, f"http://127.0.0.1:{port}/_ping").stdout == "OK"
    assert world.run(*ping, "--unix-socket", str(path), "http://d/_ping").stdout == "OK"
    assert path.stat().st_mode & 0o077 == 0
    world.must("port", "rm", "box", f"{port}:{guest}")
    assert not reachable("127.0.0.1", port)


def test_names_of_the_host_lead_to_it(world: World, main_machine: MainMachine) -> None:
    main_machine.import_busybox()
    with served(world.root / "docker") as served_url:
        url = f"{served_url.replace('127.0.0.1', 'host.containers.internal')}/config.json"
        docker_url = url.replace("containers", "docker")
        script = f"wget -q -O - {url} && wget -q -O - {docker_url}"
        inside = world.remote("box", "run", "--rm", "busybox", "sh", "-c", script)
        guest = world.must("ssh", "box", "curl", "-s", docker_url)
    assert (inside.stdout, guest.stdout) == ("{}{}", "{}")
