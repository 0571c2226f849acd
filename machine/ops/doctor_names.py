"""Part of `machine doctor`: check who answers guests' questions about names."""

from __future__ import annotations

from collections.abc import Sequence

from machine import runner
from machine.errors import MachineError
from machine.model.doctor_check import Check, ok, warning
from machine.model.host import HostOS
from machine.model.network import ResolverChoice
from machine.ops.shared.context import Context
from machine.resolver.choice import is_host_wanted, read_resolv_conf, servers, special_domains, usable_servers

_NAME = "names"
_TURN_ON = "machine config set host_resolver on"
_SCUTIL_S = 10


def used_names_check(context: Context, choice: ResolverChoice) -> Check:
    """Check the servers that guests' questions about names reach."""
    domains = _special_domains() if context.host.os is HostOS.MACOS else []
    return names_check(choice, read_resolv_conf(), domains)


def _special_domains() -> list[str]:
    try:
        return special_domains(runner.run(["scutil", "--dns"], timeout_s=_SCUTIL_S).stdout)
    except MachineError:
        return []


def names_check(choice: ResolverChoice, resolv_conf: str, domains: Sequence[str]) -> Check:
    """Judge who answers guests' questions. `domains` are those for which macOS asks other servers, such as a VPN's."""
    listed = servers(resolv_conf)
    usable = usable_servers(listed)
    if is_host_wanted(choice, resolv_conf):
        why = "as configured" if choice is ResolverChoice.ON else "as QEMU has no server to ask"
        return ok(_NAME, f"this host answers guests' questions about names, {why}")
    if not usable:
        known = f", only {', '.join(listed)}" if listed else ""
        return warning(
            _NAME, f"guests find no names, because /etc/resolv.conf has no server with an IPv4 address{known}", _TURN_ON
        )
    if domains:
        return warning(
            _NAME, f"guests ask {usable[0]}, but macOS asks other servers for names in {', '.join(domains)}", _TURN_ON
        )
    return ok(_NAME, f"guests ask {usable[0]}")
