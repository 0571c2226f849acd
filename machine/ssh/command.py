"""Make command lines of the OpenSSH client, which ignore the user's own SSH configuration (pure)."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

ROOT = "root"
SSH_FAILED = 255
"""The exit status with which ssh itself fails. Otherwise it ends with that of the command in the guest."""

# A busy emulated guest needs some of this time until its SSH server greets.
_CONNECT_S = 30

LOOPBACK = "127.0.0.1"
NO_AGENT = "none"


@dataclass(frozen=True, kw_only=True)
class SshTarget:
    """How to log in to a guest. `alias` is the guest's name in `known_hosts`, which does not depend on the port."""

    alias: str
    port: int
    username: str
    identity: Path
    """The file of the private key, or of the public key of a key that an agent has."""

    known_hosts: Path
    address: str = LOOPBACK
    proxy_command: str | None = None
    """The command that connects to the address in place of a TCP connection, with ssh_config's tokens."""

    has_own_key: bool = True
    """Whether the key is one that this program has made, and not one of the user's."""

    agent: str | None = NO_AGENT
    """Which agent has keys, as ssh_config's IdentityAgent takes it. None for the one of the environment."""

    @property
    def place(self) -> str:
        """Where the guest's SSH server listens, for people."""
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{host}:{self.port}"


End = str | PurePath
"""One end of a forward: `ADDRESS:PORT`, or the path of a Unix socket."""


def host_key_alias(name: str) -> str:
    return f"machine-{name}"


def without_comment(public_key: str) -> str:
    """Return a public key as `TYPE KEY`, without the comment that its .pub file may have."""
    return " ".join(public_key.split()[:2])


def known_hosts_line(name: str, public_key: str) -> str:
    """Return the line for a machine's known_hosts file. `public_key` is the content of the host key's .pub file."""
    kind, key, *_ = public_key.split()
    return f"{host_key_alias(name)} {kind} {key}\n"


def _identity_options(target: SshTarget) -> dict[str, str]:
    """Return the options by which ssh uses only the machine's key, and accepts only its host key."""
    return {
        "CheckHostIP": "no",
        "HostKeyAlias": target.alias,
        "IdentitiesOnly": "yes",
        **({} if target.agent is None else {"IdentityAgent": target.agent}),
        "IdentityFile": quoted(target.identity),
        "StrictHostKeyChecking": "yes",
        "UserKnownHostsFile": quoted(target.known_hosts),
    }


def config_block(target: SshTarget) -> str:
    """Return a `Host` block for ~/.ssh/config, named after the target's alias."""
    options = {
        "HostName": target.address,
        "Port": str(target.port),
        "User": target.username,
        **({} if target.proxy_command is None else {"ProxyCommand": target.proxy_command}),
        **_identity_options(target),
    }
    return _block(target.alias, options)


def proxied_config_block(host: str, target: SshTarget, proxy_command: str) -> str:
    """Return a `Host` block for ~/.ssh/config that reaches a guest through a program, and not at the target's port."""
    options = {"ProxyCommand": proxy_command, "User": target.username, **_identity_options(target)}
    return _block(host, options)


def _block(host: str, options: Mapping[str, str]) -> str:
    return "\n".join([f"Host {host}", *(f"  {name} {value}" for name, value in options.items())]) + "\n"


def base_options(target: SshTarget) -> list[str]:
    """Return the options that all of our ssh command lines have."""
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


def connect_options(target: SshTarget) -> list[str]:
    """Return the options of command lines that connect to the guest by themselves."""
    return [] if target.proxy_command is None else ["-o", f"ProxyCommand={target.proxy_command}"]


def proxy_argv(target: SshTarget) -> list[str] | None:
    """Return the command line that connects to the guest in place of a TCP connection. Return None if none does."""
    if target.proxy_command is None:
        return None
    tokens = {"h": target.address, "n": target.address, "p": str(target.port), "r": target.username, "%": "%"}
    command = re.sub(r"%(.)", lambda found: tokens.get(found[1], found[0]), target.proxy_command)
    return ["sh", "-c", f"exec {command}"]


def quoted(path: Path) -> str:
    """Quote a path for ssh_config, where `%` starts a token and white space ends an argument."""
    return '"' + os.fspath(path).replace("%", "%%").replace('"', '\\"') + '"'


