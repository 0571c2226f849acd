"""Builders of values with defaults for all fields that a test does not set."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from machine.ignition.provision import Keys
from machine.image.base import BaseImage
from machine.model.arch import Arch
from machine.model.config import FirstBoot, ImageOrigin, MachineConfig, Resources, Script, UserIgnition, Verified
from machine.model.folders import Folder
from machine.model.host import AcceleratorChoice, Host, HostOS, Installer
from machine.model.provider import RemoteHost, RootAccess
from machine.model.record import GuestFacts, MachineRecord, Pending
from machine.model.service import Service
from machine.model.transport import TransportChoice
from machine.ops.shared.context import Context
from machine.qemu.accelerator import QemuFacts
from machine.qemu.plan import LaunchFiles
from machine.store import records
from machine.store.paths import MachinePaths, Roots
from machine.supervisor.launch import launch_files

CREATED = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
DIGEST = hashlib.sha256(b"an image").hexdigest()

RELAY = ("python3", "-I", "-S", "/opt/my tools, all/relay.py")

KEYS = Keys(
    authorized="ssh-ed25519 AAAAidentity machine-box",
    host_private="-----BEGIN OPENSSH PRIVATE KEY-----\nbase64+/=\n-----END OPENSSH PRIVATE KEY-----\n",
    host_public="ssh-ed25519 AAAAhost host-key-of-box",
)


def make_config(
    name: str = "box", *, cpus: int = 2, memory_mib: int = 2048, disk_gib: int = 100, **fields: Any
) -> MachineConfig:
    config = MachineConfig(
        name=name,
        created=CREATED,
        arch=Arch.X86_64,
        accelerator=AcceleratorChoice.AUTO,
        resources=Resources(cpus=cpus, memory_mib=memory_mib, disk_gib=disk_gib),
        username="core",
        uid=1000,
        rootful=False,
        timezone="Europe/Stockholm",
        ssh_port=40022,
        mac="52:54:00:12:34:56",
        image=ImageOrigin(reference="fcos:stable", digest=DIGEST, stream="stable", release="43.1", location="x"),
    )
    return replace(config, **fields)


def make_record(
    name: str = "box", *, pending: Pending | None = None, guest: GuestFacts | None = None, **fields: Any
) -> MachineRecord:
    """Make a record with `fields` in its config; without `guest`, the machine was never up."""
    return MachineRecord(config=make_config(name, **fields), pending=pending or Pending(), guest=guest or GuestFacts())


USER_IGNITION = '{"ignition": {"version": "3.2.0"}}\n'
PUBLIC_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGNhbm5vdCBiZSBhIHJlYWwga2V5 me"


def make_remote_config(**changes: Any) -> MachineConfig:
    """A host that is reached over SSH."""
    remote = RemoteHost(
        named="core@server.example:2022",
        address="server.example",
        proxy_command="ssh -W [%h]:%p jump",
        identity="/home/me/.ssh/id_ed25519",
        agent=None,
        root_access=RootAccess.SUDO,
        socket="/run/user/1000/podman/podman.sock",
    )
    return make_config(
        name="far",
        ssh_port=2022,
        remote=remote,
        image=ImageOrigin(reference="", digest=None),
        volume_driver=TransportChoice.SSHFS,
        **changes,
    )


def make_full_config(**fields: Any) -> MachineConfig:
    """Make a config with all optional settings."""
    first_boot = FirstBoot(
        ignition=UserIgnition(name="site.ign", text=USER_IGNITION),
        scripts=(
            Script(name="set up.sh", text='#!/bin/sh\necho "a\\b"\n'),
            Script(name="own.sh", text="echo '''\r\n", as_user=True),
        ),
        playbook=Script(name="site.yml", text="- hosts: all\n", as_user=True),
        environment=(("A", "1"), ("B", "ü $x")),
        ssh_keys=(PUBLIC_KEY,),
        hostname="box.example.org",
    )
    labels = (("org.example/x", ""), ("team", 'a "b"'))
    given = {
        "swap_mib": 512, "usbs": ("bus=1,devnum=2",), "timezone_local": True, "native_ca": True,
        "folders": (Folder(source="/a b", target="/é"), Folder(source="/c", target="/d", read_only=True)),
        "volume_driver": TransportChoice.NINEP, "mount_inotify": True, "verify_tls": False,
    }  # fmt: skip
    return make_config(labels=labels, first_boot=first_boot, **{**given, **fields})


def make_host(
    os: HostOS = HostOS.LINUX, machine: str = "x86_64", *, cpus: int = 4, memory_mib: int = 8192, **fields: Any
) -> Host:
    """Make a host with Debian's packages, or a Mac with macOS 15 and Homebrew."""
    mac = os is HostOS.MACOS
    defaults = {"installer": Installer.BREW if mac else Installer.APT, "kernel": (24, 0, 0) if mac else (6, 1, 0)}
    return Host(os=os, machine=machine, cpus=cpus, memory_mib=memory_mib, **{**defaults, **fields})


