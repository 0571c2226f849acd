"""The entry point of the program. ^C ends the program silently, even while it is still loading."""

from __future__ import annotations

import signal
from typing import NoReturn


def main() -> NoReturn:
    # Leave an ignored SIGINT alone, because a shell's background jobs must not react to ^C.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from machine.cli.main import main as run

    run()
