"""Where the program begins. ^C ends it without a word also while it still loads."""

from __future__ import annotations

import signal
from typing import NoReturn


def main() -> NoReturn:
    # Not where it is ignored: a shell's background jobs are deaf to ^C.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from machine.cli.main import main as run

    run()
