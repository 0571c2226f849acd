"""Containers of a guest with different restart policies, and what has become of them after a start."""

from __future__ import annotations

import re
from collections.abc import Mapping

from tests.support.waiting import wait_until
from tests.support.world import World

Statuses = Mapping[str, str]
"""The status of each container, by its name."""

# Rootless and rootful: a container that ends with status 3 when it is told to, for each policy that matters; `ended` is
# one that the user has stopped. Rootless alone: one that Quadlet starts, and two in a pod, of which
# the second ignores SIGTERM.
_RUN = """
set -e
podman save --quiet busybox | sudo podman load --quiet
mkdir -p ~/.config/containers/systemd
printf '%s\\n' [Container] Image=localhost/busybox Pull=never 'Exec=sleep 100000' [Install] WantedBy=default.target \
    >~/.config/containers/systemd/quadlet.container
work='trap "exit 3" TERM; while :; do sleep 1; done'
for podman in podman 'sudo podman'; do
    $podman run --detach --name always --restart always busybox sh -c "$work"
    $podman run --detach --name unless-stopped --restart unless-stopped busybox sh -c "$work"
    $podman run --detach --name ended --restart unless-stopped busybox sh -c "$work"
    $podman run --detach --name plain busybox sh -c "$work"
    $podman stop ended
done
# A pod that --pod new:… makes has its container's policy, and so has every other container of the pod.
podman pod create --name pod
podman run --detach --name in-pod --pod pod --restart always busybox sh -c "$work"
podman run --detach --name deaf-in-pod --pod pod busybox sleep 100000
"""
_LIST_JOBS = "systemctl list-jobs --no-legend; systemctl --user list-jobs --no-legend"
# Less than the 90 s for which Podman waits for a network-online.target that nothing starts.
_JOBS_S = 60.0
_LIST_CONTAINERS = "{} ps --all --format '{{{{.Names}}}} {{{{.Status}}}}'"
_REMOVE = """
rm ~/.config/containers/systemd/quadlet.container
systemctl --user stop quadlet.service
podman pod rm --force --time 0 pod
for podman in podman 'sudo podman'; do
    $podman rm --force --time 0 always unless-stopped ended plain
done
"""


def run_containers(world: World, name: str) -> None:
    """Run the containers in a guest that has the image `busybox`."""
    _run(world, name, _RUN)


def take_statuses(world: World, name: str) -> tuple[Statuses, Statuses]:
    """Wait for the end of the guest's boot, return the statuses of rootless and rootful containers, and remove ours."""
    wait_until(lambda: _run(world, name, _LIST_JOBS) == "", timeout_s=_JOBS_S, what="the end of the guest's boot")
    rootless, rootful = (_statuses(world, name, podman) for podman in ("podman", "sudo podman"))
    _run(world, name, _REMOVE)
    return rootless, rootful


def check_statuses(rootless: Statuses, rootful: Statuses) -> None:
    """Fail unless each container is as its policy says after a start."""
    for statuses in (rootless, rootful):
        assert statuses["always"].startswith("Up "), statuses
        assert statuses["unless-stopped"].startswith("Up "), statuses
        for name in ("ended", "plain"):
            assert re.fullmatch(r"Exited \(3\) (\d+ (seconds|minutes)|About a minute) ago", statuses[name]), statuses
    assert rootless["in-pod"].startswith("Up "), rootless
    assert rootless["systemd-quadlet"].startswith("Up "), rootless
    # Busybox's sleep ignores SIGTERM.
    assert rootless["deaf-in-pod"].startswith("Exited (137) "), rootless


def _statuses(world: World, name: str, podman: str) -> Statuses:
    lines = _run(world, name, _LIST_CONTAINERS.format(podman)).splitlines()
    return {container: status for container, _, status in (line.partition(" ") for line in lines)}


def _run(world: World, name: str, script: str) -> str:
    """Run a script as the guest's user, whoever commands in the guest run as otherwise."""
    return world.must("ssh", "--username", "core", name, script).stdout
