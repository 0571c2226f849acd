"""`machine doctor` on this host, and in worlds that lack something; nothing is ever changed."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from machine import lock
from machine.guestimage.publish import SECRET_KEY
from machine.model.config import ImageOrigin
from tests.support.builders import make_record, make_roots, save_machine
from tests.support.disk_images import Images
from tests.support.processes import machine_processes
from tests.support.start import starting
from tests.support.world import Outcome, World, machine_program, make_world


def examine(world: World, status: int = 0, **environment: str) -> dict[str, dict[str, Any]]:
    """The checks by their names; the exit status has to be this."""
    outcome = world.machine("doctor", "--format", "json", **environment)
    assert (outcome.status, outcome.stderr) == (status, ""), outcome
    return {check["Name"]: check for check in json.loads(outcome.stdout)}


def told(checks: dict[str, dict[str, Any]], name: str) -> tuple[str, str, str]:
    return checks[name]["Status"], checks[name]["Finding"], checks[name]["Remedy"]


def entries(world: World) -> dict[Path, tuple[int, bytes]]:
    """Everything that is there, with its mode and content."""
    return {
        path: (path.lstat().st_mode, path.read_bytes() if path.is_file() else b"") for path in world.root.rglob("*")
    }


def test_host_that_has_everything(podman_world: World) -> None:
    before = entries(podman_world)
    outcome = podman_world.machine("doctor")
    assert outcome.status == 0, outcome.stdout
    assert outcome.stderr == ""
    assert "failure" not in outcome.stdout
    assert outcome.stdout.splitlines()[-1].startswith("Machines can be made and started on this host: ")
    assert entries(podman_world) == before


def test_checks_tell_what_is_really_there(podman_world: World) -> None:
    checks = examine(podman_world)
    assert str(podman_world.bin / "qemu-system-x86_64") in checks["qemu"]["Finding"]
    assert checks["network"]["Status"] == "ok"
    assert "OpenSSH" in checks["ssh"]["Finding"]
    assert "gpgv" in checks["signatures"]["Finding"]
    assert checks["keys"]["Finding"] == "3 signing keys are trusted"
    assert "which keeps connections in containers.conf" in checks["podman"]["Finding"]
    assert told(checks, "machines") == ("ok", "there are no machines yet", "")


@pytest.mark.parametrize(
    ("tool", "check", "status", "finding"),
    [
        ("qemu-system-x86_64", "qemu", 1, "qemu-system-x86_64 is not installed on this host"),
        ("qemu-img", "qemu-img", 1, "qemu-img is not installed on this host"),
        ("ssh", "ssh", 1, "ssh is not installed on this host"),
        ("gpgv", "signatures", 1, "no program on this host can check the image's signature"),
    ],
)
def test_program_that_is_missing(tool: str, check: str, status: int, finding: str, world: World) -> None:
    world.without(tool)
    found = told(examine(world, status), check)
    assert found[:2] == ("failure", finding)
    assert "install" in found[2]


def test_host_without_podman_is_ready_all_the_same(world: World) -> None:
    assert told(examine(world), "podman")[0] == "warning"


def replace_tool(world: World, tool: str, script: str) -> None:
    world.without(tool)
    path = world.bin / tool
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_qemu_without_slirp(world: World) -> None:
    real = shutil.which("qemu-system-x86_64")
    replace_tool(
        world, "qemu-system-x86_64", f'case "$*" in *"-netdev help") echo "Types:\nsocket";; *) exec {real} "$@";; esac'
    )
    assert told(examine(world, 1), "network")[0] == "failure"


@pytest.mark.parametrize(
    ("script", "finding"),
    [
        ("echo QEMU emulator version 6.1.0", "is QEMU 6.1.0, but ppc64le guests need 6.2 or newer"),
        ("echo no such library >&2; exit 127", "failed with exit status 127: no such library"),
    ],
)
def test_foreign_qemu_that_will_not_do_keeps_nobody_from_having_machines(
    script: str, finding: str, world: World
) -> None:
    binary = world.bin / "qemu-system-ppc64"
    binary.write_text(f"#!/bin/sh\n{script}\n")
    binary.chmod(0o755)
    found = told(examine(world), "qemu ppc64le")
    assert found[0] == "warning"
    assert finding in found[1]
    assert found[2].startswith(("install it with: ", "upgrade it with: ", "install "))


def test_firmware_of_guests_that_another_qemu_runs(world: World) -> None:
    assert "firmware aarch64" not in examine(world)
    world.link_tool("qemu-system-aarch64")
    world.link_tool("qemu-system-ppc64")
    checks = examine(world)
    assert told(checks, "firmware aarch64") == ("ok", "/usr/share/AAVMF/AAVMF_CODE.fd", "")
    assert told(checks, "firmware ppc64le") == ("ok", "ppc64le guests need no UEFI firmware", "")


def test_ssh_that_does_not_know_our_options(world: World) -> None:
    """dbclient, or an OpenSSH of long ago: the real one, told of an option that it does not have."""
    real = shutil.which("ssh")
    replace_tool(world, "ssh", f'[ "$1" = -V ] || set -- -o NoSuchOption=1 "$@"; exec {real} "$@"')
    status, finding, _ = told(examine(world, 1), "ssh")
    assert status == "failure"
    assert "cannot forward Unix sockets: command-line: line 0: Bad configuration option: nosuchoption" in finding


def test_installed_program_is_repaired_and_not_installed_again(world: World) -> None:
    for tool in ("ssh", "qemu-img", "gpgv"):
        world.without(tool)
        (world.bin / tool).write_bytes(b"\x7fELF of nowhere")
        (world.bin / tool).chmod(0o755)
    checks = examine(world, 1)
    for tool, check in (("ssh", "ssh"), ("qemu-img", "qemu-img"), ("gpgv", "signatures")):
        assert told(checks, check)[0] == "failure"
        assert told(checks, check)[2] == f"repair or reinstall {world.bin / tool}"


def test_qemu_that_does_not_run(world: World) -> None:
    replace_tool(world, "qemu-system-x86_64", "echo no such library >&2; exit 127")
    status, finding, _ = told(examine(world, 1), "qemu")
    assert (status, finding) == ("failure", "qemu-system-x86_64 failed with exit status 127: no such library")


def test_qemu_for_another_cpu(world: World) -> None:
    """As one that came along to a new computer; what is left of the host is looked at all the same."""
    world.without("qemu-system-x86_64")
    binary = world.bin / "qemu-system-x86_64"
    binary.write_bytes(b"\x7fELF of nowhere")
    binary.chmod(0o755)
    checks = examine(world, 1)
    status, finding, remedy = told(checks, "qemu")
    assert (status, finding) == ("failure", f"{binary} cannot be run: Exec format error")
    assert "install" in remedy
    assert told(checks, "ssh")[0] == "ok"


@pytest.mark.parametrize(
    ("text", "check", "finding"),
    [
        ("cpus = 0", "settings", '"cpus" must be a whole number of at least 1'),
        ("cpus = 1000", "resources", "requested number of CPUs (1000) greater than number of host CPUs"),
        ("memory = 999999999", "resources", "requested amount of memory (999999999 MB) greater than total"),
        pytest.param(
            *('accel = "hvf"', "accelerator", "cannot use hvf for this machine: linux has no hvf"),
            marks=pytest.mark.linux("its accelerator is KVM"),
        ),
        ("[", "settings", "is not TOML"),
    ],
)
def test_settings_that_no_machine_can_have(text: str, check: str, finding: str, world: World) -> None:
    path = make_roots(world.home).settings
    path.parent.mkdir(parents=True)
    path.write_text(text)
    found = told(examine(world, 1), check)
    assert found[0] == "failure"
    assert finding in found[1]
    assert found[2]


def test_variables_that_mean_nothing(world: World, tmp_path: Path) -> None:
    assert told(examine(world, 1, MACHINE_ACCEL="warp"), "settings")[0] == "failure"
    assert told(examine(world, 1, CONTAINERS_CONF=str(tmp_path / "nowhere")), "settings")[0] == "failure"
    assert told(examine(world, 1, SSL_CERT_FILE=str(tmp_path / "nowhere")), "certificates")[0] == "failure"
    assert told(examine(world, 1, https_proxy="http://:1"), "proxies")[0] == "failure"


def test_home_below_a_file(world: World) -> None:
    home = world.root / "file"
    home.touch()
    checks = examine(world, 1, MACHINE_HOME=str(home))
    assert told(checks, "data directory") == ("failure", f"{home} is not a directory", f"move {home} out of the way")


@pytest.mark.linux("paths of sockets are shorter on a Mac")
def test_home_whose_sockets_would_have_long_paths(world: World) -> None:
    home = world.root / ("long" * 30)
    finding = told(examine(world, MACHINE_HOME=str(home)), "runtime directory")[1]
    assert "would be longer than 107 bytes" in finding


def test_connections_that_cannot_be_read(world: World) -> None:
    (world.root / "podman-connections.json").write_text("{")
    status, finding, remedy = told(examine(world, 1), "podman connections")
    assert (status, remedy) == ("failure", "repair the file or move it away")
    assert "cannot read Podman's connections" in finding


def test_default_connection_of_an_old_podman_that_leads_nowhere(podman_world: World) -> None:
    podman = shutil.which("podman", path=str(podman_world.bin))
    assert podman is not None
    gone = f"unix://{podman_world.root}/gone/podman.sock"
    podman_world.run(podman, "system", "connection", "add", "--default", "old", gone)
    before = entries(podman_world)
    assert told(examine(podman_world), "default connection") == (
        "warning",
        f"old leads to {gone}, which is gone and belongs to no machine",
        "podman system connection rm old",
    )
    assert entries(podman_world) == before
    podman_world.run(podman, "system", "connection", "rm", "old")
    assert told(examine(podman_world), "default connection") == ("ok", "none", "")


def test_variables_that_lead_clients_away_from_the_machines(world: World) -> None:
    save_machine(make_roots(world.home), make_record("box"))
    socket = world.must("url", "box").stdout.strip()
    checks = examine(world, CONTAINER_HOST="unix:///tmp/none.sock", DOCKER_HOST=socket, CONTAINER_CONNECTION="box-root")
    finding = "CONTAINER_HOST points to unix:///tmp/none.sock, which is not the socket of a machine"
    assert told(checks, "CONTAINER_HOST") == ("warning", finding, "unset CONTAINER_HOST")
    assert told(checks, "DOCKER_HOST") == ("ok", 'it leads to the machine "box"', "")
    assert told(checks, "CONTAINER_CONNECTION") == ("ok", 'it leads to the machine "box"', "")
    finding = "CONTAINER_CONNECTION names far, which is not the connection of a machine"
    assert told(examine(world, CONTAINER_CONNECTION="far"), "CONTAINER_CONNECTION")[:2] == ("warning", finding)
    assert "CONTAINER_HOST" not in examine(world)


def test_key_that_is_none(world: World) -> None:
    world.trust(b"no key")
    assert told(examine(world), "keys")[:2] == ("warning", "there is no OpenPGP public key in test.gpg")


def test_secret_key_that_signs_local_images_is_no_problem(world: World) -> None:
    keys = make_roots(world.home).signing_keys
    keys.mkdir(parents=True)
    (keys / SECRET_KEY).write_bytes(b"\x94 a secret key's packet begins so")
    assert told(examine(world), "keys") == ("ok", "3 signing keys are trusted", "")


def test_machines_that_cannot_be_started(world: World) -> None:
    roots = make_roots(world.home)
    save_machine(roots, make_record("good", image=ImageOrigin(reference="x", digest=None)))
    roots.machine("good").disk.touch()
    save_machine(roots, make_record("baseless"))
    bad = roots.machine("bad").directory
    bad.mkdir()
    (bad / "record.json").write_text("{}")
    (roots.machines / ".box.x.tmp").mkdir()
    before = entries(world)
    checks = examine(world)
    assert "machine good" not in checks
    assert told(checks, "machine baseless")[2] == "machine image pull fcos:stable@43.1"
    assert told(checks, "machine bad")[0] == "warning"
    assert told(checks, "drafts")[:2] == ("warning", "an interrupted init or rm left .box.x.tmp behind")
    assert entries(world) == before


def test_machine_whose_supervisor_was_killed(world: World, images: Images) -> None:
    world.init("box", images.qcow2)
    try:
        with starting(world) as process:
            lock.signal_holder(world.machines / "box" / "supervisor.lock", signal.SIGKILL)
            process.communicate()
        assert told(examine(world), "machine box") == (
            "warning",
            "it is degraded: its supervisor has ended",
            "machine start box",
        )
    finally:
        removed: Outcome = world.machine("rm", "--force", "box")
    assert removed.status == 0, removed.stderr
    assert machine_processes(world.home) == []


def test_broken_podman_is_no_podman(world: World) -> None:
    world.link_tool("podman")
    replace_tool(world, "podman", "exit 1")
    finding = f"{world.bin}/podman does not run"
    assert told(examine(world), "podman") == ("warning", finding, "repair or reinstall it")


# In a mount namespace, then without capabilities: a CPU that can virtualize, and a device that nobody may open.
FORBIDDEN_KVM = """
mount --bind cpuinfo /proc/cpuinfo
mount --bind kvm /dev/kvm
exec setpriv --inh-caps=-all --bounding-set=-all "$@"
"""


@pytest.mark.linux("its accelerator is KVM")
@pytest.mark.skipif(not Path("/dev/kvm").exists(), reason="this host has no /dev/kvm to cover")
def test_kvm_that_the_user_may_not_open(short_path: Path, images: Images) -> None:
    world = make_world(short_path / "w")
    (world.root / "cpuinfo").write_text("flags : fpu vmx\n")
    (world.root / "kvm").touch(mode=0)
    namespace = ["unshare", "--mount", *([] if os.getuid() == 0 else ["--map-root-user"])]

    def run(*words: str | Path) -> Outcome:
        inside = [*namespace, "sh", "-ec", FORBIDDEN_KVM, "sh", "env", f"PATH={world.path}", machine_program(), *words]
        return world.run(*inside, check=False, PATH=os.environ["PATH"])

    reason, remedy = "you are not allowed to open /dev/kvm", "let other users open it, with: sudo chmod 666 /dev/kvm"
    (found,) = (
        check for check in json.loads(run("doctor", "--format", "json").stdout) if check["Name"] == "accelerator"
    )
    assert found["Finding"] == f"guests are emulated (tcg) and about twenty times slower: {reason}"
    assert (found["Status"], found["Remedy"]) == ("warning", remedy)
    made = run("init", "--image", images.qcow2, "--accel", "kvm", "box")
    assert (
        f"kvm cannot be used now ({reason}), so the machine will start only with MACHINE_ACCEL=tcg; {remedy}"
        in made.stderr
    )
    refused = run("start", "box")
    assert refused.status == 125
    emulated = "start it emulated with: MACHINE_ACCEL=tcg machine start box"
    assert refused.stderr.splitlines()[-2:] == [
        f"Error: cannot use kvm for this machine: {reason}; {emulated}, or: {remedy}",
        "  see the documentation: troubleshooting#kvm",
    ]
