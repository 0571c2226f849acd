"""The main job on KVM: each step, and what a killed process does to it.

The tests share one machine, and each can run alone.
"""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import psutil

from tests.support.guest_network import fetch, reachable, udp_echo
from tests.support.kvm_machine import BOOT_S, NAME, KvmMachine
from tests.support.processes import processes_of
from tests.support.waiting import wait_until
from tests.support.world import World

# A command takes many seconds in an emulated host.
LS_S = 300
_BOOT_ID = "cat /proc/sys/kernel/random/boot_id"


def test_doctor_says_that_kvm_works(world: World) -> None:
    checks = {check["Name"]: check for check in json.loads(world.machine("doctor", "--format", "json").stdout)}
    assert (checks["accelerator"]["Status"], checks["accelerator"]["Finding"]) == ("ok", "kvm works")


def test_guest_runs_on_kvm(box: KvmMachine) -> None:
    assert "emulated" not in box.started
    words = psutil.Process(box.qemu).cmdline()
    assert words[words.index("-accel") + 1].partition(",")[0] == "kvm"
    assert words[words.index("-cpu") + 1].partition(",")[0] == "host"
    assert box.world.must("ssh", NAME, "systemd-detect-virt").stdout == "kvm\n"


def test_container_runs(box: KvmMachine, busybox: Path) -> None:
    box.import_image(busybox)
    assert box.world.remote(NAME, "run", "--rm", "busybox", "echo", "hello").stdout == "hello\n"


def test_published_ports_answer(box: KvmMachine, busybox: Path) -> None:
    web, echo = box.serve(busybox)
    assert fetch(f"127.0.0.1:{web}") == "hello\n"
    assert udp_echo(echo) == b"ping"


def test_folder_is_mounted_with_virtiofs_and_shared_both_ways(box: KvmMachine) -> None:
    listed = json.loads(box.world.must("mount", "ls", NAME, "--format", "json").stdout)
    assert [(entry["target"], entry["driver"], entry["problem"]) for entry in listed] == [
        ("/mnt/shared", "virtiofs", "")
    ]
    assert box.world.must("ssh", NAME, "cat /mnt/shared/word").stdout == "from the host\n"
    box.world.must("ssh", NAME, "echo from the guest >/mnt/shared/answer")
    assert (box.folder / "answer").read_text() == "from the guest\n"
    assert (box.folder / "answer").stat().st_uid == os.getuid()


def test_client_of_a_published_port_wakes_the_suspended_machine(box: KvmMachine, busybox: Path) -> None:
    web, echo = box.serve(busybox)
    before = box.world.must("ssh", NAME, _BOOT_ID).stdout
    box.world.must("suspend", NAME)
    assert box.world.state(NAME) == ("suspended", "")
    assert not processes_of(box.world.machines / NAME)
    assert fetch(f"127.0.0.1:{web}", timeout_s=BOOT_S) == "hello\n"
    box.world.must("wait", "--for", "running", NAME)
    assert box.world.must("ssh", NAME, _BOOT_ID).stdout == before
    assert udp_echo(echo) == b"ping"
    assert box.world.must("ssh", NAME, "cat /mnt/shared/word").stdout == "from the host\n"


def test_folder_in_use_stays_mounted_while_the_machine_sleeps(box: KvmMachine, busybox: Path) -> None:
    box.import_image(busybox)
    kept = box.folder / "kept"
    script = "exec 3>/mnt/shared/kept; while sleep 1; do echo line >&3; done"
    volume = ("--volume", "/mnt/shared:/mnt/shared")
    box.world.remote(NAME, "run", "--detach", "--name", "writer", *volume, "busybox", "sh", "-c", script)
    wait_until(lambda: kept.exists() and kept.read_text().count("line") > 1, "the writer", timeout_s=BOOT_S)
    box.world.must("suspend", NAME)
    before = kept.read_text()
    (box.folder / "note").write_text("written while it slept\n")
    box.world.must("start", NAME)
    wait_until(lambda: len(kept.read_text()) > len(before), "the writer, which has the file open", timeout_s=BOOT_S)
    assert box.world.must("ssh", NAME, "cat /mnt/shared/note").stdout == "written while it slept\n"
    assert box.world.remote(NAME, "rm", "--force", "--time", "0", "writer").stdout
    box.world.must("suspend", NAME)
    box.world.must("start", NAME)
    assert box.world.must("ssh", NAME, "cat /mnt/shared/note").stdout == "written while it slept\n"


