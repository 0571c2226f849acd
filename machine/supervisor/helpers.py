"""The small programs that QEMU and the folder server start while a machine runs, kept in the machine's folder.

An upgrade may meanwhile replace or remove this package, and with it the virtual environment of the package.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from machine.files import write_atomic
from machine.folders import confine
from machine.ports import relay
from machine.store.paths import MachinePaths
from machine.this_host import lasting_path


def install_helpers(paths: MachinePaths) -> None:
    """Copy the helper programs to the machine's folder, unless they are there, so that a full disk does not matter.

    Raises:
        MachineError: one of the programs cannot be written.
    """
    for copy, source in ((paths.relay, relay), (paths.confine, confine)):
        content = Path(str(source.__file__)).read_bytes()
        if not (copy.is_file() and copy.read_bytes() == content):
            write_atomic(copy, content)


def helper_command(program: Path) -> tuple[str, ...]:
    """Return the beginning of the command line that runs one of the programs."""
    python = lasting_path(_python(Path(sys.executable), Path(sys.prefix)))
    return (os.fspath(python), "-I", "-S", os.fspath(program))


def _python(executable: Path, prefix: Path) -> Path:
    """Return the Python to which a virtual environment's `executable` links, or `executable` if it is no link."""
    path = executable
    while path.is_relative_to(prefix) and path.is_symlink():
        path = Path(os.path.normpath(path.parent / path.readlink()))
    return path if path.exists() else executable
