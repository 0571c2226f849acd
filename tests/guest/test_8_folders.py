"""The host's folders in a guest, and a reboot of it from inside."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

import psutil
import pytest

from tests.support.folder_semantics import SEMANTICS, script, told
from tests.support.guest_machines import SHARED, SPACES, SharedMachine
from tests.support.guest_network import LIST_CONTAINERS, names_of
from tests.support.guests import BOOT_S
from tests.support.processes import children, supervisor_pid
from tests.support.waiting import wait_until
from tests.support.world import World, machine_program

pytestmark = pytest.mark.long

READ_ONLY = ("touch /mnt/ro/x", "sudo touch /mnt/ro/x", "sudo mount -o remount,rw /mnt/ro && sudo touch /mnt/ro/x")


@pytest.fixture
def host(shared_machine: SharedMachine) -> Path:
    """The parent of three folders of the host's, of which a running machine has two."""
    return shared_machine.run_with_folders()


def ssh(world: World, script: str) -> str:
    return world.must("ssh", SHARED, script).stdout


def test_folders_are_there_when_the_machine_is_up(world: World, host: Path, shared_machine: SharedMachine) -> None:
    assert world.state(SHARED) == ("running", "")
    carried = shared_machine.mounts()
    assert carried[f"/mnt/{SPACES}"] == carried["/mnt/ro"] == ("virtiofs", "")
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
    assert world.machine("ssh", SHARED, command).status != 0
    assert [path.name for path in (host / "ro").iterdir()] == ["hosts"]


def test_containers_see_folders(world: World, host: Path, busybox: Path) -> None:
    world.remote(SHARED, "import", "--quiet", str(busybox), "busybox")
    volume = ("--volume", f"/mnt/{SPACES}:/data")
    script = "cat /data/hosts; echo container >/data/containers"
    assert world.remote(SHARED, "run", "--rm", *volume, "busybox", "sh", "-c", script).stdout == f"{SPACES}\n"
    assert (host / SPACES / "containers").read_text() == "container\n"
    assert (host / SPACES / "containers").stat().st_uid == world.uid


def test_machine_is_suspended_while_containers_run_that_use_no_folder(world: World, host: Path, busybox: Path) -> None:
    """Podman's rootless network has a copy of the guest's tree, and so the folders."""
    world.remote(SHARED, "import", "--quiet", str(busybox), "busybox")
    world.remote(SHARED, "run", "--detach", "--name", "rests", "busybox", "sleep", "100000")
    world.must("suspend", SHARED)
    world.must("start", SHARED)
    assert ssh(world, f"cat '/mnt/{SPACES}/hosts' /mnt/ro/hosts") == f"{SPACES}\nro\n"
    assert world.remote(SHARED, "ps", "--format", "{{.Names}}").stdout == "rests\n"
    world.remote(SHARED, "rm", "--force", "--time", "0", "rests")


def test_containers_use_a_socket_below_a_folder(world: World, host: Path, busybox: Path) -> None:
    """The folder has the host's socket, which leads nowhere in the guest."""
    path = world.runtime(SHARED) / "podman.sock"
    assert path.is_socket()
    world.remote(SHARED, "import", "--quiet", str(busybox), "busybox")
    mount = ("--name", "lister", "--volume", f"{path}:/var/run/docker.sock")
    assert "lister" in names_of(world.remote(SHARED, "run", "--rm", *mount, *LIST_CONTAINERS).stdout)


def test_folder_is_added_to_a_running_machine(world: World, shared_machine: SharedMachine) -> None:
    host = shared_machine.run_with_live_folder()
    assert shared_machine.mounts()["/mnt/live"] == ("sshfs", "")
    assert (
        ssh(world, "cat /mnt/live/hosts; echo guest >/mnt/live/guests; stat -c %U /mnt/live/*") == "live\ncore\ncore\n"
    )
    assert (host / "live" / "guests").stat().st_uid == world.uid


def meanings(world: World, folder: Path, place: str) -> dict[str, bool]:
    (folder / "locked").touch()
    os.chown(folder / "locked", world.uid, world.uid)
    with (folder / "locked").open("r+") as locked:
        fcntl.flock(locked, fcntl.LOCK_EX)
        fcntl.lockf(locked, fcntl.LOCK_EX)
        return told(ssh(world, script(place)))


