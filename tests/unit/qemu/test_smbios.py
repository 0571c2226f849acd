"""The structure by which a guest's firmware passes credentials on."""

from __future__ import annotations

import base64
import struct

from machine.qemu.smbios import credentials_table


def test_table_has_every_credential_as_a_string_of_the_maker() -> None:
    table = credentials_table({"one": "a\n", "two.service": "ü"})
    kind, length, _, count = struct.unpack_from("<BBHB", table)
    assert (kind, length, count) == (11, 5, 2)
    assert table.endswith(b"\0\0")
    strings = table[length:-2].split(b"\0")
    assert [string.decode().split("=", 1) for string in strings] == [
        ["io.systemd.credential.binary:one", base64.b64encode(b"a\n").decode()],
        ["io.systemd.credential.binary:two.service", base64.b64encode("ü".encode()).decode()],
    ]
