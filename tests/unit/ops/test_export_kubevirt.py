"""What a guest on a cluster reads at its first boot, and what people are told."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from urllib.parse import unquote

import pytest

from machine.cli.init import command
from machine.errors import MachineError
from machine.ignition.provision import MARKER, MARKER_UP_TO_5, READY_UNIT
from machine.image.catalogue import CatalogueImage
from machine.image.reference import StreamReference
from machine.model.arch import Arch
from machine.model.config import FirstBoot, Provisioning, UserIgnition
from machine.model.kubevirt import ClusterVm, ContainerDisk, ImportedDisk
from machine.ops.export_kubevirt import first_boot_payload, lost_parts, read_keys, usage
from machine.ssh.command import SshTarget
from tests.support.builders import KEYS, USER_IGNITION, make_config, make_full_config, make_paths
from tests.support.golden import Golden

STREAM = StreamReference(stream="stable", local=False)
DEBIAN = CatalogueImage(name="debian", tag="13", url="x", arches={Arch.X86_64: "amd64"}, packages=("podman", "less"))
TARGET = SshTarget(
    alias="machine-box", port=4, username="core", identity=Path("/d/id_ed25519"), known_hosts=Path("/d/known_hosts")
)


def test_guest_gets_no_parts_that_need_this_host() -> None:
    document = json.loads(first_boot_payload(make_full_config(), KEYS, STREAM))
    files = {file["path"]: file for file in document["storage"]["files"]}
    units = [unit["name"] for unit in document["systemd"]["units"]]
    assert not {MARKER, MARKER_UP_TO_5, "/etc/hosts"} & files.keys()
    assert READY_UNIT not in units
    # The folders of this host would need it.
    assert "kernelArguments" not in document
    assert KEYS.host_private in unquote(files["/etc/ssh/ssh_host_ed25519_key"]["contents"]["source"])
    assert [user["name"] for user in document["passwd"]["users"]] == ["core", "root"]


def test_cloud_image_gets_its_packages_by_cloud_init() -> None:
    config = make_config(provisioning=Provisioning.CLOUD_INIT)
    heading, _, text = first_boot_payload(config, KEYS, DEBIAN).partition("\n")
    assert heading == "#cloud-config"
    assert json.loads(text)["packages"] == ["podman", "less"]
    assert MARKER not in text


def test_config_that_replaces_ours_is_the_payload() -> None:
    theirs = UserIgnition(name="a", text=USER_IGNITION, replaces=True)
    assert first_boot_payload(make_config(first_boot=FirstBoot(ignition=theirs)), KEYS, STREAM) == USER_IGNITION


@pytest.mark.parametrize("namespace", [None, "lab"])
def test_people_are_told_how_to_reach_it_and_what_is_lost(namespace: str | None, golden: Golden) -> None:
    disk = ContainerDisk(image="x") if namespace is None else ImportedDisk(url="http://x", size_gib=1)
    vm = ClusterVm(config=make_full_config(name="My_box"), payload="", disk=disk, namespace=namespace)
    lines = [*usage(vm, TARGET, KEYS.host_public), *(f"lost: {part}" for part in lost_parts(vm))]
    golden.matches("".join(f"{line}\n" for line in lines), namespace or "default")


def test_way_back_is_a_command_line_that_init_accepts() -> None:
    vm = ClusterVm(config=make_config("box"), payload="", disk=ContainerDisk(image="x"), namespace="lab")
    (line,) = [line for line in usage(vm, TARGET, KEYS.host_public) if "machine init" in line]
    _, _, words = line.partition("machine init ")
    parsed = command.make_context("init", shlex.split(words)).params
    assert (parsed["provider"], parsed["name"]) == ("ssh", "box-cluster")
    assert parsed["proxy_command"] == "virtctl port-forward --stdio=true vm/box/lab 22"
    assert parsed["host_key"] == " ".join(KEYS.host_public.split()[:2])


def test_config_that_replaces_ours_has_to_accept_the_keys() -> None:
    theirs = UserIgnition(name="a.ign", text=USER_IGNITION, replaces=True)
    config = make_config(first_boot=FirstBoot(ignition=theirs))
    vm = ClusterVm(config=config, payload="", disk=ContainerDisk(image="x"))
    assert list(usage(vm, TARGET, KEYS.host_public))[-1] == (
        "The guest gets only a.ign, so SSH works only if core accepts the key /d/id_ed25519.pub, and the SSH server's "
        "key is the one in /d/known_hosts"
    )


def test_keys_that_are_missing_are_told(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match=r"^cannot read the keys in .*: No such file or directory$"):
        read_keys(make_paths(tmp_path))
