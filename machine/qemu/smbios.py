"""What a guest's firmware tells of its computer: strings of the maker, by which systemd takes credentials (pure)."""

from __future__ import annotations

import base64
import struct
from collections.abc import Mapping

_OEM_STRINGS = 11
# Far from the handles that QEMU gives its own structures.
_HANDLE = 0x0B2B


def credentials_table(credentials: Mapping[str, str]) -> bytes:
    """One structure for QEMU's `-smbios file=`: systemd's credentials by their names (systemd.system-credentials)."""
    strings = [
        f"io.systemd.credential.binary:{name}={base64.b64encode(value.encode()).decode()}"
        for name, value in credentials.items()
    ]
    header = struct.pack("<BBHB", _OEM_STRINGS, 5, _HANDLE, len(strings))
    return header + b"".join(string.encode() + b"\0" for string in strings) + b"\0"
