"""Debian's static busybox for any architecture, to run the same program in guests and on the host."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from machine.model.arch import Arch

SUITE = "trixie"
FETCH_S = 600


def static_busybox(arch: Arch, cache: Path) -> Path:
    """Return the program for `arch`; fetches it into `cache` if it is not there."""
    program = cache / f"busybox-{SUITE}-{arch}"
    if not program.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as directory:
            root = Path(directory) / "root"
            subprocess.run(
                ["mmdebstrap", "--quiet", "--variant=extract", f"--architectures={arch.debian}",
                 "--include=busybox-static", SUITE, str(root)],
                check=True,
                timeout=FETCH_S,
            )  # fmt: skip
            fresh = Path(shutil.copy2(root / "usr" / "bin" / "busybox", Path(directory) / "busybox"))
            fresh.rename(program)
    return program
