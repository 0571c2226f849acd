from __future__ import annotations

import fcntl
import itertools
import os
import subprocess
import threading
from pathlib import Path

import pytest

from machine.errors import MachineError
from machine.guestimage.build import BuildRequest, build_image, build_lock, release_name, xz_argv
from machine.guestimage.host import HostFacts
from machine.guestimage.publish import PUBLIC_KEY, RECORD, Build, BuiltFile, build_record, publish
from machine.guestimage.recipe import load_plan, recipe_key
from machine.guestimage.root import DROP_MISSING_EMULATORS, mmdebstrap_argv, native_programs_argv, reset_machine_id
from machine.guestimage.steps import Steps, error_line, work_folder
from machine.model.arch import Arch
from machine.model.image import ImageVariant
from machine.report import SilentReporter

RECIPE = Path(__file__).parents[3] / "images" / "boot2podman"
FACTS = HostFacts(system="Linux", arch="x86_64", is_root=True)


class Recorder(SilentReporter):
    def __init__(self) -> None:
        self.notices: list[str] = []

    def notice(self, text: str) -> None:
        self.notices.append(text)


def make_request(folder: Path) -> BuildRequest:
    return BuildRequest(
        arch=Arch.X86_64, suite="trixie", recipe=RECIPE, output=folder / "streams", keys=folder / "keys"
    )


def test_unchanged_recipe_returns_the_published_build(tmp_path: Path) -> None:
    request = make_request(tmp_path)
    key = recipe_key(RECIPE, Arch.X86_64, "trixie")
    files = {kind: BuiltFile(name=kind, sha256="00") for kind in ("disk", "kernel", "initramfs")}
    build = Build(release="trixie.aa", arch=Arch.X86_64, recipe_key=key, **files)
    staged = request.output / ".build-x" / "publish"
    staged.mkdir(parents=True)
    request.keys.mkdir()
    (request.keys / PUBLIC_KEY).write_bytes(b"public")
    for kind in files:
        (staged / kind).touch()
        (staged / f"{kind}.sig").touch()
    (staged / RECORD).write_text(build_record(build))
    publish(build, staged, request.output, request.keys)

    result = build_image(request, SilentReporter())

    assert (result.reused, result.release) == (True, "trixie.aa")
    assert result.stream == request.output / "boot2podman.json"
    assert result.disk == request.output / "builds/trixie.aa/x86_64/disk"


def test_mmdebstrap_quotes_the_recipe_for_its_hooks() -> None:
    plan = load_plan(RECIPE, Arch.AARCH64, "trixie")
    argv = [
        os.fspath(word) for word in mmdebstrap_argv(plan, Path("/my recipe"), Path("/w/root.tar"), is_foreign=False)
    ]
    assert "--architectures=arm64" in argv
    assert "--dpkgopt=/my recipe/dpkg.cfg" in argv
    assert "upload '/my recipe/customize' /tmp/customize" in argv
    assert argv[-2:] == ["trixie", "/w/root.tar"]


def test_boot_loader_that_no_other_host_has_comes_from_the_images_own_suite() -> None:
    plan = load_plan(RECIPE, Arch.PPC64LE, "trixie")
    native, foreign = (
        [
            os.fspath(word)
            for word in mmdebstrap_argv(plan, RECIPE, Path("t"), is_foreign=is_foreign)
            if "grub" in str(word)
        ]
        for is_foreign in (False, True)
    )
    apt = 'APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" apt-get -o APT::Sandbox::User=root'
    assert native == []
    assert foreign == [
        f'mkdir "$1/tmp/grub" && cd "$1/tmp/grub" && {apt} download grub-ieee1275-bin',
        'cd "$1/tmp/grub" && dpkg-deb --extract ./*.deb .',
        "copy-out /tmp/grub/usr/lib/grub/powerpc-ieee1275 .",
        'rm -r "$1/tmp/grub"',
    ]


def test_foreign_build_has_the_hosts_programs_until_its_initramfs_is_made() -> None:
    words = [
        os.fspath(word)
        for word in mmdebstrap_argv(load_plan(RECIPE, Arch.AARCH64, "trixie"), Path("/r"), Path("t"), is_foreign=True)
    ]
    hooks = [(kind.removeprefix("--"), hook) for kind, hook in itertools.pairwise(words) if kind.endswith("-hook")]
    assert hooks[:4] == [
        ("essential-hook", 'mkdir "$1/native"'),
        ("essential-hook", "tar-in native.tar /native"),
        ("essential-hook", "upload /r/native-programs /tmp/native-programs"),
        ("essential-hook", 'chroot "$1" sh /tmp/native-programs begin'),
    ]
    assert hooks[4] == ("customize-hook", 'chroot "$1" sh /tmp/native-programs end')
    assert hooks.index(("customize-hook", 'chroot "$1" sh /tmp/customize small')) > 4


