from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from machine.guestimage.host import HostFacts, find_problem, measure_space
from machine.guestimage.recipe import load_plan
from machine.model.arch import Arch

RECIPE = Path(__file__).parents[3] / "images" / "boot2podman"
PLAN = load_plan(RECIPE, Arch.X86_64, "trixie")
GOOD = HostFacts(system="Linux", arch="x86_64", is_root=False)


def line_of(facts: HostFacts, arch: Arch = Arch.X86_64) -> str | None:
    problem = find_problem(facts, replace(PLAN, arch=arch))
    return problem.line if problem else None


def test_good_host_has_no_problem() -> None:
    assert line_of(GOOD) is None


def test_other_systems_are_refused() -> None:
    line = line_of(replace(GOOD, system="Darwin", missing=("mmdebstrap",)))
    assert line is not None
    assert line.startswith("images can only be built on Linux; this host runs Darwin; ")


def test_hosts_that_no_guest_is_for_are_refused() -> None:
    line = line_of(replace(GOOD, arch="armv7l"))
    assert line is not None
    assert line.startswith(
        "images can only be built on hosts of these architectures: x86_64, aarch64, riscv64, s390x, ppc64le; "
        "this one is armv7l; "
    )


def test_all_missing_packages_are_named_at_once_and_once() -> None:
    assert line_of(replace(GOOD, missing=("mtools", "mmdebstrap", "mtools"))) == (
        "packages needed to build the image are missing on this host: mmdebstrap, mtools; "
        "install them: sudo apt install mmdebstrap mtools"
    )


def test_foreign_architecture_wants_emulation() -> None:
    assert line_of(replace(GOOD, runs_foreign=False)) is None
    assert line_of(replace(GOOD, runs_foreign=False), Arch.AARCH64) == (
        "this x86_64 host cannot run the aarch64 programs of the image; "
        "install an emulator: sudo apt install qemu-user-static binfmt-support arch-test; "
        "without systemd also run: sudo update-binfmts --enable qemu-aarch64"
    )
    assert line_of(replace(GOOD, runs_foreign=True), Arch.AARCH64) is None


def test_missing_user_namespaces_are_one_line() -> None:
    line = line_of(replace(GOOD, namespace_error="unshare failed: Operation not permitted"))
    assert line is not None
    assert line.startswith(
        "an ordinary user cannot create a user namespace on this host: unshare failed: Operation not permitted; "
        "build as root, or run: sudo usermod "
    )


def test_full_disk_is_said_before_the_build() -> None:
    facts = replace(GOOD, space={Path("/data"): (1_000_000_000, 2_500_000_000)})
    assert line_of(facts) == (
        "not enough space in /data for the build: 2.5 GB needed, 1.0 GB free; free some space, for example with: "
        "machine image prune"
    )


def test_needs_of_folders_on_one_disk_add_up(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    space = measure_space({tmp_path / "a": 1000, tmp_path / "b": 500})
    assert [(folder, needed) for folder, (_, needed) in space.items()] == [(tmp_path / "a", 1500)]
