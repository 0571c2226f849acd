"""What a user gives a new guest: what it cannot be beside the rest, and beside an image."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from machine.errors import BadInputError
from machine.model.config import FirstBoot, Script, UserIgnition
from machine.ops.init_first_boot import check_together, check_users, read_script, read_ssh_keys
from tests.support.builders import PUBLIC_KEY, USER_IGNITION

THEIRS = UserIgnition(name="site.ign", text=USER_IGNITION)
ALONE = UserIgnition(name="site.ign", text=USER_IGNITION, replaces=True)
NEWER = UserIgnition(name="site.ign", text='{"ignition": {"version": "3.4.0"}}')
SCRIPT = Script(name="a.sh", text="")


@pytest.mark.parametrize(
    ("first_boot", "swap_mib", "image", "problem"),
    [
        (FirstBoot(), 0, "boot2podman", ""),
        (FirstBoot(ignition=THEIRS, scripts=(SCRIPT,), playbook=SCRIPT), 5, "boot2podman", ""),
        (FirstBoot(ignition=ALONE), 0, "boot2podman", ""),
        (FirstBoot(ignition=ALONE, ssh_keys=("k",)), 0, "fcos:stable", "--ssh-authorized-key would have no effect"),
        (FirstBoot(ignition=ALONE), 5, "fcos:stable", "--swap would have no effect"),
        (FirstBoot(ignition=NEWER), 0, "fcos:stable", ""),
        (FirstBoot(ignition=NEWER), 0, "boot2podman", "has version 3.4.0"),
        (FirstBoot(playbook=SCRIPT), 0, "fcos:next", "the image fcos:next has no Ansible"),
        (FirstBoot(playbook=SCRIPT), 0, "docker://quay.io/podman/machine-os:6.0", ""),
    ],
)
def test_parts_that_cannot_be_together_are_refused(
    first_boot: FirstBoot, swap_mib: int, image: str, problem: str
) -> None:
    if not problem:
        check_together(first_boot, swap_mib, image)
        return
    with pytest.raises(BadInputError, match=problem):
        check_together(first_boot, swap_mib, image)


@pytest.mark.parametrize(
    ("user", "problem"),
    [
        ({"name": "core", "groups": ["adm"]}, ""),
        ({"name": "core", "uid": 1000}, ""),
        ({"name": "eve", "uid": 7, "shouldExist": False}, ""),
        ({"name": "eve", "uid": 1000}, "gives the user eve the uid 1000, which belongs to core"),
        ({"name": "core", "uid": 1001}, "gives the user core the uid 1001"),
        ({"name": "core", "shouldExist": False}, "removes the user core"),
        ({"name": "root", "shouldExist": False}, "removes the user root"),
    ],
)
def test_users_whom_a_machine_needs_stay(user: dict[str, Any], problem: str) -> None:
    text = json.dumps({"ignition": {"version": "3.2.0"}, "passwd": {"users": [user]}})
    theirs = UserIgnition(name="site.ign", text=text)
    if not problem:
        check_users(theirs, "core", 1000)
        return
    with pytest.raises(BadInputError, match=problem):
        check_users(theirs, "core", 1000)


@pytest.mark.parametrize(
    ("group", "refused"),
    [
        ({"name": "docker"}, False),
        ({"name": "docker", "gid": 1001}, False),
        ({"name": "docker", "gid": 1000}, True),
        ({"name": "core"}, True),
    ],
)
def test_group_of_the_user_is_nobody_elses(group: dict[str, Any], refused: bool) -> None:
    text = json.dumps({"ignition": {"version": "3.2.0"}, "passwd": {"groups": [group]}})
    theirs = UserIgnition(name="site.ign", text=text)
    with (
        pytest.raises(BadInputError, match="with the name or gid of core's own group")
        if refused
        else contextlib.nullcontext()
    ):
        check_users(theirs, "core", 1000)


def test_script_is_roots_unless_its_path_is_called_the_users(tmp_path: Path) -> None:
    path = tmp_path / "user:a.sh"
    path.write_text("true\n")
    assert read_script(str(path)) == Script(name="user:a.sh", text="true\n")
    assert read_script(f"user:{path}") == Script(name="user:a.sh", text="true\n", as_user=True)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(BadInputError, match="is not UTF-8 text"):
        read_script(str(path))


def test_user_whose_place_is_taken_is_not_given_anything() -> None:
    text = json.dumps({"ignition": {"version": "3.2.0"}, "passwd": {"users": [{"name": "core", "groups": ["adm"]}]}})
    with pytest.raises(BadInputError) as caught:
        check_users(UserIgnition(name="site.ign", text=text), "me", 1000)
    assert caught.value.line == (
        "site.ign defines the user core, but in this machine that user is called me; "
        "rename this user to me, or leave out --username"
    )


@pytest.mark.parametrize("text", ["", "user:"])
def test_empty_text_is_no_script(text: str) -> None:
    with pytest.raises(BadInputError) as caught:
        read_script(text)
    assert caught.value.line == "the script must not be empty"


def test_script_whose_first_line_no_guest_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.sh"
    path.write_bytes(b"#!/bin/sh\r\necho\r\n")
    with pytest.raises(BadInputError) as caught:
        read_script(str(path))
    assert caught.value.line == (
        f"the script {path} has Windows line endings, so the guest cannot run it; "
        f"fix the script with: sed -i 's/\\r$//' {path}"
    )


def test_name_of_a_script_is_one_that_people_and_records_can_have(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.sh"))
    path.write_text("true\n")
    assert read_script(str(path)).name == "\ufffd.sh"


def test_file_that_can_be_no_text_of_ours_is_not_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "disk.raw"
    with path.open("wb") as stream:
        stream.truncate(1 << 40)
    with pytest.raises(BadInputError) as caught:
        read_script(str(path))
    assert caught.value.line == f"{path} is larger than 16 MiB"


def test_keys_come_as_themselves_or_by_files(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    other = PUBLIC_KEY.replace(" me", " you")
    path.write_text(f"# mine\n{PUBLIC_KEY}\n\n{other}\n")
    assert read_ssh_keys([PUBLIC_KEY, str(path)]) == (PUBLIC_KEY, other)
