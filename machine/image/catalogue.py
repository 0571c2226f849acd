"""Read the catalogue of other distributions' cloud images.

Each entry gives the URL of an image, the URL of its checksums, and how its guests are provisioned. The catalogue is a
TOML file, documented in `images/catalogue.toml`. Entries in the user's own catalogue replace ours of the same name.
"""

from __future__ import annotations

import posixpath
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

from machine.errors import BadInputError, MachineError, NotFoundError, reason_of
from machine.image.reference import (
    CHOICES,
    LOCAL_STREAM,
    CatalogueReference,
    EmptyReference,
    FileReference,
    RegistryReference,
    StreamReference,
    UrlReference,
)
from machine.image.streams import Artifact, MetadataCache
from machine.model.arch import Arch
from machine.model.config import Provisioning

DEFAULT_TAG = "latest"
_ARCH_PLACE = "{arch}"
_KEYS = {"aliases", "arch", "checksums", "packages", "provisioning", "url"}
DEFAULT_PACKAGES = ("podman",)
_SCHEMES = ("http", "https", "file")
# Names that mean streams in `--image`.
_TAKEN = ("fcos", LOCAL_STREAM)

_HEX = r"(?P<hex>[0-9a-fA-F]{64}|[0-9a-fA-F]{128})"
_CHECKSUM_FORMS = (
    re.compile(rf"\\?{_HEX} [ *](?P<name>.+)"),  # coreutils
    re.compile(rf"SHA(?:256|512) \((?P<name>.+)\) = {_HEX}"),  # BSD's, which Fedora has
)
_SHA512_DIGITS = 128

_E = TypeVar("_E", bound=StrEnum)


@dataclass(frozen=True, kw_only=True)
class CatalogueImage:
    """The entry for NAME:TAG in the catalogue.

    `url` and `checksums` are URLs that may contain a placeholder, which is replaced by the architecture's word in
    `arches`. cloud-init installs `packages` from the distribution's repositories.
    """

    name: str
    tag: str
    url: str
    arches: Mapping[Arch, str]
    checksums: str | None = None
    aliases: tuple[str, ...] = ()
    provisioning: Provisioning = Provisioning.CLOUD_INIT
    packages: tuple[str, ...] = DEFAULT_PACKAGES

    @property
    def reference(self) -> CatalogueReference:
        return CatalogueReference(name=self.name, tag=self.tag)

    def __str__(self) -> str:
        return str(self.reference)

    def location(self, arch: Arch) -> str:
        """Return the image's URL for guests of one architecture.

        Raises:
            NotFoundError: the catalogue has no image of this name for `arch`.
        """
        return self.url.replace(_ARCH_PLACE, self._word(arch))

    def find_artifact(self, arch: Arch, metadata: MetadataCache) -> Artifact:
        """Return the URL of the image for guests of one architecture, and fetch the image's published checksum.

        Raises:
            MachineError: the catalogue has no image of this name for `arch`, or the checksum cannot be fetched.
        """
        location = self.location(arch)
        artifact = Artifact(reference=str(self), arch=arch, location=location, stream=self.name, release=self.tag)
        if self.checksums is None:
            return artifact
        url = self.checksums.replace(_ARCH_PLACE, self._word(arch))
        name = posixpath.basename(unquote(urlsplit(location).path))
        found = metadata.get(url, lambda text: parse_checksums(text, name, url))
        return replace(artifact, sha256=found.sha256, sha512=found.sha512)

    def _word(self, arch: Arch) -> str:
        if arch not in self.arches:
            names = ", ".join(sorted(self.arches))
            raise NotFoundError(f"{self.reference} has no image for {arch}", hint=f"its architectures are: {names}")
        return self.arches[arch]


ImageSource = StreamReference | FileReference | UrlReference | RegistryReference | CatalogueImage | EmptyReference
"""A parsed image reference. In place of a CatalogueReference, it has the catalogue's entry."""


def packages_of(source: ImageSource) -> tuple[str, ...]:
    """Return the packages that cloud-init installs in a guest of this image."""
    return source.packages if isinstance(source, CatalogueImage) else DEFAULT_PACKAGES


@dataclass(frozen=True, kw_only=True)
class Catalogue:
    """Images in the order in which they are listed. No two images have both the same name and the same tag."""

    images: Sequence[CatalogueImage] = field(default=())

    def find(self, reference: CatalogueReference) -> CatalogueImage:
        """Find the image that has the name and the tag of `reference`. An image's aliases count as tags.

        Raises:
            BadInputError: the catalogue has no such image.
        """
        named = [image for image in self.images if image.name == reference.name]
        if not named:
            choices = ", ".join(str(image.reference) for image in self.images)
            raise BadInputError(f'unknown image "{reference}"', hint=f"choose one of: {CHOICES}, or {choices}")
        tag = reference.tag or DEFAULT_TAG
        for image in named:
            if tag == image.tag:
                return image
        for image in named:
            if tag in image.aliases:
                return image
        choices = ", ".join(str(image.reference) for image in named)
        raise BadInputError(f'unknown image "{reference}"', hint=f"choose one of: {choices}")


def load_catalogue(ours: Path, users: Path) -> Catalogue:
    """Read this program's catalogue and the user's, if any. The user's entries replace others of the same name.

    Raises:
        MachineError: one of the files cannot be read or is invalid. The message names the file.
    """
    images = {image.reference: image for image in _read(ours)}
    if users.exists():
        images |= {image.reference: image for image in _read(users)}
    order = sorted(images.values(), key=lambda image: (image.name, _numbers_first(image.tag)))
    return Catalogue(images=tuple(order))


