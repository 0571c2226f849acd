"""Remedies that `machine doctor` advises are carried out, on copies of the host's files, and mend what they are for."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from machine.folders.virtiofsd import add_subids_command, parse_subids
from tests.support.world import make_world

DAEMON = 1  # has a name on every host, and no subordinate IDs
USERMOD = shutil.which("usermod", path="/usr/sbin:/sbin:/usr/bin")
COUNT = 65_536

pytestmark = [
    pytest.mark.skipif(os.getuid() != 0 or USERMOD is None, reason="root's usermod is needed"),
    pytest.mark.linux("the remedies are Linux's"),
]


def carry_out(command: str, etc: Path) -> None:
    """Run a command of sudo and usermod on the files of another /etc."""
    sudo, program, *words = shlex.split(command)
    assert (sudo, program) == ("sudo", "usermod")
    subprocess.run([str(USERMOD), "--prefix", etc.parent, *words], check=True)


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    directory = tmp_path / "etc"
    directory.mkdir()
    for name in ("passwd", "group", "shadow", "gshadow", "login.defs"):
        shutil.copyfile(Path("/etc") / name, directory / name)
    (directory / "subuid").write_text("someone:100000:65536\nother:300000:1000\n")
    (directory / "subgid").write_text("someone:100000:65536\n")
    return directory


def test_subordinate_ids_are_added_that_nobody_has(etc: Path) -> None:
    texts = [(etc / name).read_text() for name in ("subuid", "subgid")]
    carry_out(add_subids_command("daemon", *texts), etc)
    for name in ("subuid", "subgid"):
        assert parse_subids((etc / name).read_text(), "daemon", DAEMON) == (301_000, COUNT)


def test_user_joins_a_group(etc: Path) -> None:
    carry_out('sudo usermod -aG disk "daemon"', etc)
    members = [line.split(":")[3] for line in (etc / "group").read_text().splitlines() if line.startswith("disk:")]
    assert "daemon" in members[0].split(",")


def test_doctor_advises_that_to_a_user_without_ids(short_path: Path) -> None:
    world = make_world(short_path / "w")
    world.warm, world.uid = False, DAEMON
    world.link_tool("newuidmap")
    for path in (short_path, *short_path.rglob("*")):
        os.chown(path, DAEMON, DAEMON, follow_symlinks=False)
    outcome = world.machine("doctor")
    assert "this user has no subordinate IDs for the guest's users (see subuid(5))" in outcome.stdout
    remedy = outcome.stdout.split("subuid(5))\n")[1].splitlines()[0].strip()
    assert remedy.startswith("remedy: sudo usermod --add-subuids ")
    assert remedy.endswith(" daemon")
