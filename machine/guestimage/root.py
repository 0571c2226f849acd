"""Create the guest image's root file system.

mmdebstrap installs the packages and the overlay, and runs the customize script.
"""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from machine.guestimage.recipe import BootLoader, ImagePlan, overlay_tar
from machine.guestimage.steps import Steps
from machine.model.arch import Arch
from machine.model.image import ImageVariant

# Under emulation of a foreign architecture, installing the packages may take half an hour.
PACKAGES_TIMEOUT_S = 7200.0
NATIVE_TAR = "native.tar"


# dpkg unpacks links even if dpkg.cfg leaves them out, and systemd-binfmt fails for emulators that are not here.
DROP_MISSING_EMULATORS = """set -e; cd "$1"
find usr/libexec/qemu-binfmt -xtype l -delete
for config in usr/lib/binfmt.d/qemu-*.conf; do
    name=${config##*/qemu-}
    [ -e "usr/libexec/qemu-binfmt/${name%.conf}-binfmt-P" ] || rm "$config"
done
"""


def make_root(steps: Steps, recipe: Path, plan: ImagePlan) -> Path:
    """Create the guest's root file system in a folder, and return the folder. The files have the guest's owners."""
    native = steps.native_arch(plan)
    environment = {"TMPDIR": os.fspath(steps.scratch)}
    if native:
        steps.begin(f"fetching {native} programs to speed up the {plan.arch} build")
        steps.run(native_programs_argv(plan, native), environment=environment)

    steps.begin(f"installing {len(plan.packages)} packages of Debian {plan.suite} (takes minutes)")
    (steps.work / "overlay.tar").write_bytes(overlay_tar(recipe / "overlay"))
    archive = steps.work / "root.tar"
    # Keeps the kernel's package from creating an initramfs, since customize creates the right one later.
    environment["INITRD"] = "No"
    argv = mmdebstrap_argv(plan, recipe, archive, is_foreign=native is not None)
    steps.run(argv, timeout_s=PACKAGES_TIMEOUT_S, environment=environment)

    steps.begin("unpacking the root file system")
    root = steps.work / "root"
    root.mkdir(mode=0o755)
    # An ordinary user may not create device nodes, and the guest's kernel fills /dev anyway.
    steps.run_mapped(
        ["tar", "--extract", "--file", archive, "--directory", root, "--numeric-owner", "--same-permissions",
         "--xattrs", "--xattrs-include=*", "--exclude=./dev/*"]
    )  # fmt: skip
    archive.unlink()
    reset_machine_id(root)
    return root


def reset_machine_id(root: Path) -> None:
    """Make systemd take the next boot for the first one, so that it enables the units that Ignition presets.

    An empty /etc/machine-id, as mmdebstrap leaves it, is not enough (see "First Boot Semantics" in machine-id(5)).
    """
    path = root / "etc/machine-id"
    path.unlink(missing_ok=True)
    path.write_text("uninitialized\n")
    path.chmod(0o444)


def mmdebstrap_argv(plan: ImagePlan, recipe: Path, output: Path, *, is_foreign: bool) -> list[str | os.PathLike[str]]:
    """Return the mmdebstrap command that installs the packages and the overlay, and runs the customize script.

    The command has to be run in the work folder, because it reads overlay.tar there.
    """
    customize = shlex.quote(os.fspath(recipe / "customize"))
    return [
        "mmdebstrap",
        "--mode", "auto",
        "--variant", "minbase",
        "--format", "tar",
        f"--architectures={plan.arch.debian}",
        f"--components={','.join(plan.components)}",
        f"--include={','.join(plan.packages)}",
        f"--dpkgopt={recipe / 'dpkg.cfg'}",
        *(native_hooks(recipe) if is_foreign else []),
        "--customize-hook", "tar-in overlay.tar /",
        *(["--customize-hook", DROP_MISSING_EMULATORS] if plan.variant is ImageVariant.FULL else []),
        "--customize-hook", f"upload {customize} /tmp/customize",
        "--customize-hook", f'chroot "$1" sh /tmp/customize {plan.variant}',
        *[word for loader in plan.fetched_loaders(is_foreign=is_foreign) for word in fetch_grub_hooks(loader)],
        plan.suite,
        output,
    ]  # fmt: skip


def fetch_grub_hooks(loader: BootLoader) -> list[str]:
    """Return hooks of mmdebstrap that extract GRUB's files from a package without installing the package."""
    folder = "/tmp/grub"  # noqa: S108 - in the new root file system
    apt = 'APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" apt-get -o APT::Sandbox::User=root'
    return [
        "--customize-hook", f'mkdir "$1{folder}" && cd "$1{folder}" && {apt} download {shlex.quote(loader.package)}',
        "--customize-hook", f'cd "$1{folder}" && dpkg-deb --extract ./*.deb .',
        "--customize-hook", f"copy-out {folder}/usr/lib/grub/{shlex.quote(loader.platform)} .",
        "--customize-hook", f'rm -r "$1{folder}"',
    ]  # fmt: skip


def native_hooks(recipe: Path) -> list[str]:
    """Return hooks of mmdebstrap by which native programs replace emulated ones while packages are installed."""
    script = "/tmp/native-programs"  # noqa: S108 - in the new root file system
    return [
        "--essential-hook", 'mkdir "$1/native"',
        "--essential-hook", f"tar-in {NATIVE_TAR} /native",
        "--essential-hook", f"upload {shlex.quote(os.fspath(recipe / 'native-programs'))} {script}",
        "--essential-hook", f'chroot "$1" sh {script} begin',
        "--customize-hook", f'chroot "$1" sh {script} end',
        "--customize-hook", f'rm "$1{script}"',
    ]  # fmt: skip


def native_programs_argv(plan: ImagePlan, native: Arch) -> list[str]:
    return [
        "mmdebstrap",
        "--mode", "auto",
        "--variant", "extract",
        "--format", "tar",
        f"--architectures={native.debian}",
        f"--include={','.join(plan.native_packages)}",
        plan.suite,
        NATIVE_TAR,
    ]  # fmt: skip