def _numbers_first(tag: str) -> list[tuple[int, str]]:
    """Return a key by which tags are sorted, so that 9 comes before 10, and numbers come before words."""
    return [(int(part), "") if part.isdigit() else (1 << 30, part) for part in re.split(r"[.-]", tag)]


def _read(path: Path) -> list[CatalogueImage]:
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise MachineError(f"cannot read {path}: {reason_of(error)}") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadInputError(f"{path} is not a catalogue: {reason_of(error)}") from error
    try:
        return [_image(reference, entry) for reference, entry in document.items()]
    except ValueError as error:
        raise BadInputError(f"{path}: {error}") from error


def _image(reference: str, entry: object) -> CatalogueImage:
    """Read one entry of a catalogue.

    Raises:
        ValueError: the entry is invalid. The message says what is wrong with the entry.
    """
    where = f'["{reference}"]'
    name, tag = _name_and_tag(reference)
    if not isinstance(entry, dict):
        raise ValueError(f'"{reference}" must be a table; write {where}')
    if unknown := sorted(entry.keys() - _KEYS):
        raise ValueError(f'{where} has the unknown key "{unknown[0]}"; choose from {", ".join(sorted(_KEYS))}')
    try:
        image = CatalogueImage(
            name=name,
            tag=tag,
            url=_text(entry, "url"),
            arches=_arches(entry["arch"]),
            checksums=_text(entry, "checksums") if entry.get("checksums") else None,
            aliases=_texts(entry.get("aliases", ())),
            provisioning=_member(Provisioning, entry.get("provisioning", Provisioning.CLOUD_INIT)),
            packages=_texts(entry.get("packages", DEFAULT_PACKAGES)),
        )
    except KeyError as error:
        raise ValueError(f'{where} lacks the key "{error.args[0]}"') from error
    except (ValueError, TypeError) as error:
        raise ValueError(f"in {where}, {error}") from error
    _check_links(image, where)
    return image


def _name_and_tag(reference: str) -> tuple[str, str]:
    name, _, tag = reference.partition(":")
    if not CatalogueReference.is_one(reference) or not tag:
        raise ValueError(f'the table ["{reference}"] must have a name and a tag, as in ["NAME:TAG"]')
    if name in _TAKEN:
        raise ValueError(f'the table ["{reference}"] uses the reserved name {name}')
    return name, tag


def _check_links(image: CatalogueImage, where: str) -> None:
    for link in filter(None, (image.url, image.checksums)):
        if problem := _link_problem(link):
            raise ValueError(f'"{link}" in {where} {problem}')
    if len(image.arches) > 1 and _ARCH_PLACE not in image.url:
        raise ValueError(f'{where} has several architectures, so "{image.url}" must contain {_ARCH_PLACE}')


def _link_problem(link: str) -> str | None:
    if urlsplit(link).scheme not in _SCHEMES:
        return "is not a URL that can be fetched"
    if re.search("[{}]", link.replace(_ARCH_PLACE, "")):
        return f"contains braces, but only {_ARCH_PLACE} is replaced"
    return None


def _text(entry: Mapping[str, Any], key: str) -> str:
    value = entry[key]
    if not isinstance(value, str):
        raise TypeError(f"{key} is not a string")
    return value


def _texts(values: object) -> tuple[str, ...]:
    if not isinstance(values, list | tuple) or not all(isinstance(value, str) for value in values):
        raise TypeError("aliases and packages must be lists of strings")
    return tuple(values)


def _member(kind: type[_E], word: object) -> _E:
    try:
        return kind(str(word))
    except ValueError as error:
        raise ValueError(f'"{word}" is not one of {", ".join(kind)}') from error


def _arches(words: object) -> dict[Arch, str]:
    if not isinstance(words, dict) or not words or not all(isinstance(word, str) for word in words.values()):
        raise TypeError('arch must be a table such as { x86_64 = "amd64" }')
    return {_member(Arch, arch): word for arch, word in words.items()}


@dataclass(frozen=True, kw_only=True)
class Checksums:
    """The published checksums of one file, in lower-case hex. A checksum is None if it was not published."""

    sha256: str | None = None
    sha512: str | None = None


def parse_checksums(text: bytes, name: str, url: str) -> Checksums:
    """Find the checksums of the file `name` in `text`, the content of a checksum file that was fetched from `url`.

    The text is either a single digest, or a list of digests in the format of coreutils or BSD, signed or not.

    Raises:
        MachineError: the text has no checksum of the file `name`.
    """
    lines = text.decode(errors="replace").splitlines()
    if len(lines) == 1 and re.fullmatch(_HEX, alone := lines[0].strip()):
        return Checksums(**_digest(alone))
    found: dict[str, str] = {}
    for line in lines:
        for form in _CHECKSUM_FORMS:
            match = form.fullmatch(line.strip())
            if match and match["name"].removeprefix("./") == name:
                found |= _digest(match["hex"])
    if not found:
        raise MachineError(f"{url} has no SHA-256 or SHA-512 of {name}")
    return Checksums(**found)


def _digest(digits: str) -> dict[str, str]:
    return {"sha512" if len(digits) == _SHA512_DIGITS else "sha256": digits.lower()}
