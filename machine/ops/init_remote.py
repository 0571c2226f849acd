"""`machine init --provider ssh`: make a machine of a host that is reached over SSH."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path

from machine import runner
from machine.errors import BadInputError, MachineError, Page
from machine.files import write_atomic
from machine.ignition import assets
from machine.model.arch import Arch
from machine.model.config import ImageOrigin, MachineConfig, Resources
from machine.model.first_boot import parse_labels
from machine.model.folders import Folder
from machine.model.host import AcceleratorChoice
from machine.model.idle import OFF
from machine.model.provider import RemoteHost, RootAccess
from machine.model.record import GuestFacts, MachineRecord
from machine.model.remote_facts import Lack, RemoteFacts, check_system, find_lacks, find_remedy, parse_facts
from machine.model.transport import TransportChoice
from machine.ops.init_request import KEYS, InitRequest
from machine.ops.shared.client_registration import ClientRegistration
from machine.ops.shared.context import Context
from machine.ops.shared.creation import fresh_mac, publish
from machine.ops.shared.folders import read_volumes
from machine.report import Reporter
from machine.ssh import remote as ssh
from machine.ssh.command import SshTarget, host_key_alias, known_hosts_line, script_argv, without_comment
from machine.store import drafts

_LOOK_S = 90.0
_INSTALL_S = 1800.0

_TAKEN = frozenset(
    {"name", "file", "rootful", "volumes", "provider", "labels", "machines_file", "host", "identity"}
    | {"proxy_command", "host_key", "accept_host_key", "install", "image_options", "first_boot"}
)  # fmt: skip
"""The options that concern a host over SSH, and those that are checked by themselves."""

Agree = Callable[[str], bool]
"""Asks the user whether a command may be run on the host."""


@dataclass(frozen=True, kw_only=True)
class PlannedRemote:
    """A machine of a host over SSH as a request wants it. Nothing is known about the host yet."""

    config: MachineConfig
    """The config without what the host has to tell."""

    request: InitRequest
    agree: Agree


def plan_remote(name: str, request: InitRequest, context: Context, agree: Agree) -> PlannedRemote:
    """Check the request, and return the machine that it wants. The host is not asked yet.

    Raises:
        BadInputError: something in the request is invalid, or does not apply to a host over SSH.
    """
    if not request.host:
        in_file = ', or in the file: host = "[USER@]HOST[:PORT]"' if request.file else ""
        raise BadInputError("the provider ssh needs a host", hint=f"add: --host [USER@]HOST[:PORT]{in_file}")
    if unfit := unfit_options(request):
        verb = "does not" if len(unfit) == 1 else "do not"
        raise BadInputError(f"{', '.join(unfit)} {verb} apply to a host that is reached over SSH")
    named = ssh.parse_host(request.host)
    if request.host_key is not None and request.accept_host_key:
        raise BadInputError("choose one of --host-key and --accept-new-host-key")
    if request.host_key is not None and not ssh.is_key(request.host_key):
        raise BadInputError(
            f'"{request.host_key}" is not a host key', hint='write the type and the key: "ssh-ed25519 AAAA…"'
        )
    identity = Path(request.identity).expanduser().absolute() if request.identity else None
    if identity and not identity.is_file():
        raise BadInputError(f"there is no key {identity}")
    username = named.user or context.user
    folders: tuple[Folder, ...] = read_volumes(request.volumes, username, context) if request.volumes else ()
    config = MachineConfig(
        name=name,
        created=datetime.now(UTC),
        arch=Arch.X86_64,
        accelerator=AcceleratorChoice.AUTO,
        resources=Resources(cpus=1, memory_mib=0, disk_gib=0),
        username=username,
        uid=0,
        rootful=bool(request.rootful),
        timezone="UTC",
        ssh_port=named.port or 22,
        mac=fresh_mac(),
        image=ImageOrigin(reference="", digest=None),
        folders=folders,
        volume_driver=TransportChoice.SSHFS,
        idle_suspend=OFF,
        labels=parse_labels(request.labels or ()),
        machines_file=request.machines_file,
        remote=RemoteHost(
            named=request.host,
            address=named.host,
            proxy_command=request.proxy_command or None,
            identity=os.fspath(identity) if identity else None,
            agent=None,
            root_access=RootAccess.NONE,
            socket="",
        ),
    )
    return PlannedRemote(config=config, request=request, agree=agree)


def check_no_remote_options(request: InitRequest) -> None:
    """Check that a request for a virtual machine has no options that concern a host over SSH.

    Raises:
        BadInputError: it has one.
    """
    given = {
        "--host": request.host,
        "--identity": request.identity,
        "--proxy-command": request.proxy_command,
        "--host-key": request.host_key,
        "--accept-new-host-key": request.accept_host_key,
        "--install": request.install,
    }
    in_file = ', or in the file: provider = "ssh"' if request.file else ""
    for option, value in given.items():
        if value is not None:
            raise BadInputError(
                f"{option} is for hosts that are reached over SSH", hint=f"add: --provider ssh{in_file}"
            )


def unfit_options(request: InitRequest) -> list[str]:
    """Return the options of the request that do not apply to a host over SSH (pure)."""
    first_boot = request.first_boot
    given = [one.name for one in fields(request) if one.name not in _TAKEN and getattr(request, one.name) is not None]
    given += [one.name for one in fields(first_boot) if getattr(first_boot, one.name) is not None]
    keys = {key.field: name for name, key in KEYS.items()}
    return [f"--{keys.get(field, field).replace('_', '-')}" for field in given]


def make_remote(
    planned: PlannedRemote, registration: ClientRegistration, context: Context, report: Reporter
) -> MachineConfig:
    """Log in to the host, check what it has, and make the machine. If that fails, nothing is left of it.

    Raises:
        MachineError: the host cannot be reached, has another key than expected, accepts none of the user's keys, or
            lacks what machines need.
    """
    request, config = planned.request, planned.config
    assert config.remote
    report.step(f"Connecting to {config.remote.named}")
    route = ssh.find_route(ssh.parse_host(config.remote.named), config.remote.proxy_command)
    with tempfile.TemporaryDirectory() as directory:
        files = Path(directory)
        target = SshTarget(
            alias=host_key_alias(config.name),
            address=route.address,
            port=route.port,
            proxy_command=route.proxy_command,
            username=route.username,
            identity=files / "none",
            has_own_key=False,
            known_hosts=files / "known_hosts",
            agent=route.agent,
        )
        known = [known_hosts_line(config.name, key) for key in _host_keys(target, route, request, report)]
        target.known_hosts.write_text("".join(known))
        target = replace(target, identity=_identity(target, route, config.remote.identity, files))
        facts = _facts(target, planned, report)
        arch = check_system(facts, target.place)
        access = facts.root_access
        if access is RootAccess.NONE:
            _check_needs_no_root(config, route.username, target.place)
        with drafts.draft(context.roots, config.name) as paths:
            write_atomic(paths.known_hosts, "".join(known))
            in_agent = target.identity.parent == files
            if in_agent:  # the public key of a key in the user's agent
                write_atomic(paths.agent_key, target.identity.read_text())
            remote = replace(
                config.remote,
                address=route.address,
                proxy_command=route.proxy_command,
                identity=None if in_agent else os.fspath(target.identity),
                agent=route.agent,
                root_access=access,
                socket=facts.socket or "",
            )
            resources = Resources(cpus=facts.cpus, memory_mib=facts.memory_mib, disk_gib=facts.disk_gib)
            whole = replace(
                config,
                arch=arch,
                resources=resources,
                username=route.username,
                uid=facts.uid,
                rootful=config.rootful or access is RootAccess.LOGIN,
                ssh_port=route.port,
                remote=remote,
            )
            record = MachineRecord(config=whole, guest=GuestFacts(provisioned=True))
            made = publish(record, paths, registration, context, report)
    if access is RootAccess.NONE:
        report.notice(f"{route.username} cannot become root there, so the machine has no socket of root's Podman")
    return made


def _check_needs_no_root(config: MachineConfig, username: str, place: str) -> None:
    """Check that the machine wants nothing for which the user would have to become root on the host.

    Raises:
        MachineError: it does.
    """
    if config.rootful:
        problem = f"{username} cannot become root on {place}, as --rootful needs"
    elif config.folders:
        problem = f"folders need root, and {username} cannot become root on {place}"
    else:
        return
    raise MachineError(
        problem, hint="let the user run sudo without a password there, or log in as root", page=Page.HOSTS
    )


def _host_keys(target: SshTarget, route: ssh.Route, request: InitRequest, report: Reporter) -> list[str]:
    """Return the keys that the host may have: the given one, those that the user knows, or the one that it offers.

    Raises:
        MachineError: the host's key is unknown, and the user has not said that it may be accepted.
    """
    if request.host_key is not None:
        return [without_comment(request.host_key)]
    if known := ssh.known_keys(route):
        return known
    offered = ssh.offered_key(target)
    shown = f"{offered.split()[0]} {ssh.fingerprint(offered)}"
    if request.accept_host_key:
        report.notice(f"Accepting the host key of {target.place}: {shown}")
        return [offered]
    raise MachineError(
        f"the host key of {target.place} is not known: {shown}",
        hint="if this is its key, accept it with --accept-new-host-key, or give it: --host-key KEY",
        page=Page.HOSTS,
    )


def _identity(target: SshTarget, route: ssh.Route, given: str | None, files: Path) -> Path:
    """Return the file of the key that logs in to the host.

    Raises:
        MachineError: the host accepts none of the keys.
    """
    if given:
        candidates = [Path(given)]
    else:
        in_files = ssh.usable(route.identities)
        public = [path.with_name(f"{path.name}.pub") for path in in_files]
        have = {without_comment(path.read_text()) for path in public if path.is_file()}
        candidates = in_files
        for number, key in enumerate(ssh.agents_keys(route.agent)):
            if without_comment(key) not in have:
                path = files / f"agent-{number}.pub"
                path.write_text(f"{key}\n")
                candidates.append(path)
    if not candidates:
        raise MachineError(
            "you have no SSH key: neither in ~/.ssh nor in an agent", hint="give one: --identity FILE", page=Page.HOSTS
        )
    if found := ssh.find_identity(target, candidates):
        return found
    count = f"the key {given}" if given else f"any of the {len(candidates)} keys in ~/.ssh and the agent"
    raise MachineError(
        f"{target.place} does not accept {count} for the user {target.username}",
        hint="a key with a passphrase must be in an agent; or give another key: --identity FILE",
        page=Page.HOSTS,
    )


def _facts(target: SshTarget, planned: PlannedRemote, report: Reporter) -> RemoteFacts:
    """Look at the host, and return what it has. If it lacks something, mend that if the user wants it to be mended.

    Raises:
        MachineError: the host lacks what machines need.
    """
    report.step(f"Looking at {target.place}")
    facts = _look(target)
    folders = bool(planned.config.folders)
    lacks = find_lacks(facts, folders=folders)
    if lacks and planned.request.install:
        lacks = _mend(target, facts, planned.agree, report, folders=folders)
        facts = _look(target)
    if not lacks:
        return facts
    hint = find_remedy(lacks, facts, was_to_install=bool(planned.request.install))
    problem = f"{target.place} is not ready: {'; '.join(lack.text for lack in lacks)}"
    raise MachineError(problem, hint=hint, page=Page.HOSTS)


def _mend(target: SshTarget, facts: RemoteFacts, agree: Agree, report: Reporter, *, folders: bool) -> list[Lack]:
    """Run the commands that mend what the host lacks, each after the user has agreed. Return what it still lacks."""
    tried: set[str] = set()
    while True:
        lacks = find_lacks(facts, folders=folders)
        lack = next((one for one in lacks if one.command and one.command not in tried), None)
        if lack is None or lack.command is None:
            return lacks
        if lack.needs_sudo and not facts.has_sudo:
            return lacks
        if not agree(f"{lack.text[:1].upper()}{lack.text[1:]}. Run there: {lack.command}"):
            return lacks
        tried.add(lack.command)
        report.step(f"Running on {target.place}: {lack.command}")
        argv = script_argv(target, ())
        done = runner.run(argv, timeout_s=_INSTALL_S, stdin=f"{{ {lack.command}; }} </dev/null\n", check=False)
        if done.returncode != 0:
            words = (done.stderr or done.stdout).strip().splitlines()
            reason = words[-1] if words else f"exit status {done.returncode}"
            raise MachineError(
                f'"{lack.command}" has failed on {target.place}: {reason}', details=words[-20:], page=Page.HOSTS
            )
        facts = _look(target)


def _look(target: SshTarget) -> RemoteFacts:
    argv = script_argv(target, (), interpreter="sh")
    done = runner.run(argv, timeout_s=_LOOK_S, stdin=assets.load("files/look-at-host.sh"), check=False)
    facts = parse_facts(done.stdout)
    if facts is None:
        words = done.stderr.strip().splitlines()
        raise MachineError(
            f"{target.place} does not tell what it has{f': {words[-1]}' if words else ''}",
            details=done.stdout.splitlines()[-10:],
            page=Page.HOSTS,
        )
    return facts
