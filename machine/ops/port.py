"""`machine port`: the user's own forwards, and a list of everything on the host that leads into a guest."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, replace

from machine import lock
from machine.control import Command
from machine.errors import BadInputError, MachineError, NotFoundError
from machine.model.config import MachineConfig
from machine.model.host import HostOS
from machine.model.ports import (
    EVERY,
    Driver,
    Endpoint,
    Forward,
    Protocol,
    SocketPath,
    forward_text,
    load_forward,
    parse_forward,
    parse_host,
)
from machine.model.state import State
from machine.ops.shared.context import Context
from machine.ops.shared.live_change import change_machine
from machine.ops.shared.state import machine_state
from machine.ops.shared.supervisor import ask_supervisor
from machine.ports.holder import why_not_free
from machine.ports.table import Table
from machine.store import records
from machine.store.paths import MachinePaths

STOPPED_PORT = "stopped"

_ANSWER_S = 60.0
_GUEST_SOCKET_BYTES = HostOS.LINUX.traits.socket_path_limit


@dataclass(frozen=True, kw_only=True)
class ListedPort:
    """`host` and `guest` are addresses with ports, or paths of sockets.

    `state` is a word (open, stopped, unknown), or why it is not open.
    """

    host: str
    guest: str
    protocol: str
    origin: str
    state: str


def add_port(name: str, text: str, context: Context) -> None:
    """Forward a port of the host for good; at once, where the machine runs.

    Raises:
        BadInputError: it cannot be meant, or is forwarded already.
        MachineError: the host cannot listen there.
    """
    config = records.load(context.roots, name)
    forward = _parse(text)
    _check_new(forward, config)
    _check_not_ssh(forward, context)

    def offline(config: MachineConfig) -> MachineConfig:
        _check_new(forward, config)
        if reason := why_not_free(forward.endpoint):
            raise MachineError(reason)
        return replace(config, forwards=(*config.forwards, forward))

    change_machine(name, context, Command.PORT_ADD, forward_text(forward), offline, timeout_s=_ANSWER_S)


def remove_port(name: str, text: str, context: Context) -> None:
    """Take a forward back; `text` is the whole of it, or its host's side alone.

    Raises:
        BadInputError: it cannot be meant.
        NotFoundError: it is none of the user's own.
    """
    config = records.load(context.roots, name)
    try:
        endpoint, guest = parse_host(text)
    except ValueError as error:
        raise BadInputError(str(error), hint=f"see: machine port ls {name}") from error
    forward = next((own for own in config.forwards if own.endpoint == endpoint and guest in (None, own.guest)), None)
    if forward is None:
        raise NotFoundError(f"{name} has no such forward of your own: {text}", hint=f"see: machine port ls {name}")

    def offline(config: MachineConfig) -> MachineConfig:
        return replace(config, forwards=tuple(own for own in config.forwards if own.endpoint != endpoint))

    change_machine(name, context, Command.PORT_REMOVE, forward_text(forward), offline, timeout_s=_ANSWER_S)


def list_ports(name: str, context: Context) -> list[ListedPort]:
    """Everything on the host that leads into the guest; of a stopped machine, what will.

    Raises:
        NotFoundError: there is no such machine.
    """
    config, paths = records.load(context.roots, name), context.roots.machine(name)
    forwards, ours = _forwards(name, config, paths)
    return [
        *(
            ListedPort(
                host=_host(forward.endpoint),
                guest=str(forward.guest),
                protocol="unix" if isinstance(forward.endpoint, SocketPath) else forward.endpoint.protocol,
                origin=forward.origin,
                state=state,
            )
            for forward, state in forwards
        ),
        *(
            ListedPort(host=str(host), guest=guest, protocol="unix", origin="api", state=ours)
            for host, guest in (
                (paths.podman_socket, config.user_socket),
                (paths.podman_root_socket, config.root_socket),
            )
        ),
        ListedPort(host=f"127.0.0.1:{config.ssh_port}", guest="22", protocol="tcp", origin="ssh", state=ours),
    ]


def _forwards(name: str, config: MachineConfig, paths: MachinePaths) -> tuple[list[tuple[Forward, str]], str]:
    """The user's and the published ones with their states, and the state of those that every machine has."""
    current = machine_state(paths)
    if current.state is State.STOPPED:
        return [(forward, STOPPED_PORT) for forward in config.forwards], STOPPED_PORT
    if lock.is_held(paths.supervisor_lock):
        answer = ask_supervisor(name, Command.PORT_LIST, "", paths, timeout_s=_ANSWER_S)
        return [(load_forward(text, origin), state) for text, origin, state in answer["forwards"]], answer["api"]
    # What its supervisor has noted; QEMU's own forwards still work.
    with contextlib.suppress(OSError, ValueError):
        return [
            (forward, current.reason) for forward in Table.load(paths.ports_table.read_text(), ipv6=True)
        ], current.reason
    return [(forward, current.reason) for forward in config.forwards], current.reason


def _host(endpoint: Endpoint | SocketPath) -> str:
    return str(endpoint) if isinstance(endpoint, SocketPath) else endpoint.host_port(EVERY)


def _check_not_ssh(forward: Forward, context: Context) -> None:
    endpoint = forward.endpoint
    if isinstance(endpoint, Endpoint) and endpoint.protocol is Protocol.TCP:
        for config in records.load_all(context.roots):
            if isinstance(config, MachineConfig) and config.ssh_port == endpoint.port:
                raise BadInputError(f"port {endpoint.port} is for SSH to {config.name}; choose another host port")


def _check_new(forward: Forward, config: MachineConfig) -> None:
    if any(own.endpoint == forward.endpoint for own in config.forwards):
        raise BadInputError(
            f"{config.name} forwards {forward.endpoint} already", hint=f"see: machine port ls {config.name}"
        )
    table = Table(Driver.SSH, ipv6=True)
    for own in config.forwards:
        table.add(own)
    if rival := table.rival(forward):
        raise BadInputError(
            f"{config.name} forwards {rival.endpoint} already, which leaves no room for {forward.endpoint}",
            hint=f"see: machine port ls {config.name}",
        )


def _parse(text: str) -> Forward:
    try:
        forward = parse_forward(text)
        if isinstance(forward.guest, SocketPath) and len(os.fsencode(forward.guest.path)) > _GUEST_SOCKET_BYTES:
            raise ValueError(
                f'"{forward.guest}" has more than the {_GUEST_SOCKET_BYTES} bytes that a socket\'s path can'
            )
    except ValueError as error:
        hint = "write [HOST_IP:]HOST_PORT:GUEST_PORT[/udp], or the absolute path of a socket for a port"
        raise BadInputError(str(error), hint=hint) from error
    return forward
