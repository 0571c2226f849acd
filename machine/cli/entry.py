"""The entry point of the program; ^C ends it silently even while it is still loading."""

from __future__ import annotations

import signal
from typing import NoReturn


def main() -> NoReturn:
    # Leave an ignored SIGINT alone: a shell's background jobs do not react to ^C.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from machine.cli.main import main as run

    run()