@pytest.mark.parametrize(("folder", "transport"), [(SPACES, "virtiofs"), ("live", "sshfs")], ids=["virtiofs", "sshfs"])
def test_programs_can_do_in_a_folder_what_the_table_says(
    world: World, shared_machine: SharedMachine, folder: str, transport: str
) -> None:
    host = shared_machine.run_with_live_folder()
    assert shared_machine.mounts()[f"/mnt/{folder}"][0] == transport
    assert meanings(world, host / folder, f"/mnt/{folder}") == SEMANTICS[transport]


def test_folder_that_cannot_be_added_is_told_and_not_kept(
    world: World, host: Path, shared_machine: SharedMachine
) -> None:
    link = host / "link"
    link.symlink_to("live")
    world.must("mount", "add", SHARED, f"{link}:/mnt/link")
    assert ssh(world, "cat /mnt/link/hosts") == "live\n"
    world.must("mount", "rm", SHARED, "/mnt/link")
    link.unlink()
    refused = world.machine("mount", "add", SHARED, f"{link}:/mnt/link")
    assert (refused.status, "does not exist on this host" in refused.stderr) == (125, True)
    assert "/mnt/link" not in shared_machine.mounts()


def test_source_that_is_gone_makes_the_machine_degraded_until_it_is_back(
    world: World, shared_machine: SharedMachine
) -> None:
    host = shared_machine.run_with_live_folder()
    for name in (SPACES, "live"):
        (host / name).rename(host / "aside")
        wait_until(lambda: world.state(SHARED)[0] == "degraded", timeout_s=30, what="ls to notice")
        assert world.state(SHARED)[1] == f"the folder {host}/{name} was removed from this host"
        (host / "aside").rename(host / name)
        wait_until(lambda: world.state(SHARED) == ("running", ""), timeout_s=30, what="ls to notice")
        assert ssh(world, f"cat '/mnt/{name}/hosts'") == f"{name}\n"


def test_nobody_writes_where_a_folder_is_not_mounted_which_is_mounted_again(
    world: World, shared_machine: SharedMachine
) -> None:
    shared_machine.run_with_live_folder()
    broken = "printf '#!/bin/sh\\nexit 1\\n' | sudo install -m 755 /dev/stdin"
    ssh(world, f"cd /usr/bin && sudo mv sshfs sshfs.aside && {broken} sshfs && sudo pkill -x sshfs")
    wait_until(lambda: world.state(SHARED)[0] == "degraded", timeout_s=30, what="ls to notice")
    for words in ("touch /mnt/live/x", "sudo touch /mnt/live/x"):
        assert "Read-only file system" in world.machine("ssh", SHARED, words).stderr
    ssh(world, "sudo mv /usr/bin/sshfs.aside /usr/bin/sshfs")
    wait_until(lambda: world.state(SHARED) == ("running", ""), timeout_s=120, what="the folder to be mounted again")
    assert ssh(world, "cat /mnt/live/hosts") == "live\n"


@pytest.mark.parametrize("folder", [SPACES, "live"], ids=["virtiofs", "sshfs"])
def test_change_on_the_host_is_an_event_in_the_guest(world: World, shared_machine: SharedMachine, folder: str) -> None:
    host = shared_machine.run_with_live_folder()
    place = f"/mnt/{folder}/hosts"
    before = ssh(world, f"stat -c %Z '{place}'")
    time.sleep(1.1)
    os.utime(host / folder / "hosts", (1, 1))
    with (host / folder / "hosts").open("a"):
        pass  # closed after writing nothing
    wait_until(lambda: ssh(world, f"stat -c %Z '{place}'") != before, timeout_s=30, what="the event")
    assert ssh(world, f"stat -c %Y '{place}'") == "1\n"


def test_folders_are_back_after_a_reboot_from_inside(world: World, shared_machine: SharedMachine) -> None:
    shared_machine.run_with_live_folder()
    boot_id = ssh(world, "cat /proc/sys/kernel/random/boot_id")
    world.machine("ssh", SHARED, "sudo systemctl --no-block reboot")
    wait_until(lambda: world.state(SHARED)[0] == "degraded", timeout_s=120, what="ls to notice")
    wait_until(lambda: world.state(SHARED) == ("running", ""), timeout_s=BOOT_S, what="the machine to be back")
    assert ssh(world, "cat /proc/sys/kernel/random/boot_id") != boot_id
    assert {problem for _, problem in shared_machine.mounts().values()} == {""}
    assert ssh(world, f"readlink {world.runtime(SHARED)}/podman-root.sock") == "/run/podman/podman.sock\n"
    assert ssh(world, f"cat '/mnt/{SPACES}/hosts' /mnt/ro/hosts /mnt/live/hosts") == f"{SPACES}\nro\nlive\n"
    # The guest has mounted by itself what is a device, before anything that may need it.
    early = "systemctl show --property=Wants local-fs.target"
    assert ssh(world, early).count(".mount") >= 2


