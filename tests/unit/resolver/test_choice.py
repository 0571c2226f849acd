"""Who answers a guest's questions about names."""

from __future__ import annotations

import pytest

from machine.model.network import ResolverChoice
from machine.resolver.choice import is_host_wanted, servers, special_domains

AUTO, ON, OFF = ResolverChoice

SCUTIL = """\
DNS configuration

resolver #1
  search domain[0] : fritz.box
  nameserver[0] : fd00::1
  if_index : 11 (en0)

resolver #2
  domain   : corp.example
  nameserver[0] : 10.8.0.1

resolver #3
  domain   : local
  options  : mdns

resolver #4
  domain   : 254.169.in-addr.arpa
  options  : mdns

DNS configuration (for scoped queries)

resolver #2
  domain   : corp.example
"""


@pytest.mark.parametrize(
    ("choice", "resolv_conf", "wanted"),
    [
        (AUTO, "nameserver 127.0.0.53\n", False),
        (AUTO, "nameserver fd00::1\nnameserver 192.0.2.1\n", False),
        (AUTO, "nameserver fd00::1\n", True),
        (AUTO, "nameserver fe80::1%en0\n", True),
        (AUTO, "nameserver ::1\nnameserver ::2\nnameserver ::3\nnameserver 192.0.2.1\n", True),
        (AUTO, "# nameserver 192.0.2.1\n", True),
        (ON, "nameserver 127.0.0.53\n", True),
        (OFF, "nameserver fd00::1\n", False),
    ],
)
def test_host_answers_where_qemu_has_nobody_to_ask(choice: ResolverChoice, resolv_conf: str, wanted: bool) -> None:
    assert is_host_wanted(choice, resolv_conf) is wanted


def test_servers_are_those_of_resolv_conf() -> None:
    assert servers("domain x\nnameserver 192.0.2.1 \nnameserver\n\tnameserver ::1 # six\n") == ["192.0.2.1", "::1"]


def test_domains_of_a_vpn_are_told_apart_from_those_of_every_mac() -> None:
    assert special_domains(SCUTIL) == ["corp.example"]
