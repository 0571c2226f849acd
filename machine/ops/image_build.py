"""`machine image build`: build a guest image from Debian's packages, and publish the image as a local stream."""

from __future__ import annotations

from pathlib import Path

from machine.guestimage.build import BuildRequest, BuildResult, build_image
from machine.ignition.assets import images_directory
from machine.model.image import ImageVariant
from machine.ops.shared.context import Context
from machine.ops.shared.images import parse_arch
from machine.report import Reporter

RECIPE = "boot2podman"


def image_build(
    *, arch: str | None, suite: str, variant: ImageVariant, output: Path | None, context: Context, report: Reporter
) -> BuildResult:
    """Build the image, unless an image has already been built from the same recipe.

    Raises:
        MachineError: this host cannot build the image, or a step failed.
    """
    guest = parse_arch(arch or context.host.machine)
    request = BuildRequest(
        arch=guest,
        suite=suite,
        variant=variant,
        recipe=images_directory() / RECIPE,
        output=(output or context.roots.streams).absolute(),
        keys=context.roots.signing_keys,
    )
    return build_image(request, report)
