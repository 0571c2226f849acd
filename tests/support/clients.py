"""The registration of machines with Podman's and Docker's clients."""

from __future__ import annotations

import hashlib
from pathlib import Path

from tests.support.world import World


def docker_meta(world: World, name: str) -> Path:
    """Return the path of a Docker context's file."""
    return world.root / "docker/contexts/meta" / hashlib.sha256(name.encode()).hexdigest() / "meta.json"


def connections_of(world: World) -> dict[str, tuple[str, str]]:
    """List the URI of each connection of the old client, and whether it is the default, by name."""
    listed = world.podman("system", "connection", "list", "--format", "{{.Name}}\t{{.URI}}\t{{.Default}}")
    rows = [line.split("\t") for line in listed.splitlines()]
    return {name.rstrip("*"): (uri, default) for name, uri, default in rows}
