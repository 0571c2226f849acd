"""Convert a machine's record to a JSON document, and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from machine.model.arch import Arch
from machine.model.config import (
    FirstBoot,
    ImageOrigin,
    MachineConfig,
    Provisioning,
    Resources,
    Script,
    UserIgnition,
    Verified,
)
from machine.model.host import AcceleratorChoice
from machine.model.idle import OFF
from machine.model.provider import RemoteHost, RootAccess
from machine.model.record import GuestFacts, MachineRecord, Pending
from machine.model.transport import Transport, TransportChoice
from machine.store.fields import FieldError, Fields

if TYPE_CHECKING:
    from machine.model.folders import Folder
    from machine.model.ports import Forward

Document = dict[str, object]

SCHEMA = 3
"""The number of the present schema. A change that older programs would misread needs a new number and a migration."""

_SCHEMA_OF_QEMU = 2
"""The schema in which virtual machines are written, because an older program can read them. It knows no other ones."""

ADDED: Mapping[str, Document] = {
    "config": {"idle_suspend": OFF, "machines_file": None, "remote": None, "verify_tls": True},
    "pending": {"restoring": None},
    "guest": {"services": None},
}
"""The fields added since this schema was first released, with the values to assume if a record lacks them.

A new field needs an entry here. It needs no new schema if older programs may ignore the field. An older program keeps
the field unchanged, so a user who goes back to an older version for a while does not lose the field. Only new fields
of objects in lists are lost.
"""


class NewerSchemaError(ValueError):
    """The record was written by a newer program; `schema` is the number of the record's schema."""

    def __init__(self, schema: int) -> None:
        super().__init__(f"schema {schema}")
        self.schema = schema


def dump(record: MachineRecord) -> Document:
    """Convert a record to JSON. Each dataclass becomes an object with the names of the fields as keys."""
    parts = {"config": record.config, "pending": record.pending, "guest": record.guest}
    known: Document = {name: _dump_fields(part) for name, part in parts.items()}
    schema = SCHEMA if record.config.remote else _SCHEMA_OF_QEMU
    return {"schema": schema, **_with_unknown(known, record.unknown)}


def _with_unknown(known: Document, unknown: Mapping[str, object]) -> Document:
    """Add the unknown fields to the known fields. Leave out unknown fields of objects that no longer exist."""
    merged = dict(known)
    for name, value in unknown.items():
        ours = known.get(name)
        if isinstance(ours, dict) and isinstance(value, dict):
            merged[name] = _with_unknown(ours, value)
        elif name not in known:
            merged[name] = value
    return merged


def parse(document: object) -> MachineRecord:
    """Convert a JSON document of this or an older schema to a record.

    Raises:
        NewerSchemaError: a newer program wrote the document.
        FieldError: a field is missing or invalid.
    """
    fields = Fields(completed(migrated(document), ADDED))
    record = MachineRecord(
        config=_config(fields.part("config")),
        pending=_pending(fields.part("pending")),
        guest=_guest(fields.part("guest")),
    )
    unknown = {name: value for name, value in fields.unread().items() if name != "schema"}
    return replace(record, unknown=unknown) if unknown else record


def migrated(document: object) -> Document:
    """Convert a document of any schema to the present schema.

    Raises:
        NewerSchemaError: a newer program wrote the document.
        FieldError: the document has no schema number.
    """
    if not isinstance(document, dict):
        raise FieldError("not a JSON object")
    schema = document.get("schema")
    if type(schema) is not int or schema < 1:
        raise FieldError("it has no schema number")
    if schema > SCHEMA:
        raise NewerSchemaError(schema)
    if schema == 1:
        from machine.store.record_schema_1 import to_schema_2  # rarely needed

        return to_schema_2(document)
    return document


def completed(document: Document, added: Mapping[str, Document]) -> Document:
    """Return the document with default values for missing fields. `added` has the fields and defaults of each part."""
    parts = {name: part for name in added if isinstance(part := document.get(name), dict)}
    return {**document, **{name: {**added[name], **part} for name, part in parts.items()}}


# From a record to a document


def _dump_fields(part: object) -> Document:
    """Convert a dataclass to an object with all its fields."""
    return {
        name: _NOTATIONS[name](value) if name in _NOTATIONS else _dump_value(value)
        for name, value in vars(part).items()
    }


def _dump_value(value: object) -> object:
    match value:
        case StrEnum():
            return value.value
        case None | bool() | int() | str():
            return value
        case datetime():
            return value.isoformat()
        case tuple():
            return [_dump_value(entry) for entry in value]
        case frozenset():
            return sorted(map(str, value))
        case _:
            return _dump_fields(value)


def _dump_folders(folders: tuple[Folder, ...]) -> list[str]:
    return [str(folder) for folder in folders]


def _dump_forwards(forwards: tuple[Forward, ...]) -> list[str]:
    from machine.model.ports import forward_text

    return [forward_text(forward) for forward in forwards]