def test_folder_is_taken_away(world: World, shared_machine: SharedMachine) -> None:
    shared_machine.run_with_live_folder()
    before = set(shared_machine.mounts())
    for place in ("/mnt/ro", "/mnt/live"):
        world.must("mount", "rm", SHARED, place)
    assert set(shared_machine.mounts()) == before - {"/mnt/ro", "/mnt/live"}
    assert ssh(world, "ls /mnt/ro /mnt/live") == "/mnt/live:\n\n/mnt/ro:\n"


def test_folder_whose_virtiofsd_has_ended_is_taken_away_and_disturbs_no_other(
    world: World, host: Path, shared_machine: SharedMachine
) -> None:
    if "/mnt/live" in shared_machine.mounts():
        world.must("mount", "rm", SHARED, "/mnt/live")
    place = f"/mnt/{SPACES}"
    ssh(world, f"cd '{place}' && (sleep 1000 <hosts >/dev/null 2>&1 &)")
    supervised = children(supervisor_pid(world.runtime(SHARED)))
    (daemon,) = [child for child in supervised if child.name() == "virtiofsd" and serves(child, SPACES)]
    hung = world.spawn(machine_program(), "ssh", SHARED, f"while stat -f '{place}'; do sleep 0.1; done")
    daemon.kill()
    ended = f"virtiofsd for {host}/{SPACES} was killed by signal 9; restart the machine to share the folder again"
    wait_until(lambda: world.state(SHARED) == ("degraded", ended), timeout_s=20, what="ls to notice")
    wait_until(lambda: is_guarded(world, place), timeout_s=120, what="the folder to be taken away")
    assert "Read-only file system" in world.machine("ssh", SHARED, f"touch '{place}/x'").stderr
    assert ssh(world, f"ls '{place}'; cat /mnt/ro/hosts") == "ro\n"
    began = time.monotonic()
    world.must("mount", "add", SHARED, f"{host}/live:/mnt/live")
    assert time.monotonic() - began < 60
    assert ssh(world, "cat /mnt/live/hosts") == "live\n"
    assert world.state(SHARED) == ("degraded", ended)
    assert shared_machine.mounts()[place] == ("virtiofs", ended)
    began = time.monotonic()
    stopped = world.must("stop", SHARED)
    assert "A virtiofsd has ended, so the guest may hang and gets 75 s" in stopped.stderr
    assert time.monotonic() - began < 120
    hung.communicate(timeout=60)
    shared_machine.run()
    assert ssh(world, f"cat '{place}/hosts'") == f"{SPACES}\n"


def serves(daemon: psutil.Process, name: str) -> bool:
    """Whether a virtiofsd has a folder of this name. The older one's command line has backslashes before commas."""
    return name in " ".join(daemon.cmdline()).replace("\\", "")


def is_guarded(world: World, place: str) -> bool:
    """Whether the guest has an empty file system in a folder's place, found out without looking at that place."""
    escaped = place.replace(" ", "\\040")
    mounts = ssh(world, "cat /proc/mounts")
    return f" {escaped} tmpfs " in mounts and f" {escaped} virtiofs " not in mounts


def test_start_tells_of_each_folder_that_is_not_mounted(world: World, shared_machine: SharedMachine) -> None:
    """The last: its start has another driver, of which Debian's kernels for clouds have no part, and a folder less."""
    if not (world.machines / SHARED).exists():
        shared_machine.init()
    if world.state(SHARED)[0] != "stopped":
        world.must("stop", SHARED)
    gone = shared_machine.folders / "gone"
    gone.mkdir()
    volumes = ("--volume", f"{shared_machine.folders}/live:/mnt/9p", "--volume", f"{gone}:/mnt/gone")
    world.must("set", "--volume-driver", "9p", *volumes, SHARED)
    gone.rmdir()
    started = world.must("start", SHARED)
    missing = f"the folder {gone} does not exist on this host"
    assert f"T{missing[1:]}\n" in started.stderr
    problems = {target: problem for target, (_, problem) in shared_machine.mounts().items()}
    if problems["/mnt/9p"]:
        assert "9p" in problems["/mnt/9p"]
        assert problems["/mnt/9p"][1:] in started.stderr
    else:
        assert meanings(world, shared_machine.folders / "live", "/mnt/9p") == SEMANTICS["9p"]
    assert problems["/mnt/gone"] == missing
    assert world.state(SHARED)[0] == "degraded"
    world.must("rm", "--force", SHARED)
