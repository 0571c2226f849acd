"""Describe a machine's guest for Ignition and cloud-init (pure, except that our own assets are read).

The description has all that podman machine provisions, and the parts of podman's own image that stock Fedora CoreOS
lacks.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from machine.ignition import assets
from machine.ignition.containers import container_files, container_links, container_units
from machine.ignition.coreos import kernel_arguments, quiet_units
from machine.ignition.document import Appended, Directory, Document, File, Link, Unit, User
from machine.ignition.environment import environment_files
from machine.model import network
from machine.model.config import DEFAULT_USERNAME, MachineConfig, Script

# The groups of Fedora CoreOS's own user. A user of another name gets the same groups.
ADMIN_GROUPS = ("adm", "sudo", "systemd-journal", "wheel")

HOST_KEY = "/etc/ssh/ssh_host_ed25519_key"

SSHD_UNIT = "boot2podman-sshd.service"

# A container that runs Docker needs these for iptables, and cannot load them itself.
_MODULES = ("ip_tables", "ip6_tables")

PROVISION_UNIT = "boot2podman-provision.service"
PROVISION_RUNNER = "/usr/local/bin/boot2podman-provision"

# The stem of the files with the machine's own variables. It sorts after the stem for the host's variables.
_ENVIRONMENT = "60-machine"

MARKER_UP_TO_5 = "/etc/containers/podman-machine"
"""The file in a guest by which Podman up to version 5 knows that it has to ask the host to publish ports."""

MARKER = "/etc/podman-machine"
"""The same for Podman from version 6 on."""

READY_UNIT = "boot2podman-ready.service"

_SUBORDINATE_START = 100_000
_SUBORDINATE_COUNT = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Keys:
    """The keys to install in a guest. A public key is one line. The host's private key is the content of a file."""

    authorized: str
    host_private: str
    host_public: str


def ignition_text(config: MachineConfig, keys: Keys) -> str:
    """Return the text of the Ignition config that the guest gets."""
    theirs = config.first_boot.ignition
    return theirs.text if theirs and theirs.replaces else provision(config, keys).to_json()


def provision(config: MachineConfig, keys: Keys) -> Document:
    """Return the document that turns a stock Fedora CoreOS, or a similar image, into this machine."""
    theirs = config.first_boot.ignition
    return Document(
        merged=(theirs.text,) if theirs else (),
        users=_users(config, keys.authorized),
        directories=_user_directories(config.username),
        files=(
            *_host_key_files(keys),
            *_user_files(config),
            *_system_files(config),
            *container_files(),
            *environment_files(config.first_boot.environment, _ENVIRONMENT),
            *_first_boot_files(config),
        ),
        links=(
            # Ignition cannot enable user units, so this link enables the API socket for every user.
            Link(
                path="/etc/systemd/user/sockets.target.wants/podman.socket",
                target="/usr/lib/systemd/user/podman.socket",
            ),
            *container_links(),
            *(_module_link(module) for module in _MODULES),
            Link(path="/usr/local/bin/docker", target="/usr/bin/podman"),
            Link(path="/etc/localtime", target=f"../usr/share/zoneinfo/{config.timezone}"),
        ),
        units=(
            Unit(name="podman.socket", enabled=True),
            Unit(
                name=READY_UNIT,
                enabled=True,
                contents=assets.load(f"units/{READY_UNIT}"),
            ),
            *container_units(),
            Unit(name=SSHD_UNIT, enabled=True, contents=assets.load(f"units/{SSHD_UNIT}")),
            # Zincati would reboot the machine after each update of Fedora CoreOS.
            Unit(name="zincati.service", enabled=False),
            # /run/docker.sock belongs to Podman.
            Unit(name="docker.service", mask=True),
            Unit(name="docker.socket", mask=True),
            *quiet_units(),
            *_first_boot_units(config),
        ),
        kernel_arguments=kernel_arguments(config),
    )


def _users(config: MachineConfig, key: str) -> tuple[User, ...]:
    root = User(name="root", ssh_keys=(key,))
    keys = (key, *config.first_boot.ssh_keys)
    if config.username == DEFAULT_USERNAME:
        return (User(name=DEFAULT_USERNAME, uid=config.uid, ssh_keys=keys), root)
    user = User(name=config.username, uid=config.uid, ssh_keys=keys, groups=ADMIN_GROUPS)
    return (user, User(name=DEFAULT_USERNAME, should_exist=False), root)


def _user_directories(username: str) -> tuple[Directory, ...]:
    """List the user's directories and their parents.

    Ignition would make root the owner of a parent that is not listed.
    """
    home = f"/home/{username}"
    names = (".config", ".config/containers", ".config/systemd", ".config/systemd/user")
    return tuple(Directory(path=f"{home}/{name}", owner=username) for name in names)


def _host_key_files(keys: Keys) -> tuple[File, ...]:
    return (
        File(path=HOST_KEY, contents=keys.host_private, mode=0o600),
        File(path=f"{HOST_KEY}.pub", contents=f"{keys.host_public}\n"),
    )


def _user_files(config: MachineConfig) -> tuple[File, ...]:
    home = f"/home/{config.username}"
    ranges = subordinate_ids(config.username, config.uid)
    return (
        File(path=f"/var/lib/systemd/linger/{config.username}", contents=""),
        File(
            path=f"{home}/.config/containers/containers.conf",
            contents=assets.load("files/containers.conf"),
            owner=config.username,
        ),
        File(path="/etc/subuid", contents=ranges),
        File(path="/etc/subgid", contents=ranges),
    )


