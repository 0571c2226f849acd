"""Make SMBIOS tables that pass systemd credentials to a guest as OEM strings (pure)."""

from __future__ import annotations

import base64
import struct
from collections.abc import Mapping

_OEM_STRINGS = 11
# A handle that QEMU's own structures do not use.
_HANDLE = 0x0B2B


def credentials_table(credentials: Mapping[str, str]) -> bytes:
    """Return an SMBIOS table for QEMU's `-smbios file=`.

    The table has one string for each systemd credential, in the form that systemd.system-credentials(7) describes.
    """
    strings = [
        f"io.systemd.credential.binary:{name}={base64.b64encode(value.encode()).decode()}"
        for name, value in credentials.items()
    ]
    header = struct.pack("<BBHB", _OEM_STRINGS, 5, _HANDLE, len(strings))
    return header + b"".join(string.encode() + b"\0" for string in strings) + b"\0"
