"""The command `machine image`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from machine.cli import common
from machine.cli.common import (
    complete_from,
    complete_images,
    current_context,
    format_option,
    listing_options,
    member_of,
    noheading_option,
)
from machine.cli.flags import Group, WholeNumber
from machine.cli.formats import Documents, Listing, flat_listing, print_documents, print_listing
from machine.cli.tables import human_size
from machine.model.arch import Arch
from machine.model.image import ImageOptions, ImageVariant

if TYPE_CHECKING:
    from machine.ops.image import ListedImage

FIELDS = (
    "Reference", "Stream", "Release", "Arch", "Digest", "Size", "UsedBy", "Verified", "Signer", "Location", "Sha256",
    "Sha512", "UncompressedSha256", "Fetched", "Path",
)  # fmt: skip
VERIFY_FIELDS = ("Reference", "Release", "Arch", "Digest", "Condition")
CATALOGUE_FIELDS = ("Reference", "Aliases", "Arches", "Provisioning", "Packages", "Location", "Checksums")
HEADINGS = {"Sha256": "SHA256", "Sha512": "SHA512", "UncompressedSha256": "UNCOMPRESSED SHA256"}
_COLUMNS = ("REFERENCE", "RELEASE", "ARCH", "SIZE", "VERIFIED", "USED BY", "DIGEST")
_SHORT_DIGEST = 12


@click.group("image", cls=Group)
def command() -> None:
    """Build, fetch, list and remove the images that machines are made from.

    \b
    Examples:
      machine image pull fcos:stable
      machine image catalogue
    """


arch_option = click.option(
    "--arch", shell_complete=complete_from(Arch), help="Architecture of the guest. [default: the host's]"
)


@command.command("build")
@arch_option
@click.option("--suite", default="trixie", show_default=True, help="Debian release that the packages come from.")
@click.option(
    "--variant",
    type=click.Choice([variant.value for variant in ImageVariant]),
    callback=member_of(ImageVariant),
    default=ImageVariant.SMALL.value,
    show_default=True,
    help="full also has buildah, skopeo, and what runs containers of other architectures.",
)
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Where the stream is published. [default: the folder that `--image boot2podman` reads]",
)
def build(arch: str | None, suite: str, variant: ImageVariant, output: Path | None) -> None:
    """Build the guest image boot2podman from Debian's packages on this host.

    The image takes the place of an earlier one of the same architecture, whichever variant that is. Machines keep
    the image that they are made from.

    \b
    Examples:
      machine image build && machine init --image boot2podman box
      machine image build --variant full
    """
    from machine.cli.terminal import reporter
    from machine.ops.image_build import image_build

    with reporter() as report:
        result = image_build(
            arch=arch,
            suite=suite,
            variant=variant,
            output=output,
            context=current_context(),
            report=report,
        )
    outcome = "is already built" if result.reused else "built"
    click.echo(f"Image boot2podman {result.release} {outcome}: {result.disk}")


@command.command("pull")
@click.argument("image", required=False, shell_complete=complete_images)
@arch_option
@common.image_options
@click.option("-q", "--quiet", is_flag=True, help="Print only the digest.")
def pull(image: str | None, arch: str | None, image_options: ImageOptions, quiet: bool) -> None:
    """Fetch and verify an image before a machine needs it. IMAGE is written as for `machine init --image`.

    \b
    Examples:
      machine image pull fcos:testing
      machine image pull docker://quay.io/podman/machine-os:5.6
    """
    from machine.cli.terminal import reporter
    from machine.ops.image import pull_image

    with reporter(quiet=quiet) as report:
        base = pull_image(image, arch, image_options, current_context(), report)
    click.echo(f"sha256:{base.digest}")


@command.command("ls")
@format_option()
@click.option("-q", "--quiet", is_flag=True, help="Print only the digests.")
@noheading_option()
def ls(format_: str | None, quiet: bool, noheading: bool) -> None:
    """List the images in the cache, the newest first.

    \b
    Examples:
      machine image ls
      machine image ls --format '{{.Reference}} {{.Size}}'
    """
    from machine.ops.image import describe_image, list_images

    images = list_images(current_context())
    if quiet and format_ is None:
        for image in images:
            click.echo(image.base.digest)
        return
    print_listing(
        Listing(
            name="ls",
            type_name="machine.Image",
            columns=_COLUMNS,
            rows=lambda: [_row(image) for image in images],
            fields=FIELDS,
            items=lambda: [item(describe_image(image)) for image in images],
            documents=lambda: [describe_image(image) for image in images],
            headings=HEADINGS,
        ),
        format_,
        heading=not (noheading or quiet),
    )


def item(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields for templates. They are the fields of the JSON, formatted as in the table."""
    return {**document, "Size": human_size(document["Size"]), "UsedBy": ", ".join(document["UsedBy"])}


