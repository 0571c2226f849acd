"""Build Ignition configs of version 3.2.0, which podman machine uses and every guest supports.

Only a config with kernel arguments has version 3.3.0, the first that has them.

Source: coreos/ignition, docs/configuration-v3_2.md and docs/configuration-v3_3.md.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

SPECIFICATION = "3.2.0"
SPECIFICATION_WITH_KERNEL_ARGUMENTS = "3.3.0"


def data_url(text: str) -> str:
    """Return a text as a percent-encoded `data:` URL (RFC 2397)."""
    return f"data:,{quote(text, safe='')}"


def base64_url(text: str) -> str:
    """Return a text as a base64 `data:` URL. It is shorter than the one of `data_url` if the text is long."""
    return f"data:;base64,{base64.b64encode(text.encode()).decode()}"


@dataclass(frozen=True, kw_only=True)
class File:
    """A file in the guest. `overwrite` must be set if the image may have a file at the path already."""

    path: str
    contents: str
    mode: int = 0o644
    owner: str | None = None
    overwrite: bool = True

    def node(self) -> dict[str, Any]:
        return {
            "path": self.path,
            "overwrite": self.overwrite,
            "mode": self.mode,
            "contents": {"source": data_url(self.contents)},
            **_owned_by(self.owner),
        }


@dataclass(frozen=True, kw_only=True)
class Appended:
    """A text that is appended to a file in the guest. If the image does not have the file, it is created."""

    path: str
    contents: str

    def node(self) -> dict[str, Any]:
        return {"path": self.path, "append": [{"source": data_url(self.contents)}]}


@dataclass(frozen=True, kw_only=True)
class Directory:
    path: str
    owner: str | None = None
    mode: int = 0o755

    def node(self) -> dict[str, Any]:
        return {"path": self.path, "mode": self.mode, **_owned_by(self.owner)}


@dataclass(frozen=True, kw_only=True)
class Link:
    """A symbolic link."""

    path: str
    target: str

    def node(self) -> dict[str, Any]:
        return {"path": self.path, "target": self.target, "hard": False, "overwrite": True}


@dataclass(frozen=True, kw_only=True)
class User:
    """A user in the guest. A field that is None has the value that the image gives it."""

    name: str
    ssh_keys: tuple[str, ...] = ()
    uid: int | None = None
    groups: tuple[str, ...] = ()
    should_exist: bool = True

    def node(self) -> dict[str, Any]:
        node: dict[str, Any] = {"name": self.name}
        if not self.should_exist:
            return {**node, "shouldExist": False}
        if self.uid is not None:
            node["uid"] = self.uid
        if self.groups:
            node["groups"] = list(self.groups)
        if self.ssh_keys:
            node["sshAuthorizedKeys"] = list(self.ssh_keys)
        return node


@dataclass(frozen=True, kw_only=True)
class Unit:
    """A systemd unit that we add, or a unit of the image that we enable, disable or mask."""

    name: str
    enabled: bool | None = None
    mask: bool = False
    contents: str | None = None

    def node(self) -> dict[str, Any]:
        node: dict[str, Any] = {"name": self.name}
        if self.enabled is not None:
            node["enabled"] = self.enabled
        if self.mask:
            node["mask"] = True
        if self.contents is not None:
            node["contents"] = self.contents
        return node


@dataclass(frozen=True, kw_only=True)
class KernelArguments:
    """The kernel arguments that a guest must have, and those that it must not have.

    If a guest has to change its arguments, its first boot takes longer, because the guest reboots at once to use them.
    """

    present: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.present or self.absent)

    def node(self) -> dict[str, Any]:
        lists = {"shouldExist": list(self.present), "shouldNotExist": list(self.absent)}
        return {key: arguments for key, arguments in lists.items() if arguments}


@dataclass(frozen=True, kw_only=True)
class Document:
    """A complete Ignition config. Lists keep their order. The configs in `merged` take precedence over all the rest."""

    users: tuple[User, ...] = ()
    directories: tuple[Directory, ...] = ()
    files: tuple[File | Appended, ...] = ()
    links: tuple[Link, ...] = ()
    units: tuple[Unit, ...] = ()
    kernel_arguments: KernelArguments = KernelArguments()
    merged: tuple[str, ...] = ()

    def to_json(self) -> str:
        merge = [{"source": base64_url(config)} for config in self.merged]
        document = {
            "ignition": {"version": self._version, **({"config": {"merge": merge}} if merge else {})},
            "passwd": {"users": [user.node() for user in self.users]},
            "storage": {
                "directories": [directory.node() for directory in self.directories],
                "files": [file.node() for file in self.files],
                "links": [link.node() for link in self.links],
            },
            "systemd": {"units": [unit.node() for unit in self.units]},
            **({"kernelArguments": self.kernel_arguments.node()} if self.kernel_arguments else {}),
        }
        return json.dumps(document, indent=2) + "\n"

    @property
    def _version(self) -> str:
        return SPECIFICATION_WITH_KERNEL_ARGUMENTS if self.kernel_arguments else SPECIFICATION


def _owned_by(user: str | None) -> dict[str, Any]:
    return {"user": {"name": user}, "group": {"name": user}} if user else {}


def with_arguments(text: str, before: KernelArguments, after: KernelArguments) -> str:
    """Return an Ignition config whose kernel arguments `before` are replaced by `after`. The rest of it is kept.

    Raises:
        ValueError: the config is not a JSON object.
    """
    document = json.loads(text)
    if not isinstance(document, dict):
        raise ValueError("not a JSON object")
    old, new = before.node(), after.node()
    arguments = {}
    for key in ("shouldExist", "shouldNotExist"):
        others = [one for one in _entries(document, "kernelArguments", key) if one not in old.get(key, [])]
        if chosen := [*new.get(key, []), *others]:
            arguments[key] = chosen
    document.pop("kernelArguments", None)
    if arguments:
        document["kernelArguments"] = arguments
        if document["ignition"]["version"] == SPECIFICATION:
            document["ignition"]["version"] = SPECIFICATION_WITH_KERNEL_ARGUMENTS
    return json.dumps(document, indent=2) + "\n"


def find_overridden(ours: Document, theirs: str) -> list[str]:
    """List the paths and units in `ours` that the user's config overrides, because `theirs` defines them, too."""
    document = json.loads(theirs)
    # If the user's file has no contents, it only appends to ours.
    files = [file for file in _entries(document, "storage", "files") if "contents" in file]
    nodes = [*files, *_entries(document, "storage", "directories"), *_entries(document, "storage", "links")]
    overriding = {
        *(node["path"] for node in nodes),
        *(unit["name"] for unit in _entries(document, "systemd", "units")),
    }
    paths = [node.path for node in (*ours.directories, *ours.files, *ours.links)]
    return [name for name in (*paths, *(unit.name for unit in ours.units)) if name in overriding]


def _entries(document: dict[str, Any], section: str, name: str) -> list[dict[str, Any]]:
    """Return the list `name` in a section of a config. A missing or null list counts as empty, as for Ignition."""
    return (document.get(section) or {}).get(name) or []
