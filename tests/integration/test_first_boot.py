"""What a user gives a new guest, by flags and by a file; the real validator has its say, and nothing boots."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from machine.ignition import assets
from tests.support.builders import PUBLIC_KEY, USER_IGNITION
from tests.support.disk_images import Images
from tests.support.world import Outcome, World

# Stands in for butane, which Debian does not have: it translates a config of its version alone, as that one does.
BUTANE = """#!/bin/sh
[ "$1 $2" = "--strict --files-dir" ] || exit 9
if grep -q nonsense "$4"; then
    echo "Error: translating config: config generated was invalid" >&2
    echo "error at $.nonsense, line 2 col 1: unused key nonsense" >&2
    exit 1
fi
echo '{"ignition": {"version": "3.3.0"}, "kernelArguments": {"shouldExist": ["quiet"]}}'
"""

SITE = {
    "ignition": {"version": "3.2.0"},
    "storage": {"files": [{"path": "/etc/motd", "contents": {"source": "data:,hello"}}]},
}


def refused(outcome: Outcome, world: World, before: dict[str, bytes]) -> str:
    """The one line of what was refused, which has left nothing on the disk."""
    assert (outcome.status, outcome.stdout) == (125, "")
    line, *_ = outcome.stderr.splitlines()
    assert line.startswith("Error: ")
    assert world.files() == before
    return line.removeprefix("Error: ")


def config(world: World, name: str) -> dict[str, Any]:
    """The part of the machine's record that says what was asked for."""
    document: dict[str, dict[str, Any]] = json.loads((world.machines / name / "record.json").read_bytes())
    return document["config"]


@pytest.fixture
def given(world: World) -> list[str]:
    """Everything that can be given, as flags."""
    (world.root / "site.ign").write_text(json.dumps(SITE))
    (world.root / "set up.sh").write_text("#!/bin/sh\necho 'a' \"$HOME\"\n")
    (world.root / "own.sh").write_text("echo own\n")
    (world.root / "site.yml").write_text("- hosts: all\n")
    (world.root / "id.pub").write_text(f"{PUBLIC_KEY}\n")
    return [
        "--ignition-path", "site.ign", "--provision", "set up.sh", "--provision", "user:own.sh", "--playbook",
        "site.yml", "--env", "A=1", "--env", "HOME", "--label", "team=web", "--label", "x", "--ssh-authorized-key",
        "id.pub", "--hostname", "h.example.org", "--timezone", "Europe/Stockholm", "--swap", "64", "--cpus", "1",
    ]  # fmt: skip


def test_machine_that_was_exported_is_made_again_from_the_text_alone(
    world: World, images: Images, given: list[str]
) -> None:
    world.init("box", images.qcow2, *given)
    exported = world.machine("export", "box").stdout
    (world.root / "box.toml").write_text(exported)
    for name in ("site.ign", "set up.sh", "own.sh", "site.yml", "id.pub"):
        (world.root / name).unlink()
    again = world.machine("init", "-f", "box.toml", "other")
    assert again.status == 0, again.stderr
    own = ("name", "created", "mac", "ssh_port")
    box, other = config(world, "box"), config(world, "other")
    assert {key: value for key, value in box.items() if key not in own} == {
        key: value for key, value in other.items() if key not in own
    }
    assert world.machine("export", "other").stdout == exported.replace("like box:", "like other:").replace(
        '"box"', '"other"'
    )
    configs = [json.loads(world.machine("ignition", name).stdout) for name in ("box", "other")]
    assert [file["path"] for file in configs[0]["storage"]["files"]] == [
        file["path"] for file in configs[1]["storage"]["files"]
    ]
    assert configs[0]["ignition"] == configs[1]["ignition"]
    assert world.inspect("box")["Machine"]["Labels"] == {"team": "web", "x": ""}
    assert config(world, "box")["first_boot"]["environment"]["HOME"] == world.environment["HOME"]


def test_flags_overrule_the_file_which_gives_the_name(world: World, images: Images) -> None:
    (world.root / "box.toml").write_text(
        f'name = "filed"\nimage = "{images.qcow2}"\ncpus = 1\nmemory = 1024\nlabel = {{a = "b"}}\n'
    )
    assert world.machine("init", "-f", "box.toml", "--memory", "768", "--label", "c").status == 0
    made = config(world, "filed")
    assert (made["resources"]["cpus"], made["resources"]["memory_mib"], made["labels"]) == (1, 768, {"c": ""})


def test_promise_of_an_image_is_in_the_text_and_is_kept_for_that_image_alone(world: World, images: Images) -> None:
    promise = hashlib.sha256(images.qcow2.read_bytes()).hexdigest()
    world.init("box", images.qcow2, "--image-sha256", promise.upper())
    exported = world.machine("export", "box").stdout
    assert f'image_sha256 = "{promise}"\n' in exported
    (world.root / "box.toml").write_text(exported)
    assert world.machine("init", "-f", "box.toml", "same").status == 0
    assert config(world, "same")["image"] == config(world, "box")["image"]
    assert world.machine("init", "-f", "box.toml", "--image", str(images.gz), "other").status == 0
    assert config(world, "other")["image"]["promised"] is None
    (world.root / "box.toml").write_text(exported.replace(promise, "0" * 64))
    before = world.files()
    assert "is not the expected file: sha256 " in refused(world.machine("init", "-f", "box.toml", "bad"), world, before)