def _row(image: ListedImage) -> tuple[str, ...]:
    base = image.base
    users = ", ".join(image.users) or "-"
    size = human_size(base.size)
    return (base.reference, base.release or "-", base.arch, size, image.verified, users, base.digest[:_SHORT_DIGEST])


@command.command("catalogue")
@listing_options
def catalogue(format_: str | None, noheading: bool) -> None:
    """List the images of other distributions that `machine init --image` accepts.

    To add your own images, write a catalogue.toml in the directory of config.toml (see `machine config path`).

    \b
    Examples:
      machine image catalogue
      machine image catalogue --format '{{.Reference}} {{.Location}}'
    """
    from machine.ops.shared.catalogue import catalogue as load
    from machine.ops.shared.catalogue import describe

    images = [describe(image) for image in load(current_context()).images]
    items = [_catalogue_item(image) for image in images]
    print_listing(
        Listing(
            name="catalogue",
            type_name="machine.CatalogueImage",
            columns=("REFERENCE", "ALIASES", "ARCHES", "PROVISIONING"),
            rows=lambda: [(i["Reference"], i["Aliases"] or "-", i["Arches"], i["Provisioning"]) for i in items],
            fields=CATALOGUE_FIELDS,
            items=lambda: items,
            documents=lambda: images,
        ),
        format_,
        heading=not noheading,
    )


def _catalogue_item(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of an image for templates."""
    return {key: ", ".join(value) if isinstance(value, list) else value for key, value in document.items()}


@command.command("inspect")
@click.argument("names", nargs=-1, required=True, metavar="IMAGE...")
@click.option("--format", "format_", metavar="FORMAT", help="json or a Go template for each. [default: json]")
def inspect(names: tuple[str, ...], format_: str | None) -> None:
    """Print everything that is known about images in the cache, as a JSON array.

    \b
    Example:
      machine image inspect fcos:stable --format '{{.Release}}'
    """
    from machine.ops.image import describe_image, find_images, list_images

    images = list_images(current_context())
    found = [describe_image(image) for name in names for image in find_images(name, images)]
    print_documents(Documents(name="inspect", type_name="machine.Image", documents=found), format_)


@command.command("verify")
@click.argument("names", nargs=-1, metavar="[IMAGE]...")
@listing_options
def verify(names: tuple[str, ...], format_: str | None, noheading: bool) -> None:
    """Compare images in the cache with their digests.

    Without IMAGE, all images in the cache are read. The exit status is 1 if one of them is damaged.

    \b
    Examples:
      machine image verify
      machine image verify fcos:stable
    """
    from machine.cli.terminal import reporter
    from machine.errors import evidence_of
    from machine.ops.image_verify import verify_images

    with reporter() as report:
        found = verify_images(names, current_context(), report)
    rows = [
        (image.base.reference, image.base.release or "-", image.base.arch, image.base.digest, image.condition.value)
        for image in found
    ]
    print_listing(
        replace(
            flat_listing("machine.VerifiedImage", VERIFY_FIELDS, rows),
            rows=lambda: [(*row[:3], row[3][:_SHORT_DIGEST], row[4]) for row in rows],
        ),
        format_,
        heading=not noheading,
    )
    damaged = [error for image in found if (error := image.error)]
    for error in damaged:
        click.echo(f"Error: {error.line}", err=True)
    if damaged:
        for line in evidence_of(damaged[0]):  # the same for all
            click.echo(f"  {line}", err=True)
        raise click.exceptions.Exit(1)


@command.command("rm")
@click.argument("names", nargs=-1, required=True, metavar="IMAGE...")
def rm(names: tuple[str, ...]) -> None:
    """Remove images from the cache, unless a machine uses them. IMAGE is a reference, a release or a digest.

    \b
    Example:
      machine image rm fcos:testing
    """
    from machine.ops.image import remove_images

    for base in remove_images(names, current_context()):
        click.echo(f"sha256:{base.digest}")


@command.command("prune")
@click.option(
    "--keep", type=WholeNumber(minimum=0), default=0, metavar="N", help="Keep the newest N images of each stream."
)
def prune(keep: int) -> None:
    """Remove all images that no machine uses, and unfinished downloads.

    \b
    Example:
      machine image prune --keep 1
    """
    from machine.ops.image import prune_images

    pruned = prune_images(keep, current_context())
    for base in pruned.bases:
        click.echo(f"sha256:{base.digest}")
    click.echo(f"Freed {human_size(pruned.freed)}", err=True)
