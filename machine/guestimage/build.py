"""Build a guest image from the recipe in `images/boot2podman/` and publish it as a local stream.

Needs no root, no mounts and no loop devices: mmdebstrap makes the root file system as a tar, mke2fs fills a
partition from it, and GRUB is put in place byte by byte (`build_disk`). Nothing half-made is ever visible.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import shlex
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from machine import lock, runner
from machine.errors import MachineError, ProgramError
from machine.files import disk_errors, sha256_of, write_atomic
from machine.guestimage.disk import FIXED_TIMES, GrubFiles, write_disk
from machine.guestimage.host import MAPPED, SEARCH_PATH, HostFacts, find_problem, probe_host
from machine.guestimage.publish import (
    MODE_PUBLIC,
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
from machine.guestimage.recipe import BootLoader, ImagePlan, load_plan, overlay_tar, recipe_key
from machine.model.arch import Arch
from machine.report import Reporter

__all__ = ["BuildRequest", "BuildResult", "build_image", "recipe_key"]

log = logging.getLogger(__name__)

# Under emulation of a foreign architecture the packages alone may take half an hour.
PACKAGES_TIMEOUT_S = 7200.0
STEP_TIMEOUT_S = 1800.0
LOCK_TIMEOUT_S = 3 * 3600.0
WORK_PREFIX = ".build-"
NATIVE_TAR = "native.tar"
# Not /tmp, which is often in memory.
DEFAULT_SCRATCH = "/var/tmp"  # noqa: S108 - mkdtemp makes the folder in it
LOG_TAIL = 20
ERROR_PREFIXES = ("E: ", "dracut[E]", "dracut[F]", "error:")
MMDEBSTRAP_CLOSING = ("E: setup failed", "E: mmdebstrap failed", "E: run_chroot failed")

# The fastest preset that still halves the image: the higher ones take minutes and save a tenth.
XZ_PRESET = "-1"


@dataclass(frozen=True, kw_only=True)
class BuildRequest:
    """`recipe` is the folder `images/boot2podman`, `output` the stream's base, `keys` has the key."""

    arch: Arch
    suite: str
    recipe: Path
    output: Path
    keys: Path


@dataclass(frozen=True, kw_only=True)
class BuildResult:
    """`reused` when an unchanged recipe had been built before."""

    stream: Path
    release: str
    disk: Path
    reused: bool


def build_image(request: BuildRequest, report: Reporter) -> BuildResult:
    """Build and publish the image, or return the published one when the recipe has not changed.

    Raises:
        BadInputError: the recipe knows no such suite or architecture.
        MachineError: this host cannot build it, or a step of the build failed.
    """
    # Absolute, because the programs run in the work folder.
    request = replace(
        request,
        recipe=request.recipe.absolute(),
        output=request.output.absolute(),
        keys=request.keys.absolute(),
    )
    plan = load_plan(request.recipe, request.arch, request.suite)
    key = recipe_key(request.recipe, request.arch, request.suite)
    if build := find_build(request.output, request.keys, request.arch, key):
        return result_of(request, build, reused=True)
    with disk_errors(request.output / RECORD):
        request.output.mkdir(parents=True, exist_ok=True)
        with build_lock(request.output, report):
            # The one that we waited for may have built it.
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
def building(plan: ImagePlan, output: Path, report: Reporter) -> Iterator[Steps]:
    """The steps of a build in `output`, whose folders are there for that long.

    Raises:
        MachineError: this host cannot build it.
    """
    scratch_base = Path(os.environ.get("TMPDIR") or DEFAULT_SCRATCH)
    facts = probe_host(plan, output=output, scratch=scratch_base)
    if problem := find_problem(facts, plan):
        raise problem
    remove_stale(output, facts)
    with work_folder(output, scratch_base, facts) as (work, scratch):
        yield Steps(log_file=output / "build.log", work=work, scratch=scratch, facts=facts, report=report)


@contextlib.contextmanager
def build_lock(output: Path, report: Reporter) -> Iterator[None]:
    """One build at a time in `output`; says so when it has to wait."""

    def tell() -> None:
        report.notice(f"another build is running in {output}: waiting for it")

    waits_for = f"the other build in {output}"
    with lock.exclusively(output / ".lock", timeout_s=LOCK_TIMEOUT_S, waits_for=waits_for, on_wait=tell):
        yield


