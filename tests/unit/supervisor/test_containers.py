"""What a start tells of the containers that start with the guest."""

from __future__ import annotations

import pytest

from machine.supervisor.containers import parse_outcome

# Of Podman 5.4, whose files were emptied by a power loss.
NO_LINK = (
    'getting graph driver info "kept": readlink /home/core/.local/share/containers/storage/overlay: invalid argument'
)
NO_LAYER = (
    'unable to start container "kept": mounting storage for container kept: creating overlay mount to '
    "/var/lib/containers/storage/overlay/9705/merged, "
    f'mount_data="lowerdir={"/var/lib/containers/storage/overlay/9705/empty," * 3}": no such file or directory'
)
NO_PORT = 'unable to start container "web": cannot publish 127.0.0.1:80/tcp: the port is taken by another program'
FAILED = "The guest could not start a container: "
REMOVE = "To remove what a power loss has damaged, use: machine ssh {}box podman rm --force kept"


@pytest.mark.parametrize(
    ("lines", "notices"),
    [
        ([], []),
        (
            [
                "starting boot2podman-containers.service",
                "starting a.service",
                "starting boot2podman-containers.service",
            ],
            ["The guest is still starting containers: boot2podman-containers.service, a.service"],
        ),
        ([f"failed {NO_PORT}"], [f"{FAILED}{NO_PORT}"]),
        ([f"failed {NO_LINK}", f"failed {NO_LINK}"], [f"{FAILED}{NO_LINK}", REMOVE.format("")]),
        ([f"failed {NO_LAYER}"], [f"{FAILED}{NO_LAYER}"[:299] + "…", REMOVE.format("--username root ")]),
        ([f"failed {number}" for number in range(9)], [f"{FAILED}{number}" for number in range(5)]),
        (
            ["failed-service root kube.service", "failed-service core web.service"],
            [
                (
                    "The guest could not start kube.service; see: "
                    "machine ssh --username root box systemctl status kube.service"
                ),
                (
                    "The guest could not start web.service; see: "
                    "machine ssh --username core box systemctl --user status web.service"
                ),
            ],
        ),
        (["something else"], []),
    ],
    ids=["none", "pending", "port", "damaged", "long", "many", "services", "unknown"],
)
def test_what_is_told_of_the_containers(lines: list[str], notices: list[str]) -> None:
    assert parse_outcome("\n".join(lines)).notices("box") == tuple(notices)
