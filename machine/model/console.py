"""What a guest writes to its serial console, made fit for a person's terminal. Pure."""

from __future__ import annotations

import codecs
import re

# Sequences and strings by ECMA-48; firmware, boot loaders and systemd use them. A string that does not end in its line
# is text. Last, every control character but tab and line feed, C1's too: terminals obey these in UTF-8 as well.
_ESCAPES = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b\n]*(?:\x07|\x1b\\)|[ -/]*[0-~])|[\x00-\x08\x0b-\x1f\x7f-\x9f]"
)

# What may be the beginning of a sequence, or of a line's end.
_UNFINISHED = re.compile(r"(?:\x1b(?:\[[0-?]*[ -/]*|[\]PX^_][^\x07\x1b\n]*\x1b?|[ -/]*)?|\r+)\Z")
_LONGEST = 4096

_COLOUR = re.compile(r"\x1b\[[0-9;:]*m")
_PLAIN = "\x1b[0m"


def without_escapes(text: str) -> str:
    """A console's text without its control sequences; a lone carriage return ends a line."""
    return _ESCAPES.sub("", _lines(text))


class Harmless:
    """A console's output, as it comes, with colours and without anything else that a terminal would obey."""

    def __init__(self) -> None:
        self._decode = codecs.getincrementaldecoder("utf-8")(errors="replace").decode
        self._rest = ""
        self._coloured = False

    def feed(self, data: bytes) -> str:
        """What is ready to be shown; the beginning of a sequence waits for the rest of it."""
        text = self._rest + self._decode(data)
        unfinished = _UNFINISHED.search(text)
        whole = text[: unfinished.start()] if unfinished and len(unfinished[0]) < _LONGEST else text
        self._rest = text[len(whole) :]
        return _ESCAPES.sub(self._kept, _lines(whole))

    def end(self) -> str:
        """What is left where no more comes, and the terminal's own colours."""
        text = _ESCAPES.sub(self._kept, _lines(self._rest))
        self._rest = ""
        return text + (_PLAIN if self._coloured else "")

    def _kept(self, found: re.Match[str]) -> str:
        if not _COLOUR.fullmatch(found[0]):
            return ""
        self._coloured = True
        return found[0]


def _lines(text: str) -> str:
    return re.sub(r"\r+\n?", "\n", text)
