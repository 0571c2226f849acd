"""Find out how OpenSSH reaches a host: what the user's configuration says, the host's key, and the key that logs in."""

from __future__ import annotations

import ipaddress
import logging
import os
import re
import shlex
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from machine import runner
from machine.errors import BadInputError, MachineError, Page
from machine.ssh.command import (
    NO_AGENT,
    SshTarget,
    base_options,
    connect_options,
    quoted,
    session_argv,
    without_comment,
)

log = logging.getLogger(__name__)

_ASK_S = 10.0
_LOGIN_S = 45.0
_CONNECT_S = 15
# A server ends a connection after six keys that it does not know (MaxAuthTries in sshd_config).
_KEYS_AT_ONCE = 5
_MAX_KEYS = 40

_NAME = re.compile(r"[A-Za-z0-9_.%][A-Za-z0-9_.%-]*")
# The names of Active Directory have @ or \. Not all that ssh takes, as a proxy command's shell may get the name.
_USER = re.compile(r"[A-Za-z0-9_.%+](?:[A-Za-z0-9_.%+@\\-]*[A-Za-z0-9_.%+-])?")
_UNUSABLE = re.compile(r'^Load key "(?P<path>.+)": (?P<reason>.+?)\r?$', re.MULTILINE)
_ACCEPTED = re.compile(r"^debug1: Server accepts key: (.+) \S+ SHA256:\S+", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class HostName:
    """A host as the user names it. A user and a port that are not given are None."""

    host: str
    user: str | None = None
    port: int | None = None


def parse_host(text: str) -> HostName:
    """Parse `[USER@]HOST[:PORT]`. An IPv6 address with a port is in brackets (pure).

    Raises:
        BadInputError: the text names no host.
    """
    error = BadInputError(f'"{text}" is not a host', hint="write [USER@]HOST[:PORT], such as core@server.example:22")
    user, at, rest = text.rpartition("@")
    if rest.startswith("["):
        host, bracket, port = rest[1:].partition("]")
        if not bracket or (port and not port.startswith(":")):
            raise error
        port = port[1:]
    else:
        host, _, port = rest.partition(":") if rest.count(":") == 1 else (rest, "", "")
    if not _is_host(host) or (at and not _USER.fullmatch(user)):
        raise error
    if rest.endswith(":") and rest.count(":") == 1:
        raise error
    if port and not (port.isascii() and port.isdigit() and 0 < int(port) < 2**16):
        raise error
    return HostName(host=host, user=user or None, port=int(port) if port else None)


def _is_host(text: str) -> bool:
    if ":" not in text:
        return bool(_NAME.fullmatch(text))
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


@dataclass(frozen=True, kw_only=True)
class Route:
    """How ssh would reach a host, by what the user gave and by the user's configuration of ssh."""

    address: str
    port: int
    username: str
    proxy_command: str | None
    agent: str | None
    identities: tuple[Path, ...]
    """The files of the keys that ssh would try."""

    known_hosts: tuple[Path, ...]
    """The user's files of host keys, and those of the whole computer."""

    key_name: str
    """The name by which these files have the host."""


def find_route(name: HostName, proxy_command: str | None) -> Route:
    """Ask ssh how it would reach a host.

    Raises:
        MachineError: ssh is missing, or the user's configuration of ssh is invalid.
    """
    port = ["-p", str(name.port)] if name.port else []
    user = ["-l", name.user] if name.user else []
    output = runner.run(["ssh", "-G", *port, *user, "--", name.host], timeout_s=_ASK_S).stdout
    return parse_route(output, proxy_command)


def parse_route(output: str, proxy_command: str | None) -> Route:
    """Read the output of `ssh -G` (pure). A `proxy_command` that the user gave replaces what it says."""
    pairs = [line.partition(" ")[::2] for line in output.splitlines()]
    found: dict[str, str] = {}
    for key, value in pairs:
        found.setdefault(key, value)
    address, port = found["hostname"], int(found["port"])
    jump = found.get("proxyjump", "none")
    if proxy_command is None and jump != "none":
        proxy_command = _jump_command(jump)
    elif proxy_command is None and (own := found.get("proxycommand", "none")) != "none":
        proxy_command = own
    alias = found.get("hostkeyalias", "none")
    named = f"[{address}]:{port}" if port != 22 else address
    agent = found.get("identityagent", "SSH_AUTH_SOCK")
    return Route(
        address=address,
        port=port,
        username=found["user"],
        proxy_command=proxy_command,
        agent=None if agent == "SSH_AUTH_SOCK" else agent,
        identities=tuple(Path(value).expanduser() for key, value in pairs if key == "identityfile"),
        known_hosts=tuple(
            Path(word).expanduser()
            for key in ("userknownhostsfile", "globalknownhostsfile")
            for word in found.get(key, "").split()
        ),
        key_name=named if alias == "none" else alias,
    )


def _jump_command(jump: str) -> str:
    """Return the command for ssh_config's ProxyJump, whose last host connects to the target."""
    *before, last = jump.split(",")
    words = ["ssh", *(["-J", ",".join(before)] if before else []), "-W", "[%h]:%p"]
    user, at, host = last.removeprefix("ssh://").rpartition("@")
    name, colon, port = host.rpartition(":") if host.count(":") == 1 or "]:" in host else (host, "", "")
    return shlex.join([*words, *(["-p", port] if colon else []), *(["-l", user] if at else []), "--", name.strip("[]")])


def known_keys(route: Route) -> list[str]:
    """Return the keys of the host, each as `TYPE KEY`, that the files of known hosts have."""
    found = []
    for path in filter(Path.is_file, route.known_hosts):
        argv = ["ssh-keygen", "-F", route.key_name, "-f", os.fspath(path)]
        output = runner.run(argv, timeout_s=_ASK_S, check=False).stdout
        found += [" ".join(line.split()[1:3]) for line in output.splitlines() if line and line[0] not in "#@"]
    return list(dict.fromkeys(found))


def offered_key(target: SshTarget) -> str:
    """Connect to a host without logging in, and return the key that it offers, as `TYPE KEY`.

    Raises:
        MachineError: the host does not answer.
    """
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "known_hosts"
        options = ["StrictHostKeyChecking=accept-new", f"UserKnownHostsFile={quoted(path)}", "HashKnownHosts=no"]
        argv = [
            "ssh",
            *(word for option in (*options, "PreferredAuthentications=none") for word in ("-o", option)),
            *session_argv(target, ["true"], no_input=True)[1:],
        ]
        done = runner.run(argv, timeout_s=_LOGIN_S, check=False)
        lines = path.read_text().splitlines() if path.exists() else []
    for line in lines:
        return " ".join(line.split()[1:3])
    raise unreachable(target, done.stderr)


def is_key(text: str) -> bool:
    """Return whether the text is a public key, `TYPE KEY`, with or without a comment.

    Raises:
        MachineError: ssh-keygen is missing.
    """
    if "\n" in text.strip():
        return False
    argv = ["ssh-keygen", "-l", "-f", "-"]
    return runner.run(argv, timeout_s=_ASK_S, stdin=f"{without_comment(text)}\n", check=False).returncode == 0


def fingerprint(key: str) -> str:
    """Return the fingerprint of a key, given as `TYPE KEY`.

    Raises:
        MachineError: this is not a key.
    """
    done = runner.run(["ssh-keygen", "-l", "-f", "-"], timeout_s=_ASK_S, stdin=f"{key}\n")
    return done.stdout.split()[1]


def unreachable(target: SshTarget, stderr: str) -> MachineError:
    """Return the error for a host to which ssh cannot connect. `stderr` is what ssh says."""
    lines = [line for line in stderr.strip().splitlines() if line and not line.startswith("debug")]
    reason = lines[-1].removeprefix("ssh: ").strip() if lines else "ssh does not say why"
    if target.proxy_command is not None:
        return MachineError(
            f"{target.place} cannot be reached by the proxy command: {reason}",
            details=lines, hint="try the command", page=Page.HOSTS,
        )  # fmt: skip
    return MachineError(f"{target.place} cannot be reached: {reason}", details=lines, page=Page.HOSTS)


def agents_keys(agent: str | None) -> list[str]:
    """Return the public keys that the user's agent has. Without an agent, there are none."""
    if agent == NO_AGENT:
        return []
    variables: Mapping[str, str] = {} if agent is None else {"SSH_AUTH_SOCK": os.path.expanduser(agent)}  # noqa: PTH111
    try:
        done = runner.run(["ssh-add", "-L"], timeout_s=_ASK_S, check=False, environment=variables)
    except MachineError as error:
        log.info("the SSH agent is not asked: %s", error)
        return []
    return done.stdout.splitlines() if done.returncode == 0 else []


def find_identity(target: SshTarget, candidates: Sequence[Path]) -> Path | None:
    """Log in with one of the keys, and return the file of that key. Return None if the host accepts none of them.

    Only so many keys are tried over a connection that the server does not end it.

    Raises:
        MachineError: the host cannot be reached, or does not have its host key, or ssh cannot use the only key.
    """
    for keys in _batches(candidates[:_MAX_KEYS]):
        offered = [word for key in keys for word in ("-o", f"IdentityFile={quoted(key)}")]
        alone = base_options(replace(target, identity=keys[0]))
        argv = [
            "ssh", "-v", *offered, "-o", "LogLevel=DEBUG1", *alone, *connect_options(target),
            "-o", f"ConnectTimeout={_CONNECT_S}", "-n", f"{target.username}@{target.address}", "--", "true",
        ]  # fmt: skip
        done = runner.run(argv, timeout_s=_LOGIN_S, check=False)
        accepted = _ACCEPTED.findall(done.stderr)
        if "debug1: Authentication succeeded" in done.stderr or "Authenticated to " in done.stderr:
            return Path(accepted[-1]) if accepted else keys[0]
        if "Host key verification failed" in done.stderr or "HOST IDENTIFICATION HAS CHANGED" in done.stderr:
            raise MachineError(
                f"{target.place} does not have the host key that is known for it, so nothing was sent to it",
                hint="if it was given a new one on purpose, correct --host-key or the host's line in known_hosts",
                page=Page.HOSTS,
            )
        if "Permission denied (" not in done.stderr and "Too many authentication failures" not in done.stderr:
            raise unreachable(target, done.stderr)
        if len(candidates) == 1 and (unusable := _UNUSABLE.search(done.stderr)):
            path, reason = unusable["path"], unusable["reason"]
            hint = f"chmod 600 {shlex.quote(path)}" if reason == "bad permissions" else None
            raise MachineError(f"ssh cannot use the key {path}: {reason}", hint=hint, page=Page.HOSTS)
    return None


def _batches(keys: Sequence[Path]) -> Iterator[Sequence[Path]]:
    for start in range(0, len(keys), _KEYS_AT_ONCE):
        yield keys[start : start + _KEYS_AT_ONCE]


def usable(paths: Iterable[Path]) -> list[Path]:
    """Return those files of keys that can be read."""
    return [path for path in paths if os.access(path, os.R_OK) and path.is_file()]
