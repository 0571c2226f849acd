"""The host's folders in the guest of a machine that the chapter before has started, and a reboot of it from inside."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

from machine.sockets import listener_pid
from tests.guest.conftest import BOOT_S, SPACES, World, init_shared, wait_until
from tests.guest.conftest import SHARED as NAME

pytestmark = pytest.mark.long

READ_ONLY = ("touch /mnt/ro/x", "sudo touch /mnt/ro/x", "sudo mount -o remount,rw /mnt/ro && sudo touch /mnt/ro/x")


@pytest.fixture(scope="module")
def host(world: World, folders: Path) -> Path:
    """Three folders of the host's, of which a running machine has two."""
    if not (world.machines / NAME).exists():
        init_shared(world, folders)
        world.machine("start", NAME)
    return folders


def ssh(world: World, script: str, *, check: bool = True) -> str:
    return world.machine("ssh", NAME, script, check=check).stdout


def mounts(world: World) -> dict[str, tuple[str, str]]:
    """What carries each folder and what keeps it from being there, by its place."""
    listed = json.loads(world.machine("mount", "ls", NAME, "--format", "json").stdout)
    return {entry["target"]: (entry["driver"], entry["problem"]) for entry in listed}


def test_folders_are_there_when_the_machine_is_up(world: World, host: Path) -> None:
    assert world.state(NAME) == ("running", "")
    assert mounts(world) == {f"/mnt/{SPACES}": ("virtiofs", ""), "/mnt/ro": ("virtiofs", "")}
    assert ssh(world, f"cat '/mnt/{SPACES}/hosts' /mnt/ro/hosts") == f"{SPACES}\nro\n"


def test_what_either_side_writes_belongs_to_the_user(world: World, host: Path) -> None:
    ssh(world, f"echo guest >'/mnt/{SPACES}/guests' && mkdir '/mnt/{SPACES}/made'")
    assert (host / SPACES / "guests").read_text() == "guest\n"
    assert {(host / SPACES / name).stat().st_uid for name in ("guests", "made")} == {world.uid}
    assert ssh(world, f"stat -c %U '/mnt/{SPACES}/hosts' '/mnt/{SPACES}/guests'") == "core\ncore\n"
    (host / SPACES / "guests").write_text("host\n")
    wait_until(lambda: ssh(world, f"cat '/mnt/{SPACES}/guests'") == "host\n", timeout_s=20, what="the change")


@pytest.mark.parametrize("command", READ_ONLY)
def test_nobody_in_the_guest_writes_what_is_read_only(world: World, host: Path, command: str) -> None:
    assert world.machine("ssh", NAME, command, check=False).returncode != 0
    assert [path.name for path in (host / "ro").iterdir()] == ["hosts"]


def test_containers_see_folders(world: World, host: Path, busybox: Path) -> None:
    world.podman(NAME, "import", "--quiet", str(busybox), "busybox")
    volume = ("--volume", f"/mnt/{SPACES}:/data")
    script = "cat /data/hosts; echo container >/data/containers"
    assert world.podman(NAME, "run", "--rm", *volume, "busybox", "sh", "-c", script).stdout == f"{SPACES}\n"
    assert (host / SPACES / "containers").read_text() == "container\n"
    assert (host / SPACES / "containers").stat().st_uid == world.uid


def test_folder_is_added_to_a_running_machine(world: World, host: Path) -> None:
    world.machine("mount", "add", NAME, f"{host}/live:/mnt/live")
    assert mounts(world)["/mnt/live"] == ("sshfs", "")
    assert (
        ssh(world, "cat /mnt/live/hosts; echo guest >/mnt/live/guests; stat -c %U /mnt/live/*") == "live\ncore\ncore\n"
    )
    assert (host / "live" / "guests").stat().st_uid == world.uid


@pytest.mark.parametrize("folder", [SPACES, "live"])
def test_change_on_the_host_is_an_event_in_the_guest(world: World, host: Path, folder: str) -> None:
    place = f"/mnt/{folder}/hosts"
    before = ssh(world, f"stat -c %Z '{place}'")
    time.sleep(1.1)
    os.utime(host / folder / "hosts", (1, 1))
    with (host / folder / "hosts").open("a"):
        pass  # closed after writing nothing
    wait_until(lambda: ssh(world, f"stat -c %Z '{place}'") != before, timeout_s=30, what="the event")
    assert ssh(world, f"stat -c %Y '{place}'") == "1\n"


def test_folders_are_back_after_a_reboot_from_inside(world: World, host: Path) -> None:
    boot_id = ssh(world, "cat /proc/sys/kernel/random/boot_id")
    world.machine("ssh", NAME, "sudo systemctl --no-block reboot", check=False)
    wait_until(lambda: world.state(NAME)[0] == "degraded", timeout_s=120, what="ls to notice")
    wait_until(lambda: world.state(NAME) == ("running", ""), timeout_s=BOOT_S, what="the machine to be back")
    assert ssh(world, "cat /proc/sys/kernel/random/boot_id") != boot_id
    assert {problem for _, problem in mounts(world).values()} == {""}
    assert ssh(world, f"cat '/mnt/{SPACES}/hosts' /mnt/ro/hosts /mnt/live/hosts") == f"{SPACES}\nro\nlive\n"
    # The guest has mounted by itself what is a device, before anything that may need it.
    early = "systemctl show --property=Wants local-fs.target"
    assert ssh(world, early).count(".mount") >= 2


def test_folder_is_taken_away(world: World, host: Path) -> None:
    for place in ("/mnt/ro", "/mnt/live"):
        world.machine("mount", "rm", NAME, place)
    assert list(mounts(world)) == [f"/mnt/{SPACES}"]
    assert ssh(world, "ls /mnt/ro /mnt/live") == "/mnt/live:\n\n/mnt/ro:\n"


def test_machine_whose_virtiofsd_has_ended_is_degraded(world: World, host: Path) -> None:
    supervisor = listener_pid(world.root / "m" / "run" / NAME / "control.sock")
    children = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()
    daemons = [pid for pid in children if b"virtiofsd" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    assert len(daemons) == 2
    for pid in daemons:
        os.kill(int(pid), signal.SIGKILL)
    wait_until(lambda: world.state(NAME)[0] == "degraded", timeout_s=20, what="ls to notice")
    assert world.state(NAME)[1] == f"virtiofsd of {host}/{SPACES} has ended with status -9"
    world.machine("rm", "--force", NAME)
