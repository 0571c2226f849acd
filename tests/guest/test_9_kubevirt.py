"""The guest of a manifest for a cluster, booted here: QEMU and the drive are as KubeVirt would make them.

The drive has KubeVirt's label, path and content. Its file system is ext4, where KubeVirt makes ISO 9660, because the
initramfs of our image has no driver for that one. Fedora CoreOS has.
"""

from __future__ import annotations

import contextlib
import json
import shlex
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from machine.qemu.img import QemuImg
from tests.support.free_ports import choose_port
from tests.support.guest_network import SERVE, fetch, reachable
from tests.support.guests import BOOT_S
from tests.support.manifests import payload_of
from tests.support.relay import relay_command
from tests.support.waiting import wait_until
from tests.support.world import World

pytestmark = pytest.mark.long

NAMESPACE = "lab"
TUNNEL = f"port-forward --stdio=true vm/afar/{NAMESPACE} 22"
# Only images that a cluster can fetch are exported. Nobody fetches this one.
FILE = 'image = "https://images.example/boot2podman.qcow2"\nvolume = [""]\nhostname = "afar.example"\n'
# With `=1`, the quick first boot of our image leaves the config to systemd, whose udev names the drive.
ARGUMENTS = "root=LABEL=root rw console=ttyS0 no_timer_check ignition.firstboot=1 ignition.platform.id=kubevirt"


@pytest.fixture
def manifest(world: World) -> str:
    (world.root / "box.toml").write_text(FILE)
    return world.must("export", "--format", "kubevirt", "--namespace", NAMESPACE, "-f", "box.toml", "afar").stdout


@pytest.fixture
def port(world: World, streams: Path, manifest: str, tmp_path: Path) -> Iterator[int]:
    """The port of this host that leads to the SSH server of the manifest's guest."""
    artifacts: dict[str, Any] = json.loads((streams / "boot2podman.json").read_text())["architectures"]["x86_64"]
    boot = artifacts["artifacts"]["metal"]["formats"]["pxe"]
    world.must("image", "pull", "boot2podman")
    digest = artifacts["artifacts"]["qemu"]["formats"]["qcow2.xz"]["disk"]["uncompressed-sha256"]
    QemuImg().create_overlay(tmp_path / "root", world.cache / f"sha256-{digest}" / "image.qcow2", 12)
    make_config_drive(tmp_path / "drive", payload_of(manifest))
    chosen = choose_port()
    argv = [
        "qemu-system-x86_64", "-M", "q35", "-cpu", "max", "-smp", "2", "-m", "1536", "-display", "none",
        "-kernel", streams / boot["kernel"]["location"], "-initrd", streams / boot["initramfs"]["location"],
        "-append", ARGUMENTS, "-serial", f"file:{tmp_path / 'serial.log'}",
        "-drive", f"file={tmp_path / 'root'},format=qcow2,if=virtio",
        "-drive", f"file={tmp_path / 'drive'},format=raw,if=virtio,readonly=on",
        "-netdev", f"user,id=net,hostfwd=tcp:127.0.0.1:{chosen}-:22", "-device", "virtio-net-pci,netdev=net",
    ]  # fmt: skip
    with subprocess.Popen(argv) as qemu:
        try:
            wait_until(lambda: qemu.poll() is not None or greets(chosen), "the guest", timeout_s=BOOT_S, every_s=2)
            assert qemu.poll() is None
            yield chosen
        finally:
            qemu.kill()


def make_config_drive(path: Path, user_data: str) -> None:
    files = path.with_name("drive-files") / "openstack" / "latest"
    files.mkdir(parents=True)
    (files / "user_data").write_text(user_data)
    (files / "meta_data.json").write_text("{}")
    words = ("-q", "-t", "ext4", "-L", "config-2", "-d", str(path.with_name("drive-files")))
    subprocess.run(["mke2fs", *words, str(path), "4M"], check=True)


def greets(port: int) -> bool:
    """Return whether an SSH server answers at the port. QEMU itself accepts connections before."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        return connection.recv(4) == b"SSH-"
    return False


@pytest.fixture
def virtctl(world: World, port: int) -> Iterator[None]:
    """A stand-in for virtctl, which knows one command line."""
    directory = world.root / "cluster"
    directory.mkdir()
    program = directory / "virtctl"
    program.write_text(f'#!/bin/sh\ntest "$*" = "{TUNNEL}" || exit 1\nexec {relay_command(port)}\n')
    program.chmod(0o755)
    path, world.path = world.path, f"{directory}:{world.path}"
    yield
    if (world.machines / "afar-cluster").exists():
        world.must("rm", "--force", "afar-cluster")
    world.path = path


@pytest.mark.usefixtures("virtctl")
def test_guest_reads_the_manifests_config_and_becomes_a_machine(world: World, manifest: str, busybox: Path) -> None:
    (line,) = [line for line in manifest.splitlines() if "machine init" in line]
    words = shlex.split(line.partition("machine init ")[2])
    assert words[words.index("--proxy-command") + 1] == f"virtctl {TUNNEL}"
    world.must("init", *words)
    world.must("start", "afar-cluster")
    assert world.must("ssh", "afar-cluster", "hostname").stdout == "afar.example\n"
    assert "ignition.platform.id=kubevirt" in world.must("ssh", "afar-cluster", "cat", "/proc/cmdline").stdout
    world.remote("afar-cluster", "import", "--quiet", str(busybox), "busybox")
    port = choose_port()
    web = ("--publish", f"127.0.0.1:{port}:80", "busybox", "sh", "-c", SERVE)
    world.remote("afar-cluster", "run", "--detach", "--name", "web", *web)
    wait_until(lambda: reachable("127.0.0.1", port), "the port", timeout_s=300)
    assert fetch(f"127.0.0.1:{port}") == "hello\n"
    world.must("stop", "afar-cluster")
