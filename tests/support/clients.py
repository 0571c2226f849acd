"""What leads Podman's and Docker's clients to a machine."""

from __future__ import annotations

import hashlib
from pathlib import Path

from tests.support.world import World


def docker_meta(world: World, name: str) -> Path:
    """The file of a Docker context."""
    return world.root / "docker/contexts/meta" / hashlib.sha256(name.encode()).hexdigest() / "meta.json"


def connections_of(world: World) -> dict[str, tuple[str, str]]:
    """The URI of each connection of the old client, and whether it is the default."""
    listed = world.podman("system", "connection", "list", "--format", "{{.Name}}\t{{.URI}}\t{{.Default}}")
    rows = [line.split("\t") for line in listed.splitlines()]
    return {name.rstrip("*"): (uri, default) for name, uri, default in rows}
