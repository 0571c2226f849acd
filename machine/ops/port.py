"""`machine port`: change the user's own forwards, and list all ports and sockets that are forwarded to a guest."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from dataclasses import dataclass, replace

from machine import lock
from machine.control import Command
from machine.errors import BadInputError, MachineError, NotFoundError
from machine.model.config import MachineConfig
from machine.model.host import HostOS
from machine.model.ports import (
    EVERY,
    Endpoint,
    Forward,
    PortState,
    PortStatus,
    Protocol,
    SocketPath,
    forward_text,
    parse_forward,
    parse_host,
)
from machine.model.provider import Capability, check_capability
from machine.model.record import MachineRecord
from machine.model.state import MachineState
from machine.ops.shared.ask_supervisor import ask_supervisor
from machine.ops.shared.context import Context
from machine.ops.shared.live_change import change_machine
from machine.ops.shared.state import machine_state
from machine.ops.wake import wake
from machine.ports.holder import check_can_listen
from machine.ports.listing import Listed, decode
from machine.ports.table import Table
from machine.report import Reporter
from machine.store import records
from machine.store.paths import MachinePaths

_ANSWER_S = 60.0
_GUEST_SOCKET_BYTES = HostOS.LINUX.traits.socket_path_limit


@dataclass(frozen=True, kw_only=True)
class ListedPort:
    """A forward from this host to the guest. `host` and `guest` are each an address with a port, or a socket's path."""

    host: str
    guest: str
    protocol: str
    origin: str
    status: PortStatus


def add_port(name: str, text: str, context: Context, report: Reporter) -> None:
    """Forward a port or socket of the host to the machine. If the machine is running, the forward works at once.

    A suspended machine is resumed, because the forward is meant to lead into its guest.

    Raises:
        BadInputError: `text` is not a forward, or another forward already uses the same port or socket of the host.
        MachineError: the host cannot listen on the forward's port or socket, or the machine cannot be resumed.
    """
    config = records.load(context.roots, name).config
    forward = _parse(text)
    if isinstance(forward.endpoint, Endpoint) and forward.endpoint.protocol is Protocol.UDP:
        check_capability(name, config.provider, Capability.UDP)
    config.with_forward(forward)  # raises if it conflicts with another forward
    _check_not_ssh(forward, context)

    def edit(record: MachineRecord) -> MachineRecord:
        changed = record.config.with_forward(forward)
        check_can_listen(forward.endpoint)
        return replace(record, config=changed)

    wake(name, context, report)
    change_machine(name, context, Command.PORT_ADD, forward_text(forward), edit, timeout_s=_ANSWER_S)


def remove_port(name: str, text: str, context: Context, report: Reporter) -> None:
    """Remove one of the user's own forwards. `text` is the whole forward, or only its port or socket on the host.

    A suspended machine is resumed.

    Raises:
        BadInputError: `text` is not a forward, a port or the path of a socket.
        NotFoundError: the user has added no such forward to the machine.
    """
    config = records.load(context.roots, name).config
    try:
        endpoint, guest = parse_host(text)
    except ValueError as error:
        raise BadInputError(str(error), hint=f"see: machine port ls {name}") from error
    forward = next((own for own in config.forwards if own.endpoint == endpoint and guest in (None, own.guest)), None)
    if forward is None:
        raise NotFoundError(
            f'"{text}" is not a forward that was added to {name}', hint=_how_to_name_one(config, endpoint)
        )
    wake(name, context, report)
    change_machine(
        name,
        context,
        Command.PORT_REMOVE,
        forward_text(forward),
        lambda record: replace(record, config=record.config.without_forward(endpoint)),
        timeout_s=_ANSWER_S,
    )


def _how_to_name_one(config: MachineConfig, endpoint: Endpoint | SocketPath) -> str:
    """Return a hint for a forward that is not there: those of the same port, or where all are."""
    port = endpoint.port if isinstance(endpoint, Endpoint) else None
    same = [
        forward_text(own) for own in config.forwards if isinstance(own.endpoint, Endpoint) and own.endpoint.port == port
    ]
    return f"did you mean {' or '.join(same)}?" if same else f"see: machine port ls {config.name}"


