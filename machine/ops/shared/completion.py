"""The names of this host's machines and of images, for the shell's completion."""

from __future__ import annotations

from machine.ops.shared.context import Context
from machine.store.names import machine_names


def all_names(context: Context) -> list[str]:
    return machine_names(context.roots)


def image_names() -> list[str]:
    """The images that have a name of their own."""
    from machine.image.reference import FCOS_STREAMS, LOCAL_STREAM  # whoever completes a machine's name does without

    return [*(f"fcos:{stream}" for stream in FCOS_STREAMS), LOCAL_STREAM]
