"""Machine records: one JSON file each, with a schema number, written whole or not at all."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from machine import lock
from machine.errors import MachineError, NotFoundError
from machine.files import write_atomic
from machine.model.arch import Arch
from machine.model.config import (
    FirstBoot,
    ImageOrigin,
    MachineConfig,
    Provisioning,
    Resources,
    Script,
    UserIgnition,
)
from machine.model.host import AcceleratorChoice
from machine.model.names import DEFAULT_MACHINE, similar_words
from machine.store.paths import MachinePaths, Roots

if TYPE_CHECKING:
    from machine.model.folders import Folder
    from machine.model.ports import Forward

SCHEMA = 1  # Bump when an older program could not read what this one writes, and migrate the older here.

_EDIT_S = 10.0

_LATER_FLAGS = (
    "guest_outdated", "identity_pending", "mount_inotify", "native_ca", "protected", "provision_pending",
    "timezone_local",
)  # fmt: skip
_LATER_TEXTS = ("followed", "renamed_from", "volume_driver")

_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class BrokenRecord:
    """A machine whose record cannot be read, and why."""

    name: str
    error: MachineError


def machine_names(roots: Roots) -> list[str]:
    """The names of all machines on this host, sorted; half-made ones have names that begin with a dot."""
    try:
        entries = list(roots.machines.iterdir())
    except FileNotFoundError:
        return []
    return sorted(entry.name for entry in entries if not entry.name.startswith(".") and entry.is_dir())


def load(roots: Roots, name: str) -> MachineConfig:
    """The record of the machine `name`.

    Raises:
        NotFoundError: there is no such machine.
        MachineError: its record is damaged or written by a newer program.
    """
    check_exists(roots, name)
    return _load_own(roots.machine(name))


def check_exists(roots: Roots, name: str) -> None:
    """Check that there is a machine `name`, whatever its record is like.

    Raises:
        NotFoundError: there is none; the hint names the machines that may have been meant.
    """
    if not name or "/" in name or name.startswith(".") or not roots.machine(name).directory.is_dir():
        raise NotFoundError(f"{name}: VM does not exist", hint=_meant_instead(name, machine_names(roots)))


def _meant_instead(name: str, known: Sequence[str]) -> str | None:
    """What to type instead: any machine's name where none was given, a similar one where it was mistyped."""
    if name == DEFAULT_MACHINE and known:
        return f"add the name of a machine that exists: {', '.join(known)}"
    near = similar_words(name, known)
    return f"did you mean {' or '.join(near)}?" if near else None


def _load_own(paths: MachinePaths) -> MachineConfig:
    """The record of the machine that has the directory's name."""
    config = load_file(paths.record)
    name = paths.directory.name
    if config.name == name:
        return config
    if config.renamed_from == name:  # a rename that ended before it had moved the directory
        return replace(config, name=name, renamed_from="")
    raise _damaged(paths.record, f'it is that of "{config.name}"')


def load_file(path: Path) -> MachineConfig:
    """A record wherever it lies, whosever it is."""
    try:
        document = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise _damaged(path, "it is missing") from error
    except OSError as error:
        raise MachineError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise _damaged(path, f"not JSON ({error})") from error
    return parse(document, path)


def load_all(roots: Roots) -> list[MachineConfig | BrokenRecord]:
    """Every machine of this host, by name; one damaged record does not hide the others."""
    found: list[MachineConfig | BrokenRecord] = []
    for name in machine_names(roots):
        with contextlib.suppress(NotFoundError):  # removed since it was listed
            found.append(find(roots, name))
    return found


def find(roots: Roots, name: str) -> MachineConfig | BrokenRecord:
    """The machine `name`, also where its record cannot be read.

    Raises:
        NotFoundError: there is no such machine.
    """
    try:
        return load(roots, name)
    except NotFoundError:
        raise
    except MachineError as error:
        return BrokenRecord(name=name, error=error)


def save(paths: MachinePaths, config: MachineConfig) -> None:
    """Replace the record of a machine whose directory exists."""
    write_atomic(paths.record, json.dumps(dump(config), indent=2) + "\n")


def edit(paths: MachinePaths, change: Callable[[MachineConfig], MachineConfig]) -> MachineConfig:
    """Replace a machine's record by what `change` makes of it, also while its supervisor writes there too.

    Raises:
        MachineError: it is damaged or cannot be written.
    """
    with lock.exclusively(paths.record_lock, timeout_s=_EDIT_S):
        config = change(_load_own(paths))
        save(paths, config)
    return config


def dump(config: MachineConfig) -> dict[str, Any]:
    document = asdict(config)
    document["created"] = config.created.isoformat()
    document["last_up"] = config.last_up.isoformat() if config.last_up else None
    document["forwards"] = _forward_texts(config.forwards)
    document["usbs"] = list(config.usbs)
    document["folders"] = [str(folder) for folder in config.folders]
    document["guest_transports"] = None if config.guest_transports is None else list(config.guest_transports)
    document["labels"] = dict(config.labels)
    document["first_boot"] |= {
        "scripts": list(document["first_boot"]["scripts"]),
        "environment": dict(config.first_boot.environment),
        "ssh_keys": list(config.first_boot.ssh_keys),
    }
    return {"schema": SCHEMA, **document}


