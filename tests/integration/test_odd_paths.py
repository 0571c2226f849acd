"""Directories of the user's whose names are not UTF-8, also in the locale C without Python's UTF-8 mode."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from machine.image.web import local_path
from tests.support.disk_images import Images
from tests.support.world import World, make_world

ODD = os.fsdecode(b"caf\xe9 \xff%23?")
LOCALES = {
    "C": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "UTF-8": {"LC_ALL": "C.UTF-8", "PYTHONIOENCODING": "utf-8:strict"},
}


@pytest.fixture(params=list(LOCALES.values()), ids=list(LOCALES))
def odd_world(request: pytest.FixtureRequest, short_path: Path) -> World:
    """All of the user's directories are below such a name; podman cannot be told of it but by its default places."""
    (short_path / ODD).mkdir()
    world = make_world(short_path / ODD / "w")
    world.warm = False
    world.extra = {**request.param, "DOCKER_CONFIG": "", "PODMAN_CONNECTIONS_CONF": "", "CONTAINERS_CONF": ""}
    return world


@pytest.fixture
def image(odd_world: World, images: Images) -> Path:
    path = odd_world.root / "disk.qcow2.xz"
    path.write_bytes(images.xz.read_bytes())
    return path


def test_path_comes_back_from_its_url() -> None:
    path = Path("/tmp") / ODD / "a b#c%20"
    assert local_path(path.as_uri()) == path


def test_machines_below_it(odd_world: World, image: Path) -> None:
    odd_world.init("box", image)
    for listing in (("ls",), ("inspect", "box"), ("info",), ("image", "ls")):
        for format_ in ("json", "{{json .}}"):
            assert odd_world.must(*listing, "--format", format_).stdout.isascii()
    for words in (
        ("ls",), ("inspect", "box"), ("info",), ("doctor",), ("image", "ls"), ("export", "box"), ("env", "box"),
        ("ssh-config", "box"), ("config", "get"), ("ignition", "box"), ("active",), ("set", "--cpus", "1", "box"),
        ("clone", "box", "two"), ("rename", "two", "three"), ("rm", "--force", "--save-ignition", "three"),
    ):  # fmt: skip
        outcome = odd_world.machine(*words)
        assert outcome.status == 0, (words, outcome)
        assert "bug" not in outcome.stderr, (words, outcome)


def test_paths_are_printed_as_they_are(odd_world: World, image: Path) -> None:
    odd_world.init("box", image)
    identity = odd_world.must("ls", "--format", "{{.IdentityPath}}").stdout.removesuffix("\n")
    assert identity == str(odd_world.machines / "box" / "id_ed25519")
    missing = odd_world.root / "nothing"
    outcome = odd_world.machine("init", "--image", missing, "two")
    assert str(missing) in outcome.stderr


def test_connections_are_plain(odd_world: World, image: Path) -> None:
    """Podman reads them as URLs, and Docker as paths in UTF-8."""
    odd_world.init("box", image)
    url = odd_world.must("url", "box").stdout
    assert url.isascii()
    assert not set("%?#").intersection(url)
    text = (odd_world.root / "home/.config/containers/podman-connections.json").read_text(encoding="ascii")
    assert url.strip() in text
