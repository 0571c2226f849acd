"""`machine image verify`: compare images in the cache with the digests that they had when they were fetched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from machine.errors import MachineError, Page
from machine.image.base import BaseImage
from machine.image.intact import Condition, examine
from machine.model.config import ImageOrigin
from machine.ops.image import is_named, no_image_error
from machine.ops.shared.context import Context
from machine.ops.shared.images import image_cache
from machine.report import Reporter


@dataclass(frozen=True, kw_only=True)
class VerifiedImage:
    """A base image in the cache that has just been read."""

    base: BaseImage
    condition: Condition

    @property
    def error(self) -> MachineError | None:
        """The error of a damaged image, or None."""
        if self.condition is not Condition.DAMAGED:
            return None
        return MachineError(
            f"the base image {self.base.path} is damaged",
            hint=f"fetch it again with: machine image pull {pinned(self.base)}",
            page=Page.DAMAGED_IMAGE,
        )


def verify_images(names: Sequence[str], context: Context, report: Reporter) -> list[VerifiedImage]:
    """Read the named images in the cache, or all of them if there are no names, and return their conditions.

    Raises:
        NotFoundError: the cache has no image of that name.
    """
    bases = image_cache(context).described()
    for name in names:
        if not any(is_named(base, name) for base in bases):
            raise no_image_error(name)
    wanted = [base for base in bases if not names or any(is_named(base, name) for name in names)]
    return [VerifiedImage(base=base, condition=_condition(base, report)) for base in wanted]


def _condition(base: BaseImage, report: Reporter) -> Condition:
    report.step(f"Reading {pinned(base)}")
    try:
        return examine(base.path, lambda done: report.progress(done, base.length))
    except MachineError as error:
        report.notice(error.line)
        return Condition.DAMAGED


def pinned(base: BaseImage) -> str:
    """Return a reference by which exactly this image is fetched."""
    return ImageOrigin(reference=base.reference, digest=base.digest, release=base.release).pinned
