"""Make command lines of the OpenSSH client, which ignore the user's own SSH configuration (pure)."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

ROOT = "root"

# A busy emulated guest needs some of this time until its SSH server greets.
_CONNECT_S = 30


@dataclass(frozen=True, kw_only=True)
class SshTarget:
    """How to reach a guest. `alias` is the guest's name in `known_hosts`, and does not depend on the port."""

    alias: str
    port: int
    username: str
    identity: Path
    known_hosts: Path


End = str | PurePath
"""One end of a forward: `ADDRESS:PORT`, or the path of a Unix socket."""


def host_key_alias(name: str) -> str:
    return f"machine-{name}"


def known_hosts_line(name: str, public_key: str) -> str:
    """Return the line of a machine's known_hosts. `public_key` is the content of the .pub file."""
    kind, key, *_ = public_key.split()
    return f"{host_key_alias(name)} {kind} {key}\n"


def _identity_options(target: SshTarget) -> dict[str, str]:
    """Return the options that permit only this key, only this host key and no agent."""
    return {
        "CheckHostIP": "no",
        "HostKeyAlias": target.alias,
        "IdentitiesOnly": "yes",
        "IdentityAgent": "none",
        "IdentityFile": quoted(target.identity),
        "StrictHostKeyChecking": "yes",
        "UserKnownHostsFile": quoted(target.known_hosts),
    }


def config_block(target: SshTarget) -> str:
    """Return a `Host` block for ~/.ssh/config, named after the target's alias."""
    options = {
        "HostName": "127.0.0.1",
        "Port": str(target.port),
        "User": target.username,
        **_identity_options(target),
    }
    return "\n".join([f"Host {target.alias}", *(f"  {name} {value}" for name, value in options.items())]) + "\n"


def base_options(target: SshTarget) -> list[str]:
    """Return the options that all our connections use."""
    options = {
        **_identity_options(target),
        "BatchMode": "yes",
        # In an emulated guest, twice as fast as OpenSSH's default: scripts/bench ports --trials
        "Ciphers": "^aes128-gcm@openssh.com",
        "GlobalKnownHostsFile": "/dev/null",
        "LogLevel": "ERROR",
        "PreferredAuthentications": "publickey",
        "SetEnv": "LC_ALL=",
        "UpdateHostKeys": "no",
    }
    return [
        "-F", "/dev/null",
        *(word for name, value in sorted(options.items()) for word in ("-o", f"{name}={value}")),
        "-p", str(target.port),
    ]  # fmt: skip


def quoted(path: Path) -> str:
    """Quote a path for ssh_config, where `%` starts a token and white space ends an argument."""
    return '"' + os.fspath(path).replace("%", "%%").replace('"', '\\"') + '"'


def local_forward(host: End, guest: End) -> str:
    """Return the argument of -L. In a path, `%` and colons are escaped, because a colon separates the two ends."""
    ends = (end if isinstance(end, str) else _escaped(end) for end in (host, guest))
    return ":".join(ends)


def _escaped(path: PurePath) -> str:
    return os.fspath(path).replace("\\", "\\\\").replace(":", "\\:").replace("%", "%%")


def session_argv(target: SshTarget, command: Sequence[str], *, no_input: bool = False) -> list[str]:
    """Return the argv of an interactive session, or of `command`, which the guest's shell evaluates.

    With `no_input`, its standard input is /dev/null.
    """
    return [
        "ssh", *base_options(target),
        "-o", f"ConnectTimeout={_CONNECT_S}",
        *(["-n"] if no_input else []),
        *([] if command else ["-t"]),
        f"{target.username}@127.0.0.1",
        *(["--", *command] if command else []),
    ]  # fmt: skip


def script_argv(target: SshTarget, words: Sequence[str], *, control: Path | None = None) -> list[str]:
    """Return the argv of a guest shell that reads a script from stdin, with `words` as the script's arguments.

    If an SSH master runs at `control`, the shell uses the master's connection. This saves a login, which takes seconds
    in an emulated guest.
    """
    return [
        "ssh", *base_options(target),
        *(["-o", control_option(control)] if control else []),
        "-o", f"ConnectTimeout={_CONNECT_S}",
        "-o", "ServerAliveCountMax=8",
        "-o", "ServerAliveInterval=15",
        f"{target.username}@127.0.0.1", "--", shlex.join(["bash", "-s", "--", *words]),
    ]  # fmt: skip


def control_option(control: Path) -> str:
    """Return the option that names the control socket of the SSH master."""
    return f"ControlPath={quoted(control)}"


def control_argv(target: SshTarget, control: Path, verb: str, host: End, guest: End) -> list[str]:
    """Return the argv of `ssh -O VERB` for a forward of the master at `control`."""
    master = ["-o", control_option(control), "-O", verb]
    return ["ssh", *base_options(target), *master, "-L", local_forward(host, guest), target.alias]


def command_argv(target: SshTarget, control: Path, command: str) -> list[str]:
    """Return the argv that runs a command in the guest over the master at `control`. Without the master, ssh fails."""
    return [
        "ssh", *base_options(target),
        "-o", control_option(control),
        "-o", "ProxyCommand=false",
        f"{target.username}@127.0.0.1", "--", command,
    ]  # fmt: skip


def master_argv(target: SshTarget, control: Path, forwards: Mapping[Path, str]) -> list[str]:
    """Return the argv of the SSH master, which carries all forwards and ends when the guest no longer answers.

    `forwards` maps host sockets to guest sockets. The master logs in as root, who can reach both the rootless and the
    rootful Podman socket.
    """
    return [
        "ssh",
        *base_options(target),
        "-M", "-N", "-T", "-n",
        "-o", control_option(control),
        "-o", "ConnectTimeout=15",
        "-o", "ControlPersist=no",
        "-o", "ExitOnForwardFailure=yes",
        # Longer than the 25 s for which PAM delays a login when the guest's logind does not answer.
        "-o", "ServerAliveCountMax=8",
        "-o", "ServerAliveInterval=5",
        "-o", "StreamLocalBindUnlink=yes",
        *(word for host, guest in forwards.items() for word in ("-L", local_forward(host, PurePath(guest)))),
        f"{target.username}@127.0.0.1",
    ]  # fmt: skip