def make_qemu(path: str = "/usr/bin/qemu-system-x86_64", **fields: Any) -> QemuFacts:
    """Make a QEMU with all features."""
    defaults = {
        "version": (10, 0, 2), "accelerators": frozenset({"tcg", "kvm", "hvf"}), "networks": frozenset({"user", "tap"}),
    }  # fmt: skip
    return QemuFacts(path=path, **{**defaults, **fields})


def make_roots(base: Path) -> Roots:
    return Roots(data=base / "data", runtime=base / "run", cache=base / "cache", config=base / "config")


def make_context(base: Path, **environment: str) -> Context:
    return Context(host=make_host(), roots=make_roots(base), uid=1000, home=base / "home", environment=environment)


def make_paths(base: Path, name: str = "box") -> MachinePaths:
    return make_roots(base).machine(name)


def make_launch_files(base: Path) -> LaunchFiles:
    return launch_files(make_paths(base))


def save_machine(roots: Roots, record: MachineRecord) -> MachinePaths:
    """Create a machine's directory with only its record, which is enough for `ls` and `inspect`."""
    paths = roots.machine(record.name)
    paths.directory.mkdir(parents=True)
    records.save(paths, record)
    return paths


def make_base(directory: Path, **fields: Any) -> BaseImage:
    """Make a base image with an empty file."""
    path = directory / "base.qcow2"
    path.touch()
    base = BaseImage(
        digest=DIGEST, path=path, reference="fcos:stable", arch=Arch.X86_64, stream="stable", release="43.1",
        location="x", sha256=DIGEST, uncompressed_sha256=DIGEST, verified=Verified.SIGNATURE, signer="key",
        length=0, fetched="2026-01-02T03:04:05Z",
    )  # fmt: skip
    return replace(base, **fields)


def make_metadata(
    location: str = "box.qcow2.xz",
    *,
    stream: str = "stable",
    arch: str = "x86_64",
    sha256: str = DIGEST,
    uncompressed_sha256: str = DIGEST,
    **disk: str,
) -> dict[str, Any]:
    """Make stream metadata with one image, in Fedora CoreOS's schema."""
    described = {"location": location, "sha256": sha256, "uncompressed-sha256": uncompressed_sha256, **disk}
    artifacts = {"qemu": {"release": "43.20260101.3.0", "formats": {"qcow2.xz": {"disk": described}}}}
    return {"stream": stream, "metadata": {}, "architectures": {arch: {"artifacts": artifacts}}}


def make_metadata_text(location: str = "box.qcow2.xz", **fields: str) -> bytes:
    return json.dumps(make_metadata(location, **fields)).encode()


SERVICE = Service(
    label="org.boot2podman.box",
    description="Machine box of boot2podman",
    argv=("/home/me/.local/bin/machine", "start", "--foreground", "--no-info", "box"),
    environment={"PATH": "/home/me/.local/bin:/usr/bin:/bin"},
    stop_s=270,
    log="/home/me/box/autostart.log",
)
ODD_SERVICE = replace(
    SERVICE,
    argv=("/opt/100% my tools/$HOME/machine", "start", 'a "b" $c \\ 5%'),
    environment={"PATH": "/usr/bin", "MACHINE_HOME": '/srv/50%u "a" \\ $b'},
)
