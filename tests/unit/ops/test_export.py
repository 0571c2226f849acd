"""A machine as a text, and that text as a machine."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tomlkit
from hypothesis import given
from hypothesis import strategies as st

from machine.errors import BadInputError
from machine.model.config import FirstBoot, MachineConfig, Provisioning, Script, UserIgnition
from machine.model.folders import Folder, parse_volume
from machine.model.host import AcceleratorChoice
from machine.model.image import ImageOptions
from machine.ops.export import export_text
from machine.ops.init_file import load
from machine.ops.init_first_boot import FirstBootRequest
from machine.ops.init_request import KEYS, InitRequest, Key, Part
from tests.support.builders import PUBLIC_KEY, USER_IGNITION, make_config, make_full_config, make_remote_config
from tests.support.golden import Golden

FULL = make_full_config()
EVERYTHING = replace(
    FULL,
    image=replace(FULL.image, promised="cd" * 32),
    first_boot=replace(FULL.first_boot, ignition=UserIgnition(name="site.ign", text=USER_IGNITION, replaces=True)),
)
"""A config for which every key is written."""

REMOTE = make_remote_config()
REMOTE_KEYS = {"provider", "host", "identity", "proxy_command"}
NOT_RECORDED = {"stream_base_url", "host_key", "accept_new_host_key"}


@pytest.mark.parametrize(("name", "config"), [("plain", make_config()), ("full", FULL)])
def test_text_is_the_golden_one(name: str, config: MachineConfig, golden: Golden) -> None:
    golden.matches_file(export_text(config), f"{name}.toml")


def test_text_says_everything_of_the_machine(tmp_path: Path) -> None:
    path = tmp_path / "box.toml"
    path.write_text(export_text(FULL), newline="")
    said = load(str(path))
    assert said == InitRequest(
        name="box",
        image="fcos:stable@43.1",
        image_options=ImageOptions(verify_tls=False),
        provisioning=Provisioning.IGNITION,
        arch="x86_64",
        accelerator=AcceleratorChoice.AUTO,
        cpus=2,
        memory_mib=2048,
        disk_gib=100,
        swap_mib=512,
        username="core",
        rootful=False,
        timezone="local",
        native_ca=True,
        volumes=("/a b:/é", "/c:/d:ro"),
        volume_driver="9p",
        mount_inotify=True,
        idle_suspend="off",
        usbs=FULL.usbs,
        labels=("org.example/x=", 'team=a "b"'),
        first_boot=FirstBootRequest(
            hostname="box.example.org",
            ssh_keys=(PUBLIC_KEY,),
            ignition=FULL.first_boot.ignition,
            playbook=FULL.first_boot.playbook,
            scripts=FULL.first_boot.scripts,
            environment=("A=1", "B=ü $x"),
        ),
    )


@pytest.mark.parametrize("name", [name for name in KEYS if name not in NOT_RECORDED])
def test_every_key_of_the_file_is_written_and_read_again(name: str, tmp_path: Path) -> None:
    path = tmp_path / "box.toml"
    path.write_text(export_text(REMOTE if name in REMOTE_KEYS else EVERYTHING), newline="")
    whole = load(str(path))
    document = tomlkit.parse(path.read_text())
    del document[name]
    path.write_text(tomlkit.dumps(document), newline="")
    expected = without(whole, KEYS[name])
    assert load(str(path)) == expected != whole


def without(request: InitRequest, key: Key) -> InitRequest:
    """The request as if this key had not been in the file."""
    none: dict[str, Any] = {key.field: None}
    match key.part:
        case Part.MACHINE:
            return replace(request, **none)
        case Part.IMAGE:
            return replace(request, image_options=replace(request.image_options, **none))
        case Part.FIRST_BOOT:
            return replace(request, first_boot=replace(request.first_boot, **none))


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]) | st.sampled_from("'\"\\\n\r\t\0\x7f")))
def test_every_text_comes_back_as_it_was(text: str) -> None:
    config = make_config(
        labels=(("a", text),), first_boot=FirstBoot(scripts=(Script(name="a", text=text),), hostname=text)
    )
    document = tomllib.loads(export_text(config))
    assert document["provision"] == [{"name": "a", "text": text}]
    assert (document["label"]["a"], document.get("hostname", "")) == (text, text)


def test_dollars_of_a_folder_are_no_variables(tmp_path: Path) -> None:
    folder = Folder(source="/a$HOME", target="/b$$")
    path = tmp_path / "box.toml"
    path.write_text(export_text(make_config(folders=(folder,))))
    (volume,) = load(str(path)).volumes or ()
    assert parse_volume(volume, environment={"HOME": "x"}, cwd="/") == folder


def test_paths_are_those_beside_the_file(tmp_path: Path) -> None:
    (tmp_path / "setup.sh").write_text("true\n")
    (tmp_path / "site.ign").write_text(USER_IGNITION)
    path = tmp_path / "box.toml"
    path.write_text(
        'image = "./disk.qcow2"\nprovision = ["setup.sh", "user:setup.sh"]\nignition-path = "site.ign"\n'
        'usb = ""\nimage_sha256 = "12"\nssh_authorized_key = "id.pub"\n'
    )
    said = load(str(path))
    assert said.image == str(tmp_path / "disk.qcow2")
    assert said.first_boot.scripts == (
        Script(name="setup.sh", text="true\n"), Script(name="setup.sh", text="true\n", as_user=True),
    )  # fmt: skip
    assert said.first_boot.ignition == UserIgnition(name="site.ign", text=USER_IGNITION)
    assert (said.usbs, said.image_options) == (("",), ImageOptions(sha256="12"))
    assert said.first_boot.ssh_keys == (str(tmp_path / "id.pub"),)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("cpus", "is not TOML"),
        ("cpu = 2", 'unknown key "cpu"; did you mean cpus?'),
        ("rootfull = true", 'unknown key "rootfull"; did you mean rootful?'),
        ("now = true", 'unknown key "now"'),
        ('cpus = "2"', '"cpus" must be a whole number of at least 1'),
        ("swap = true", '"swap" must be a whole number'),
        ("name = 5", '"name" must be a string in quotes'),
        ("label = 5", '"label" must be a table of strings'),
        ("env = {A = 1}", '"env" must be a table of strings'),
        ("usb = [1]", '"usb" must be a list of strings'),
        ("ignition_replace = 1", '"ignition_replace" must be true or false'),
        ("provision = [5]", '"provision" must be the path of a file, or a table'),
        ('provision = [{name = "a"}]', '"provision" must be the path of a file, or a table'),
        ('provision = [{name = "a/b", text = ""}]', '"provision" must be the path of a file, or a table'),
        ('playbook = {name = "a", text = "", user = true}', '"playbook" must be the path of a file, or a table'),
        ('ignition_path = {name = "a", text = "{}"}', 'a:1:1: the config needs the key "ignition"'),
        ('provision = "nosuch.sh"', "nosuch.sh: No such file"),
        ('accel = "xen"', '"accel" must be one of'),
    ],
)
def test_what_means_nothing_is_told_with_the_files_name(text: str, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "box.toml"
    path.write_text(text)
    with pytest.raises(BadInputError) as refused:
        load(str(path))
    assert refused.value.message.startswith(str(path))
    assert problem in refused.value.message
