"""A stream of images on a server of the test's own."""

from __future__ import annotations

from pathlib import Path

from tests.support.builders import make_metadata_text
from tests.support.disk_images import Images, sha256
from tests.support.http_server import ImageServer
from tests.support.world import World

PACKED = "/streams/43/disk.qcow2.xz"
SIGNATURE = f"{PACKED}.sig"


def stream(world: World, server: ImageServer, images: Images, **fields: str) -> str:
    """Publish a signed stream `stable` with the packed image, and trust its key; returns its base URL."""
    world.trust(images.key)
    server.add(PACKED, images.xz.read_bytes())
    server.add(SIGNATURE, images.signature)
    described = {**images.hashes, "signature": "43/disk.qcow2.xz.sig", **fields}
    server.add("/streams/stable.json", make_metadata_text("43/disk.qcow2.xz", **described))
    return f"{server.url}/streams/"


def download_of(world: World, images: Images) -> Path:
    return world.cache / "downloads" / sha256(images.xz)


def part_of(world: World, images: Images) -> Path:
    """The first run of the packed image's download."""
    return download_of(world, images) / f"{0:016}.part"
