"""`machine port`: the user's own forwards, and a list of everything on the host that leads into a guest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from machine import control
from machine.control import Command
from machine.errors import BadInputError, MachineError, NotFoundError
from machine.model.config import MachineConfig
from machine.model.ports import Endpoint, Forward, SocketPath, forward_text, load_forwards, parse_forward
from machine.ops.context import Context
from machine.ports.holder import why_not_free
from machine.store import lock, records
from machine.store.paths import MachinePaths

_ANSWER_S = 60.0
# Outlasts other commands that change the machine.
_LOCK_S = 1.0


@dataclass(frozen=True, kw_only=True)
class ListedPort:
    """`host` and `guest` are addresses with ports, or paths of sockets."""

    host: str
    guest: str
    protocol: str
    origin: str


def add_port(name: str, text: str, context: Context) -> None:
    """Forward a port of the host for good; at once, where the machine runs.

    Raises:
        BadInputError: it cannot be meant, or is forwarded already.
        MachineError: the host cannot listen there.
    """
    config, paths = _load(name, context)
    forward = _parse(text)
    _check_new(forward, config)

    def offline(config: MachineConfig) -> MachineConfig:
        _check_new(forward, config)
        if reason := why_not_free(forward.endpoint):
            raise MachineError(reason)
        return replace(config, forwards=(*config.forwards, forward))

    _change(name, Command.PORT_ADD, forward, paths, offline)


def remove_port(name: str, text: str, context: Context) -> None:
    """Take a forward back.

    Raises:
        BadInputError: it cannot be meant.
        NotFoundError: it is none of the user's own.
    """
    config, paths = _load(name, context)
    forward = _parse(text)
    if all(own.endpoint != forward.endpoint for own in config.forwards):
        raise NotFoundError(f"{name} has no forward of your own at {forward.endpoint}", hint="see: machine port ls")

    def offline(config: MachineConfig) -> MachineConfig:
        return replace(config, forwards=tuple(own for own in config.forwards if own.endpoint != forward.endpoint))

    _change(name, Command.PORT_REMOVE, forward, paths, offline)


def list_ports(name: str, context: Context) -> list[ListedPort]:
    """Everything on the host that leads into the guest; of a stopped machine, what will.

    Raises:
        NotFoundError: there is no such machine.
    """
    config, paths = _load(name, context)
    forwards = list(config.forwards)
    if lock.is_held(paths.lock):
        forwards = load_forwards(_ask(name, Command.PORT_LIST, "", paths)["forwards"])
    return [
        *(
            ListedPort(
                host=_host(forward.endpoint),
                guest=str(forward.guest),
                protocol="unix" if isinstance(forward.endpoint, SocketPath) else forward.endpoint.protocol,
                origin=forward.origin,
            )
            for forward in forwards
        ),
        ListedPort(host=str(paths.podman_socket), guest=config.user_socket, protocol="unix", origin="api"),
        ListedPort(host=str(paths.podman_root_socket), guest=config.root_socket, protocol="unix", origin="api"),
        ListedPort(host=f"127.0.0.1:{config.ssh_port}", guest="22", protocol="tcp", origin="ssh"),
    ]


def _host(endpoint: Endpoint | SocketPath) -> str:
    return str(endpoint) if isinstance(endpoint, SocketPath) else endpoint.host_port("*")


def _check_new(forward: Forward, config: MachineConfig) -> None:
    if any(own.endpoint == forward.endpoint for own in config.forwards):
        raise BadInputError(f"{config.name} forwards {forward.endpoint} already")


def _load(name: str, context: Context) -> tuple[MachineConfig, MachinePaths]:
    return records.load(context.roots, name), context.roots.machine(name)


def _parse(text: str) -> Forward:
    try:
        return parse_forward(text)
    except ValueError as error:
        hint = "write [HOST_IP:]HOST_PORT:GUEST_PORT[/udp], or the absolute path of a socket for a port"
        raise BadInputError(str(error), hint=hint) from error


def _change(
    name: str,
    command: Command,
    forward: Forward,
    paths: MachinePaths,
    offline: Callable[[MachineConfig], MachineConfig],
) -> None:
    """By the supervisor where there is one, else in the record."""
    with lock.held(paths.lock, timeout_s=_LOCK_S) as free:
        if free:
            records.edit(paths, offline)
            return
    _ask(name, command, forward_text(forward), paths)


def _ask(name: str, command: Command, value: str, paths: MachinePaths) -> dict[str, list[list[str]]]:
    try:
        return control.request(paths.control_socket, command, value, timeout_s=_ANSWER_S)
    except OSError as error:
        raise MachineError(
            f"the supervisor of {name} does not answer: {error.strerror}",
            hint=f"take it over with: machine start {name}",
        ) from error
