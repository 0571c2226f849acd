"""Send the log messages of a machine's background processes to the machine's supervisor.log."""

from __future__ import annotations

import logging
import logging.handlers
from io import TextIOWrapper
from pathlib import Path

from machine.files import open_created
from machine.store.paths import MachinePaths

_LOG_BYTES = 1024**2


class _PrivateLog(logging.handlers.RotatingFileHandler):
    """A log file that only this user may read, whatever the umask is. Bytes that are not UTF-8 become escapes."""

    def _open(self) -> TextIOWrapper:
        return TextIOWrapper(open_created(Path(self.baseFilename), "ab"), "utf-8", errors="backslashreplace")


def log_to(paths: MachinePaths) -> None:
    """Send all log messages of this process to the machine's supervisor.log. When this file is full, start a new one.

    The full file is kept until the next one is full.
    """
    handler = _PrivateLog(paths.supervisor_log, maxBytes=_LOG_BYTES, backupCount=1)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    # Its errors reach this program as exceptions. By itself it would print a traceback of each session that is given up
    # while QEMU hangs up.
    logging.getLogger("qemu").setLevel(logging.CRITICAL + 1)
    logging.getLogger("asyncio").setLevel(logging.INFO)
    logging.raiseExceptions = False
