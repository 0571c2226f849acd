"""`machine reset`: remove all machines and the image cache."""

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
    """Check that none of the machines is protected.

    Raises:
        MachineError: one of the machines is protected.
    """
    for name in names:
        check_unprotected(name, context)


def clear_images(context: Context) -> None:
    """Remove all images from the cache, and the cached metadata of streams.

    Raises:
        MachineError: a machine still uses one of the images.
        DeadlineError: another command has been fetching an image, or making a machine, for too long.
    """
    prune_images(0, context)
    shutil.rmtree(context.roots.stream_metadata, ignore_errors=True)
