"""Find the image that a user has named, and fetch it into the cache."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import assert_never

from machine.errors import BadInputError, MachineError, Page
from machine.files import sha256_of
from machine.image.base import BaseImage
from machine.image.cache import ImageCache
from machine.image.catalogue import CatalogueImage, ImageSource
from machine.image.ingest import Ingest, check_readable
from machine.image.reference import (
    EmptyReference,
    FileReference,
    RegistryReference,
    StreamReference,
    UrlReference,
)
from machine.image.registry import Registry, auth_files, credentials
from machine.image.registry_trust import registry_trust
from machine.image.streams import Artifact, MetadataCache, find_artifact
from machine.image.verify import trusted_keys
from machine.image.web import Authorities, Web, WebSettings
from machine.model.arch import Arch
from machine.model.config import Verified
from machine.model.image import ImageOptions
from machine.ops.shared.catalogue import find_source
from machine.ops.shared.context import Context
from machine.podman.connections import containers_directory
from machine.qemu.img import QemuImg
from machine.report import Reporter
from machine.store.settings import load_settings


@dataclass(frozen=True, kw_only=True)
class ImageRequest:
    """An image to find in the cache or to fetch. The sha256 in its options has 64 lower-case hexadecimal digits."""

    source: ImageSource
    arch: Arch
    options: ImageOptions

    @property
    def reference(self) -> str:
        """The name that the image has in records and messages."""
        return str(self.source)


def image_request(image: str, arch: Arch, options: ImageOptions, context: Context) -> ImageRequest:
    """Check an image's reference and options, and return the request for the image.

    Raises:
        BadInputError: the reference leads to no image, or the sha256 is malformed.
        NotFoundError: the image is in the catalogue, but not for this architecture.
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


def image_cache(context: Context) -> ImageCache:
    return ImageCache(context.roots.images)


def obtain(request: ImageRequest, context: Context, report: Reporter) -> BaseImage:
    """Return the requested base image. If the cache does not have it, fetch, verify and unpack it.

    Raises:
        MachineError: the image cannot be fetched or verified.
    """
    source, options = request.source, request.options
    web = _web_settings(request, context)
    artifact = _find_artifact(request, web, context, report)
    if options.sha256:
        artifact = _with_sha256(artifact, options.sha256, source)
    keys = None
    if isinstance(source, StreamReference):
        if options.verify_signature:
            keys = trusted_keys(context.roots.signing_keys)
        else:
            report.notice(f"The signature of {source} is NOT checked, as you asked")
    base = Ingest(image_cache(context), QemuImg(), web, report).ensure(artifact, keys)
    if base.verified is Verified.NOTHING and not isinstance(source, FileReference):
        report.notice(f"{source} could not be verified; pass --image-sha256 to check it")
    return base


def _web_settings(request: ImageRequest, context: Context) -> WebSettings:
    """Return the settings of requests. A registry is trusted as this user's Podman trusts it."""
    source, options = request.source, request.options
    web = WebSettings(offline=options.offline, verify_tls=options.verify_tls is not False)
    if not isinstance(source, RegistryReference):
        return web
    trust = registry_trust(source, containers_directory(context.environment, context.home), context.environment)
    return replace(
        web,
        verify_tls=web.verify_tls and not (trust.is_insecure and options.verify_tls is None),
        authorities=Authorities(server=source.registry, files=trust.authorities) if trust.authorities else None,
    )


def _with_sha256(artifact: Artifact, sha256: str, source: ImageSource) -> Artifact:
    """Add the sha256 that the user expects to the artifact. If `source` is a file on this host, check the file."""
    if artifact.sha256 not in (None, sha256):
        raise MachineError(
            f"{source} has the sha256 {artifact.sha256}, but --image-sha256 is {sha256}", page=Page.CHECKSUM
        )
    if isinstance(source, FileReference):
        _check_file(source.path, sha256)
    return replace(artifact, sha256=sha256)


def _check_file(path: Path, sha256: str) -> None:
    """Check that the file has this sha256.

    It is not enough that the cache has an image with this sha256, because that image may come from another file.
    """
    check_readable(path)
    found = sha256_of(path)
    if found != sha256:
        raise MachineError(f"{path} is not the expected file: sha256 {found} instead of {sha256}", page=Page.CHECKSUM)


def parse_arch(text: str) -> Arch:
    """Parse the name of an architecture.

    Raises:
        BadInputError: guests cannot have an architecture of this name.
    """
    try:
        return Arch.parse(text)
    except ValueError as error:
        raise BadInputError(f'unknown architecture "{text}"', hint=f"choose one of: {', '.join(Arch)}") from error


def _find_artifact(request: ImageRequest, web: WebSettings, context: Context, report: Reporter) -> Artifact:
    options, name = request.options, request.reference
    metadata = metadata_cache(web, context, report)
    match request.source:
        case StreamReference() as stream:
            base_url = options.stream_base_url or (None if stream.local else default_base_url(context))
            return find_artifact(stream, request.arch, metadata, local=context.roots.streams, base_url=base_url)
        case RegistryReference() as reference:
            if options.offline and (cached := _cached_artifact(reference, request.arch, context)):
                return cached
            files = auth_files(context.environment, context.home)
            auth = credentials(files, reference.registry, reference.name)
            return Registry(reference, web, auth).find_artifact(request.arch)
        case FileReference(path=path):
            return Artifact(reference=name, arch=request.arch, location=path.absolute().as_uri())
        case EmptyReference():
            raise BadInputError("/dev/null stands for an empty disk, so there is no image to fetch")
        case CatalogueImage() as image:
            return image.find_artifact(request.arch, metadata)
        case UrlReference(url=url):
            return Artifact(reference=name, arch=request.arch, location=url)
        case _:
            assert_never(request.source)


def metadata_cache(web: WebSettings, context: Context, report: Reporter) -> MetadataCache:
    return MetadataCache(context.roots.stream_metadata, Web(web), offline=web.offline, report=report)


def default_base_url(context: Context) -> str | None:
    """Return the URL of the stream metadata that the user has set, or None for Fedora's own."""
    return load_settings(context.roots, context.host).stream_base_url or None


def _cached_artifact(reference: RegistryReference, arch: Arch, context: Context) -> Artifact | None:
    """Find the cached image that was fetched for a reference. The reference may lead to a newer image by now."""
    name = str(reference)
    base = next((base for base in image_cache(context).bases() if (base.reference, base.arch) == (name, arch)), None)
    if base is None:
        return None
    return Artifact(reference=name, arch=arch, location=base.location, sha256=base.sha256, release=base.release)
