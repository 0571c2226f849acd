"""A program that Homebrew has installed, and upgrades while one of its machines runs; with a real QEMU."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

import machine
from machine import lock
from machine.store.ssh_ports import choose
from tests.support.port_api import listens, post_request
from tests.support.start import control_socket
from tests.support.waiting import wait_until
from tests.support.world import COMMAND_S, World

PACKAGE = Path(machine.__file__).parent
PROGRAM = "import sys; from machine.cli.entry import main; sys.exit(main())"


class Brewed:
    """A directory like Homebrew's, in which each version of a package has a folder, and `opt` links to the newest."""

    def __init__(self, prefix: Path) -> None:
        self.prefix = prefix

    def install_python(self, version: str) -> None:
        keg = self._keg("python", version)
        (keg / "bin").mkdir(parents=True)
        (keg / "bin" / "python3").symlink_to(Path(sys.executable).resolve())
        self._link("python", version)

    def install(self, version: str) -> None:
        """Install this program in a virtual environment whose Python is the one that `opt` links to."""
        keg = self._keg("boot2podman", version)
        packages = keg / "libexec" / "lib" / f"python{sysconfig.get_python_version()}" / "site-packages"
        shutil.copytree(PACKAGE, packages / "machine", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copytree(PACKAGE.parent / "images", packages / "machine" / "_data")
        (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
        python = keg / "libexec" / "bin" / "python3"
        python.parent.mkdir()
        python.symlink_to(self.prefix / "opt" / "python" / "bin" / "python3")
        home = Path(sys.executable).resolve().parent
        (keg / "libexec" / "pyvenv.cfg").write_text(f"home = {home}\ninclude-system-site-packages = false\n")
        program = keg / "bin" / "machine"
        program.parent.mkdir()
        program.write_text(f"#!{python}\n{PROGRAM}\n")
        program.chmod(0o755)
        self._link("boot2podman", version)

    def remove(self, name: str, version: str) -> None:
        shutil.rmtree(self._keg(name, version))

    @property
    def program(self) -> Path:
        return self.prefix / "opt" / "boot2podman" / "bin" / "machine"

    def _keg(self, name: str, version: str) -> Path:
        return self.prefix / "Cellar" / name / version

    def _link(self, name: str, version: str) -> None:
        link = self.prefix / "opt" / name
        link.parent.mkdir(exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(Path("..", "Cellar", name, version))


@pytest.fixture
def brewed(short_path: Path) -> Brewed:
    brewed = Brewed(short_path / "b")
    brewed.install_python("3.0")
    brewed.install("1.0")
    return brewed


@pytest.fixture
def qemu(box: World, brewed: Brewed) -> Iterator[psutil.Process]:
    """The QEMU of the machine `box`, started by version 1.0, which is then upgraded and removed, and so is Python."""
    with box.spawn(brewed.program, "start", "box") as start:
        wait_until(lambda: lock.holder_pid(box.machines / "box" / "lock"), "QEMU")
        wait_until(lambda: control_socket(box).with_name("ports.sock").exists(), "the port API")
        brewed.install_python("3.0_1")
        brewed.remove("python", "3.0")
        brewed.install("1.1")
        brewed.remove("boot2podman", "1.0")
        pid = lock.holder_pid(box.machines / "box" / "lock")
        assert pid is not None
        yield psutil.Process(pid)
        start.communicate(timeout=COMMAND_S)


def test_machine_of_a_removed_version_publishes_ports_and_stops(
    box: World, brewed: Brewed, qemu: psutil.Process
) -> None:
    relay = next(word for word in qemu.cmdline() if "guestfwd=" in word).rpartition("-cmd:")[2].replace(",,", ",")
    assert str(brewed.prefix / "Cellar") not in relay
    port = choose(set())
    request = post_request("expose", local=f"127.0.0.1:{port}", remote=":80", protocol="tcp")
    answer = subprocess.run(shlex.split(relay), input=request, capture_output=True, check=True, timeout=COMMAND_S)
    assert answer.stdout.startswith(b"HTTP/1.1 200 OK")
    wait_until(lambda: listens(port), "the published port")
    stopped = box.run(brewed.program, "stop", "box")
    assert stopped.status == 0, stopped.stderr
    assert "Traceback" not in (box.machines / "box" / "supervisor.log").read_text()
    assert not qemu.is_running()