def list_ports(name: str, context: Context) -> list[ListedPort]:
    """List the ports and sockets of the host that are forwarded to the guest.

    If the machine is stopped, list those that will be forwarded when it is started.

    Raises:
        NotFoundError: there is no such machine.
    """
    config, paths = records.load(context.roots, name).config, context.roots.machine(name)
    current = machine_state(paths)
    found = _find_forwards(config, paths, current)
    forwards = [
        ListedPort(
            host=_host(forward.endpoint),
            guest=str(forward.guest),
            protocol="unix" if isinstance(forward.endpoint, SocketPath) else forward.endpoint.protocol.value,
            origin=forward.origin.value,
            status=status,
        )
        for forward, status in found.forwards
    ]
    sockets = [
        ListedPort(host=str(host), guest=guest, protocol="unix", origin="api", status=found.api)
        for host, guest in (
            (paths.podman_socket, config.user_socket),
            *([(paths.podman_root_socket, config.root_socket)] if config.has_root_socket else []),
        )
    ]
    if config.remote:
        return [*forwards, *sockets]
    status = _ssh_status(found.api, current)
    ssh = ListedPort(host=f"127.0.0.1:{config.ssh_port}", guest="22", protocol="tcp", origin="ssh", status=status)
    return [*forwards, *sockets, ssh]


def _ssh_status(api: PortStatus, current: MachineState) -> PortStatus:
    """Return the status of the SSH port. The guest may answer there although its Podman does not."""
    if api.state is PortState.WAITING and current.connected:
        return PortStatus(state=PortState.OPEN)
    return api


def _find_forwards(config: MachineConfig, paths: MachinePaths, current: MachineState) -> Listed:
    """Return the forwards that the supervisor reports, or the last known ones if no supervisor is running."""
    if not current.state.has_processes:
        return _all_are(PortStatus(state=PortState.STOPPED), config.forwards)
    if lock.is_held(paths.supervisor_lock):
        answer = ask_supervisor(config.name, Command.PORT_LIST, "", paths, timeout_s=_ANSWER_S)
        try:
            return decode(answer)
        except ValueError as error:
            raise MachineError(
                f"the supervisor of {config.name} runs another version of this program: {error}",
                hint=f"restart the machine with: machine restart {config.name}",
            ) from error
    unknown = PortStatus(state=PortState.UNKNOWN, reason=current.reason)
    with contextlib.suppress(OSError, ValueError):  # QEMU's own forwards still work
        return _all_are(unknown, Table.load(paths.ports_table.read_text(), ipv6=True))
    return _all_are(unknown, config.forwards)


def _all_are(status: PortStatus, forwards: Iterable[Forward]) -> Listed:
    return Listed(forwards=[(forward, status) for forward in forwards], api=status)


def _host(endpoint: Endpoint | SocketPath) -> str:
    return str(endpoint) if isinstance(endpoint, SocketPath) else endpoint.host_port(EVERY)


def _check_not_ssh(forward: Forward, context: Context) -> None:
    endpoint = forward.endpoint
    if isinstance(endpoint, Endpoint) and endpoint.protocol is Protocol.TCP:
        for record in records.load_readable(context.roots):
            if record.config.ssh_port == endpoint.port and record.config.remote is None:
                raise BadInputError(f"port {endpoint.port} is the SSH port of {record.name}; choose another host port")


def _parse(text: str) -> Forward:
    try:
        forward = parse_forward(text)
        if isinstance(forward.guest, SocketPath) and len(os.fsencode(forward.guest.path)) > _GUEST_SOCKET_BYTES:
            raise ValueError(
                f'"{forward.guest}" is longer than {_GUEST_SOCKET_BYTES} bytes, the limit of a socket\'s path'
            )
    except ValueError as error:
        hint = "write [HOST_IP:]HOST_PORT:GUEST_PORT[/udp]; instead of a port, a socket's absolute path can be used"
        raise BadInputError(str(error), hint=hint) from error
    return forward
