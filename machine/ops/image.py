"""`machine image`: fetch images ahead of their use, and list, describe and remove those in the cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from machine.errors import MachineError, NotFoundError
from machine.image.base import BaseImage
from machine.image.intact import has_changed
from machine.image.layout import digest_of
from machine.model.image import ImageOptions
from machine.model.record import MachineRecord
from machine.ops.shared.context import Context
from machine.ops.shared.defaults import effective, naming_source_of
from machine.ops.shared.images import image_cache, image_request, obtain, parse_arch
from machine.qemu.img import QemuImg
from machine.report import Reporter
from machine.store import records

CHANGED = "changed"

# An image can be named by this many digits of its digest.
_MIN_DIGEST = 6


def pull_image(
    image: str | None, arch: str | None, options: ImageOptions, context: Context, report: Reporter
) -> BaseImage:
    """Fetch an image into the cache. Where `image` or `arch` is None, the default of `machine init` is used.

    Raises:
        MachineError: the image cannot be fetched or verified.
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


@dataclass(frozen=True, kw_only=True)
class ListedImage:
    """A base image in the cache, and the machines that use it."""

    base: BaseImage
    users: tuple[str, ...]

    @property
    def verified(self) -> str:
        """How the image was verified, or `changed` if its file has changed since then."""
        return CHANGED if has_changed(self.base.path) else self.base.verified


@dataclass(frozen=True, kw_only=True)
class Pruned:
    """The images that `prune_images` has removed, and how many bytes of the disk it has freed."""

    bases: tuple[BaseImage, ...]
    freed: int


def list_images(context: Context, *, strict: bool = False) -> list[ListedImage]:
    """List the base images in the cache, the newest first, each with the machines that use it.

    Raises:
        MachineError: `strict` is set, and it is unknown which base image some machine uses.
    """
    users = image_users(context, strict=strict)
    return [ListedImage(base=base, users=tuple(users.get(base.digest, ()))) for base in image_cache(context).bases()]


def image_users(context: Context, *, strict: bool) -> dict[str, list[str]]:
    """Return the digest of each base image that machines use, with the names of these machines.

    Raises:
        MachineError: `strict` is set, and it is unknown which base image some machine uses.
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
                    f"cannot find out which image {entry.name} uses: {entry.error.message}",
                    hint=f"remove it with: machine rm --force {entry.name}",
                ) from error
            digest = digest_of(backing.parent) if backing else None
        if digest is not None:
            users.setdefault(digest, []).append(entry.name)
    return users


def find_images(name: str, images: Sequence[ListedImage]) -> list[ListedImage]:
    """Find the images in the cache that have the given digest, reference, release or location.

    Raises:
        NotFoundError: no image in the cache matches `name`.
    """
    found = [image for image in images if is_named(image.base, name)]
    if not found:
        raise no_image_error(name)
    return found


def no_image_error(name: str) -> NotFoundError:
    return NotFoundError(f'no image "{name}" in the cache', hint="see: machine image ls")


def is_named(base: BaseImage, name: str) -> bool:
    digest = name.removeprefix("sha256:")
    if len(digest) >= _MIN_DIGEST and base.digest.startswith(digest):
        return True
    return name in (base.reference, base.release, base.location) or f"fcos:{name}" == base.reference


def remove_images(names: tuple[str, ...], context: Context) -> list[BaseImage]:
    """Remove the named images from the cache, all of them or none, and return them.

    Raises:
        NotFoundError: one of the images is not in the cache.
        MachineError: a machine uses one of the images.
    """
    cache = image_cache(context)
    with cache.removing():
        listed = list_images(context, strict=True)
        images = {image.base.digest: image for name in names for image in find_images(name, listed)}
        for image in images.values():
            if image.users:
                raise MachineError(
                    f"{image.base.reference} ({image.base.digest[:12]}) is used by: {', '.join(image.users)}",
                    hint="remove these machines first",
                )
        for image in images.values():
            cache.remove(image.base)
        return [image.base for image in images.values()]


def prune_images(keep: int, context: Context) -> Pruned:
    """Remove unfinished downloads, and images that no machine uses. The newest `keep` images of each reference stay.

    Raises:
        DeadlineError: another command has been fetching an image, or making a machine, for too long.
    """
    cache = image_cache(context)
    if cache.is_empty:
        return Pruned(bases=(), freed=0)
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
    """Return an image as a JSON document."""
    base = image.base
    return {
        "Reference": base.reference,
        "Stream": base.stream or "",
        "Release": base.release or "",
        "Arch": base.arch,
        "Digest": f"sha256:{base.digest}",
        "Size": base.size,
        "UsedBy": list(image.users),
        "Verified": image.verified,
        "Signer": base.signer or "",
        "Location": base.location,
        "Sha256": base.sha256,
        "Sha512": base.sha512 or "",
        "UncompressedSha256": base.uncompressed_sha256 or "",
        "Fetched": base.fetched,
        "Path": str(base.path),
    }
