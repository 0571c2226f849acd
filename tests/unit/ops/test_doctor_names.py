"""What doctor says of the servers that guests ask for names."""

from __future__ import annotations

import pytest

from machine.model.network import ResolverChoice
from machine.ops.doctor_names import names_check
from tests.support.checks import text_of
from tests.support.golden import Golden

AUTO, ON, OFF = ResolverChoice


@pytest.mark.parametrize(
    ("choice", "resolv_conf", "domains"),
    [
        pytest.param(AUTO, "nameserver ::1\nnameserver 192.0.2.1\n", [], id="a server that QEMU can use"),
        pytest.param(AUTO, "nameserver fd00::1\n", [], id="IPv6 alone"),
        pytest.param(ON, "nameserver 192.0.2.1\n", ["corp.example"], id="set on"),
        pytest.param(OFF, "nameserver fd00::1\nnameserver fd00::2\n", [], id="IPv6 alone, set off"),
        pytest.param(OFF, "", [], id="no server, set off"),
        pytest.param(AUTO, "nameserver 192.0.2.1\n", ["corp.example", "vpn.example"], id="a VPN's domains"),
    ],
)
def test_who_answers_guests(choice: ResolverChoice, resolv_conf: str, domains: list[str], golden: Golden) -> None:
    golden.matches(text_of(names_check(choice, resolv_conf, domains)))
