"""`machine reset`: no machines, and no images that were fetched for them."""

from __future__ import annotations

import shutil
from collections.abc import Iterable

from machine.ops.image import prune_images
from machine.ops.shared.context import Context
from machine.ops.shared.protection import check_unprotected
from machine.store.names import machine_names


def machines(context: Context) -> list[str]:
    return machine_names(context.roots)


def check_resettable(names: Iterable[str], context: Context) -> None:
    """Raises:
    MachineError: one of the machines is protected.
    """
    for name in names:
        check_unprotected(name, context)


def forget_images(context: Context) -> None:
    """Empty the cache, streams' metadata included.

    Raises:
        DeadlineError: an image is being fetched, or a machine made.
    """
    prune_images(0, context)
    shutil.rmtree(context.roots.stream_metadata, ignore_errors=True)
