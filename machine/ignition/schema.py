"""Define the schema of Ignition configs, versions 3.0.0 to 3.5.0: each key's type and first version.

Source: coreos/ignition, config/v3_0/schema/ignition.json and config/v3_5/types/schema.go.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Union

TEXT: Final = str
NUMBER: Final = int
SWITCH: Final = bool

Kind = Union[type, "Table", "Many"]
Table = Mapping[str, "Key"]

NEWEST = 5
"""The N of 3.N.0, the newest version that is supported."""


@dataclass(frozen=True)
class Many:
    """A list of items of one type. `unique` names a key that must have a different value in every item."""

    kind: Kind
    unique: str | None = None


@dataclass(frozen=True)
class Key:
    """A key of an object. `since` is the minor number of the first version that has the key."""

    kind: Kind
    required: bool = False
    since: int = 0


def _keys(kind: Kind, names: str, *, since: int = 0) -> dict[str, Key]:
    return {name: Key(kind, since=since) for name in names.split()}


def _named(name: str = "name") -> dict[str, Key]:
    """Return a schema with one required key, `name`, by which the items of a list are told apart."""
    return {name: Key(TEXT, required=True)}


_RESOURCE: Table = {
    **_keys(TEXT, "source compression"),
    "httpHeaders": Key(Many({**_named(), **_keys(TEXT, "value")}, "name"), since=1),
    "verification": Key(_keys(TEXT, "hash")),
}

_NODE: Table = {
    **_named("path"),
    **_keys(SWITCH, "overwrite"),
    "user": Key({**_keys(NUMBER, "id"), **_keys(TEXT, "name")}),
    "group": Key({**_keys(NUMBER, "id"), **_keys(TEXT, "name")}),
}

_IGNITION: Table = {
    **_named("version"),
    "config": Key({"merge": Key(Many(_RESOURCE)), "replace": Key(_RESOURCE)}),
    "timeouts": Key(_keys(NUMBER, "httpResponseHeaders httpTotal")),
    "security": Key({"tls": Key({"certificateAuthorities": Key(Many(_RESOURCE))})}),
    "proxy": Key({**_keys(TEXT, "httpProxy httpsProxy"), **_keys(Many(TEXT), "noProxy")}, since=1),
}

_PARTITION: Table = {
    **_keys(NUMBER, "number sizeMiB startMiB"),
    **_keys(TEXT, "label guid typeGuid"),
    **_keys(SWITCH, "shouldExist wipePartitionEntry"),
    **_keys(SWITCH, "resize", since=2),
}

_FILESYSTEM: Table = {
    **_named("device"),
    **_keys(TEXT, "path format label uuid"),
    **_keys(Many(TEXT), "options"),
    **_keys(Many(TEXT), "mountOptions", since=1),
    **_keys(SWITCH, "wipeFilesystem"),
}

_LUKS: Table = {
    **_named(),
    **_keys(TEXT, "device label uuid"),
    **_keys(SWITCH, "wipeVolume"),
    **_keys(SWITCH, "discard", since=4),
    **_keys(Many(TEXT), "options"),
    **_keys(Many(TEXT), "openOptions", since=4),
    "keyFile": Key(_RESOURCE),
    "clevis": Key(
        {
            **_keys(SWITCH, "tpm2"),
            **_keys(NUMBER, "threshold"),
            "tang": Key(
                Many({**_keys(TEXT, "url thumbprint"), **_keys(TEXT, "advertisement", since=4)}, "url"),
            ),
            "custom": Key({**_keys(TEXT, "config pin"), **_keys(SWITCH, "needsNetwork")}),
        }
    ),
    "cex": Key(_keys(SWITCH, "enabled"), since=5),
}

_STORAGE: Table = {
    "disks": Key(
        Many({**_named("device"), **_keys(SWITCH, "wipeTable"), "partitions": Key(Many(_PARTITION))}, "device")
    ),
    "raid": Key(
        Many(
            {**_named(), **_keys(TEXT, "level"), **_keys(NUMBER, "spares"), **_keys(Many(TEXT), "devices options")},
            "name",
        )
    ),
    "filesystems": Key(Many(_FILESYSTEM)),
    "luks": Key(Many(_LUKS, "name"), since=2),
    "files": Key(
        Many(
            {**_NODE, **_keys(NUMBER, "mode"), "contents": Key(_RESOURCE), "append": Key(Many(_RESOURCE))},
            "path",
        )
    ),
    "directories": Key(Many({**_NODE, **_keys(NUMBER, "mode")}, "path")),
    "links": Key(Many({**_NODE, "target": Key(TEXT, required=True), **_keys(SWITCH, "hard")}, "path")),
}

_UNIT: Table = {
    **_named(),
    **_keys(SWITCH, "enabled mask"),
    **_keys(TEXT, "contents"),
    "dropins": Key(Many({**_named(), **_keys(TEXT, "contents")}, "name")),
}

_USER: Table = {
    **_named(),
    **_keys(TEXT, "passwordHash gecos homeDir primaryGroup shell"),
    **_keys(NUMBER, "uid"),
    **_keys(SWITCH, "noCreateHome noUserGroup noLogInit system"),
    **_keys(SWITCH, "shouldExist", since=2),
    **_keys(Many(TEXT), "sshAuthorizedKeys groups"),
}

_GROUP: Table = {
    **_named(),
    **_keys(TEXT, "passwordHash"),
    **_keys(NUMBER, "gid"),
    **_keys(SWITCH, "system"),
    **_keys(SWITCH, "shouldExist", since=2),
}

CONFIG: Table = {
    "ignition": Key(_IGNITION, required=True),
    "storage": Key(_STORAGE),
    "systemd": Key({"units": Key(Many(_UNIT, "name"))}),
    "passwd": Key({"users": Key(Many(_USER, "name")), "groups": Key(Many(_GROUP, "name"))}),
    "kernelArguments": Key(_keys(Many(TEXT), "shouldExist shouldNotExist"), since=3),
}
