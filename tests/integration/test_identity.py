"""Users of an unusual kind: a user ID without an entry in /etc/passwd, as in containers of OpenShift."""

from __future__ import annotations

import os
import pwd
import subprocess
from pathlib import Path

import pytest

from tests.support.builders import make_roots
from tests.support.disk_images import Images
from tests.support.world import World, machine_program, make_world

NAMELESS = 54_321

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")


@pytest.fixture
def nameless(short_path: Path, images: Images) -> World:
    """The world of a user who has no name, with an image that the user can read."""
    with pytest.raises(KeyError):
        pwd.getpwuid(NAMELESS)
    world = make_world(short_path / "w")
    world.warm, world.uid = False, NAMELESS
    (world.root / "home").mkdir()
    (world.root / "disk.qcow2").write_bytes(images.qcow2.read_bytes())
    for path in (short_path, *short_path.rglob("*")):
        os.chown(path, NAMELESS, NAMELESS, follow_symlinks=False)
    return world


def init(world: World) -> None:
    world.init("box", world.root / "disk.qcow2")


def test_user_without_a_name_makes_changes_and_removes_machines(nameless: World) -> None:
    init(nameless)
    nameless.must("clone", "box", "two")
    nameless.must("set", "box", "--cpus", "1")
    nameless.must("rename", "two", "other")
    assert nameless.must("ls", "--quiet").stdout.split() == ["box*", "other"]
    identity = make_roots(nameless.home).machine("box").identity
    derived = subprocess.run(["ssh-keygen", "-y", "-f", identity], check=True, capture_output=True, text=True).stdout
    assert identity.with_name("id_ed25519.pub").read_text().startswith(derived.strip())
    nameless.must("rm", "--force", "box")


def test_start_says_at_once_what_needs_a_name(nameless: World) -> None:
    init(nameless)
    outcome = nameless.machine("start", "box")
    assert outcome.status == 125
    assert outcome.stderr.splitlines()[-1] == (
        f"Error: ssh refuses to run, because user ID {NAMELESS} has no entry in /etc/passwd; "
        f"have root add an entry: echo user:x:{NAMELESS}:{NAMELESS}::/:/bin/sh >>/etc/passwd"
    )


@pytest.fixture
def read_only(nameless: World) -> World:
    """The world of a user whose home is read-only, with everything of ours elsewhere."""
    nameless.extra = {"DOCKER_CONFIG": "", "PODMAN_CONNECTIONS_CONF": "", "CONTAINERS_CONF": ""}
    (nameless.root / "home").chmod(0o555)
    return nameless


def test_read_only_home_keeps_nobody_from_having_machines(read_only: World) -> None:
    home = read_only.root / "home"
    made = read_only.init("box", read_only.root / "disk.qcow2")
    notices = [line for line in made.stderr.splitlines() if "could not be registered" in line]
    assert len(notices) == 2, made.stderr
    assert f"cannot write {home}/.config/containers/podman-connections.json: Permission denied" in notices[0]
    assert f"cannot write {home}/.docker/contexts/meta/" in notices[1]
    assert notices[0].endswith('to use it, run: eval "$(machine env box)"')
    assert "podman.sock" in read_only.must("env", "box").stdout
    assert read_only.must("ls", "--quiet").stdout == "box\n"
    read_only.must("clone", "box", "two")
    read_only.must("set", "--rootful", "box")
    assert read_only.must("rename", "two", "three").stderr == ""
    started = read_only.machine("start", "box").stderr
    assert "could not be registered" in started
    assert "ssh refuses to run" in started
    assert read_only.must("rm", "--force", "box").stderr == ""
    assert list(home.iterdir()) == []


@pytest.mark.parametrize("home", ["home", "/dev/null"])
def test_doctor_only_warns_of_a_home_that_keeps_nobody_from_having_machines(home: str, read_only: World) -> None:
    told = read_only.machine("doctor", HOME=str(read_only.root / home), XDG_CONFIG_HOME="").stdout
    for name in ("podman connections", "docker contexts"):
        (line,) = [line for line in told.splitlines() if name in line]
        assert line.split()[0] == "warning", told
    assert told.count('or use: eval "$(machine env NAME)"') == 2


def test_home_that_is_no_directory_keeps_nobody_from_having_machines(read_only: World) -> None:
    read_only.extra |= {"HOME": "/dev/null", "XDG_CONFIG_HOME": ""}
    made = read_only.init("box", read_only.root / "disk.qcow2").stderr
    assert "cannot write /dev/null/.config/containers/podman-connections.json: Not a directory" in made
    assert "cannot write /dev/null/.docker/contexts/meta/" in made
    assert read_only.must("rm", "--force", "box").stderr == ""


def test_links_to_nothing_keep_nobody_from_having_machines(nameless: World) -> None:
    """As those of a manager of dotfiles whose directory is not mounted."""
    nameless.extra = {"DOCKER_CONFIG": "", "PODMAN_CONNECTIONS_CONF": "", "CONTAINERS_CONF": ""}
    home = nameless.root / "home"
    (home / ".config").mkdir()
    for name in (".config/containers", ".docker"):
        (home / name).symlink_to("/gone")
    made = nameless.init("box", nameless.root / "disk.qcow2").stderr
    for name in (".config/containers", ".docker"):
        assert f": {home}/{name} is a symbolic link to /gone, which does not exist; to use it, run: eval" in made
    assert nameless.must("rm", "--force", "box").stderr == ""


@pytest.mark.parametrize("words", [["image", "prune"], ["reset", "--force"]])
def test_nothing_to_remove_in_a_read_only_home_is_no_failure(words: list[str], read_only: World) -> None:
    home = read_only.root / "home"
    outcome = read_only.must(*words, MACHINE_HOME=str(home / "none"))
    assert outcome.stderr in ("", "Freed 0 B\n")
    assert list(home.iterdir()) == []


def test_home_that_becomes_read_only_is_told_by_rename_and_rm(nameless: World) -> None:
    nameless.extra = {"DOCKER_CONFIG": "", "PODMAN_CONNECTIONS_CONF": "", "CONTAINERS_CONF": ""}
    init(nameless)
    for path in (nameless.root / "home").rglob("*"):
        path.chmod(0o555 if path.is_dir() else 0o444)
    assert "could not be registered with every client" in nameless.must("rename", "box", "new").stderr
    nameless.must("rm", "--force", "new")


def test_openssh_really_refuses(nameless: World) -> None:
    outcome = nameless.run("ssh", "-V", check=False)
    assert outcome.status == 255
    assert "No user exists for uid" in outcome.stderr


def test_doctor_says_what_needs_a_name(nameless: World) -> None:
    outcome = nameless.machine("doctor")
    assert f"ssh refuses to run, because user ID {NAMELESS} has no entry in /etc/passwd" in outcome.stdout
    assert "openssh-client" not in outcome.stdout
    assert outcome.status == 1


def test_user_without_a_name_and_without_a_home(nameless: World) -> None:
    outcome = nameless.run("/usr/bin/env", "-u", "HOME", machine_program(), "ls", check=False)
    assert outcome.status == 125
    assert outcome.stderr == (
        f"Error: HOME is not set, and user ID {NAMELESS} has no entry in /etc/passwd; "
        "set HOME to a directory of yours\n"
    )


@pytest.mark.parametrize("value", ["", "relative"])
def test_home_that_is_no_absolute_path_is_refused(value: str, nameless: World) -> None:
    outcome = nameless.machine("ls", HOME=value)
    assert outcome.status == 125
    assert outcome.stderr == (
        f'Error: HOME must be an absolute path, not "{value}"; set HOME to a directory of yours\n'
    )
