"""Pass ^C on to operations that run in threads or wait for a pipe."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator
from typing import BinaryIO

_INTERRUPTED_S = 60.0


class Interrupt:
    """Tells threads that the user has pressed ^C, because Python raises KeyboardInterrupt only in the main thread.

    After ^C, an operation in a thread may take `patience_s` to end.
    """

    def __init__(self, patience_s: float = _INTERRUPTED_S) -> None:
        self.patience_s = patience_s
        self._reading, self._writing = os.pipe()
        self._tripped = False

    def trip(self) -> None:
        if not self._tripped:
            self._tripped = True
            os.close(self._writing)

    def check(self) -> None:
        """Check that the user has not pressed ^C.

        Raises:
            KeyboardInterrupt: the user has pressed ^C.
        """
        if self._tripped:
            raise KeyboardInterrupt

    def await_input(self, descriptor: int) -> None:
        """Wait until the descriptor can be read, or has no more input.

        Raises:
            KeyboardInterrupt: the user has pressed ^C.
        """
        select.select([descriptor, self._reading], [], [])
        self.check()

    def lines(self, stream: BinaryIO) -> Iterator[bytes]:
        """Yield each line that arrives through a pipe, once the line is complete. Stop when the writer closes the pipe.

        Raises:
            KeyboardInterrupt: the user has pressed ^C.
        """
        rest = b""
        while True:
            self.await_input(stream.fileno())
            chunk = os.read(stream.fileno(), 65536)
            if not chunk:
                return
            *whole, rest = (rest + chunk).split(b"\n")
            yield from whole