def parse(document: object, path: Path) -> MachineConfig:
    """A record from its JSON, older schemas migrated.

    Raises:
        MachineError: a newer program wrote it, or something in it is missing or of another kind.
    """
    if not isinstance(document, dict):
        raise _damaged(path, "not a JSON object")
    schema = document.get("schema")
    if not isinstance(schema, int) or schema < 1:
        raise _damaged(path, "it has no schema number")
    if schema > SCHEMA:
        raise MachineError(
            f"{path} was written by a newer version of this program (schema {schema}, this one reads {SCHEMA})",
            hint="upgrade boot2podman",
        )
    try:
        return _from_document(document)
    except (KeyError, TypeError, ValueError) as error:
        reason = f"{error.args[0]} is missing" if isinstance(error, KeyError) else str(error)
        raise _damaged(path, reason) from error


def _from_document(document: Mapping[str, Any]) -> MachineConfig:
    resources = document["resources"]
    image = document["image"]
    last_up = document["last_up"]
    return MachineConfig(
        name=_typed(document, "name", str),
        created=_moment(document["created"]),
        last_up=_moment(last_up) if last_up else None,
        arch=Arch(document["arch"]),
        accelerator=AcceleratorChoice(document["accelerator"]),
        resources=Resources(**{key: _positive(resources, key) for key in ("cpus", "memory_mib", "disk_gib")}),
        username=_typed(document, "username", str),
        uid=_typed(document, "uid", int),
        rootful=_typed(document, "rootful", bool),
        timezone=_typed(document, "timezone", str),
        ssh_port=_positive(document, "ssh_port", most=65535),
        mac=_typed(document, "mac", str),
        image=ImageOrigin(
            **{key: _typed(image, key, str) for key in ("reference", "digest", "stream", "release", "location")},
            # Written by newer programs alone.
            **{key: _typed(image, key, str) for key in ("verified", "signer", "promised") if key in image},
        ),
        provisioned=_typed(document, "provisioned", bool),
        forwards=_forwards(document.get("forwards", ())),
        # What older programs do not write has its default.
        **_later(document),
        swap_mib=_positive(document, "swap_mib") if document.get("swap_mib") else 0,
        usbs=_texts(document, "usbs"),
        folders=_folders(document.get("folders", ())),
        guest_transports=None if document.get("guest_transports") is None else _texts(document, "guest_transports"),
        labels=_pairs(document, "labels"),
        first_boot=_first_boot(document["first_boot"]) if "first_boot" in document else FirstBoot(),
        provisioning=Provisioning(document.get("provisioning", Provisioning.IGNITION)),
    )


def _later(document: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that older programs do not write, of those that are as simple as this."""
    kinds = {**dict.fromkeys(_LATER_FLAGS, bool), **dict.fromkeys(_LATER_TEXTS, str)}
    return {key: _typed(document, key, kind) for key, kind in kinds.items() if key in document}


def _first_boot(document: Mapping[str, Any]) -> FirstBoot:
    ignition = document["ignition"]
    return FirstBoot(
        ignition=UserIgnition(
            name=_typed(ignition, "name", str),
            text=_typed(ignition, "text", str),
            replaces=_typed(ignition, "replaces", bool),
        )
        if ignition is not None
        else None,
        scripts=tuple(_script(entry) for entry in document["scripts"]),
        playbook=_script(document["playbook"]) if document["playbook"] is not None else None,
        environment=_pairs(document, "environment"),
        ssh_keys=_texts(document, "ssh_keys"),
        hostname=_typed(document, "hostname", str),
    )


def _script(document: Mapping[str, Any]) -> Script:
    return Script(
        name=_typed(document, "name", str),
        text=_typed(document, "text", str),
        as_user=_typed(document, "as_user", bool),
    )


def _texts(document: Mapping[str, Any], key: str) -> tuple[str, ...]:
    return tuple(_typed({key: text}, key, str) for text in document.get(key, ()))


def _folders(texts: Sequence[object]) -> tuple[Folder, ...]:
    if not texts:
        return ()
    from machine.model.folders import read_folder  # `machine ls` has no need of it where there are none

    return tuple(read_folder(str(text)) for text in texts)


def _pairs(document: Mapping[str, Any], key: str) -> tuple[tuple[str, str], ...]:
    table = _typed(document, key, dict) if key in document else {}
    return tuple((name, _typed(table, name, str)) for name in table)


def _forwards(texts: Sequence[object]) -> tuple[Forward, ...]:
    if not texts:
        return ()
    from machine.model.ports import parse_forward  # `machine ls` has no need of it where there are none

    return tuple(parse_forward(str(text)) for text in texts)


def _forward_texts(forwards: Sequence[Forward]) -> list[str]:
    from machine.model.ports import forward_text

    return [forward_text(forward) for forward in forwards]


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text} has no offset from UTC")
    return moment


def _typed(document: Mapping[str, Any], key: str, kind: type[_T]) -> _T:
    value = document[key]
    if type(value) is not kind:  # a bool is an int to isinstance
        raise ValueError(f"{key} is not of type {kind.__name__}")
    return value


def _positive(document: Mapping[str, Any], key: str, *, most: int | None = None) -> int:
    value = _typed(document, key, int)
    if value < 1 or (most is not None and value > most):
        raise ValueError(f"{key} cannot be {value}")
    return value


def _damaged(path: Path, reason: str) -> MachineError:
    return MachineError(
        f"the record {path} is damaged: {reason}",
        hint=f"restore it, or remove the machine with: machine rm --force {path.parent.name}",
    )
