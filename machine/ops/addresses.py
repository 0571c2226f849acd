"""`machine url`, `ip`, `active` and `ssh-config`: tell other programs how to reach a machine."""

from __future__ import annotations

from machine.errors import NotFoundError
from machine.ops.shared.api_sockets import socket_url
from machine.ops.shared.client_variables import choices
from machine.ops.shared.context import Context
from machine.ops.shared.podman_default import default_connections
from machine.ops.shared.target import find_target
from machine.ssh.command import config_block
from machine.store import records

_ADDRESS = "127.0.0.1"


def url(name: str, context: Context, *, rootful: bool | None = None) -> str:
    """Return the URL of an API socket of the machine on this host.

    If `rootful` is True, this is root's socket. If False, this is the socket of the guest's user. If None, this is the
    machine's preferred socket.

    Raises:
        NotFoundError: there is no such machine.
    """
    return socket_url(name, context, rootful=rootful)


def ip(name: str, context: Context) -> str:
    """Return the address at which this host reaches the machine's published ports. It is always the loopback address.

    Raises:
        NotFoundError: there is no such machine.
    """
    records.load(context.roots, name)
    return _ADDRESS


def active(context: Context) -> str:
    """Return the machine that clients use by default.

    The variables DOCKER_HOST, CONTAINER_HOST and CONTAINER_CONNECTION can choose that machine. If none of them is set,
    return the machine to which the default connections of Podman's clients lead.

    Raises:
        NotFoundError: a variable is set to something that is not a machine, or no machine is the default.
    """
    configs = [record.config for record in records.load_readable(context.roots)]
    if chosen := next(choices(context, configs), None):
        if chosen.machine is None:
            raise NotFoundError(chosen.problem)
        return chosen.machine
    defaults = default_connections(context)
    for config in configs:
        if defaults.lead_to(config, context.roots.machine(config.name)):
            return config.name
    raise NotFoundError("no machine is the default connection", hint='choose a machine: eval "$(machine env NAME)"')


def ssh_config(name: str, context: Context) -> str:
    """Return a `Host` block for ~/.ssh/config. With this block, ssh, scp, rsync and editors reach the guest.

    Raises:
        NotFoundError: there is no such machine.
    """
    return config_block(find_target(name, None, context))