_NOTATIONS: Mapping[str, Callable[[Any], object]] = {
    "labels": dict,
    "environment": dict,
    "folders": _dump_folders,
    "forwards": _dump_forwards,
}
"""Conversions of the fields that `_dump_value` does not handle."""


# From a document to a record: configuration


def _config(fields: Fields) -> MachineConfig:
    resources = fields.part("resources")
    return MachineConfig(
        name=fields.text("name"),
        created=fields.moment("created"),
        arch=fields.member("arch", Arch),
        accelerator=fields.member("accelerator", AcceleratorChoice),
        resources=Resources(
            cpus=resources.number("cpus"),
            memory_mib=resources.number("memory_mib"),
            disk_gib=resources.number("disk_gib"),
        ),
        username=fields.text("username"),
        uid=fields.number("uid", minimum=0),
        rootful=fields.flag("rootful"),
        timezone=fields.text("timezone"),
        timezone_local=fields.flag("timezone_local"),
        ssh_port=fields.number("ssh_port", maximum=65535),
        mac=fields.text("mac"),
        image=_image(fields.part("image")),
        forwards=_forwards(fields),
        folders=_folders(fields),
        volume_driver=fields.member("volume_driver", TransportChoice),
        mount_inotify=fields.flag("mount_inotify"),
        idle_suspend=fields.text("idle_suspend"),
        usbs=tuple(fields.texts("usbs")),
        swap_mib=fields.number("swap_mib", minimum=0),
        native_ca=fields.flag("native_ca"),
        labels=fields.pairs("labels"),
        protected=fields.flag("protected"),
        provisioning=fields.member("provisioning", Provisioning),
        first_boot=_first_boot(fields.part("first_boot")),
        machines_file=fields.optional_text("machines_file"),
        remote=_remote(fields.optional_part("remote")),
        verify_tls=fields.flag("verify_tls"),
    )


def _remote(fields: Fields | None) -> RemoteHost | None:
    if fields is None:
        return None
    return RemoteHost(
        named=fields.text("named"),
        address=fields.text("address"),
        proxy_command=fields.optional_text("proxy_command"),
        identity=fields.optional_text("identity"),
        agent=fields.optional_text("agent"),
        root_access=fields.member("root_access", RootAccess),
        socket=fields.text("socket"),
    )


def _image(fields: Fields) -> ImageOrigin:
    return ImageOrigin(
        reference=fields.text("reference"),
        digest=fields.optional_text("digest"),
        stream=fields.optional_text("stream"),
        release=fields.optional_text("release"),
        location=fields.optional_text("location"),
        verified=fields.member("verified", Verified),
        signer=fields.optional_text("signer"),
        promised=fields.optional_text("promised"),
    )


def _forwards(fields: Fields) -> tuple[Forward, ...]:
    texts = fields.texts("forwards")
    if not texts:
        return ()
    from machine.model.ports import parse_forward  # only if needed, to keep `machine ls` fast

    try:
        return tuple(parse_forward(text) for text in texts)
    except ValueError as error:
        raise fields.error("forwards", str(error)) from error


def _folders(fields: Fields) -> tuple[Folder, ...]:
    texts = fields.texts("folders")
    if not texts:
        return ()
    from machine.model.folders import read_folder  # only if needed, to keep `machine ls` fast

    try:
        return tuple(read_folder(text) for text in texts)
    except ValueError as error:
        raise fields.error("folders", str(error)) from error


def _first_boot(fields: Fields) -> FirstBoot:
    ignition = fields.optional_part("ignition")
    playbook = fields.optional_part("playbook")
    return FirstBoot(
        ignition=None if ignition is None else _ignition(ignition),
        scripts=tuple(_script(script) for script in fields.parts("scripts")),
        playbook=None if playbook is None else _script(playbook),
        environment=fields.pairs("environment"),
        ssh_keys=tuple(fields.texts("ssh_keys")),
        hostname=fields.optional_text("hostname"),
    )


def _ignition(fields: Fields) -> UserIgnition:
    return UserIgnition(name=fields.text("name"), text=fields.text("text"), replaces=fields.flag("replaces"))


def _script(fields: Fields) -> Script:
    return Script(name=fields.text("name"), text=fields.text("text"), as_user=fields.flag("as_user"))


# From a document to a record: pending work


def _pending(fields: Fields) -> Pending:
    return Pending(
        renamed_from=fields.optional_text("renamed_from"),
        rekey=fields.flag("rekey"),
        scripts=fields.flag("scripts"),
        guest_outdated=fields.flag("guest_outdated"),
        restoring=fields.optional_text("restoring"),
    )


# From a document to a record: facts about the guest


def _guest(fields: Fields) -> GuestFacts:
    transports = fields.optional_members("transports", Transport)
    return GuestFacts(
        provisioned=fields.flag("provisioned"),
        last_up=fields.optional_moment("last_up"),
        transports=None if transports is None else frozenset(transports),
        followed=fields.optional_text("followed"),
        services=fields.optional_text("services"),
    )