@contextlib.contextmanager
def work_folder(output: Path, scratch_base: Path, facts: HostFacts) -> Iterator[tuple[Path, Path]]:
    """A folder beside the result, and one that other users may pass, for mmdebstrap; both go at the end."""
    work = Path(tempfile.mkdtemp(prefix=WORK_PREFIX, dir=output))
    try:
        scratch = Path(tempfile.mkdtemp(prefix="boot2podman-", dir=scratch_base))
        # What a killed build leaves behind is swept by the next one.
        (work / "scratch").write_text(os.fspath(scratch))
        # mmdebstrap's user namespace maps its root to another user, who must be able to pass.
        scratch.chmod(0o711)
        yield work, scratch
    finally:
        remove_work(work, facts)


def remove_stale(output: Path, facts: HostFacts) -> None:
    for work in output.glob(f"{WORK_PREFIX}*"):
        remove_work(work, facts)


def remove_work(work: Path, facts: HostFacts) -> None:
    """Delete a work folder and its scratch folder; a failure is only logged."""
    with contextlib.suppress(OSError):
        scratch = Path((work / "scratch").read_text())
        if scratch.name.startswith("boot2podman-"):
            remove_tree(scratch, facts)
    remove_tree(work, facts)


def remove_tree(folder: Path, facts: HostFacts) -> None:
    """Delete a folder that may hold files of the mapped users."""
    try:
        runner.run(
            [*mapping(facts), "rm", "-rf", "--one-file-system", "--", folder],
            timeout_s=STEP_TIMEOUT_S,
            environment={"PATH": SEARCH_PATH},
        )
    except MachineError as error:
        log.warning("cannot delete %s: %s", folder, error)


def mapping(facts: HostFacts) -> tuple[str, ...]:
    return () if facts.is_root else MAPPED


class Steps:
    """Runs the programs of a build: in the work folder, with their output in the log."""

    def __init__(self, *, log_file: Path, work: Path, scratch: Path, facts: HostFacts, report: Reporter) -> None:
        self.log_file = log_file
        self.work = work
        self.scratch = scratch
        self.report = report
        self._facts = facts
        self._mapping = mapping(facts)
        self._name = ""
        log_file.write_bytes(b"")

    def helper(self, plan: ImagePlan) -> Arch | None:
        """This host's own architecture where it is not the image's: its programs are quicker than emulated ones."""
        return None if self._facts.arch == plan.arch.value else Arch(self._facts.arch)

    def begin(self, name: str) -> None:
        self._name = name
        self.report.step(name)
        with self.log_file.open("a") as stream:
            stream.write(f"\n== {name}\n")

    def run(
        self,
        argv: Sequence[str | os.PathLike[str]],
        *,
        stdin: str | None = None,
        timeout_s: float = STEP_TIMEOUT_S,
        environment: dict[str, str] | None = None,
    ) -> None:
        """Run one program.

        Raises:
            MachineError: it failed; the message names the step and the log.
        """
        try:
            runner.run(
                argv,
                timeout_s=timeout_s,
                stdin=stdin,
                cwd=self.work,
                environment={**FIXED_TIMES, "PATH": SEARCH_PATH, **(environment or {})},
                output=self.log_file,
            )
        except ProgramError as error:
            raise self.failure(error) from error

    def run_mapped(self, argv: Sequence[str | os.PathLike[str]], *, stdin: str | None = None) -> None:
        """Run one program that must see and make files of every owner."""
        self.run([*self._mapping, *argv], stdin=stdin)

    def failure(self, error: ProgramError) -> MachineError:
        text = self.log_file.read_text(errors="replace")
        lines = [line.rstrip() for line in text.splitlines() if line.strip()][-LOG_TAIL:]
        return MachineError(
            f"building the image failed ({self._name}): {telling_line(lines) or error.message}",
            details=[error.message, *lines],
            hint=f"the whole log is {self.log_file}",
        )


def telling_line(lines: Sequence[str]) -> str | None:
    """What says why: the last line that calls itself an error, else the last one."""
    errors = [line for line in lines if line.startswith(ERROR_PREFIXES) or ": error: " in line]
    # mmdebstrap's closing words only repeat that it failed.
    telling = [line for line in errors if not line.startswith(MMDEBSTRAP_CLOSING)]
    return next(reversed(telling or errors or list(lines)), None)


def mmdebstrap_argv(plan: ImagePlan, recipe: Path, output: Path, *, is_foreign: bool) -> list[str | os.PathLike[str]]:
    """Packages, overlay, customize; the tars lie in the working directory. Hooks are shell text."""
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
        "--customize-hook", f"upload {customize} /tmp/customize",
        "--customize-hook", 'chroot "$1" sh /tmp/customize',
        *[word for loader in plan.fetched_loaders(is_foreign=is_foreign) for word in fetch_grub_hooks(loader)],
        plan.suite,
        output,
    ]  # fmt: skip


