"""Return the names of machines and images for shell completion."""

from __future__ import annotations

from machine.ops.shared.context import Context
from machine.store.names import machine_names


def all_names(context: Context) -> list[str]:
    return machine_names(context.roots)


def image_names() -> list[str]:
    """Return the names of images to offer as completions of `--image`."""
    from machine.image.reference import FCOS_STREAMS, LOCAL_STREAM  # completing the name of a machine does not need it

    return [*(f"fcos:{stream}" for stream in FCOS_STREAMS), LOCAL_STREAM]
