"""Load the modules that other modules import only when they need them.

An upgrade may replace or remove the program while a machine runs, and its supervisor would then fail to import them, or
import those of another version.
"""

from __future__ import annotations

import contextlib
import importlib

_MODULES = (
    "machine.folders.inotify",
    "machine.store.record_schema_1",
    "psutil",
)


def preload() -> None:
    """Load the modules; those that this host lacks are not used later either."""
    for name in _MODULES:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
