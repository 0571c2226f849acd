"""The file system in which tests/kvm runs: Debian 13 with QEMU, Podman's client and the tests' Python packages.

It is made once and cached outside the checkout, by a key that its recipe has.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from machine.model.arch import Arch

SUITE = "trixie"
BUILD_S = 3600

_LOCK = Path(__file__).parents[1] / "requirements" / "dev.lock"
_PYTHON = "3.13"
_SITE = f"/usr/local/lib/python{_PYTHON}/dist-packages"
# Of wheels that run on Debian 13.
_PLATFORMS = ("manylinux_2_28", "manylinux_2_24", "manylinux_2_17", "manylinux2014")
_SIZE = "2500M"
_PACKAGES = (
    "busybox-static", "ca-certificates", "curl", "gpgv", "iproute2", "kmod", "openssh-client", "openssh-sftp-server",
    "podman-remote", "procps", "python3", "qemu-utils", "virtiofsd",
)  # fmt: skip
_QEMU = {
    Arch.X86_64: ("qemu-system-x86",),
    Arch.AARCH64: ("qemu-system-arm", "qemu-efi-aarch64"),
}
# Where the tests look for the program: beside the interpreter.
_PROGRAM = """#!/usr/bin/python3 -P
import sys
from machine.cli.entry import main
sys.exit(main())
"""
CHECKOUT = "/checkout"


def packages(arch: Arch) -> list[str]:
    """Return Debian's packages for a host of `arch`."""
    return sorted((*_PACKAGES, *_QEMU[arch]))


def wheels_argv(arch: Arch, directory: Path) -> list[str]:
    """Return the command that unpacks the locked Python packages for Debian 13 into a directory."""
    return [
        sys.executable, "-m", "pip", "install", "-qq", "--no-deps", "--no-compile", "--require-hashes",
        "--requirement", str(_LOCK), "--target", str(directory),
        "--only-binary=:all:", "--implementation=cp", f"--python-version={_PYTHON}",
        f"--abi=cp{_PYTHON.replace('.', '')}", "--abi=abi3", "--abi=none",
        *(f"--platform={platform}_{arch}" for platform in _PLATFORMS),
        "--platform=any",
    ]  # fmt: skip


def root_argv(arch: Arch, files: Path, image: Path) -> list[str]:
    """Return the command that fills the ext4 file system `image` with Debian's packages and the tree `files`."""
    # A mount of its own leaves out /proc and /sys, which are mounted in the tree.
    fill = f'bare=$(mktemp -d) && mount --bind "$1" "$bare" && mke2fs -q -F -t ext4 -d "$bare" {image} {_SIZE}'
    return [
        "mmdebstrap", "--quiet", "--variant=minbase", "--format=null", f"--architectures={arch.debian}",
        f"--include={','.join(packages(arch))}",
        f"--customize-hook=copy-in {files}/usr {files}{CHECKOUT} /",
        f'--customize-hook=chroot "$1" python3 -m compileall -q {_SITE} || true',
        f'--customize-hook={fill} && umount "$bare"',
        SUITE, "-",
    ]  # fmt: skip


def recipe_key(arch: Arch) -> str:
    """Return a hash of everything that decides what the file system contains: this module and the locked packages."""
    return hashlib.sha256(arch.encode() + Path(__file__).read_bytes() + _LOCK.read_bytes()).hexdigest()[:16]


def ensure_root(arch: Arch, cache: Path) -> Path:
    """Return the file system for hosts of `arch`, in a directory of its own. Make it unless the cache has it."""
    directory = cache / "kvm" / str(arch)
    image = directory / f"{recipe_key(arch)}.ext4"
    if not image.exists():
        print(f"Making the file system of a {arch} host in {image}", file=sys.stderr)
        directory.mkdir(parents=True, exist_ok=True)
        for stale in directory.iterdir():
            stale.unlink()
        # Root in mmdebstrap's user namespace is another user on the host, who must be able to enter and to write.
        with tempfile.TemporaryDirectory(prefix="b2p-kvm-", dir="/var/tmp") as name:
            work = Path(name)
            work.chmod(0o755)
            _make(arch, work, work / "root.ext4")
            shutil.move(work / "root.ext4", image.with_suffix(".new"))
        image.with_suffix(".new").rename(image)
    return image


def _make(arch: Arch, work: Path, image: Path) -> None:
    files = work / "files"
    site = files / _SITE[1:]
    site.mkdir(parents=True)
    (files / CHECKOUT[1:]).mkdir()
    _run(wheels_argv(arch, site))
    shutil.rmtree(site / "bin", ignore_errors=True)
    (site / "checkout.pth").write_text(f"{CHECKOUT}\n")
    program = files / "usr" / "bin" / "machine"
    program.parent.mkdir()
    program.write_text(_PROGRAM)
    program.chmod(0o755)
    program.with_name("podman").symlink_to("podman-remote")
    image.touch()
    image.chmod(0o666)
    _run(root_argv(arch, files, image))
    image.chmod(0o644)


def _run(argv: Sequence[str]) -> None:
    subprocess.run(argv, check=True, timeout=BUILD_S)
