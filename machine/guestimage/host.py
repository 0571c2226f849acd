"""Check whether this host can build an image. `probe_host` collects facts, and `find_problem` judges them (pure)."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from machine import runner
from machine.errors import MachineError, Page
from machine.guestimage.disk import GRUB_LIBRARY
from machine.guestimage.recipe import ImagePlan
from machine.model.arch import Arch
from machine.model.host import Installer

# Program → Debian package.
TOOLS = {
    "mmdebstrap": "mmdebstrap",
    "tar": "tar",
    "sfdisk": "fdisk",
    "mke2fs": "e2fsprogs",
    "mkfs.vfat": "dosfstools",
    "mmd": "mtools",
    "mcopy": "mtools",
    "grub-mkimage": "grub-common",
    "qemu-img": "qemu-utils",
    "xz": "xz-utils",
    "gpg": "gpg",
    "gpgconf": "gpgconf",
    "gpg-agent": "gpg-agent",
}
# An ordinary user builds in a user namespace.
USER_TOOLS = {"unshare": "util-linux", "newuidmap": "uidmap"}
FOREIGN_TOOLS = {"arch-test": "arch-test"}

# On Debian, the PATH of an ordinary user has no sbin.
SEARCH_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"])

# Put before the command if an ordinary user runs a program that must see the files' owners.
MAPPED = ("unshare", "--user", "--map-root-user", "--map-auto", "--")

# Peak usage: first the tar and the unpacked tree, later the tree, the raw disk and the qcow2.
OUTPUT_BYTES = 2_500_000_000
SCRATCH_BYTES = 1_500_000_000


@dataclass(frozen=True, kw_only=True)
class HostFacts:
    """The facts of a host that decide whether it can build an image."""

    system: str
    arch: str
    is_root: bool
    missing: tuple[str, ...] = ()
    """The Debian packages that the build needs and the host lacks."""

    namespace_error: str | None = None
    """Why an ordinary user cannot create a user namespace. None if that works, or if no namespace is needed."""

    runs_foreign: bool = True
    """Whether this host can run programs of the image's architecture."""

    space: Mapping[Path, tuple[int, int]] = field(default_factory=dict)
    """By folder, how many bytes are free in the folder's file system, and how many the build needs there."""


def find_problem(facts: HostFacts, plan: ImagePlan) -> MachineError | None:
    """Return the first reason why this host cannot build the image, or None."""
    for wrong, kind in (
        (facts.system != "Linux", f"Linux; this host runs {facts.system}"),
        (facts.arch not in set(Arch), f"hosts of these architectures: {', '.join(Arch)}; this one is {facts.arch}"),
    ):
        if wrong:
            return MachineError(
                f"images can only be built on {kind}",
                hint="build it on such a host and copy the stream's folder to this host, or use --image fcos:stable",
                page=Page.BUILD,
            )
    if facts.missing:
        packages = sorted(set(facts.missing))
        return MachineError(
            f"packages needed to build the image are missing on this host: {', '.join(packages)}",
            hint=f"install them: {Installer.APT.command(' '.join(packages))}",
            page=Page.BUILD,
        )
    if facts.arch != plan.arch.value and not facts.runs_foreign:
        return MachineError(
            f"this {facts.arch} host cannot run the {plan.arch.value} programs of the image",
            hint=f"install an emulator: {Installer.APT.command('qemu-user-static binfmt-support arch-test')}; "
            f"without systemd also run: sudo update-binfmts --enable qemu-{plan.arch.value}",
            page=Page.BUILD,
        )
    if facts.namespace_error is not None:
        return MachineError(
            f"an ordinary user cannot create a user namespace on this host: {facts.namespace_error}",
            hint="build as root, or run: sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER",
            page=Page.BUILD,
        )
    for folder, (free, needed) in facts.space.items():
        if free < needed:
            return MachineError(
                f"not enough space in {folder} for the build: {needed / 1e9:.1f} GB needed, {free / 1e9:.1f} GB free",
                hint="free some space, for example with: machine image prune",
                page=Page.HOST_DISK_FULL,
            )
    return None


def probe_host(plan: ImagePlan, *, output: Path, scratch: Path) -> HostFacts:
    system = platform.system()
    is_root = os.geteuid() == 0
    arch = host_arch()
    if system != "Linux":
        return HostFacts(system=system, arch=arch, is_root=is_root)
    foreign = arch != plan.arch.value
    tools = {**TOOLS, **({} if is_root else USER_TOOLS), **(FOREIGN_TOOLS if foreign else {})}
    missing = [package for tool, package in tools.items() if shutil.which(tool, path=SEARCH_PATH) is None]
    of_host = [loader for loader in plan.loaders if loader not in plan.fetched_loaders(is_foreign=foreign)]
    missing += [loader.package for loader in of_host if not (GRUB_LIBRARY / loader.platform).is_dir()]
    return HostFacts(
        system=system,
        arch=arch,
        is_root=is_root,
        missing=tuple(missing),
        namespace_error=None if is_root or missing else try_namespace(),
        runs_foreign=not foreign or Path(f"/proc/sys/fs/binfmt_misc/qemu-{plan.arch.value}").exists(),
        space=measure_space({output: OUTPUT_BYTES, scratch: SCRATCH_BYTES}),
    )


def host_arch() -> str:
    try:
        return Arch.parse(platform.machine()).value
    except ValueError:
        return platform.machine()


def measure_space(needs: Mapping[Path, int]) -> dict[Path, tuple[int, int]]:
    """Map each file system on which one of the folders is to its free bytes and the bytes that are needed there.

    `needs` maps each folder to the bytes that are needed in it. The path of a file system in the result is that of the
    first folder on it.
    """
    space: dict[int, tuple[Path, int, int]] = {}
    for folder, needed in needs.items():
        device = folder.stat().st_dev
        first, free, total = space.get(device, (folder, shutil.disk_usage(folder).free, 0))
        space[device] = (first, free, total + needed)
    return {folder: (free, needed) for folder, free, needed in space.values()}


def try_namespace() -> str | None:
    """Create a user namespace with a range of user ids. If that fails, return the reason, else None."""
    try:
        result = runner.run(
            [*MAPPED, "sh", "-c", "test $(wc -l </proc/self/uid_map) -ge 2"],
            timeout_s=10,
            check=False,
            environment={"PATH": SEARCH_PATH},
        )
    except MachineError as error:
        return error.message
    if result.returncode == 0:
        return None
    lines = result.stderr.strip().splitlines()
    return lines[-1] if lines else "/etc/subuid has no range of user ids for this user"
