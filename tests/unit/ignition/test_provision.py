"""From a machine to its Ignition config, whole, against golden files."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import Any

import pytest

from machine.errors import MachineError
from machine.ignition.assets import load
from machine.ignition.coreos import kernel_arguments
from machine.ignition.document import KernelArguments, find_overridden, with_arguments
from machine.ignition.provision import hostname, ignition_text, provision, subordinate_ids
from machine.model.arch import Arch
from machine.model.config import FirstBoot, ImageOrigin, UserIgnition
from machine.model.folders import Folder
from tests.support.builders import DIGEST, KEYS, USER_IGNITION, make_config, make_full_config
from tests.support.golden import Golden

CONFIGS = {
    "default": make_config(),
    "other-user": make_config("my_box", username="me", uid=501, timezone="UTC"),
    "rootful": make_config(rootful=True),
    "swap": make_config(swap_mib=512),
    "first-boot": make_full_config(),
    "uid-in-subordinate-range": make_config(uid=200_000),
    "folder-in-root": make_config(folders=(Folder(source="/home/me/src", target="/src"),)),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_config_is_the_golden_one(name: str, golden: Golden) -> None:
    golden.matches_file(provision(CONFIGS[name], KEYS).to_json(), f"{name}.ign")


@pytest.mark.parametrize(
    ("name", "host"),
    [("box", "box"), ("my_box", "my-box"), ("Box.1", "Box.1"), ("box_", "box"), ("box-.-", "box")],
)
def test_host_name_has_only_what_a_host_name_may_have(name: str, host: str) -> None:
    assert hostname(make_config(name)) == host


@pytest.mark.parametrize(
    ("uid", "line"),
    [
        (1000, "me:100000:1000000\n"),
        (99_999, "me:100000:1000000\n"),
        (100_000, "me:100001:1000000\n"),
        (501_234, "me:501235:1000000\n"),
        (1_099_999, "me:1100000:1000000\n"),
        (1_100_000, "me:100000:1000000\n"),
    ],
)
def test_subordinate_range_never_holds_the_user(uid: int, line: str) -> None:
    assert subordinate_ids("me", uid) == line


NO_COMPOSEFS = ("ostree.prepare-root.composefs=0",)
ELSEWHERE = ImageOrigin(reference="boot2podman", digest=DIGEST, location="/s/boot2podman-1-qemu.x86_64.qcow2.xz")
FILE = ImageOrigin(reference="/x/os", digest=DIGEST, location="/d/fedora-coreos-44.1-qemu.x86_64.qcow2.xz")


@pytest.mark.parametrize(
    ("targets", "fields", "present", "absent"),
    [
        ((), {}, (), ()),
        (("/home/me", "/var/folders", "/mnt/x", "/opt/x/y", "/usr/local/src"), {}, (), ()),
        (("/home/me", "/Users"), {}, NO_COMPOSEFS, ()),
        (("/private/var",), {}, NO_COMPOSEFS, ()),
        (("/data",), {"image": FILE}, NO_COMPOSEFS, ()),
        (("/data",), {"image": ELSEWHERE}, (), ()),
        ((), {"arch": Arch.PPC64LE}, (), ("console=tty0",)),
        (("/data",), {"arch": Arch.PPC64LE}, NO_COMPOSEFS, ("console=tty0",)),
        ((), {"arch": Arch.PPC64LE, "image": ELSEWHERE}, (), ()),
    ],
)
def test_fedora_coreos_gets_the_kernel_arguments_that_it_needs(
    targets: tuple[str, ...], fields: dict[str, Any], present: tuple[str, ...], absent: tuple[str, ...]
) -> None:
    folders = tuple(Folder(source="/s", target=target) for target in targets)
    assert kernel_arguments(make_config(folders=folders, **fields)) == KernelArguments(present=present, absent=absent)


def test_kernel_arguments_are_changed_in_a_config_that_a_user_has_edited() -> None:
    plain, shared = make_config(), make_config(folders=(Folder(source="/s", target="/data"),))
    none, needed = kernel_arguments(plain), kernel_arguments(shared)
    with_them = with_arguments(ignition_text(plain, KEYS), none, needed)
    assert with_them == ignition_text(shared, KEYS)
    edited = {
        "ignition": {"version": "3.4.0"},
        "kernelArguments": {"shouldExist": [*NO_COMPOSEFS, "quiet"], "shouldNotExist": ["rhgb"]},
    }
    own = {"ignition": {"version": "3.4.0"}, "kernelArguments": {"shouldExist": ["quiet"], "shouldNotExist": ["rhgb"]}}
    assert json.loads(with_arguments(json.dumps(edited), needed, none)) == own
    assert json.loads(with_arguments(json.dumps(own), none, needed)) == edited
    with pytest.raises(ValueError, match="JSON"):
        with_arguments("[]", none, needed)


def test_asset_has_its_values_in_place() -> None:
    text = load("files/podman-docker.conf", api_socket="/run/x.sock")
    assert "/run/x.sock" in text
    assert "@API_SOCKET@" not in text


def test_asset_that_is_not_there_is_an_error() -> None:
    with pytest.raises((MachineError, FileNotFoundError)):
        load("files/nosuch")


def test_config_of_the_user_is_merged_over_ours_or_replaces_it() -> None:
    theirs = UserIgnition(name="site.ign", text=USER_IGNITION)
    merged = json.loads(ignition_text(make_config(first_boot=FirstBoot(ignition=theirs)), KEYS))
    (source,) = merged["ignition"].pop("config")["merge"]
    kind, _, encoded = source["source"].partition(",")
    assert (kind, base64.b64decode(encoded).decode()) == ("data:;base64", USER_IGNITION)
    assert merged == json.loads(provision(make_config(), KEYS).to_json())
    alone = FirstBoot(ignition=replace(theirs, replaces=True))
    assert ignition_text(make_config(first_boot=alone), KEYS) == USER_IGNITION


def test_what_theirs_takes_the_place_of_is_known() -> None:
    ours = provision(make_config(), KEYS)
    theirs = {
        "storage": {
            "files": [
                {"path": "/etc/hosts", "append": [{"source": "data:,a"}]},
                {"path": "/etc/subuid", "contents": {"source": "data:,a"}},
                {"path": "/etc/own", "contents": {"source": "data:,a"}},
            ],
            "links": [{"path": "/etc/hostname", "target": "own"}],
        },
        "systemd": {"units": [{"name": "podman.socket", "enabled": False}, {"name": "own.service"}]},
    }
    assert find_overridden(ours, json.dumps(theirs)) == ["/etc/subuid", "/etc/hostname", "podman.socket"]
    assert find_overridden(ours, USER_IGNITION) == []
    assert (
        find_overridden(ours, '{"ignition": {"version": "3.2.0"}, "storage": null, "systemd": {"units": null}}') == []
    )