def test_client_of_the_api_wakes_the_suspended_machine(box: KvmMachine, busybox: Path) -> None:
    box.serve(busybox)
    before = box.world.remote(NAME, "ps", "--quiet").stdout
    box.world.must("suspend", NAME)
    assert box.world.remote(NAME, "ps", "--quiet").stdout == before
    box.world.must("wait", "--for", "running", NAME)


def test_snapshot_brings_the_memory_back(box: KvmMachine) -> None:
    boot_id = box.world.must("ssh", NAME, f"echo early >/run/user/$(id -u)/mark; {_BOOT_ID}").stdout
    box.world.must("snapshot", "create", NAME, "early")
    box.world.must("ssh", NAME, "rm /run/user/$(id -u)/mark")
    box.world.must("suspend", NAME)
    box.world.must("snapshot", "restore", "--force", "--no-keep", NAME, "early")
    box.world.must("start", NAME)
    assert box.world.must("ssh", NAME, f"cat /run/user/$(id -u)/mark; {_BOOT_ID}").stdout == f"early\n{boot_id}"
    box.world.must("snapshot", "rm", NAME, "early")


# Each process killed


def test_start_takes_over_a_guest_whose_supervisor_was_killed(box: KvmMachine) -> None:
    qemu = box.qemu
    os.kill(box.supervisor, signal.SIGKILL)
    wait_until(
        lambda: box.world.state(NAME) == ("degraded", "its supervisor has ended"), timeout_s=LS_S, what="the end"
    )
    assert "takes over the running guest" in box.world.must("start", NAME).stderr
    assert box.is_back()
    assert box.qemu == qemu


def test_sockets_are_back_when_the_ssh_master_was_killed(box: KvmMachine) -> None:
    os.kill(box.ssh_master, signal.SIGKILL)
    wait_until(box.is_back, timeout_s=BOOT_S, what="the sockets")


def test_folder_is_lost_with_its_virtiofsd_and_everything_is_back_after_a_stop_and_a_start(
    box: KvmMachine, busybox: Path
) -> None:
    web, echo = box.serve(busybox)
    servers = box.folder_servers
    assert servers
    for pid in servers:
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: box.world.state(NAME)[0] == "degraded", timeout_s=LS_S, what="ls to notice")
    assert f"virtiofsd for {box.folder} " in box.world.state(NAME)[1]
    assert "did not power down" not in box.world.must("stop", NAME).stderr
    assert box.world.state(NAME) == ("stopped", "")
    assert not reachable("127.0.0.1", web)
    box.run()
    assert box.world.must("ssh", NAME, "cat /mnt/shared/word").stdout == "from the host\n"
    wait_until(lambda: reachable("127.0.0.1", web), timeout_s=BOOT_S, what="the port of a container that restarts")
    assert fetch(f"127.0.0.1:{web}") == "hello\n"
    wait_until(lambda: udp_echo(echo) == b"ping", timeout_s=BOOT_S, what="the other container")


def test_machine_starts_again_when_its_qemu_was_killed(box: KvmMachine) -> None:
    supervisor = box.supervisor
    os.kill(box.qemu, signal.SIGKILL)
    wait_until(lambda: not psutil.pid_exists(supervisor), timeout_s=LS_S, what="the supervisor's end")
    assert box.world.state(NAME) == ("stopped", "")
    box.run()
    wait_until(box.is_back, timeout_s=LS_S, what="the machine")
