from __future__ import annotations

import io
import re
import shutil
import subprocess
import tarfile
import tomllib
from pathlib import Path

import pytest

from machine.errors import BadInputError, MachineError
from machine.guestimage.recipe import CoreKind, load_plan, overlay_tar, parse_plan, recipe_key
from machine.model.arch import Arch
from machine.model.image import ImageVariant

RECIPE = Path(__file__).parents[3] / "images" / "boot2podman"


def test_recipe_of_the_project_plans_its_architectures() -> None:
    boots = {Arch.X86_64: (CoreKind.BIOS, True), Arch.AARCH64: (None, True), Arch.PPC64LE: (CoreKind.PREP, False)}
    for arch, (core, uefi) in boots.items():
        plan = load_plan(RECIPE, arch, "trixie")
        assert {"podman", "ignition"} <= set(plan.packages)
        assert plan.packages[-1].startswith("linux-image-")
        assert (plan.core, any(loader.efi_path for loader in plan.loaders)) == (core, uefi)


def test_full_variant_has_what_the_small_one_says_that_it_lacks() -> None:
    small, full = (set(load_plan(RECIPE, Arch.X86_64, "trixie", variant).packages) for variant in ImageVariant)
    assert small < full
    assert full - small == {"buildah", "skopeo", "qemu-user", "qemu-user-binfmt"}
    assert set(load_plan(RECIPE, Arch.X86_64, "trixie").packages) == small
    says = (RECIPE / "overlay/usr/libexec/boot2podman/say-what-is-lacking").read_text()
    assert "for command in buildah skopeo;" in says
    emulated = re.findall(r"path-include=/usr/bin/qemu-(\S+)", (RECIPE / "dpkg.cfg").read_text())
    assert set(re.findall(r"^(\w+) 0[12] 0[12] ", says, re.MULTILINE)) == {*emulated} - {"arm"} | {"armv7l"}


@pytest.mark.parametrize("command", ["buildah", "skopeo"])
def test_small_variant_says_which_command_it_lacks_and_both_ways_to_have_it(tmp_path: Path, command: str) -> None:
    (tmp_path / command).symlink_to(RECIPE / "overlay/usr/libexec/boot2podman/lacking")
    done = subprocess.run([tmp_path / command, "inspect"], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (127, "")
    assert done.stderr == (
        f"{command}: this guest has the small variant of boot2podman, which is without {command}.\n"
        f"Install it: sudo apt install {command}. "
        "Or build the image that has it: machine image build --variant full\n"
    )


def test_recipe_of_the_cloud_init_guest_keeps_in_step() -> None:
    """Its guest is built too seldom to tell."""
    plan = load_plan(Path(__file__).parents[2] / "guest" / "debian-cloud", Arch.X86_64, "trixie")
    assert plan.core is CoreKind.BIOS
    assert "cloud-init" in plan.packages


def test_every_unit_of_ours_that_can_be_enabled_is_named_in_the_preset() -> None:
    """The preset disables all others, whatever enabled them while the image was built."""
    units = (RECIPE / "overlay" / "usr" / "lib" / "systemd" / "system").glob("*.*")
    ours = {unit.name for unit in units if unit.is_file() and "[Install]" in unit.read_text()}
    preset = RECIPE / "overlay" / "usr" / "lib" / "systemd" / "system-preset" / "80-boot2podman.preset"
    assert ours <= {line.removeprefix("enable ") for line in preset.read_text().splitlines()}
    assert "boot2podman-ssh-key.service" in ours


def test_guest_has_a_zram_generator_without_its_default_swap() -> None:
    assert "systemd-zram-generator" in load_plan(RECIPE, Arch.X86_64, "trixie").packages
    assert "path-exclude=/usr/lib/systemd/zram-generator.conf" in (RECIPE / "dpkg.cfg").read_text().splitlines()


def test_modules_that_the_images_files_name_exist() -> None:
    images = RECIPE.parent
    texts = [path.read_text() for path in images.rglob("*") if path.is_file()]
    named = {name for text in texts for name in re.findall(r"\bmachine/[a-z0-9_/]+\.py\b", text)}
    assert named
    assert [name for name in sorted(named) if not (images.parent / name).exists()] == []


def test_loaders_that_are_ready_made_are_fetched_and_others_where_the_host_has_no_package_for_them() -> None:
    arches = (Arch.X86_64, Arch.AARCH64, Arch.PPC64LE)
    plans = {arch: load_plan(RECIPE, arch, "trixie") for arch in arches}
    assert [len(plan.fetched_loaders(is_foreign=False)) for plan in plans.values()] == [0, 1, 0]
    assert [len(plan.fetched_loaders(is_foreign=True)) for plan in plans.values()] == [2, 1, 1]


def test_unknown_suite_is_refused_and_the_known_ones_are_named() -> None:
    with pytest.raises(BadInputError) as caught:
        load_plan(RECIPE, Arch.X86_64, "potato")
    assert caught.value.line == "unknown Debian suite 'potato'; choose one of: trixie"


def test_architecture_without_a_row_is_refused_and_the_known_ones_are_named() -> None:
    document = tomllib.loads((RECIPE / "recipe.toml").read_text())
    del document["architectures"]["aarch64"]
    with pytest.raises(BadInputError) as caught:
        parse_plan(document, Arch.AARCH64, "trixie")
    assert caught.value.line == "the image cannot be built for aarch64; choose one of: x86_64, ppc64le"


@pytest.mark.parametrize("text", ["", "x", "[suites.trixie]\n[architectures.x86_64]\n[image]\n"])
def test_damaged_recipe_is_one_clear_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "recipe.toml").write_text(text)
    with pytest.raises(MachineError, match=r"the image recipe .*recipe\.toml"):
        load_plan(tmp_path, Arch.X86_64, "trixie")


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    return Path(shutil.copytree(RECIPE, tmp_path / "recipe", symlinks=True))


