"""The catalogue of other distributions' images, and what the words after `--image` mean with it."""

from __future__ import annotations

from typing import Any

from machine.ignition.assets import images_directory
from machine.image.catalogue import Catalogue, CatalogueImage, load_catalogue
from machine.image.reference import CatalogueReference, Reference, parse_reference
from machine.ops.shared.context import Context

_FILE = "catalogue.toml"


def catalogue(context: Context) -> Catalogue:
    """Ours with the user's over it.

    Raises:
        MachineError: the user's is wrong.
    """
    return load_catalogue(images_directory() / _FILE, context.roots.catalogue)


def known_reference(text: str, context: Context) -> tuple[Reference, CatalogueImage | None]:
    """What `text` refers to, and how the catalogue describes it where it does.

    Raises:
        BadInputError: it is nothing that we know.
    """
    reference = parse_reference(text)
    if not isinstance(reference, CatalogueReference):
        return reference, None
    image = catalogue(context).find(reference)
    return image.reference, image


def describe(image: CatalogueImage) -> dict[str, Any]:
    """An image of the catalogue as JSON has it."""
    return {
        "Reference": str(image.reference),
        "Aliases": [f"{image.name}:{alias}" for alias in image.aliases],
        "Arches": sorted(image.arches),
        "Provisioning": image.provisioning,
        "Packages": list(image.packages),
        "Location": image.url,
        "Checksums": image.checksums,
    }
