"""What a host over SSH has and lacks."""

from __future__ import annotations

from dataclasses import replace

import pytest

from machine.errors import BadInputError, MachineError
from machine.model.arch import Arch
from machine.model.provider import Capability, Provider, RootAccess, check_capability
from machine.model.remote_facts import Lack, RemoteFacts, check_system, find_lacks, find_remedy, parse_facts

LINGER = "run there: sudo loginctl enable-linger core"
READY = RemoteFacts(
    system="Linux",
    arch="aarch64",
    user="core",
    uid=1000,
    cpus=4,
    memory_mib=7800,
    disk_gib=100,
    installer="dnf",
    has_systemd=True,
    lingers=True,
    has_sudo=True,
    has_sshfs=True,
    podman="5.4.2",
    socket="/run/user/1000/podman/podman.sock",
    listens=True,
)
OUTPUT = """\
system Linux
arch aarch64
user core
uid 1000
cpus 4
memory_kib 7987200
disk_kib 104857600
installer dnf
systemd yes
lingers yes
sudo yes
sshfs yes
podman 5.4.2
socket /run/user/1000/podman/podman.sock
listens yes
end
"""


def test_facts_are_read() -> None:
    assert parse_facts(f"Welcome!\n{OUTPUT}") == READY


@pytest.mark.parametrize("output", ["", OUTPUT.removesuffix("end\n"), OUTPUT.replace("uid 1000", "uid me"), "end\n"])
def test_incomplete_answers_are_none(output: str) -> None:
    assert parse_facts(output) is None


@pytest.mark.parametrize(
    ("changes", "lacks"),
    [
        ({}, []),
        (
            {"podman": None, "socket": None, "listens": False},
            [
                ("Podman is not installed", "sudo dnf install -y podman"),
                ("Podman's API socket is not enabled", "systemctl --user enable --now podman.socket"),
            ],
        ),
        ({"podman": "3.4.4"}, [("its Podman 3.4.4 is older than version 4", None)]),
        (
            {"lingers": False},
            [("containers of core end when core logs out", "sudo loginctl enable-linger core")],
        ),
        (
            {"uid": 0, "user": "root", "lingers": False, "listens": False},
            [("Podman's API socket is not enabled", "systemctl enable --now podman.socket")],
        ),
        (
            {"uid": 0, "installer": "apk", "has_systemd": False, "podman": None, "listens": False},
            [
                ("Podman is not installed", "apk add --update-cache podman"),
                ("Podman's API socket is not enabled", "rc-update add podman && rc-service podman start"),
            ],
        ),
        (
            {"installer": None, "podman": None, "has_systemd": False, "listens": False},
            [("Podman is not installed", None), ("Podman's API socket is not enabled", None)],
        ),
        (
            {"has_systemd": False, "listens": False},
            [("Podman's API socket is not enabled (without systemd, run there: podman system service --time=0)", None)],
        ),
    ],
)
def test_each_lack_comes_with_its_remedy(changes: dict[str, object], lacks: list[tuple[str, str | None]]) -> None:
    found = find_lacks(replace(READY, **changes))  # type: ignore[arg-type]
    assert [(lack.text, lack.command) for lack in found] == lacks


@pytest.mark.parametrize(
    ("installer", "command"),
    [
        ("dnf", "sudo dnf install -y fuse-sshfs"),
        ("apt-get", "sudo apt-get update && sudo apt-get install -y sshfs"),
        ("apk", "sudo apk add --update-cache sshfs"),
        ("zypper", "sudo zypper --non-interactive install sshfs"),
        (None, None),
    ],
)
def test_sshfs_is_lacking_where_there_are_folders(installer: str | None, command: str | None) -> None:
    bare = replace(READY, has_sshfs=False, installer=installer)
    assert find_lacks(bare) == find_lacks(READY, folders=True) == []
    assert find_lacks(bare, folders=True) == [
        Lack(text="sshfs, which mounts folders, is not installed", command=command)
    ]


@pytest.mark.parametrize(
    ("changes", "was_to_install", "remedy"),
    [
        ({}, False, f"{LINGER}; or let machine init --install do it"),
        ({}, True, LINGER),
        (
            {"has_sudo": False},
            True,
            f"{LINGER}; --install cannot, because core has no sudo without a password there",
        ),
        (
            {"has_sudo": False, "lingers": True, "listens": False},
            False,
            "run there: systemctl --user enable --now podman.socket; or let machine init --install do it",
        ),
        ({"lingers": True, "podman": "3.4.4"}, False, None),
    ],
)
def test_remedy_is_what_the_user_can_do(changes: dict[str, object], was_to_install: bool, remedy: str | None) -> None:
    facts = replace(READY, **{"lingers": False, **changes})  # type: ignore[arg-type]
    assert find_remedy(find_lacks(facts), facts, was_to_install=was_to_install) == remedy


@pytest.mark.parametrize(
    ("changes", "access"),
    [({}, RootAccess.SUDO), ({"has_sudo": False}, RootAccess.NONE), ({"uid": 0}, RootAccess.LOGIN)],
)
def test_access_to_root(changes: dict[str, object], access: RootAccess) -> None:
    assert replace(READY, **changes).root_access is access  # type: ignore[arg-type]


def test_only_linux_of_known_architectures_will_do() -> None:
    assert check_system(READY, "there") is Arch.AARCH64
    with pytest.raises(MachineError, match="there runs Darwin, but containers need Linux"):
        check_system(replace(READY, system="Darwin"), "there")
    with pytest.raises(MachineError, match="there has the architecture mips, which is not supported"):
        check_system(replace(READY, arch="mips"), "there")


@pytest.mark.parametrize("capability", Capability)
def test_virtual_machines_can_do_everything_and_hosts_over_ssh_say_what_they_cannot(capability: Capability) -> None:
    check_capability("box", Provider.QEMU, capability)
    with pytest.raises(BadInputError, match='"far" is a host that is reached over SSH, so '):
        check_capability("far", Provider.SSH, capability)
