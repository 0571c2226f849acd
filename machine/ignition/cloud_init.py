"""Make cloud-init's seed disk from a guest's description (data source NoCloud; pure).

cloud-init writes the files after it has created the users and installed the packages. Directories, links and units,
which cloud-config cannot express, are set up by commands at the end.

Source: cloud-init's documentation, reference/modules and reference/datasources/nocloud.
"""

from __future__ import annotations

import base64
import json
import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from machine.ignition import assets
from machine.ignition.document import Appended, Directory, Document, File, Link, Unit, User
from machine.ignition.provision import ADMIN_GROUPS, HOST_KEY, READY_UNIT, hostname
from machine.model.config import MachineConfig

LABEL = "CIDATA"

_UNITS = "/etc/systemd/system"
_FINISH = "/run/boot2podman-finish.sh"
_ROOT = "root"
_MAKE_GROUPS = 'for group; do getent group "$group" || groupadd --system "$group" || addgroup -S "$group"; done'


@dataclass(frozen=True, kw_only=True)
class Seed:
    """The files on the seed disk.

    There is no `network-config`, because without that file cloud-init uses DHCP on the only interface and keeps the
    interface's name. With systemd-networkd, a name that we chose would be valid for the first boot only.
    """

    user_data: str
    meta_data: str

    def files(self) -> dict[str, str]:
        return {"user-data": self.user_data, "meta-data": self.meta_data}


def render(document: Document, config: MachineConfig, packages: Sequence[str]) -> Seed:
    """Return the seed that turns a cloud image into the machine of `document` and installs `packages`."""
    created = int(config.created.timestamp())
    return Seed(
        user_data=f"#cloud-config\n{_json(_cloud_config(document, config, packages))}",
        meta_data=_json({"instance-id": f"{config.name}-{created}", "local-hostname": hostname(config)}),
    )


def _json(document: dict[str, Any]) -> str:
    """Return JSON that is also valid YAML.

    YAML has no surrogate pairs, so non-ASCII characters are not escaped.
    """
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _cloud_config(document: Document, config: MachineConfig, packages: Sequence[str]) -> dict[str, Any]:
    host_keys = {file.path: file.contents for file in document.files if file.path in (HOST_KEY, f"{HOST_KEY}.pub")}
    users = [_user(user) for user in document.users if user.should_exist]
    groups = sorted({group for user in users for group in user.get("groups", ())})
    return {
        # cloud-init would create missing groups as ordinary ones, and one might take the gid of the user's group.
        "bootcmd": [["sh", "-c", _MAKE_GROUPS, "sh", *groups]],
        "users": users,
        # Root may log in with a key too; no user has a password.
        "disable_root": False,
        "ssh_pwauth": False,
        # cloud-init removes the host keys that came with the image. If ours were files, it would remove them too.
        "ssh_keys": {"ed25519_private": host_keys[HOST_KEY], "ed25519_public": host_keys[f"{HOST_KEY}.pub"].strip()},
        # Debian's images would recreate /etc/hosts from a template at every boot, without the lines that we append.
        "manage_etc_hosts": "localhost",
        **({"package_update": True, "packages": list(packages)} if packages else {}),
        "write_files": [
            *(_file(file) for file in document.files if file.path not in host_keys),
            *(
                _file(File(path=f"{_UNITS}/{unit.name}", contents=unit.contents))
                for unit in document.units
                if unit.contents is not None
            ),
            _file(File(path=_FINISH, contents=assets.load("files/cloud-init-finish.sh"))),
        ],
        "runcmd": [
            *(_make_directory(directory) for directory in document.directories),
            *(command for link in document.links for command in _make_link(link)),
            ["sh", _FINISH, config.username, *_unit_words(document.units)],
        ],
    }


def _user(user: User) -> dict[str, Any]:
    keys = list(user.ssh_keys)
    if user.name == _ROOT:
        return {"name": user.name, "ssh_authorized_keys": keys}
    return {
        "name": user.name,
        **({"uid": user.uid} if user.uid is not None else {}),
        # Fedora CoreOS has a user that may use sudo; a cloud image has none.
        "groups": list(user.groups or ADMIN_GROUPS),
        "sudo": "ALL=(ALL) NOPASSWD:ALL",
        "shell": "/bin/bash",
        "lock_passwd": True,
        "ssh_authorized_keys": keys,
    }


def _file(file: File | Appended) -> dict[str, Any]:
    node: dict[str, Any] = {"path": file.path, "defer": True}
    if all(letter.isprintable() or letter in "\n\t" for letter in file.contents):
        node["content"] = file.contents
    else:
        node["content"] = base64.b64encode(file.contents.encode()).decode("ascii")
        node["encoding"] = "b64"
    if isinstance(file, Appended):
        return {**node, "append": True}
    owner = file.owner or _ROOT
    return {**node, "owner": f"{owner}:{owner}", "permissions": f"{file.mode:04o}"}


def _make_directory(directory: Directory) -> list[str]:
    owner = directory.owner or _ROOT
    return ["install", "-d", "-m", f"{directory.mode:04o}", "-o", owner, "-g", owner, directory.path]


def _make_link(link: Link) -> Iterator[list[str]]:
    yield ["mkdir", "-p", posixpath.dirname(link.path)]
    yield ["ln", "-sfn", link.target, link.path]


def _unit_words(units: Sequence[Unit]) -> Iterator[str]:
    """Yield the arguments VERB:UNIT of cloud-init-finish.sh. The unit that reports to the host comes last."""
    for unit in sorted(units, key=lambda unit: unit.name == READY_UNIT):
        if unit.mask:
            yield f"mask:{unit.name}"
        elif unit.enabled is not None:
            yield f"{'enable' if unit.enabled else 'disable'}:{unit.name}"
