"""Read the recipe of the guest image (`images/boot2podman/`)."""

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

from machine.errors import BadInputError, MachineError, reason_of
from machine.model.arch import Arch
from machine.model.image import ImageVariant

# Increment those of the variants of which the builder produces a different image from the same recipe.
BUILDER_REVISIONS = {ImageVariant.SMALL: 3, ImageVariant.FULL: 4}

# The time of all files added by the build, for reproducible images: 2026-01-01.
EPOCH = 1767225600


class CoreKind(StrEnum):
    """A kind of firmware that loads GRUB's core from a partition of its own."""

    BIOS = "bios"
    PREP = "prep"
    """Open Firmware on Power, which runs the content of a PReP partition as a program."""


@dataclass(frozen=True, kw_only=True)
class BootLoader:
    """One GRUB image, either prebuilt in a package or made by grub-mkimage."""

    platform: str
    package: str
    modules: tuple[str, ...]

    efi_path: str | None
    """The loader's path in the EFI system partition. None if the loader has a partition of its own."""

    image: str | None = None
    """The path of the prebuilt loader in the package. None if grub-mkimage makes the loader."""

    config: str | None = None
    """The path in the EFI system partition where a prebuilt loader reads its configuration."""


@dataclass(frozen=True, kw_only=True)
class ImagePlan:
    """The recipe's settings for one architecture, suite and variant. Sizes are in bytes.

    `native_packages` are only for an image of a foreign architecture. They are fetched for the host's architecture.
    During the build, their programs run in place of the image's programs, which would need emulation.
    """

    arch: Arch
    suite: str
    variant: ImageVariant
    components: tuple[str, ...]
    packages: tuple[str, ...]
    native_packages: tuple[str, ...]
    loaders: tuple[BootLoader, ...]
    root_type: str
    core: CoreKind | None
    virtual_size: int
    esp_size: int

    def fetched_loaders(self, *, is_foreign: bool) -> tuple[BootLoader, ...]:
        """Return the loaders whose GRUB files are fetched from the suite. Other loaders use GRUB files of the host."""
        return tuple(loader for loader in self.loaders if is_foreign or loader.image)


def load_plan(recipe: Path, arch: Arch, suite: str, variant: ImageVariant = ImageVariant.SMALL) -> ImagePlan:
    """Read the recipe's settings for `arch`, `suite` and `variant`.

    Raises:
        BadInputError: the recipe has no such suite or architecture.
        MachineError: the recipe is missing or damaged.
    """
    path = recipe / "recipe.toml"
    try:
        document = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise MachineError(f"the image recipe {path} cannot be read: {reason_of(error)}") from error
    try:
        return parse_plan(document, arch, suite, variant)
    except (KeyError, TypeError, ValueError) as error:
        raise MachineError(f"the image recipe {path} is damaged: {reason_of(error)}") from error


def parse_plan(
    document: dict[str, Any], arch: Arch, suite: str, variant: ImageVariant = ImageVariant.SMALL
) -> ImagePlan:
    """Return the settings for `arch`, `suite` and `variant` from a parsed recipe.toml.

    Raises:
        BadInputError: the recipe has no such suite or architecture.
        KeyError, TypeError, ValueError: the recipe is damaged.
    """
    suites, architectures, image = document["suites"], document["architectures"], document["image"]
    if suite not in suites:
        raise BadInputError(f"unknown Debian suite {suite!r}", hint=f"choose one of: {', '.join(suites)}")
    if arch.value not in architectures:
        choices = ", ".join(architectures)
        raise BadInputError(f"the image cannot be built for {arch.value}", hint=f"choose one of: {choices}")
    boot = architectures[arch.value]
    return ImagePlan(
        arch=arch,
        suite=suite,
        variant=variant,
        components=tuple(suites[suite]["components"]),
        packages=(
            *suites[suite]["packages"],
            *document["variants"][variant.value]["packages"],
            boot["kernel_package"],
        ),
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


def recipe_key(recipe: Path, arch: Arch, suite: str, variant: ImageVariant = ImageVariant.SMALL) -> str:
    """Return a SHA-256 of everything that an image depends on.

    That is the recipe's files, the architecture, the suite, the variant, and the revision of the code that builds
    images.

    Raises:
        MachineError: the recipe cannot be read.
    """
    digest = hashlib.sha256()

    def add(field: bytes) -> None:
        # The length makes the sequence of fields unambiguous.
        digest.update(len(field).to_bytes(8, "big") + field)

    for word in (str(BUILDER_REVISIONS[variant]), arch.value, suite, variant.value):
        add(word.encode())
    try:
        for path in recipe_files(recipe):
            add(path.relative_to(recipe).as_posix().encode())
            add(path.readlink().as_posix().encode() if path.is_symlink() else path.read_bytes())
            add(b"x" if is_executable(path) else b"-")
    except OSError as error:
        raise MachineError(f"the image recipe {recipe} cannot be read: {reason_of(error)}") from error
    return digest.hexdigest()


def recipe_files(folder: Path) -> Iterator[Path]:
    """Iterate over the files and links below `folder` in a fixed order, without editor backups and bytecode."""
    for path in sorted(folder.rglob("*")):
        junk = path.name.endswith(("~", ".swp", ".pyc")) or "__pycache__" in path.parts
        if not junk and (path.is_symlink() or path.is_file()):
            yield path


def is_executable(path: Path) -> bool:
    return not path.is_symlink() and bool(path.stat().st_mode & 0o100)


def overlay_tar(folder: Path) -> bytes:
    """Return a tar of the files below `folder`. In the tar, root owns all files. Their times and modes are fixed."""
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
