"""From a machine's config to the description of its guest (pure but for reading our own assets).

Everything that podman machine writes, and what its own image carries and a stock Fedora CoreOS lacks
(shared/reference/podman-machine.md, 2). With the marker file `podman-machine`, Podman in the guest asks
the host to publish each port.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from machine.ignition import assets
from machine.ignition.document import Appended, Directory, Document, File, Link, Unit, User
from machine.ignition.environment import environment_files
from machine.model import network
from machine.model.config import DEFAULT_USERNAME, MachineConfig, Script

# Groups of Fedora CoreOS's own user, for the one who takes that user's place.
ADMIN_GROUPS = ("adm", "sudo", "systemd-journal", "wheel")

HOST_KEY = "/etc/ssh/ssh_host_ed25519_key"

PROVISION_UNIT = "boot2podman-provision.service"
PROVISION_RUNNER = "/usr/local/bin/boot2podman-provision"

# What the names of files with the user's own variables begin with: after those that follow the host's.
_ENVIRONMENT = "60-machine"

MARKER_UP_TO_5 = "/etc/containers/podman-machine"
"""By which Podman up to 5 knows that it is in a machine, and tells of the ports that its containers publish."""

_SUBORDINATE_START = 100_000
_SUBORDINATE_COUNT = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Keys:
    """Public keys as one line of text each, and the private host key as its file has it."""

    authorized: str
    host_private: str
    host_public: str


def ignition_text(config: MachineConfig, keys: Keys) -> str:
    """The config that the guest gets."""
    theirs = config.first_boot.ignition
    return theirs.text if theirs and theirs.replaces else provision(config, keys).to_json()


def provision(config: MachineConfig, keys: Keys) -> Document:
    """The document that makes a fresh Fedora CoreOS, or one like it, this machine."""
    theirs = config.first_boot.ignition
    return Document(
        merged=(theirs.text,) if theirs else (),
        users=_users(config, keys.authorized),
        directories=_user_directories(config.username),
        files=(
            *_host_key_files(keys),
            *_user_files(config),
            *_system_files(config),
            *environment_files(config.first_boot.environment, _ENVIRONMENT),
            *_first_boot_files(config),
        ),
        links=(
            # Ignition cannot enable a user's unit: this link enables the API socket for every user.
            Link(
                path="/etc/systemd/user/sockets.target.wants/podman.socket",
                target="/usr/lib/systemd/user/podman.socket",
            ),
            Link(path="/usr/local/bin/docker", target="/usr/bin/podman"),
            Link(path="/etc/localtime", target=f"../usr/share/zoneinfo/{config.timezone}"),
        ),
        units=(
            Unit(name="podman.socket", enabled=True),
            Unit(
                name="boot2podman-ready.service",
                enabled=True,
                contents=assets.load("units/boot2podman-ready.service"),
            ),
            # It would reboot the machine whenever Fedora has an update.
            Unit(name="zincati.service", enabled=False),
            # /run/docker.sock is Podman's.
            Unit(name="docker.service", mask=True),
            Unit(name="docker.socket", mask=True),
            *_first_boot_units(config),
        ),
    )


def _users(config: MachineConfig, key: str) -> tuple[User, ...]:
    root = User(name="root", ssh_keys=(key,))
    keys = (key, *config.first_boot.ssh_keys)
    if config.username == DEFAULT_USERNAME:
        return (User(name=DEFAULT_USERNAME, uid=config.uid, ssh_keys=keys), root)
    user = User(name=config.username, uid=config.uid, ssh_keys=keys, groups=ADMIN_GROUPS)
    return (user, User(name=DEFAULT_USERNAME, should_exist=False), root)


def _user_directories(username: str) -> tuple[Directory, ...]:
    """Every level by name: Ignition makes missing parents as root."""
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
        File(path="/etc/systemd/system/user@.service.d/stop.conf", contents=assets.load("files/stop-user.conf")),
        File(path="/etc/systemd/system.conf.d/timeouts.conf", contents=assets.load("files/timeouts.conf")),
        File(path="/etc/systemd/user.conf.d/timeouts.conf", contents=assets.load("files/timeouts.conf")),
        File(path="/etc/sysctl.d/10-inotify-instances.conf", contents=assets.load("files/inotify.conf")),
        File(
            path="/etc/containers/registries.conf.d/999-podman-machine.conf",
            contents=assets.load("files/registries.conf"),
        ),
        # Podman up to 5 looks for the first, from 6 on for the second.
        File(path=MARKER_UP_TO_5, contents="qemu\n"),
        File(path="/etc/podman-machine", contents="qemu\n"),
        Appended(path="/etc/hosts", contents=network.HOSTS),
        Appended(path="/etc/chrony.conf", contents="confdir /etc/chrony.d\n"),
        File(path="/etc/chrony.d/50-podman-makestep.conf", contents=assets.load("files/makestep.conf")),
        *_swap_files(config),
        File(path="/etc/profile.d/docker-host.sh", contents=assets.load("files/docker-host.sh")),
    )


def _swap_files(config: MachineConfig) -> tuple[File, ...]:
    """Compressed memory as swap; Fedora's zram generator makes the device at every boot."""
    if not config.swap_mib:
        return ()
    return (File(path="/etc/systemd/zram-generator.conf", contents=f"[zram0]\nzram-size={config.swap_mib}\n"),)


def _first_boot_files(config: MachineConfig) -> tuple[File, ...]:
    """The user's scripts, and what runs them when `machine start` asks for it.

    The playbook lies where podman machine puts it, and one more script plays it.
    """
    scripts = config.first_boot.scripts
    playbook = config.first_boot.playbook
    if not (scripts or playbook):
        return ()
    path = f"/home/{config.username}/playbook.yaml"
    played = f"#!/bin/sh\nexec ansible-playbook {path}\n"
    if playbook:
        scripts = (*scripts, Script(name=playbook.name, text=played, as_user=True))
    return (
        *([File(path=path, contents=playbook.text, owner=config.username)] if playbook else []),
        # From there SELinux lets services run programs.
        File(
            path=PROVISION_RUNNER,
            contents=assets.load("files/provision.sh", username=config.username),
            mode=0o755,
        ),
        *(_script_file(number, script) for number, script in enumerate(scripts, start=1)),
    )


def _script_file(number: int, script: Script) -> File:
    """The number gives the order, and the report says by it which it was. Root's may have secrets from the user."""
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
    """tmpfiles.d's line that makes /run/docker.sock the machine's preferred socket."""
    return assets.load("files/podman-docker.conf", api_socket=config.api_socket)


def hostname(config: MachineConfig) -> str:
    """What was asked for, else the machine's name: without underscores, and with a letter or digit at either end."""
    return config.first_boot.hostname or config.name.replace("_", "-").strip("-.")


def subordinate_ids(username: str, uid: int) -> str:
    """The user's line in /etc/subuid and /etc/subgid: the range must not hold the user itself."""
    start = _SUBORDINATE_START
    if start <= uid < start + _SUBORDINATE_COUNT:
        start = uid + 1
    return f"{username}:{start}:{_SUBORDINATE_COUNT}\n"
