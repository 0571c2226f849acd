"""`machine export`: write a machine as a file from which `machine init -f` makes an equal one."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence

from machine.model.config import MachineConfig, Script, UserIgnition
from machine.model.folders import without_variables
from machine.ops.shared.context import Context
from machine.ops.shared.timezone import LOCAL
from machine.store import records

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_CONTROL = re.compile(r"[\0-\x08\x0b-\x1f\x7f]")


def export(name: str, context: Context) -> str:
    """Return in TOML what was chosen for the machine. What has happened in its guest since is not included.

    Raises:
        NotFoundError: there is no such machine.
        MachineError: its record is damaged.
    """
    return export_text(records.load(context.roots, name).config)


def export_text(config: MachineConfig) -> str:
    """Return a record as TOML. An image from a stream is named with its release, as the stream may move on (pure)."""
    return "\n".join(_lines(config)) + "\n"


def _lines(config: MachineConfig) -> Iterator[str]:
    resources = config.resources
    first_boot = config.first_boot
    yield f"# {config.name}: machine init -f FILE makes an equal one"
    plain: dict[str, str | int | bool | Sequence[str]] = {
        "name": config.name,
        "image": config.image.pinned,
        "image_sha256": config.image.promised or "",
        "provisioning": config.provisioning,
        "arch": config.arch,
        "accel": config.accelerator,
        "cpus": resources.cpus,
        "memory": resources.memory_mib,
        "disk_size": resources.disk_gib,
        "swap": config.swap_mib,
        "username": config.username,
        "rootful": config.rootful,
        "timezone": LOCAL if config.timezone_local else config.timezone,
        "hostname": first_boot.hostname or "",
        "import_native_ca": config.native_ca,
        # A file without this key would mean the default folders.
        "volume": [without_variables(str(folder)) for folder in config.folders] or [""],
        "volume_driver": config.volume_driver,
        "mount_inotify": config.mount_inotify,
        "usb": config.usbs,
        "ssh_authorized_key": first_boot.ssh_keys,
    }
    always = ("rootful",)
    yield from (f"{key} = {_literal(value)}" for key, value in plain.items() if value or key in always)
    if first_boot.ignition and first_boot.ignition.replaces:
        yield "ignition_replace = true"
    for key, pairs in (("env", first_boot.environment), ("label", config.labels)):
        if pairs:
            yield from ("", f"[{key}]")
            yield from (f"{_key(name)} = {_literal(value)}" for name, value in pairs)
    if first_boot.ignition:
        yield from ("", "[ignition_path]", *_file(first_boot.ignition))
    if first_boot.playbook:
        yield from ("", "[playbook]", *_file(first_boot.playbook))
    for script in first_boot.scripts:
        yield from ("", "[[provision]]", *_file(script))
        if script.as_user:
            yield "user = true"


def _file(file: Script | UserIgnition) -> tuple[str, str]:
    return f"name = {_literal(file.name)}", f"text = {_block(file.text)}"


def _key(name: str) -> str:
    return name if _BARE_KEY.fullmatch(name) else _literal(name)


def _literal(value: str | int | bool | Sequence[str]) -> str:
    match value:
        case bool():
            return str(value).lower()
        case int():
            return str(value)
        case str():
            # TOML has JSON's escapes and requires one more.
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        case _:
            return f"[{', '.join(_literal(entry) for entry in value)}]"


def _block(text: str) -> str:
    """Return a text of several lines, verbatim if TOML permits that."""
    if "'''" in text or text.endswith("'") or _CONTROL.search(text):
        return _literal(text)
    return f"'''\n{text}'''"