def fetch_grub_hooks(loader: BootLoader) -> list[str]:
    """Take GRUB's files out of their package, which is not installed: it would bring the rest of GRUB along."""
    folder = "/tmp/grub"  # noqa: S108 - in the new root file system
    apt = 'APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" apt-get -o APT::Sandbox::User=root'
    return [
        "--customize-hook", f'mkdir "$1{folder}" && cd "$1{folder}" && {apt} download {shlex.quote(loader.package)}',
        "--customize-hook", f'cd "$1{folder}" && dpkg-deb --extract ./*.deb .',
        "--customize-hook", f"copy-out {folder}/usr/lib/grub/{shlex.quote(loader.platform)} .",
        "--customize-hook", f'rm -r "$1{folder}"',
    ]  # fmt: skip


def native_hooks(recipe: Path) -> list[str]:
    """Put native programs in the places of emulated ones, once there are any; remove them after the last package."""
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


def make_root(steps: Steps, recipe: Path, plan: ImagePlan) -> Path:
    """The guest's root file system as a folder, owners and all."""
    helper = steps.helper(plan)
    environment = {"TMPDIR": os.fspath(steps.scratch)}
    if helper:
        steps.begin(f"fetching programs of {helper} for the build of {plan.arch}")
        steps.run(native_programs_argv(plan, helper), environment=environment)

    steps.begin(f"installing {len(plan.packages)} packages of Debian {plan.suite} (takes minutes)")
    (steps.work / "overlay.tar").write_bytes(overlay_tar(recipe / "overlay"))
    archive = steps.work / "root.tar"
    # The kernel's package makes no initramfs, since customize makes the right one later.
    environment["INITRD"] = "No"
    argv = mmdebstrap_argv(plan, recipe, archive, is_foreign=helper is not None)
    steps.run(argv, timeout_s=PACKAGES_TIMEOUT_S, environment=environment)

    steps.begin("unpacking the root file system")
    root = steps.work / "root"
    root.mkdir(mode=0o755)
    # The kernel fills /dev, and an ordinary user may not make device nodes.
    steps.run_mapped(
        ["tar", "--extract", "--file", archive, "--directory", root, "--numeric-owner", "--same-permissions",
         "--xattrs", "--xattrs-include=*", "--exclude=./dev/*"]
    )  # fmt: skip
    archive.unlink()
    forget_machine_id(root)
    return root


def forget_machine_id(root: Path) -> None:
    """Make the next boot the first one, with presets and all.

    It takes the word: mmdebstrap leaves an empty file, with which systemd boots, but not as for the first time,
    so that none of the units is enabled that Ignition wants enabled.
    """
    path = root / "etc/machine-id"
    path.unlink(missing_ok=True)
    path.write_text("uninitialized\n")
    path.chmod(0o444)


def make_files(steps: Steps, request: BuildRequest, plan: ImagePlan, key: str, root: Path) -> Build:
    """Everything that is published, signed, in the work folder's `publish`."""
    manifest = "\n".join(package_manifest((root / "var/lib/dpkg/status").read_text())) + "\n"
    release = f"{plan.suite}.{hashlib.sha256((key + manifest).encode()).hexdigest()[:12]}"
    staged = steps.work / "publish"
    staged.mkdir(mode=0o755)
    names = {kind: file_name(release, plan.arch, kind) for kind in ("qemu", "kernel", "initramfs")}
    shutil.copyfile(newest(root / "boot", "vmlinu[xz]-*"), staged / names["kernel"])
    shutil.copyfile(newest(root / "boot", "initrd.img-*"), staged / names["initramfs"])

    qcow2 = make_disk(steps, request.recipe, plan, root)
    steps.begin("compressing the disk image")
    uncompressed_sha256 = sha256_of(qcow2)
    steps.run(["xz", "--threads=0", XZ_PRESET, qcow2])
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
    write_atomic(staged / "packages.txt", manifest, mode=MODE_PUBLIC)
    write_atomic(staged / RECORD, build_record(build), mode=MODE_PUBLIC)
    for file in staged.iterdir():
        file.chmod(MODE_PUBLIC)
    return build


def make_disk(steps: Steps, recipe: Path, plan: ImagePlan, root: Path) -> Path:
    """The bootable disk, as qcow2."""
    steps.begin("writing the disk image")
    fetched = plan.fetched_loaders(is_foreign=steps.helper(plan) is not None)
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


def newest(folder: Path, pattern: str) -> Path:
    """The one file of that name.

    Raises:
        MachineError: the packages brought none.
    """
    found = sorted(folder.glob(pattern))
    if not found:
        raise MachineError(f"building the image failed: the packages brought no {pattern}")
    return found[-1]
