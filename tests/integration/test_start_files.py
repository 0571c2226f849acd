"""A start whose files are missing, or have something in their place: it ends at once, and names the file."""

from __future__ import annotations

import pytest

from tests.support.processes import machine_processes
from tests.support.start import control_socket
from tests.support.world import World


@pytest.mark.parametrize("name", ["qemu.log", "folders.log", "ignition-journal.log", "disk.qcow2", "supervisor.log"])
def test_directory_in_the_place_of_a_file_is_named(box: World, name: str) -> None:
    path = box.machines / "box" / name
    path.unlink(missing_ok=True)
    path.mkdir()
    started = box.machine("start", "box")
    assert started.status == 125
    assert f"{path}: Is a directory" in started.stderr
    assert machine_processes(box.home) == []


def test_directory_between_the_sockets_is_named(box: World) -> None:
    path = control_socket(box).with_name("something")
    path.mkdir(parents=True)
    started = box.machine("start", "box")
    assert started.status == 125
    assert f'Error: unable to start "box": {path}: Is a directory; see ' in started.stderr


def test_lost_ssh_key_is_told_before_the_boot(box: World) -> None:
    key = box.machines / "box" / "id_ed25519"
    key.unlink()
    started = box.machine("start", "box")
    assert started.status == 125
    assert started.stderr.endswith(
        f"Error: the SSH key of box is missing: {key}; restore it from a backup, or make a clone, which gets keys of "
        "its own: machine clone box NAME\n"
        "  see the documentation: troubleshooting#files\n"
    )
