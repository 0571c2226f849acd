"""Make a guest's console output safe for a terminal (pure)."""

from __future__ import annotations

import codecs
import re

# First the control sequences and strings of ECMA-48, which firmware, boot loaders and systemd use; a string that does
# not end on its line counts as text. Then every control character except tab and line feed. C1 controls are included,
# because terminals obey them in UTF-8 too.
_ESCAPES = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b\n]*(?:\x07|\x1b\\)|[ -/]*[0-~])|[\x00-\x08\x0b-\x1f\x7f-\x9f]"
)

# The end of a text that may be the beginning of a sequence or of a line end.
_UNFINISHED = re.compile(r"(?:\x1b(?:\[[0-?]*[ -/]*|[\]PX^_][^\x07\x1b\n]*\x1b?|[ -/]*)?|\r+)\Z")
_MAX_UNFINISHED = 4096

_COLOUR = re.compile(r"\x1b\[[0-9;:]*m")
_PLAIN = "\x1b[0m"


def without_escapes(text: str) -> str:
    """Return a console's text without control sequences. A carriage return ends a line even without a line feed."""
    return _ESCAPES.sub("", _end_lines(text))


class SafeOutput:
    """Filters console output as it arrives. Colours are kept if wanted, and other control sequences are removed."""

    def __init__(self, *, colours: bool = True) -> None:
        self._colours = colours
        self._decode = codecs.getincrementaldecoder("utf-8")(errors="replace").decode
        self._rest = ""
        self._coloured = False

    def feed(self, data: bytes) -> str:
        """Return the text to show now. If `data` ends within a control sequence, keep that part for the next call."""
        text = self._rest + self._decode(data)
        unfinished = _UNFINISHED.search(text)
        whole = text[: unfinished.start()] if unfinished and len(unfinished[0]) < _MAX_UNFINISHED else text
        self._rest = text[len(whole) :]
        return _ESCAPES.sub(self._keep_colour, _end_lines(whole))

    def end(self) -> str:
        """Return the last text to show, followed by the sequence that resets the terminal's colours."""
        text = _ESCAPES.sub(self._keep_colour, _end_lines(self._rest))
        self._rest = ""
        return text + (_PLAIN if self._coloured else "")

    def _keep_colour(self, found: re.Match[str]) -> str:
        if not (self._colours and _COLOUR.fullmatch(found[0])):
            return ""
        self._coloured = True
        return found[0]


def _end_lines(text: str) -> str:
    return re.sub(r"\r+\n?", "\n", text)
