"""Read the catalogue of other distributions' images, and look up images in it."""

from __future__ import annotations

from machine.ignition.assets import images_directory
from machine.image.catalogue import Catalogue, CatalogueImage, ImageSource, load_catalogue
from machine.image.reference import CatalogueReference, parse_reference
from machine.ops.shared.context import Context

_FILE = "catalogue.toml"


def catalogue(context: Context) -> Catalogue:
    """Return the catalogue of images, which joins the program's own catalogue and the user's.

    If both have an entry of the same name, the user's entry is used.

    Raises:
        MachineError: the user's catalogue is invalid.
    """
    return load_catalogue(images_directory() / _FILE, context.roots.catalogue)


def find_source(text: str, context: Context) -> ImageSource:
    """Parse `text`, and return the image that it refers to. Images of other distributions are found in the catalogue.

    Raises:
        BadInputError: `text` is malformed, or the catalogue has no image of that name and tag.
    """
    reference = parse_reference(text)
    return catalogue(context).find(reference) if isinstance(reference, CatalogueReference) else reference


def describe(image: CatalogueImage) -> dict[str, object]:
    """Return an image of the catalogue as a JSON document."""
    return {
        "Reference": str(image.reference),
        "Aliases": [f"{image.name}:{alias}" for alias in image.aliases],
        "Arches": sorted(image.arches),
        "Provisioning": image.provisioning,
        "Packages": list(image.packages),
        "Location": image.url,
        "Checksums": image.checksums,
    }
