"""Load the modules that other modules import only when they need them.

An upgrade may replace or remove this program or its Python while a machine runs. The machine's supervisor would then
fail to import such modules, or import those of another version.
"""

from __future__ import annotations

import contextlib
import importlib

_MODULES = (
    "concurrent.futures.thread",  # asyncio loads it for the first asyncio.to_thread
    "encodings.idna",  # Python loads it for the first name that is resolved
    "hashlib",
    "machine.folders.inotify",
    "machine.store.record_schema_1",
    "psutil",
)


def preload() -> None:
    """Load the modules that a running supervisor may need later. Skip those that cannot be loaded on this host."""
    for name in _MODULES:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
