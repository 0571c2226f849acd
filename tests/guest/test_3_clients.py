"""Every kind of client that speaks to the sockets."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable

import docker
import podman
import pytest

from machine.store.ssh_ports import choose
from tests.support.guest_network import SERVE, api_socket, fetch, reachable
from tests.support.world import World, machine_program

pytestmark = pytest.mark.usefixtures("sleeper")

PODMANS_OWN_IDLE_S = 10
"""How long Podman's API lets a connection rest by default."""

Clients = Callable[[str], list[str]]


def test_podman_5_finds_the_machine_in_podman_connections_json(world: World, clients: Clients) -> None:
    podman_5 = clients("bin/podman-remote")
    names = world.run(*podman_5, "system", "connection", "list", "--format", "{{.Name}} {{.Default}}").stdout
    assert names.splitlines() == ["box true", "box-root false"]
    assert "sleeper" in world.run(*podman_5, "--connection", "box", "ps").stdout


def test_docker_finds_the_machine_by_its_context(world: World, clients: Clients) -> None:
    docker_cli = [*clients("bin/docker"), "--context", "box"]
    port = choose(set())
    listed = world.run(*docker_cli, "ps", "--format", "{{.Names}}").stdout
    assert "sleeper" in listed.split()
    publish = ("--publish", f"127.0.0.1:{port}:80")
    world.run(*docker_cli, "run", "--detach", "--name", "docked", *publish, "busybox", "sh", "-c", SERVE)
    assert fetch(f"127.0.0.1:{port}") == "hello\n"
    assert world.run(*docker_cli, "exec", "docked", "cat", "/www/index.html").stdout == "hello\n"
    world.run(*docker_cli, "rm", "--force", "docked")
    assert not reachable("127.0.0.1", port)


def test_docker_finds_the_machine_by_the_environment(world: World, clients: Clients) -> None:
    docker_cli = " ".join(clients("bin/docker"))
    script = f"eval \"$({machine_program()} env box)\"; exec {docker_cli} ps --format '{{{{.Names}}}}'"
    assert "sleeper" in world.run("bash", "-ec", script).stdout.split()


def test_compose_brings_a_project_up_and_down(world: World, clients: Clients) -> None:
    port = choose(set())
    services = {
        "web": {"image": "busybox", "command": ["sh", "-c", SERVE], "ports": [f"127.0.0.1:{port}:80"]},
        "client": {"image": "busybox", "command": ["sleep", "1000"], "depends_on": ["web"]},
    }
    project = world.root / "compose.json"
    project.write_text(json.dumps({"services": services}))
    compose = [
        "env", f"DOCKER_HOST=unix://{api_socket(world, 'box')}",
        *clients("libexec/docker/cli-plugins/docker-compose"), "--project-name", "demo", "--file", str(project),
    ]  # fmt: skip
    world.run(*compose, "up", "--detach")
    assert fetch(f"127.0.0.1:{port}") == "hello\n"
    inside = world.run(*compose, "exec", "-T", "client", "wget", "-q", "-O", "-", "http://web/")
    assert inside.stdout == "hello\n"
    world.run(*compose, "down", "--timeout", "1")
    assert not reachable("127.0.0.1", port)


@pytest.mark.parametrize("kind", [docker.DockerClient, podman.PodmanClient])
def test_sdks_run_containers(kind: type[docker.DockerClient] | type[podman.PodmanClient], world: World) -> None:
    client = kind(base_url=f"unix://{api_socket(world, 'box')}", timeout=300)
    try:
        assert client.ping()
        assert client.containers.run("busybox", ["echo", "hello"], remove=True) == b"hello\n"
    finally:
        client.close()


def test_connection_may_rest_for_longer_than_a_slow_run_does_between_its_requests(world: World) -> None:
    """`docker run` waits for its container on a connection that it last used when the container was created."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(api_socket(world, "box"))
        for pause_s in (PODMANS_OWN_IDLE_S + 2, 0):
            connection.sendall(b"GET /_ping HTTP/1.1\r\nHost: d\r\n\r\n")
            assert connection.recv(4096).startswith(b"HTTP/1.1 200 OK\r\n")
            time.sleep(pause_s)
