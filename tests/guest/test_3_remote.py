"""A guest as a host that runs already: a machine that is only the SSH connection to it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

import pytest

from machine.ignition.provision import MARKER, MARKER_UP_TO_5
from tests.support.guest_hosts import SLOW_S, publish, reboot_host, unsupervised, words_of_host
from tests.support.guest_machines import MainMachine
from tests.support.guest_network import fetch, reachable
from tests.support.waiting import wait_until
from tests.support.world import World


@pytest.fixture
def host(world: World, main_machine: MainMachine) -> Iterator[tuple[str, ...]]:
    """The words for `init` that name the machine `box`, whose Podman does not know for once that it is in a machine."""
    main_machine.import_busybox()
    # Whatever it publishes already is open on this host by `box`, and would be asked for by the other machine, too.
    if main_machine.web:
        main_machine.unpublish_web()
    move_markers(world, "mv $marker $marker.off")
    yield words_of_host(world, "box")
    if (world.machines / "far").exists():
        world.must("rm", "--force", "far")
    move_markers(world, "mv $marker.off $marker")


def move_markers(world: World, move: str) -> None:
    """Move the files by which Podman knows that it is in a machine, and end its services, which look only once."""
    script = f"for marker in {MARKER} {MARKER_UP_TO_5}; do {move}; done; systemctl stop podman.service"
    world.must("ssh", "box", "sudo", "sh", "-c", shlex.quote(script))
    world.must("ssh", "box", "systemctl", "--user", "stop", "podman.service")


@pytest.mark.long
def test_guest_is_a_host_over_ssh(world: World, host: tuple[str, ...]) -> None:
    source = world.root / "from-here"
    source.mkdir(exist_ok=True)
    (source / "word").write_text("shared")
    world.must("init", *host, "--volume", f"{source}:/run/far", "--now", "far")
    assert world.must("ls", "--format", "{{.VMType}}", "--noheading").stdout.split().count("ssh") == 1
    assert world.must("ssh", "far", "cat", "/run/far/word").stdout == "shared"
    with unsupervised(world, "box"):
        port = publish_and_lose_the_connection(world)
        reboot_host(world, "/run/far/word", port)
        world.remote("far", "rm", "--force", "--time", "1", "afar")
        wait_until(lambda: not reachable("127.0.0.1", port), "the port's end", timeout_s=SLOW_S)
    world.must("stop", "far")
    assert "/run/far" not in world.must("ssh", "box", "cat", "/proc/mounts").stdout


def publish_and_lose_the_connection(world: World) -> int:
    port = publish(world, "far")
    assert "true" not in world.remote("far-root", "info", "--format", "{{.Host.Security.Rootless}}").stdout

    world.machine("ssh", "far", "sudo", "pkill", "-f", "sshd.*core")  # the session that asks for it ends, too
    wait_until(
        lambda: world.state("far") == ("running", "") and reachable("127.0.0.1", port), "the host", timeout_s=SLOW_S
    )
    assert fetch(f"127.0.0.1:{port}") == "hello\n"
    return port
