"""The recipe of the guest image (`images/boot2podman/`) as values."""

from __future__ import annotations

import hashlib
import io
import tarfile
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from machine.errors import BadInputError, MachineError
from machine.model.arch import Arch

# Bump when the builder makes another image from the same recipe.
BUILDER_REVISION = 2

# Every file of ours in the image has this time: 2026-01-01, so that the same recipe gives the same files.
EPOCH = 1767225600


class CoreKind(StrEnum):
    """The firmware that loads GRUB's core from a partition of its own."""

    BIOS = "bios"
    PREP = "prep"
    """Open Firmware, as Power has it: it takes the partition's content for a program."""


@dataclass(frozen=True, kw_only=True)
class BootLoader:
    """One GRUB image; `efi_path` is None for one that is the core in a partition of its own.

    `image` is the file of the suite's package that is a loader ready made, and `config` where that looks for its
    configuration; both are None for one that grub-mkimage makes.
    """

    platform: str
    package: str
    modules: tuple[str, ...]
    efi_path: str | None
    image: str | None = None
    config: str | None = None


@dataclass(frozen=True, kw_only=True)
class ImagePlan:
    """Everything that the recipe says about one architecture and suite.

    `native_packages` are of the host's architecture, for a build whose own programs are emulated.
    """

    arch: Arch
    suite: str
    components: tuple[str, ...]
    packages: tuple[str, ...]
    native_packages: tuple[str, ...]
    loaders: tuple[BootLoader, ...]
    root_type: str
    core: CoreKind | None
    virtual_size: int
    esp_size: int

    def fetched_loaders(self, *, is_foreign: bool) -> tuple[BootLoader, ...]:
        """The loaders whose files come from the suite; a host of the image's own architecture has the others."""
        return tuple(loader for loader in self.loaders if is_foreign or loader.image)


def load_plan(recipe: Path, arch: Arch, suite: str) -> ImagePlan:
    """Read what to build for `arch` and `suite`.

    Raises:
        BadInputError: the recipe has no such suite or architecture.
        MachineError: the recipe is missing or damaged.
    """
    path = recipe / "recipe.toml"
    try:
        document = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise MachineError(f"the image recipe {path} cannot be read: {error}") from error
    try:
        return parse_plan(document, arch, suite)
    except (KeyError, TypeError, ValueError) as error:
        raise MachineError(f"the image recipe {path} is damaged: {error!r}") from error


def parse_plan(document: dict[str, Any], arch: Arch, suite: str) -> ImagePlan:
    """The plan in a parsed recipe.toml; a damaged one raises KeyError, TypeError or ValueError.

    Raises:
        BadInputError: the recipe has no such suite or architecture.
    """
    suites, architectures, image = document["suites"], document["architectures"], document["image"]
    if suite not in suites:
        raise BadInputError(f"unknown Debian suite {suite!r}", hint=f"known suites: {', '.join(suites)}")
    if arch.value not in architectures:
        known = ", ".join(architectures)
        raise BadInputError(f"there is no image for {arch.value}", hint=f"known architectures: {known}")
    boot = architectures[arch.value]
    return ImagePlan(
        arch=arch,
        suite=suite,
        components=tuple(suites[suite]["components"]),
        packages=(*suites[suite]["packages"], boot["kernel_package"]),
        native_packages=tuple(document["native"]["packages"]),
        loaders=tuple(
            BootLoader(
                platform=loader["platform"],
                package=loader["package"],
                modules=tuple(loader.get("modules", ())),
                efi_path=loader.get("efi_path"),
                image=loader.get("image"),
                config=loader.get("config"),
            )
            for loader in boot["grub"]
        ),
        root_type=boot["root_type"],
        core=CoreKind(boot["core"]) if "core" in boot else None,
        virtual_size=int(image["virtual_size_gib"]) << 30,
        esp_size=int(image["esp_size_mib"]) << 20,
    )


def recipe_key(recipe: Path, arch: Arch, suite: str) -> str:
    """SHA-256 over the recipe's files, the architecture, the suite and the builder itself.

    Raises:
        MachineError: the recipe cannot be read.
    """
    digest = hashlib.sha256()

    def add(field: bytes) -> None:
        # With its length, so that no two sequences of fields read the same.
        digest.update(len(field).to_bytes(8, "big") + field)

    for word in (str(BUILDER_REVISION), arch.value, suite):
        add(word.encode())
    try:
        for path in recipe_files(recipe):
            add(path.relative_to(recipe).as_posix().encode())
            add(path.readlink().as_posix().encode() if path.is_symlink() else path.read_bytes())
            add(b"x" if is_executable(path) else b"-")
    except OSError as error:
        raise MachineError(f"the image recipe {recipe} cannot be read: {error}") from error
    return digest.hexdigest()


def recipe_files(folder: Path) -> Iterator[Path]:
    """The files and links below `folder` in a fixed order, without what editors and Python leave behind."""
    for path in sorted(folder.rglob("*")):
        junk = path.name.endswith(("~", ".swp", ".pyc")) or "__pycache__" in path.parts
        if not junk and (path.is_symlink() or path.is_file()):
            yield path


def is_executable(path: Path) -> bool:
    return not path.is_symlink() and bool(path.stat().st_mode & 0o100)


def overlay_tar(folder: Path) -> bytes:
    """The files below `folder` as a tar: all of them root's, with one time and the two usual modes."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        files = list(recipe_files(folder))
        folders = {parent for path in files for parent in path.relative_to(folder).parents} - {Path()}
        for relative in sorted(folders):
            member = tarfile.TarInfo(relative.as_posix())
            member.type, member.mode, member.mtime = tarfile.DIRTYPE, 0o755, EPOCH
            archive.addfile(member)
        for path in files:
            member = tarfile.TarInfo(path.relative_to(folder).as_posix())
            member.mtime = EPOCH
            if path.is_symlink():
                member.type, member.linkname = tarfile.SYMTYPE, path.readlink().as_posix()
                archive.addfile(member)
                continue
            content = path.read_bytes()
            member.mode, member.size = (0o755 if is_executable(path) else 0o644), len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()