def test_key_stays_when_only_times_and_editor_files_change(recipe: Path) -> None:
    before = recipe_key(recipe, Arch.X86_64, "trixie")
    (recipe / "customize~").write_text("backup")
    (recipe / "recipe.toml").touch()
    assert recipe_key(recipe, Arch.X86_64, "trixie") == before


def test_key_changes_with_content_name_mode_architecture_suite_and_variant(recipe: Path) -> None:
    keys = [recipe_key(recipe, Arch.X86_64, "trixie")]
    keys += [recipe_key(recipe, Arch.AARCH64, "trixie"), recipe_key(recipe, Arch.X86_64, "forky")]
    keys.append(recipe_key(recipe, Arch.X86_64, "trixie", ImageVariant.FULL))
    grub = recipe / "overlay/boot/grub/grub.cfg"
    grub.write_text(grub.read_text() + "\n")
    keys.append(recipe_key(recipe, Arch.X86_64, "trixie"))
    grub.chmod(0o755)
    keys.append(recipe_key(recipe, Arch.X86_64, "trixie"))
    grub.rename(grub.with_name("other.cfg"))
    keys.append(recipe_key(recipe, Arch.X86_64, "trixie"))
    assert len(set(keys)) == len(keys)


def test_overlay_belongs_to_root_has_usual_modes_and_repeats_exactly(tmp_path: Path) -> None:
    overlay = tmp_path / "overlay"
    (overlay / "etc").mkdir(mode=0o700, parents=True)
    (overlay / "etc/plain").write_text("x")
    (overlay / "etc/plain").chmod(0o600)
    (overlay / "etc/script").write_text("y")
    (overlay / "etc/script").chmod(0o700)
    (overlay / "etc/link").symlink_to("plain")
    data = overlay_tar(overlay)
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        members = {member.name: member for member in archive}
    assert {name: member.mode for name, member in members.items() if not member.issym()} == {
        "etc": 0o755,
        "etc/plain": 0o644,
        "etc/script": 0o755,
    }
    assert members["etc/link"].linkname == "plain"
    assert {(member.uid, member.gid) for member in members.values()} == {(0, 0)}
    assert overlay_tar(overlay) == data