def _system_files(config: MachineConfig) -> tuple[File | Appended, ...]:
    return (
        File(path="/etc/hostname", contents=f"{hostname(config)}\n"),
        File(
            path="/etc/tmpfiles.d/podman-docker.conf",
            contents=docker_socket_conf(config),
        ),
        File(
            path="/etc/systemd/system/user@.service.d/delegate.conf",
            contents=assets.load("files/delegate.conf"),
        ),
        File(path="/etc/systemd/system.conf.d/timeouts.conf", contents=assets.load("files/timeouts.conf")),
        File(path="/etc/systemd/user.conf.d/timeouts.conf", contents=assets.load("files/timeouts.conf")),
        File(path="/etc/sysctl.d/10-inotify-instances.conf", contents=assets.load("files/inotify.conf")),
        File(path="/etc/sysctl.d/10-reboot-after-panic.conf", contents=assets.load("files/panic.conf")),
        File(path="/etc/sysctl.d/10-write-back-soon.conf", contents=assets.load("files/write-back.conf")),
        File(path="/etc/tmpfiles.d/10-no-thrashing.conf", contents=assets.load("files/thrashing.conf")),
        File(
            path="/etc/containers/registries.conf.d/999-podman-machine.conf",
            contents=assets.load("files/registries.conf"),
        ),
        File(
            path="/etc/containers/containers.conf.d/50-boot2podman.conf",
            contents=assets.load("files/engine.conf"),
        ),
        File(path=MARKER_UP_TO_5, contents="qemu\n"),
        File(path=MARKER, contents="qemu\n"),
        Appended(path="/etc/hosts", contents=network.HOSTS),
        Appended(path="/etc/chrony.conf", contents="confdir /etc/chrony.d\n"),
        File(path="/etc/chrony.d/50-podman-makestep.conf", contents=assets.load("files/makestep.conf")),
        File(path="/etc/ssh/sshd_config.d/60-boot2podman.conf", contents=assets.load("files/sshd.conf")),
        *_swap_files(config),
        File(path="/etc/profile.d/docker-host.sh", contents=assets.load("files/docker-host.sh")),
    )


def _module_link(module: str) -> Link:
    """Return the link by which systemd loads a kernel module at each boot.

    If the kernel has no such module, nothing fails, as a unit would that reads /etc/modules-load.d.
    """
    wants = "/etc/systemd/system/multi-user.target.wants"
    return Link(path=f"{wants}/modprobe@{module}.service", target="/usr/lib/systemd/system/modprobe@.service")


def _swap_files(config: MachineConfig) -> tuple[File, ...]:
    """Return the config of Fedora's zram generator, which makes a swap device in compressed memory at every boot."""
    if not config.swap_mib:
        return ()
    return (File(path="/etc/systemd/zram-generator.conf", contents=f"[zram0]\nzram-size={config.swap_mib}\n"),)


def _first_boot_files(config: MachineConfig) -> tuple[File, ...]:
    """Return the user's scripts as files, and the program that runs the scripts on request of `machine start`.

    A playbook gets the same path as in podman machine, and a script of ours runs it.
    """
    scripts = config.first_boot.scripts
    playbook = config.first_boot.playbook
    if not (scripts or playbook):
        return ()
    path = f"/home/{config.username}/playbook.yaml"
    if playbook:
        run_playbook = f"#!/bin/sh\nexec ansible-playbook {path}\n"
        scripts = (*scripts, Script(name=playbook.name, text=run_playbook, as_user=True))
    return (
        *([File(path=path, contents=playbook.text, owner=config.username)] if playbook else []),
        # SELinux lets services run programs from this directory.
        File(
            path=PROVISION_RUNNER,
            contents=assets.load("files/provision.sh", username=config.username),
            mode=0o755,
        ),
        *(_script_file(number, script) for number, script in enumerate(scripts, start=1)),
    )


def _script_file(number: int, script: Script) -> File:
    """Return a script as a file for the guest. `number` says when it runs, and identifies it in the report."""
    name = re.sub("[^A-Za-z0-9._-]", "_", script.name)
    return File(
        path=f"/var/lib/boot2podman/provision/scripts/{number:03}-{'user' if script.as_user else 'root'}-{name}",
        contents=script.text,
        mode=0o755 if script.as_user else 0o700,
    )


def _first_boot_units(config: MachineConfig) -> tuple[Unit, ...]:
    if not (config.first_boot.scripts or config.first_boot.playbook):
        return ()
    contents = assets.load(f"units/{PROVISION_UNIT}")
    return (Unit(name=PROVISION_UNIT, contents=contents),)


def docker_socket_conf(config: MachineConfig) -> str:
    """Return the tmpfiles.d line that makes /run/docker.sock the machine's preferred socket."""
    return assets.load("files/podman-docker.conf", api_socket=config.api_socket)


def hostname(config: MachineConfig) -> str:
    """Return the configured host name, or else the machine's name without characters that host names cannot have."""
    return config.first_boot.hostname or config.name.replace("_", "-").strip("-.")


def subordinate_ids(username: str, uid: int) -> str:
    """Return the user's line for /etc/subuid and /etc/subgid, with a range that does not contain `uid`."""
    start = _SUBORDINATE_START
    if start <= uid < start + _SUBORDINATE_COUNT:
        start = uid + 1
    return f"{username}:{start}:{_SUBORDINATE_COUNT}\n"
