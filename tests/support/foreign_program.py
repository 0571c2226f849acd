"""A program of another architecture, made by hand, since hosts have no compiler for it."""

from __future__ import annotations

import struct

_TEXT = b"hello from afar\n"
_ADDRESS = 0x400000
_HEADERS = 64 + 56


def aarch64_greeter() -> bytes:
    """Return a static program for Linux on aarch64 that prints a line and ends with success."""
    code = struct.pack(
        "<8I",
        0xD2800020,  # mov x0, #1: standard output
        0x100000E1,  # adr x1, the text, 28 bytes from here
        0xD2800002 | len(_TEXT) << 5,  # mov x2, the text's length
        0xD2800808,  # mov x8, #64: write
        0xD4000001,  # svc #0
        0xD2800000,  # mov x0, #0
        0xD2800BA8,  # mov x8, #93: exit
        0xD4000001,  # svc #0
    )
    size = _HEADERS + len(code) + len(_TEXT)
    identity = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9)
    header = struct.pack("<16sHHIQQQIHHHHHH", identity, 2, 183, 1, _ADDRESS + _HEADERS, 64, 0, 0, 64, 56, 1, 64, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, _ADDRESS, _ADDRESS, size, size, 0x1000)
    return header + segment + code + _TEXT
