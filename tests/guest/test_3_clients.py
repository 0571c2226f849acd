"""Every kind of client that speaks to the sockets."""

from __future__ import annotations

import json
import shlex
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

import docker
import podman
import pytest

from tests.support.free_ports import choose_port
from tests.support.guest_network import LIST_CONTAINERS, SERVE, api_socket, fetch, names_of, reachable
from tests.support.guests import debian_clients, reaper_archive
from tests.support.pages import Place, check, pages_with, transcripts
from tests.support.waiting import wait_until
from tests.support.world import World, machine_program

pytestmark = pytest.mark.usefixtures("sleeper")

PODMANS_OWN_IDLE_S = 10
"""How long Podman's API lets a connection rest by default."""

Clients = Callable[[str], list[str]]

# Stands for Testcontainers' image, and speaks its protocol: when its client has gone, containers that have the label
# that this client has sent are removed.
REAPER = r"""
busybox nc -l -p 8080 >/filter &
until busybox grep -q :1F90 /proc/net/tcp /proc/net/tcp6; do sleep 0.2; done
echo "The reaper has Started!"
wait
docker rm --force $(docker ps --all --quiet --filter "$(busybox tr -d '\r' </filter)")
"""
# A program that ends without stopping its container, as it does when it crashes.
TESTCONTAINERS = """
import os
from testcontainers.core.container import DockerContainer
container = DockerContainer("busybox").with_command("sleep 100000").start()
print(container.get_wrapped_container().id, flush=True)
os._exit(0)
"""


@pytest.mark.parametrize("page", pages_with(Place.GUEST))
def test_transcript_of_the_documentation_prints_what_its_page_says(page: str, world: World) -> None:
    path = f"{Path(machine_program()).parent}:{world.path}"
    for block in transcripts(page, Place.GUEST):
        check(block, world.run("bash", "-ec", block.script, PATH=path).stdout)


def test_podman_5_finds_the_machine_in_podman_connections_json(world: World, clients: Clients) -> None:
    podman_5 = clients("bin/podman-remote")
    names = world.run(*podman_5, "system", "connection", "list", "--format", "{{.Name}} {{.Default}}").stdout
    assert names.splitlines() == ["box true", "box-root false"]
    assert "sleeper" in world.run(*podman_5, "--connection", "box", "ps").stdout


def test_docker_finds_the_machine_by_its_context(world: World, clients: Clients) -> None:
    docker_cli = [*clients("bin/docker"), "--context", "box"]
    port = choose_port()
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
    port = choose_port()
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


@pytest.mark.parametrize("mode", ["rootless", "rootful"])
def test_container_uses_the_socket_that_its_client_talks_to(
    world: World, clients: Clients, busybox: Path, mode: str
) -> None:
    if mode == "rootful":
        world.remote("box-root", "import", "--quiet", str(busybox), "busybox")
    run = shlex.join([*clients("bin/docker"), "run", "--rm", "--name", mode])
    variables = f'eval "$({machine_program()} env --shell sh --rootful={str(mode == "rootful").lower()} box)"'
    mount = '--volume "${DOCKER_HOST#unix://}:/var/run/docker.sock"'
    listing = world.run("bash", "-ec", f"{variables}; exec {run} {mount} {shlex.join(LIST_CONTAINERS)}").stdout
    assert {mode, "sleeper"} & set(names_of(listing)) == ({mode} if mode == "rootful" else {mode, "sleeper"})


def test_service_of_compose_uses_the_usual_socket(world: World, clients: Clients) -> None:
    _, usr, image, *command = LIST_CONTAINERS
    volumes = ["/var/run/docker.sock:/var/run/docker.sock", usr]
    project = world.root / "proxy.json"
    project.write_text(json.dumps({"services": {"proxy": {"image": image, "command": command, "volumes": volumes}}}))
    compose = [
        "env", f"DOCKER_HOST=unix://{api_socket(world, 'box')}",
        *clients("libexec/docker/cli-plugins/docker-compose"), "--project-name", "proxy", "--file", str(project),
    ]  # fmt: skip
    assert "sleeper" in names_of(world.run(*compose, "run", "--rm", "--no-TTY", "proxy").stdout)


def test_testcontainers_remove_what_a_crashed_program_has_left(world: World, busybox: Path) -> None:
    archive = reaper_archive(busybox, debian_clients())
    command = json.dumps(["sh", "-c", REAPER])
    world.remote("box", "import", "--quiet", "--change", f"CMD {command}", str(archive), "reaper")
    script = f'eval "$({machine_program()} env --shell sh box)"; exec {sys.executable} -c "$PROGRAM"'
    # In a container, as in CI, they would look for Docker outside it.
    outside = {"TESTCONTAINERS_CONNECTION_MODE": "docker_host", "TESTCONTAINERS_HOST_OVERRIDE": "localhost"}
    variables = {"PROGRAM": TESTCONTAINERS, "RYUK_CONTAINER_IMAGE": "reaper", **outside}
    left = world.run("bash", "-ec", script, check=True, **variables).stdout.strip()

    def is_gone() -> bool:
        return left not in world.remote("box", "ps", "--all", "--no-trunc", "--format", "{{.ID}}").stdout.split()

    wait_until(is_gone, timeout_s=300, what="the container to be removed")


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
