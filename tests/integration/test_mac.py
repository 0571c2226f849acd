"""The installed program with a real QEMU, in a Python that looks like a Mac's (tests/support/imitated_mac.py)."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from machine import lock
from machine.sockets import listens
from tests.support.case_folding import FOLDED
from tests.support.disk_images import Images
from tests.support.imitated_mac import SITE
from tests.support.processes import machine_processes
from tests.support.waiting import wait_until
from tests.support.world import COMMAND_S, World

# Says whether the port that another program listens on is free for another address, and for the same address.
_TWO_LISTENERS = """
import socket, sys
from machine.errors import MachineError, Page
from machine.model.ports import Endpoint, Protocol
from machine.ports.holder import check_can_listen

def listen(address, port):
    try:
        with socket.create_server((address, port)):
            return True
    except OSError:
        return False

taken, wanted = sys.argv[1:]
other = socket.create_server((taken, 0))
port = other.getsockname()[1]
page = None
try:
    check_can_listen(Endpoint(protocol=Protocol.TCP, address=wanted, port=port))
except MachineError as error:
    page = error.page
print(listen(wanted, port), listen(taken, port), page is Page.PORT_TAKEN)
"""


AS_MAC_USER = Path(__file__).parents[2] / "scripts" / "as-mac-user"

# Says who it runs as and whose a new file is, and whether it may give that file away.
_WHO = """
import grp, os, pathlib, pwd, sys
file = pathlib.Path(sys.argv[1])
file.touch()
print(os.getuid(), os.geteuid(), os.getgid(), pwd.getpwuid(501).pw_name, grp.getgrgid(20).gr_name, file.owner())
try:
    os.chown(file, 0, 0)
except OSError:
    print("not root")
"""


@pytest.fixture
def mac(world: World, tmp_path: Path) -> World:
    """A world whose Python programs take this host for a Mac, without a program that checks signatures.

    Its file system ignores case.
    """
    world.warm = False
    world.without("gpgv")
    world.extra |= {"PYTHONPATH": str(SITE), "TMPDIR": str(tmp_path), FOLDED: str(world.root)}
    return world


@pytest.mark.skipif(shutil.which("unshare") is None, reason="namespaces are Linux's")
def test_user_of_the_tier_for_macs_is_a_macs(tmp_path: Path) -> None:
    done = subprocess.run(
        [AS_MAC_USER, sys.executable, "-c", _WHO, tmp_path / "file"],
        capture_output=True, text=True, timeout=COMMAND_S, check=True,
    )  # fmt: skip
    if done.stderr:
        pytest.skip(done.stderr.strip())
    name = f"mac{os.getuid()}"
    assert done.stdout == f"501 501 20 {name} staff {name}\nnot root\n"


@pytest.mark.skipif(shutil.which("unshare") is None, reason="namespaces are Linux's")
def test_user_stays_where_there_are_no_namespaces() -> None:
    forbid = 'echo 0 >/proc/sys/user/max_user_namespaces && exec "$@"'
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "sh", "-c", forbid, "sh", AS_MAC_USER, "id", "-u"],
        capture_output=True, text=True, timeout=COMMAND_S, check=False,
    )  # fmt: skip
    if done.returncode:
        pytest.skip(done.stderr.strip())
    assert done.stdout == "0\n"
    assert done.stderr.startswith("No namespace for a Mac's user, who stays uid 0: ")


@pytest.mark.parametrize(("taken", "wanted"), [("0.0.0.0", "127.0.0.1"), ("127.0.0.1", "0.0.0.0")])
def test_port_is_taken_although_the_kernel_lets_two_programs_listen(taken: str, wanted: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _TWO_LISTENERS, taken, wanted],
        env={"PYTHONPATH": str(SITE)}, capture_output=True, text=True, timeout=COMMAND_S, check=False,
    )  # fmt: skip
    assert done.stdout.split() == ["True", "False", "True"], done.stderr


@pytest.mark.linux("it asks for the limits of another process")
def test_machine_is_made_started_listed_and_stopped(mac: World, images: Images) -> None:
    mac.init("box", images.qcow2, "--disk-size", "7", "--volume", "")
    assert json.loads(mac.must("info", "--format", "json").stdout)["Host"]["OS"] == "darwin"
    with mac.popen("start", "box") as start:
        runtime = Path(mac.inspect("box")["ConnectionInfo"]["PodmanSocket"]["Path"]).parent
        wait_until(lambda: listens(runtime / "qmp-tools.sock"), "QEMU")
        assert mac.state("box")[0] == "starting"
        qemu = lock.holder_pid(mac.machines / "box" / "lock")
        assert qemu is not None
        assert resource.prlimit(qemu, resource.RLIMIT_NOFILE)[0] > 256
        mac.must("stop", "box")
        _, stderr = start.communicate(timeout=COMMAND_S)
    assert stderr.endswith('Error: unable to start "box": it was stopped\n')
    assert "Traceback" not in (mac.machines / "box" / "supervisor.log").read_text()
    assert machine_processes(mac.home) == []
    mac.must("rm", "--force", "box")


def test_name_in_another_case_is_another_machines(mac: World, images: Images) -> None:
    mac.init("box", images.qcow2, "--disk-size", "7", "--volume", "")
    for verb in ("start", "inspect", "rm"):
        assert mac.machine(verb, "BOX").stderr == "Error: BOX: VM does not exist; did you mean box?\n"
    mac.must("rm", "--force", "box")


def test_doctor_and_autostart_speak_of_a_mac(mac: World, images: Images) -> None:
    mac.init("box", images.qcow2, "--disk-size", "7")
    (mac.bin / "launchctl").symlink_to("/bin/true")
    enabled = mac.machine("autostart", "enable", "box")
    assert enabled.status == 0, enabled.stderr
    assert enabled.stderr.count("> Local Network") == 1
    checks = {check["Name"]: check for check in json.loads(mac.machine("doctor", "--format", "json").stdout)}
    assert checks["permissions"]["Status"] == "ok"
    assert checks["signatures"]["Status"] == "failure"
