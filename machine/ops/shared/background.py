"""Spawn the background processes of a machine."""

from __future__ import annotations

import subprocess
from collections.abc import Collection

from machine.files import open_created
from machine.store.paths import MachinePaths
from machine.this_host import own_python


def spawn(
    module: str, name: str, paths: MachinePaths, *, options: Collection[str] = (), pass_fds: Collection[int] = ()
) -> subprocess.Popen[bytes]:
    """Run a module of this program for the machine `name`, as a process that outlives the caller."""
    argv = [own_python(), "-P", "-m", module, *options, "--", name]
    # The process opens this log itself, but the interpreter may print errors before that.
    with open_created(paths.supervisor_log, "ab") as output:
        return subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, pass_fds=pass_fds, start_new_session=True
        )
