"""Docker contexts, in the folders and with the fields that the docker client writes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from machine.podman import docker_context

# Docker names the folder by the sha256 of the context's name.
META_OF_MACHINE = Path("contexts/meta/bc020a35b7f9cb1382e7b534c68e3c531d849b119bf14f75ddead6cc45c3ccc1/meta.json")
SOCKET = Path("/run/box/podman.sock")


def test_context_is_written_as_docker_writes_it(tmp_path: Path) -> None:
    docker_context.create(tmp_path, "machine", SOCKET)
    (written,) = tmp_path.glob("contexts/meta/*/meta.json")
    assert written.relative_to(tmp_path) == META_OF_MACHINE
    assert json.loads(written.read_bytes()) == {
        "Name": "machine",
        "Metadata": {"Description": "Podman machine machine"},
        "Endpoints": {"docker": {"Host": "unix:///run/box/podman.sock", "SkipTLSVerify": False}},
    }


def test_context_is_removed_by_its_socket(tmp_path: Path) -> None:
    docker_context.create(tmp_path, "box", SOCKET)
    docker_context.remove(tmp_path, "box", Path("/run/other.sock"))
    assert docker_context.exists(tmp_path, "box")
    docker_context.remove(tmp_path, "box", SOCKET)
    assert not docker_context.exists(tmp_path, "box")


def test_half_of_a_context_is_none(tmp_path: Path) -> None:
    """As a full disk leaves it."""
    docker_context.create(tmp_path, "box", SOCKET)
    (tmp_path / "contexts" / "meta").rename(tmp_path / "meta")
    for half in (tmp_path / "meta").iterdir():
        (tmp_path / "contexts" / "meta" / half.name).mkdir(parents=True)
    assert not docker_context.exists(tmp_path, "box")
    docker_context.create(tmp_path, "box", SOCKET)
    assert docker_context.points_to(tmp_path, "box", SOCKET)


def test_context_that_goes_is_no_longer_the_current_one(tmp_path: Path) -> None:
    docker_context.create(tmp_path, "box", SOCKET)
    client = tmp_path / "config.json"
    client.write_text('{"auths": {"quay.io": {}}, "currentContext": "box"}')
    client.chmod(0o600)
    docker_context.remove(tmp_path, "box", SOCKET)
    assert json.loads(client.read_bytes()) == {"auths": {"quay.io": {}}}
    assert client.stat().st_mode & 0o777 == 0o600


def test_context_that_is_renamed_stays_the_current_one(tmp_path: Path) -> None:
    docker_context.create(tmp_path, "box", SOCKET)
    (tmp_path / "config.json").write_text('{"auths": {}, "currentContext": "box"}')
    docker_context.rename(tmp_path, "box", "bax", Path("/run/bax/podman.sock"))
    assert json.loads((tmp_path / "config.json").read_bytes()) == {"auths": {}, "currentContext": "bax"}
    assert not docker_context.exists(tmp_path, "box")
    assert docker_context.points_to(tmp_path, "bax", Path("/run/bax/podman.sock"))


@pytest.mark.parametrize("settings", ['{"currentContext": "other"}', "damaged", "[]"])
def test_other_settings_of_docker_are_left_alone(tmp_path: Path, settings: str) -> None:
    docker_context.create(tmp_path, "box", SOCKET)
    (tmp_path / "config.json").write_text(settings)
    docker_context.remove(tmp_path, "box", SOCKET)
    assert (tmp_path / "config.json").read_text() == settings
    assert not docker_context.exists(tmp_path, "box")


def test_removing_a_context_that_is_not_there_makes_nothing(tmp_path: Path) -> None:
    docker_context.remove(tmp_path / "docker", "box", SOCKET)
    assert not (tmp_path / "docker").exists()


def test_place_of_dockers_files() -> None:
    assert docker_context.docker_config({}, Path("/home/me")) == Path("/home/me/.docker")
    assert docker_context.docker_config({"DOCKER_CONFIG": "/d"}, Path("/home/me")) == Path("/d")
