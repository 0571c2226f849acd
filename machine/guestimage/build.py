"""Build a guest image from the recipe in `images/boot2podman/` and publish it as a local stream.

The build needs no root, mounts or loop devices, because mmdebstrap creates the root file system as a tar, mke2fs fills
a partition with its files, and GRUB is written directly to sectors of the disk (see `disk`). A build is published only
when complete.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from machine import lock
from machine.errors import MachineError, Page
from machine.files import FILE_PUBLIC, disk_errors, make_directory, sha256_of, write_atomic
from machine.guestimage.disk import GrubFiles, write_disk
from machine.guestimage.publish import (
    RECORD,
    STREAM,
    Build,
    BuiltFile,
    build_record,
    file_name,
    find_build,
    package_manifest,
    publish,
    sign,
)
from machine.guestimage.recipe import ImagePlan, load_plan, recipe_key
from machine.guestimage.root import make_root
from machine.guestimage.steps import Steps, building
from machine.model.arch import Arch
from machine.model.image import ImageVariant
from machine.report import Reporter

LOCK_TIMEOUT_S = 3 * 3600.0

# Higher presets than 6 need gigabytes of memory on many processors. Jumps in x86's programs become absolute addresses,
# which repeat.
XZ_PRESET = "preset=6"
XZ_FILTERS = {Arch.X86_64: ("--x86",)}


@dataclass(frozen=True, kw_only=True)
class BuildRequest:
    """What to build, and where the recipe (`images/boot2podman`), the stream and the signing key are."""

    arch: Arch
    suite: str
    variant: ImageVariant = ImageVariant.SMALL
    recipe: Path
    output: Path
    keys: Path


@dataclass(frozen=True, kw_only=True)
class BuildResult:
    """A published build. `reused` is set if the build existed already, because the recipe has not changed since."""

    stream: Path
    release: str
    disk: Path
    reused: bool


def build_image(request: BuildRequest, report: Reporter) -> BuildResult:
    """Build and publish the image. If the recipe has not changed since an earlier build, return that build.

    Raises:
        BadInputError: the recipe has no such suite or architecture.
        MachineError: this host cannot build the image, or a step of the build failed.
    """
    # Absolute, since the programs run in the work folder.
    request = replace(
        request,
        recipe=request.recipe.absolute(),
        output=request.output.absolute(),
        keys=request.keys.absolute(),
    )
    plan = load_plan(request.recipe, request.arch, request.suite, request.variant)
    key = recipe_key(request.recipe, request.arch, request.suite, request.variant)
    if build := find_build(request.output, request.keys, request.arch, key):
        return result_of(request, build, reused=True)
    with disk_errors(request.output / RECORD):
        make_directory(request.output)
        with build_lock(request.output, report):
            # Another process may have built it while this one waited.
            if build := find_build(request.output, request.keys, request.arch, key):
                return result_of(request, build, reused=True)
            build = build_locked(request, plan, key, report)
    return result_of(request, build, reused=False)


def result_of(request: BuildRequest, build: Build, *, reused: bool) -> BuildResult:
    return BuildResult(
        stream=request.output / f"{STREAM}.json",
        release=build.release,
        disk=request.output / build.folder / build.disk.name,
        reused=reused,
    )


def build_locked(request: BuildRequest, plan: ImagePlan, key: str, report: Reporter) -> Build:
    with building(plan, request.output, report) as steps:
        root = make_root(steps, request.recipe, plan)
        build = make_files(steps, request, plan, key, root)
        publish(build, steps.work / "publish", request.output, request.keys)
    return build


@contextlib.contextmanager
def build_lock(output: Path, report: Reporter) -> Iterator[None]:
    """Hold the lock of the stream's folder `output` during the block. If another build holds the lock, report that."""

    def announce() -> None:
        report.notice(f"waiting for another build in {output}")

    waits_for = f"the other build in {output}"
    with lock.exclusively(output / ".lock", timeout_s=LOCK_TIMEOUT_S, waits_for=waits_for, on_wait=announce):
        yield


def make_files(steps: Steps, request: BuildRequest, plan: ImagePlan, key: str, root: Path) -> Build:
    """Create and sign the files that are to be published. They are in the folder `publish` of the work folder."""
    manifest = "\n".join(package_manifest((root / "var/lib/dpkg/status").read_text())) + "\n"
    release = release_name(plan, hashlib.sha256((key + manifest).encode()).hexdigest())
    staged = steps.work / "publish"
    staged.mkdir(mode=0o755)
    names = {kind: file_name(release, plan.arch, kind) for kind in ("qemu", "kernel", "initramfs")}
    shutil.copyfile(newest_file(root / "boot", "vmlinu[xz]-*"), staged / names["kernel"])
    shutil.copyfile(newest_file(root / "boot", "initrd.img-*"), staged / names["initramfs"])

    qcow2 = make_disk(steps, request.recipe, plan, root)
    steps.begin("compressing the disk image")
    uncompressed_sha256 = sha256_of(qcow2)
    steps.run(xz_argv(plan.arch, qcow2))
    (steps.work / "disk.qcow2.xz").rename(staged / names["qemu"])

    steps.begin("signing and publishing")
    sign([staged / name for name in names.values()], request.keys)
    hashes = {kind: sha256_of(staged / name) for kind, name in names.items()}
    build = Build(
        release=release,
        arch=plan.arch,
        recipe_key=key,
        disk=BuiltFile(name=names["qemu"], sha256=hashes["qemu"], uncompressed_sha256=uncompressed_sha256),
        kernel=BuiltFile(name=names["kernel"], sha256=hashes["kernel"]),
        initramfs=BuiltFile(name=names["initramfs"], sha256=hashes["initramfs"]),
    )
    write_atomic(staged / "packages.txt", manifest, mode=FILE_PUBLIC)
    write_atomic(staged / RECORD, build_record(build), mode=FILE_PUBLIC)
    for file in staged.iterdir():
        file.chmod(FILE_PUBLIC)
    return build


def release_name(plan: ImagePlan, digest: str) -> str:
    """Return the name of a release, which is also part of its files' names. Only the small variant is not named."""
    variant = "" if plan.variant is ImageVariant.SMALL else f".{plan.variant}"
    return f"{plan.suite}{variant}.{digest[:12]}"


def xz_argv(arch: Arch, file: Path) -> list[str | os.PathLike[str]]:
    return ["xz", "--threads=0", *XZ_FILTERS.get(arch, ()), f"--lzma2={XZ_PRESET}", file]


def make_disk(steps: Steps, recipe: Path, plan: ImagePlan, root: Path) -> Path:
    """Create the bootable disk image, in the format qcow2."""
    steps.begin("writing the disk image")
    fetched = plan.fetched_loaders(is_foreign=steps.native_arch(plan) is not None)
    raw, qcow2 = steps.work / "disk.raw", steps.work / "disk.qcow2"
    write_disk(
        plan,
        root=root,
        grub=GrubFiles(fetched=fetched, config=recipe / "embed.cfg"),
        work=steps.work,
        disk=raw,
        run=steps.run,
        run_mapped=steps.run_mapped,
    )
    steps.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, qcow2])
    raw.unlink()
    return qcow2


def newest_file(folder: Path, pattern: str) -> Path:
    """Return the file in `folder` that matches `pattern`. If several match, return the last by name.

    Raises:
        MachineError: no file in `folder` matches. The package that should contain such a file is not installed.
    """
    found = sorted(folder.glob(pattern))
    if not found:
        raise MachineError(
            f"building the image failed: the installed packages contain no {folder.name}/{pattern}", page=Page.BUILD
        )
    return found[-1]
