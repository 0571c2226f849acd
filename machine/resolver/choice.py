"""Find the servers that this host asks for names, and decide whether it answers a guest's questions itself.

If it does not, QEMU's network (libslirp) passes them on, to the first IPv4 address among the first three servers of
/etc/resolv.conf. It knows neither /etc/hosts nor the servers that macOS asks for the names of a VPN.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from pathlib import Path

from machine.model.network import ResolverChoice

_RESOLV_CONF = Path("/etc/resolv.conf")
_MAX_SERVERS = 3
# Resolvers that macOS has for multicast DNS, and for names that are numbers.
_NO_VPN = re.compile(r"local|.*\.(?:in-addr|ip6)\.arpa")


def is_host_wanted(choice: ResolverChoice, resolv_conf: str) -> bool:
    """Return whether this host answers the guest. `resolv_conf` is the text of /etc/resolv.conf."""
    if choice is ResolverChoice.AUTO:
        return not usable_servers(servers(resolv_conf))
    return choice is ResolverChoice.ON


def read_resolv_conf() -> str:
    """Return the text of /etc/resolv.conf, which macOS keeps up to date, too. Return no text if it cannot be read."""
    try:
        return _RESOLV_CONF.read_text(errors="replace")
    except OSError:
        return ""


def servers(resolv_conf: str) -> list[str]:
    """Return the addresses of the servers that resolv.conf(5) lists."""
    words = (line.split() for line in resolv_conf.splitlines())
    return [line[1] for line in words if len(line) > 1 and line[0] == "nameserver"]


def usable_servers(listed: Sequence[str]) -> list[str]:
    """Return the servers that QEMU can use."""
    return [server for server in listed[:_MAX_SERVERS] if _is_ipv4(server)]


def _is_ipv4(address: str) -> bool:
    try:
        ipaddress.IPv4Address(address)
    except ValueError:
        return False
    return True


def special_domains(scutil: str) -> list[str]:
    """Return the domains for which macOS asks servers of their own, from the output of `scutil --dns`."""
    found = re.findall(r"^ *domain *: *(\S+?)\.?$", scutil, re.MULTILINE)
    return [domain for domain in dict.fromkeys(found) if not _NO_VPN.fullmatch(domain)]