def local_forward(host: End, guest: End) -> str:
    """Return the argument of ssh's option -L. A colon separates the ends, so `%` and colons in paths are escaped."""
    ends = (end if isinstance(end, str) else _escaped(end) for end in (host, guest))
    return ":".join(ends)


def _escaped(path: PurePath) -> str:
    return os.fspath(path).replace("\\", "\\\\").replace(":", "\\:").replace("%", "%%")


def session_argv(target: SshTarget, command: Sequence[str], *, no_input: bool = False) -> list[str]:
    """Return the ssh command line that opens a shell in the guest, or that has the guest's shell run `command`.

    With `no_input`, ssh reads its standard input from /dev/null.
    """
    return [
        "ssh", *base_options(target), *connect_options(target),
        "-o", f"ConnectTimeout={_CONNECT_S}",
        *(["-n"] if no_input else []),
        *([] if command else ["-t"]),
        f"{target.username}@{target.address}",
        *(["--", *command] if command else []),
    ]  # fmt: skip


def sftp_argv(target: SshTarget) -> list[str]:
    """Return the ssh command line that opens an SFTP session with the guest on its standard input and output."""
    return [
        "ssh", *base_options(target), *connect_options(target),
        "-o", f"ConnectTimeout={_CONNECT_S}",
        "-o", "ServerAliveCountMax=4",
        "-o", "ServerAliveInterval=15",
        "-s", f"{target.username}@{target.address}", "--", "sftp",
    ]  # fmt: skip


def script_argv(
    target: SshTarget, words: Sequence[str], *, control: Path | None = None, interpreter: str = "bash"
) -> list[str]:
    """Return the ssh command line that runs a script in the guest, with `words` as arguments. Pass the script to stdin.

    If an SSH master listens on the socket `control`, the script is run over the master's connection. This saves a
    login, which takes seconds in an emulated guest. Every guest has bash, but a host that is not of our making may not.
    """
    return [
        "ssh", *base_options(target), *connect_options(target),
        *(["-o", control_option(control)] if control else []),
        "-o", f"ConnectTimeout={_CONNECT_S}",
        "-o", "ServerAliveCountMax=8",
        "-o", "ServerAliveInterval=15",
        f"{target.username}@{target.address}", "--", shlex.join([interpreter, "-s", "--", *words]),
    ]  # fmt: skip


def control_option(control: Path) -> str:
    """Return the option that names the control socket of the SSH master."""
    return f"ControlPath={quoted(control)}"


def control_argv(target: SshTarget, control: Path, verb: str, host: End, guest: End) -> list[str]:
    """Return the command line `ssh -O VERB`, by which the SSH master at `control` opens or closes a forward."""
    master = ["-o", control_option(control), "-O", verb]
    return ["ssh", *base_options(target), *master, "-L", local_forward(host, guest), target.alias]


def command_argv(target: SshTarget, control: Path, command: str) -> list[str]:
    """Return the ssh command line that runs a command in the guest over the SSH master at `control`.

    If that master is not running, ssh fails.
    """
    return [
        "ssh", *base_options(target),
        "-o", control_option(control),
        "-o", "ProxyCommand=false",
        f"{target.username}@{target.address}", "--", command,
    ]  # fmt: skip


def master_argv(target: SshTarget, control: Path, forwards: Mapping[Path, str], *, patience: int = 1) -> list[str]:
    """Return the command line of an SSH master, which carries all forwards, and ends if the guest no longer answers.

    `forwards` maps host sockets to guest sockets. `patience` is how many times as long as usual the guest may take to
    answer. The master logs in to a virtual machine as root, who can reach both the rootless and the rootful Podman
    socket.
    """
    return [
        "ssh",
        *base_options(target),
        *connect_options(target),
        "-M", "-N", "-T", "-n",
        "-o", control_option(control),
        "-o", f"ConnectTimeout={15 * patience}",
        "-o", "ControlPersist=no",
        "-o", "ExitOnForwardFailure=yes",
        # Longer than the 25 s for which PAM delays a login when the guest's logind does not answer.
        "-o", f"ServerAliveCountMax={8 * patience}",
        "-o", "ServerAliveInterval=5",
        "-o", "StreamLocalBindUnlink=yes",
        *(word for host, guest in forwards.items() for word in ("-L", local_forward(host, PurePath(guest)))),
        f"{target.username}@{target.address}",
    ]  # fmt: skip
