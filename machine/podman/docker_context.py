"""Edit Docker contexts in the files of the docker client. The client need not be installed.

Source: docker/cli, cli/context/store.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from machine.files import FILE_PUBLIC, disk_errors, make_directory, write_atomic


def docker_config(environment: Mapping[str, str], home: Path) -> Path:
    configured = environment.get("DOCKER_CONFIG")
    return Path(configured) if configured else home / ".docker"


def _directory(config: Path, name: str) -> Path:
    return config / "contexts" / "meta" / hashlib.sha256(name.encode()).hexdigest()


def _host(config: Path, name: str) -> str | None:
    """Return the endpoint to which the context `name` points, or None if the context cannot be read."""
    try:
        document = json.loads((_directory(config, name) / "meta.json").read_bytes())
        return str(document["Endpoints"]["docker"]["Host"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


RESERVED = "default"
"""The name of Docker's built-in context."""


def exists(config: Path, name: str) -> bool:
    """Return whether Docker sees the context `name`. Docker does not see a context whose `create` was interrupted."""
    return (_directory(config, name) / "meta.json").exists()


def points_to(config: Path, name: str, socket: Path) -> bool:
    return _host(config, name) == f"unix://{socket}"


def create(config: Path, name: str, socket: Path) -> None:
    """Create or replace the context `name`, which points to `socket`.

    Raises:
        MachineError: the context's file cannot be written.
    """
    directory = _directory(config, name)
    with disk_errors(directory):
        make_directory(directory)
    document = {
        "Name": name,
        "Metadata": {"Description": f"Podman machine {name}"},
        "Endpoints": {"docker": {"Host": f"unix://{socket}", "SkipTLSVerify": False}},
    }
    write_atomic(directory / "meta.json", json.dumps(document, separators=(",", ":")), mode=FILE_PUBLIC)


def remove(config: Path, name: str, socket: Path) -> None:
    """Remove the context `name` if it points to `socket`. If `name` was current, no context is current afterwards."""
    if not points_to(config, name, socket):
        return
    directory = _directory(config, name)
    with disk_errors(directory):
        shutil.rmtree(directory)
    _move_current(config, name, None)


def rename(config: Path, old: str, name: str, socket: Path) -> None:
    """Replace the context `old` by `name`, which points to `socket`. If `old` is current, `name` becomes current."""
    if not exists(config, name):
        create(config, name, socket)
    _move_current(config, old, name)
    directory = _directory(config, old)
    with disk_errors(directory):
        shutil.rmtree(directory)


def _move_current(config: Path, name: str, to: str | None) -> None:
    """If `name` is the current context, make `to` the current one. If `to` is None, no context is current then."""
    client = config / "config.json"
    try:
        settings = json.loads(client.read_bytes())
    except (OSError, ValueError):
        return
    if isinstance(settings, dict) and settings.get("currentContext") == name:
        del settings["currentContext"]
        changed = {**settings, "currentContext": to} if to else settings
        write_atomic(client.resolve(), json.dumps(changed, indent="\t"), mode=client.stat().st_mode & 0o777)