def test_programs_that_help_are_of_the_hosts_architecture() -> None:
    argv = native_programs_argv(load_plan(RECIPE, Arch.X86_64, "trixie"), Arch.AARCH64)
    assert "--architectures=arm64" in argv
    assert argv[-2:] == ["trixie", "native.tar"]


def test_release_and_customize_tell_the_variant() -> None:
    small, full = (load_plan(RECIPE, Arch.X86_64, "trixie", variant) for variant in ImageVariant)
    assert release_name(small, "0123456789abcdef") == "trixie.0123456789ab"
    assert release_name(full, "0123456789abcdef") == "trixie.full.0123456789ab"
    assert 'chroot "$1" sh /tmp/customize full' in mmdebstrap_argv(full, RECIPE, Path("t"), is_foreign=False)


def test_full_variant_has_no_emulators_that_are_left_out(tmp_path: Path) -> None:
    small, full = (
        mmdebstrap_argv(load_plan(RECIPE, Arch.X86_64, "trixie", one), RECIPE, Path("t"), is_foreign=False)
        for one in (ImageVariant.SMALL, ImageVariant.FULL)
    )
    assert (DROP_MISSING_EMULATORS in small, DROP_MISSING_EMULATORS in full) == (False, True)
    programs, links, configs = (tmp_path / "usr" / name for name in ("bin", "libexec/qemu-binfmt", "lib/binfmt.d"))
    for directory in (programs, links, configs):
        directory.mkdir(parents=True)
    (programs / "qemu-arm").touch()
    for name in ("arm", "alpha"):
        (links / f"{name}-binfmt-P").symlink_to(f"../../bin/qemu-{name}")
        (configs / f"qemu-{name}.conf").touch()
    subprocess.run(["sh", "-c", DROP_MISSING_EMULATORS, "exec", tmp_path], check=True)
    assert sorted(path.name for path in (*links.iterdir(), *configs.iterdir())) == ["arm-binfmt-P", "qemu-arm.conf"]


def test_image_is_compressed_as_programs_of_its_processor_are() -> None:
    file = Path("disk.qcow2")
    assert xz_argv(Arch.X86_64, file) == ["xz", "--threads=0", "--x86", "--lzma2=preset=6", file]
    assert xz_argv(Arch.PPC64LE, file) == ["xz", "--threads=0", "--lzma2=preset=6", file]


def test_second_build_waits_with_a_notice(tmp_path: Path) -> None:
    report = Recorder()
    with (tmp_path / ".lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        release = threading.Timer(0.2, lambda: fcntl.flock(held, fcntl.LOCK_UN))
        release.start()
        with build_lock(tmp_path, report):
            pass
        release.join()
    assert report.notices == [f"waiting for another build in {tmp_path}"]


def test_failed_build_leaves_neither_work_nor_scratch(tmp_path: Path) -> None:
    output, scratch_base = tmp_path / "output", tmp_path / "scratch"
    output.mkdir()
    scratch_base.mkdir()

    def build_in(work: Path, scratch: Path) -> None:
        (work / "root").mkdir()
        assert scratch.is_dir()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), work_folder(output, scratch_base, FACTS) as folders:
        build_in(*folders)
    assert [*output.iterdir(), *scratch_base.iterdir()] == []


def test_next_boot_is_the_first_one(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/machine-id").touch(mode=0o400)
    reset_machine_id(tmp_path)
    assert (tmp_path / "etc/machine-id").read_text() == "uninitialized\n"


def test_failed_step_names_itself_its_reason_and_the_log(tmp_path: Path) -> None:
    log_file = tmp_path / "build.log"
    steps = Steps(log_file=log_file, work=tmp_path, scratch=tmp_path, facts=FACTS, report=SilentReporter())
    steps.begin("installing")
    with pytest.raises(MachineError) as caught:
        steps.run(["sh", "-c", "echo 'E: no such package'; echo bye; exit 3"])
    assert caught.value.line == (
        f"building the image failed (installing): E: no such package; see the whole log: {log_file}"
    )
    assert "bye" in caught.value.details
    assert log_file.read_text() == "\n== installing\nE: no such package\nbye\n"


@pytest.mark.parametrize(
    ("lines", "telling"),
    [
        ([], None),
        (["one", "two"], "two"),
        (["E: no package x", "I: cleaning", "E: mmdebstrap failed to run"], "E: no package x"),
        (["E: mmdebstrap failed to run", "bye"], "E: mmdebstrap failed to run"),
    ],
)  # fmt: skip
def test_error_line_is_the_reason_not_the_echo(lines: list[str], telling: str | None) -> None:
    assert error_line(lines) == telling
