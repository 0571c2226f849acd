"""What every test has: a world of its own, in which nothing of the user's is read or written."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest

# A busy machine is no defect.
hypothesis.settings.register_profile("ours", deadline=None)
hypothesis.settings.load_profile("ours")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write what the code says now into the golden files")
    parser.addoption(
        "--cached-images",
        action="store_true",
        help="boot no foreign guests but those whose images are there: they take long to build",
    )


@pytest.fixture
def matches_golden(request: pytest.FixtureRequest) -> Callable[[str, Path], None]:
    """Compare a text with a file that is under version control; `--update-golden` writes the file instead."""

    def check(text: str, golden: Path) -> None:
        if request.config.getoption("--update-golden"):
            golden.parent.mkdir(exist_ok=True)
            golden.write_text(text)
        assert text == golden.read_text(), f"{golden.name} differs: see what has changed with --update-golden"

    return check


@pytest.fixture(autouse=True)
def isolated_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """HOME, our directories, Podman's and Docker's files all lie below the test's temporary directory."""
    for name in (
        "CONTAINER_HOST", "CONTAINER_CONNECTION", "CONTAINER_SSHKEY", "CONTAINERS_CONF_OVERRIDE", "DOCKER_HOST",
        "MACHINE_ACCEL", "TZ",
    ):  # fmt: skip
        monkeypatch.delenv(name, raising=False)
    world = tmp_path / "world"
    world.mkdir()
    for name, value in world_environment(world).items():
        monkeypatch.setenv(name, value)


def world_environment(root: Path) -> dict[str, str]:
    """The variables that lead every program of a test into `root`."""
    (root / "containers.conf").touch()
    docker = root / "docker"
    docker.mkdir(exist_ok=True)
    (docker / "config.json").write_text("{}")  # podman 4.3 fails where $DOCKER_CONFIG has none
    return {
        "HOME": str(root / "home"),
        "MACHINE_HOME": str(root / "m"),
        "XDG_CONFIG_HOME": str(root / "home" / ".config"),
        "CONTAINERS_CONF": str(root / "containers.conf"),
        "PODMAN_CONNECTIONS_CONF": str(root / "podman-connections.json"),
        "DOCKER_CONFIG": str(docker),
        "COLUMNS": "80",
        "NO_COLOR": "1",
    }


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A directory whose name leaves room for sockets, which pytest's own may not."""
    directory = Path(tempfile.mkdtemp(prefix="b2p-", dir="/tmp"))
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


def machine_program() -> str:
    """The installed command, beside the interpreter that runs the tests."""
    return os.fspath(Path(sys.executable).with_name("machine"))
