"""Images: from a reference to a base in the cache, and what is in the cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import assert_never

from machine.errors import BadInputError, MachineError, NotFoundError
from machine.files import sha256_of
from machine.image.cache import BaseImage, ImageCache, Wanted, check_readable
from machine.image.catalogue import CatalogueImage, ImageSource
from machine.image.layout import digest_of
from machine.image.reference import (
    EmptyReference,
    FileReference,
    RegistryReference,
    StreamReference,
    UrlReference,
)
from machine.image.registry import Registry, auth_files, credentials
from machine.image.streams import Artifact, MetadataCache, find_artifact
from machine.image.verify import trusted_keys
from machine.image.web import Web, WebSettings
from machine.model.arch import Arch
from machine.model.config import Verified
from machine.model.image import ImageOptions
from machine.model.record import MachineRecord
from machine.ops.shared.catalogue import find_source
from machine.ops.shared.context import Context
from machine.ops.shared.defaults import effective, naming_source_of
from machine.qemu.img import QemuImg
from machine.report import Reporter
from machine.store import records
from machine.store.settings import load_settings

_SHORTEST_DIGEST = 6


@dataclass(frozen=True, kw_only=True)
class ImageRequest:
    """An image as it was asked for; the sha256 of the options is plain lower-case hex."""

    source: ImageSource
    arch: Arch
    options: ImageOptions

    @property
    def reference(self) -> str:
        """What the image is called from now on."""
        return str(self.source)


def image_request(image: str, arch: Arch, options: ImageOptions, context: Context) -> ImageRequest:
    """Check a reference and its options.

    Raises:
        BadInputError: there is no such image, or the sha256 is not one.
        NotFoundError: the catalogue has no such image for guests of this architecture.
    """
    source = find_source(image, context)
    if isinstance(source, CatalogueImage):
        source.location(arch)
    return ImageRequest(source=source, arch=arch, options=replace(options, sha256=_checked_sha256(options.sha256)))


def _checked_sha256(text: str | None) -> str | None:
    if text is None:
        return None
    digest = text.removeprefix("sha256:").lower()
    if len(digest) != 64 or not set(digest) <= set("0123456789abcdef"):
        raise BadInputError(f'"{text}" is not a SHA-256', hint="write its 64 hexadecimal digits")
    return digest


def image_cache(context: Context, options: ImageOptions | None = None) -> ImageCache:
    return ImageCache(context.roots.images, QemuImg(), _web_settings(options or ImageOptions()))


def _web_settings(options: ImageOptions) -> WebSettings:
    return WebSettings(offline=options.offline, verify_tls=options.verify_tls)


def obtain(request: ImageRequest, context: Context, report: Reporter) -> BaseImage:
    """The base image that was asked for: from the cache, or fetched, verified and unpacked.

    Raises:
        MachineError: it cannot be had.
    """
    source, options = request.source, request.options
    cache = image_cache(context, options)
    artifact = _find_artifact(request, context, report)
    if options.sha256:
        if artifact.sha256 not in ("", options.sha256):
            raise MachineError(
                f"{source} has the sha256 {artifact.sha256}, and {options.sha256} was asked for with --image-sha256"
            )
        artifact = replace(artifact, sha256=options.sha256)
        if isinstance(source, FileReference):
            _check_promise(source.path, options.sha256)
    keys = None
    if isinstance(source, StreamReference):
        if options.verify_signature:
            keys = trusted_keys(context.roots.signing_keys)
        else:
            report.notice(f"The signature of {source} is NOT checked, as you asked")
    base = cache.ensure(Wanted(artifact=artifact, reference=str(source), arch=request.arch, keys=keys), report)
    if base.verified is Verified.NOTHING and not isinstance(source, FileReference):
        report.notice(f"Nothing tells whether {source} is what it should be: --image-sha256 would")
    return base


def _check_promise(path: Path, sha256: str) -> None:
    """The cache is asked by the promise: this file has to keep it too."""
    check_readable(path)
    found = sha256_of(path)
    if found != sha256:
        raise MachineError(f"{path} is not what was promised: sha256 {found} instead of {sha256}")


def pull_image(
    image: str | None, arch: str | None, options: ImageOptions, context: Context, report: Reporter
) -> BaseImage:
    """Fetch an image into the cache; None is what `machine init` would take, of the host's architecture.

    Raises:
        MachineError: it cannot be had.
    """
    guest = parse_arch(arch or context.host.machine)
    if image is None:
        setting = effective(context)["image"]
        with naming_source_of(setting):
            request = image_request(str(setting.value), guest, options, context)
    else:
        request = image_request(image, guest, options, context)
    with image_cache(context).using():
        return obtain(request, context, report)


def parse_arch(text: str) -> Arch:
    """Raises:
    BadInputError: there are no guests of this architecture.
    """
    try:
        return Arch.parse(text)
    except ValueError as error:
        raise BadInputError(f'unknown architecture "{text}"', hint=f"choose one of: {', '.join(Arch)}") from error


def _find_artifact(request: ImageRequest, context: Context, report: Reporter) -> Artifact:
    options = request.options
    web = _web_settings(options)
    metadata = MetadataCache(context.roots.stream_metadata, Web(web), offline=options.offline, report=report)
    match request.source:
        case StreamReference() as stream:
            base_url = options.stream_base_url
            if not stream.local:
                base_url = base_url or load_settings(context.roots, context.host).stream_base_url or None
            return find_artifact(stream, request.arch, metadata, local=context.roots.streams, base_url=base_url)
        case RegistryReference() as reference:
            known = image_cache(context).bases() if options.offline else []
            for base in known:  # whatever its tag means by now
                if base.reference == str(reference) and base.arch == request.arch:
                    return Artifact(location=base.location, sha256=base.sha256, release=base.release)
            files = auth_files(context.environment, context.home)
            auth = credentials(files, reference.registry, reference.name)
            return Registry(reference, web, auth).find_artifact(request.arch)
        case FileReference(path=path):
            return Artifact(location=path.absolute().as_uri())
        case EmptyReference():
            raise BadInputError("/dev/null is an empty disk, which is not fetched")
        case CatalogueImage() as image:
            return image.find_artifact(request.arch, metadata)
        case UrlReference(url=url):
            return Artifact(location=url)
        case _:
            assert_never(request.source)


# What is in the cache


@dataclass(frozen=True, kw_only=True)
class ListedImage:
    base: BaseImage
    users: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Pruned:
    """What was removed, and the bytes that this freed."""

    bases: tuple[BaseImage, ...]
    freed: int


def list_images(context: Context, *, strict: bool = False) -> list[ListedImage]:
    """Every base in the cache with the machines that use it, the newest first.

    Raises:
        MachineError: a machine does not tell what it uses, and `strict` is set.
    """
    users = image_users(context, strict=strict)
    return [ListedImage(base=base, users=tuple(users.get(base.digest, ()))) for base in image_cache(context).bases()]


def image_users(context: Context, *, strict: bool) -> dict[str, list[str]]:
    """Machines by the digest of their base.

    Raises:
        MachineError: neither its record nor its disk tells what a machine uses, and `strict` is set.
    """
    users: dict[str, list[str]] = {}
    for entry in records.load_all(context.roots):
        if isinstance(entry, MachineRecord):
            digest = entry.config.image.digest
        else:
            try:
                backing = QemuImg().backing_file(context.roots.machine(entry.name).disk)
            except MachineError as error:
                if not strict:
                    continue
                raise MachineError(
                    f"nothing tells which image {entry.name} uses: {entry.error.message}",
                    hint=f"remove it with: machine rm --force {entry.name}",
                ) from error
            digest = digest_of(backing.parent) if backing else None
        if digest is not None:
            users.setdefault(digest, []).append(entry.name)
    return users


def find_images(wanted: str, images: Sequence[ListedImage]) -> list[ListedImage]:
    """Those that a digest, a reference or a release names.

    Raises:
        NotFoundError: none is in the cache.
    """
    digest = wanted.removeprefix("sha256:")
    found = wanted and [
        image
        for image in images
        if wanted in (image.base.reference, image.base.release, image.base.location)
        or f"fcos:{wanted}" == image.base.reference
        or (len(digest) >= _SHORTEST_DIGEST and image.base.digest.startswith(digest))
    ]
    if not found:
        raise NotFoundError(f'no image "{wanted}" in the cache', hint="see: machine image ls")
    return found


def remove_images(names: tuple[str, ...], context: Context) -> list[BaseImage]:
    """Remove images that no machine uses; all of them or none.

    Raises:
        NotFoundError: one is not in the cache.
        MachineError: a machine uses one.
    """
    cache = image_cache(context)
    with cache.removing():
        listed = list_images(context, strict=True)
        images = {image.base.digest: image for name in names for image in find_images(name, listed)}
        for image in images.values():
            if image.users:
                raise MachineError(
                    f"{image.base.reference} ({image.base.digest[:12]}) is the base of: {', '.join(image.users)}",
                    hint="remove these machines first",
                )
        for image in images.values():
            cache.remove(image.base)
        return [image.base for image in images.values()]


def prune_images(keep: int, context: Context) -> Pruned:
    """Remove every image that no machine uses but the newest `keep` of each reference, and what fetches have left.

    Raises:
        DeadlineError: an image is being fetched.
    """
    cache = image_cache(context)
    removed: list[BaseImage] = []
    kept: dict[str, int] = {}
    freed = 0
    with cache.removing():
        for image in list_images(context, strict=True):
            name = f"{image.base.reference.partition('@')[0]} {image.base.arch}"
            kept[name] = kept.get(name, 0) + 1
            if image.users or kept[name] <= keep:
                continue
            freed += image.base.size
            cache.remove(image.base)
            removed.append(image.base)
        freed += cache.remove_leftovers()
    return Pruned(bases=tuple(removed), freed=freed)


def describe_image(image: ListedImage) -> dict[str, object]:
    """An image as JSON has it."""
    base = image.base
    return {
        "Reference": base.reference,
        "Stream": base.stream,
        "Release": base.release,
        "Arch": base.arch,
        "Digest": f"sha256:{base.digest}",
        "Size": base.size,
        "UsedBy": list(image.users),
        "Verified": base.verified,
        "Signer": base.signer,
        "Location": base.location,
        "Sha256": base.sha256,
        "Sha512": base.sha512,
        "UncompressedSha256": base.uncompressed_sha256,
        "Fetched": base.fetched,
        "Path": str(base.path),
    }
