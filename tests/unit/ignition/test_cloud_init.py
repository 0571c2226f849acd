"""From the description of a guest to what cloud-init reads: whole, against golden files, and beside Ignition's."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from machine.ignition.cloud_init import render
from machine.ignition.document import Document, File, Unit
from machine.ignition.provision import provision
from machine.model.config import MachineConfig
from tests.support.builders import KEYS, make_config
from tests.support.golden import Golden

CONFIGS = {
    "default": make_config(),
    "other-user": make_config("my_box", username="me", uid=501, timezone="UTC", rootful=True),
}


def cloud_config(document: Document, config: MachineConfig | None = None, packages: Sequence[str] = ()) -> Any:
    text = render(document, config or make_config(), packages).user_data
    first, _, rest = text.partition("\n")
    assert first == "#cloud-config"
    return json.loads(rest)


@pytest.mark.parametrize("name", CONFIGS)
def test_seed_is_the_golden_one(name: str, golden: Golden) -> None:
    config = CONFIGS[name]
    files = render(provision(config, KEYS), config, ("podman",)).files()
    golden.matches_file("".join(f"== {file}\n{text}" for file, text in files.items()), f"{name}.seed")


def test_guest_is_the_same_as_by_ignition() -> None:
    """Every user, file, folder, link and unit of the one is in the other."""
    document = provision(make_config(), KEYS)
    config = cloud_config(document)
    ignition = json.loads(document.to_json())
    written = {node["path"]: node for node in config["write_files"]}
    for node in ignition["storage"]["files"]:
        if "ssh_host" in node["path"]:
            assert node["path"] not in written
        else:
            assert written[node["path"]]["defer"]
            assert written[node["path"]].get("append", False) == ("append" in node)
    commands = config["runcmd"]
    assert all(any(node["path"] == command[-1] for command in commands) for node in ignition["storage"]["directories"])
    assert all(["ln", "-sfn", node["target"], node["path"]] in commands for node in ignition["storage"]["links"])
    names = {word.partition(":")[2] for word in commands[-1][3:]}
    assert names == {node["name"] for node in ignition["systemd"]["units"]}
    assert {user["name"] for user in config["users"]} == {user["name"] for user in ignition["passwd"]["users"]}
    assert config["ssh_keys"] == {"ed25519_private": KEYS.host_private, "ed25519_public": KEYS.host_public}


def test_unit_that_tells_the_host_comes_last() -> None:
    units = (
        Unit(name="boot2podman-ready.service", enabled=True, contents="x"),
        Unit(name="a.service", enabled=False),
        Unit(name="b.service", mask=True),
        Unit(name="c.service", contents="only a text"),
    )
    document = replace(provision(make_config(), KEYS), units=units)
    config = cloud_config(document)
    assert config["runcmd"][-1][3:] == ["disable:a.service", "mask:b.service", "enable:boot2podman-ready.service"]
    assert "/etc/systemd/system/c.service" in [node["path"] for node in config["write_files"]]


def test_image_that_has_everything_asks_no_mirror() -> None:
    config = cloud_config(provision(make_config(), KEYS), packages=())
    assert "packages" not in config
    assert "package_update" not in config


@pytest.mark.parametrize("text", ["a\x1b[0mb", "\x7f", "\x85", "\ufeffx", "\r\n"])
def test_letters_that_yaml_forbids_travel_in_another_dress(text: str) -> None:
    document = provision(make_config(), KEYS)
    config = cloud_config(replace(document, files=(*document.files, File(path="/x", contents=text))))
    (node,) = [node for node in config["write_files"] if node["path"] == "/x"]
    assert node["encoding"] == "b64"
    assert base64.b64decode(node["content"]).decode() == text


def test_other_letters_stand_for_themselves() -> None:
    document = provision(make_config(), KEYS)
    text = render(replace(document, files=(*document.files, File(path="/x", contents="Ä 🐧\t\n"))), make_config(), ())
    assert "Ä 🐧" in text.user_data
