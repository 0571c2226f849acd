"""Return the names of machines and images for shell completion."""

from __future__ import annotations

from machine.ops.shared.context import Context
from machine.store import names


def all_names(context: Context) -> list[str]:
    return names.machine_names(context.roots)


def snapshot_names(machine: str, context: Context) -> list[str]:
    """Return the names of a machine's snapshots, or none if there is no such machine."""
    if machine not in names.machine_names(context.roots):
        return []
    return names.snapshot_names(context.roots.machine(machine))


def image_names() -> list[str]:
    """Return the names of images to offer as completions of `--image`."""
    from machine.image.reference import FCOS_STREAMS, LOCAL_STREAM  # completing the name of a machine does not need it

    return [*(f"fcos:{stream}" for stream in FCOS_STREAMS), LOCAL_STREAM]
