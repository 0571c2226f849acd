"""The entry point of the program. ^C ends the program silently, even while it is still loading."""

from __future__ import annotations

import gc
import signal
from typing import NoReturn


def main() -> NoReturn:
    # Leave an ignored SIGINT alone, because a shell's background jobs must not react to ^C.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    # Loading makes many objects and no garbage. Collections would take a tenth of the time of `machine ls`.
    gc.disable()
    from machine.cli.main import main as run

    run()
