"""Find out how this user's Podman trusts a registry: the authorities in certs.d, and whether it may be insecure.

Sources: containers-certs.d(5), containers-registries.conf(5).
"""

from __future__ import annotations

import logging
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from machine.errors import reason_of
from machine.image.reference import RegistryReference

log = logging.getLogger(__name__)

_SYSTEM = Path("/etc/containers")
_DOCKERS = Path("/etc/docker")
_BOUNDARIES = ("", "/", ":", "@")


@dataclass(frozen=True, kw_only=True)
class RegistryTrust:
    """How a registry is trusted."""

    authorities: tuple[Path, ...] = ()
    """Files with the certificates of authorities that may sign for the registry, besides those that the host trusts."""

    is_insecure: bool = False
    """Whether the registry needs no valid certificate, and may speak plain HTTP."""


def registry_trust(
    reference: RegistryReference, user: Path, environment: Mapping[str, str], *, system: Path = _SYSTEM
) -> RegistryTrust:
    """Read how a registry is trusted. `user` and `system` are the directories with settings of container tools."""
    places = (directory / "certs.d" / reference.registry for directory in (user, system, _DOCKERS))
    certificates = next((place for place in places if place.is_dir()), None)
    main = Path(environment.get("CONTAINERS_REGISTRIES_CONF") or user / "registries.conf")
    files = [
        main if main.is_file() else system / "registries.conf",
        *(file for directory in (system, user) for file in sorted((directory / "registries.conf.d").glob("*.conf"))),
    ]
    name = f"{reference.registry}/{reference.name}"
    return RegistryTrust(
        authorities=tuple(sorted(certificates.glob("*.crt"))) if certificates else (),
        is_insecure=is_insecure(name, tuple(_documents(files))),
    )


def _documents(files: Sequence[Path]) -> Iterator[Mapping[str, Any]]:
    for file in files:
        try:
            yield tomllib.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            log.warning("%s is ignored: %s", file, reason_of(error))


def is_insecure(name: str, documents: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether the entry with the longest prefix of `name` calls its registry insecure; later ones win (pure)."""
    entries: dict[str, bool] = {}
    for document in documents:
        found = document.get("registry")
        for entry in found if isinstance(found, list) else []:
            prefix = entry.get("prefix") or entry.get("location")
            if isinstance(prefix, str):
                entries[prefix] = entry.get("insecure") is True
    matching = [prefix for prefix in entries if _matches(prefix, name)]
    return entries[max(matching, key=len)] if matching else False


def _matches(prefix: str, name: str) -> bool:
    if prefix.startswith("*."):
        return name.partition("/")[0].partition(":")[0].endswith(prefix[1:])
    return name.startswith(prefix) and name[len(prefix) :][:1] in _BOUNDARIES
