"""Keep OpenSSL out of a supervisor: it speaks no TLS, and OpenSSL would be five megabytes of each.

asyncio and hashlib load it where it is, but can do without, as Python can be built without it. qemu.qmp only names a
class of the module `ssl` in its annotations.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType

# Python's own SHA-256, since Python 3.12 and before. A distribution may leave it out.
_OWN_SHA256 = ("_sha2", "_sha256")


def load_without_openssl() -> None:
    """Load what would load OpenSSL. What needs TLS itself can still import `ssl` afterwards."""
    with _replaced({"ssl": None}):
        importlib.import_module("asyncio")
    annotated = ModuleType("ssl")
    annotated.SSLContext = object  # type: ignore[attr-defined]
    with _replaced({"ssl": annotated}):
        importlib.import_module("qemu.qmp")
    if any(importlib.util.find_spec(name) for name in _OWN_SHA256):
        with _replaced({"_hashlib": None}):
            importlib.import_module("hashlib")


@contextmanager
def _replaced(modules: Mapping[str, ModuleType | None]) -> Iterator[None]:
    """Let imports find `modules`. A module that is None cannot be imported."""
    before = {name: sys.modules[name] for name in modules if name in sys.modules}
    sys.modules.update(modules)  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in modules:
            del sys.modules[name]
        sys.modules.update(before)