def test_listing_can_be_of_those_with_a_label(world: World, images: Images) -> None:
    world.init("box", images.qcow2, "--label", "team=web")
    world.init("other", images.qcow2, "--label", "team=db", "--label", "x")
    assert world.machine("ls", "-q", "--label", "team=web").stdout == "box*\n"
    assert world.machine("ls", "-q", "--label", "team", "--label", "x").stdout == "other\n"
    assert world.machine("ls", "-q", "--label", "nosuch").stdout == ""
    listed = json.loads(world.machine("ls", "--format", "json", "--label", "x").stdout)
    assert [entry["Labels"] for entry in listed] == [{"team": "db", "x": ""}]


def test_config_that_replaces_ours_is_all_the_guest_gets(world: World, images: Images) -> None:
    (world.root / "site.ign").write_text(USER_IGNITION)
    made = world.init("box", images.qcow2, "--ignition-path", "site.ign", "--ignition-replace")
    assert "The guest gets only site.ign" in made.stderr
    assert world.machine("ignition", "box").stdout == USER_IGNITION


def test_what_is_replaced_of_ours_is_told(world: World, images: Images) -> None:
    (world.root / "site.ign").write_text(json.dumps(SITE).replace("/etc/motd", "/etc/hostname"))
    made = world.init("box", images.qcow2, "--ignition-path", "site.ign")
    assert "site.ign replaces parts of the machine's own config: /etc/hostname\n" in made.stderr


@pytest.mark.parametrize("validator", [True, False])
def test_mistake_has_its_line_with_and_without_the_validator(validator: bool, world: World, images: Images) -> None:
    if validator:
        world.link_tool("ignition-validate")
    (world.root / "site.ign").write_text('{"ignition": {"version": "3.2.0"},\n "storage": {"filez": []}}')
    before = world.files()
    line = refused(world.machine("init", "--image", images.qcow2, "--ignition-path", "site.ign"), world, before)
    assert line == 'site.ign:2:14: unused key "filez" in storage; did you mean "files"?'


def test_validator_finds_what_the_linter_does_not_know(world: World, images: Images) -> None:
    world.link_tool("ignition-validate")
    unit = {"name": "a.service", "enabled": True, "contents": "[Service]\nExecStart"}
    (world.root / "site.ign").write_text(json.dumps({**SITE, "systemd": {"units": [unit]}}))
    before = world.files()
    line = refused(world.machine("init", "--image", images.qcow2, "--ignition-path", "site.ign"), world, before)
    assert line.startswith("site.ign: error at $.systemd.units.0")


def test_butane_is_translated_where_it_is_installed(world: World, images: Images) -> None:
    (world.root / "site.bu").write_text("variant: fcos\nversion: 1.4.0\n")
    before = world.files()
    words = ("init", "--image", images.qcow2, "--ignition-path", "site.bu", "box")
    assert refused(world.machine(*words), world, before) == (
        "site.bu is a Butane file, but butane is not installed on this host; "
        "install butane, or translate the file elsewhere: butane --strict FILE.bu >FILE.ign"
    )
    (world.bin / "butane").write_text(BUTANE)
    (world.bin / "butane").chmod(0o755)
    for tool in ("sh", "grep"):
        world.link_tool(tool)
    made = world.machine(*words)
    assert made.status == 0, made.stderr
    assert json.loads(config(world, "box")["first_boot"]["ignition"]["text"])["kernelArguments"]
    (world.root / "site.bu").write_text("variant: fcos\nnonsense: 1\n")
    before = world.files()
    words = (*words[:-1], "other")
    assert refused(world.machine(*words), world, before) == (
        "site.bu: error at $.nonsense, line 2 col 1: unused key nonsense"
    )


# The script that runs the user's scripts in a guest


def run_provision(root: Path, *words: str) -> str:
    script = assets.load("files/provision.sh", username="root").replace("/var/lib/boot2podman/provision", str(root))
    (root / "runner").write_text(script)
    return subprocess.run(
        ["bash", root / "runner", *words], capture_output=True, text=True, check=False, timeout=60
    ).stdout


def test_scripts_run_once_in_their_order_up_to_the_first_that_fails(tmp_path: Path) -> None:
    scripts = tmp_path / "scripts"
    scripts.mkdir()
    for name, text in {
        "001-root-a.sh": f"#!/bin/bash\n[[ $PWD = $HOME ]] && echo one >>{tmp_path}/ran",
        "002-root-b.sh": f"echo two >>{tmp_path}/ran; seq 40; exit 7",
        "003-root-c.sh": f"echo three >>{tmp_path}/ran",
    }.items():
        (scripts / name).write_text(text)
        (scripts / name).chmod(0o700)
    assert run_provision(tmp_path, "report").splitlines() == [
        "waiting 001-root-a.sh", "waiting 002-root-b.sh", "waiting 003-root-c.sh",
    ]  # fmt: skip
    for _ in range(2):
        run_provision(tmp_path)
        assert (tmp_path / "ran").read_text() == "one\ntwo\n"
    report = run_provision(tmp_path, "report").splitlines()
    assert report[:2] == ["0 001-root-a.sh", "7 002-root-b.sh"]
    assert report[2:] == [*(f"| {number}" for number in range(26, 41)), "waiting 003-root-c.sh"]


def test_script_that_was_interrupted_is_not_run_again(tmp_path: Path) -> None:
    (tmp_path / "scripts").mkdir()
    script = tmp_path / "scripts" / "001-root-a.sh"
    script.write_text(f"echo ran >>{tmp_path}/ran; kill -9 $PPID")
    run_provision(tmp_path)
    run_provision(tmp_path)
    assert (tmp_path / "ran").read_text() == "ran\n"
    assert run_provision(tmp_path, "report").splitlines()[0] == "began 001-root-a.sh"
