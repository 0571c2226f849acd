"""A stream of images on the test's own server."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.builders import make_metadata_text
from tests.support.disk_images import Images, sha256
from tests.support.golden import Golden
from tests.support.http_server import ImageServer
from tests.support.transcripts import transcript, without_steps
from tests.support.world import Outcome, World

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
    """Return the file with the first run of the packed image's download."""
    return download_of(world, images) / f"{0:016}.part"


def write_partial_download(world: World, images: Images, server: ImageServer, content: bytes) -> None:
    """Write the files that an interrupted download of the packed image leaves."""
    part = part_of(world, images)
    part.parent.mkdir(parents=True)
    part.write_bytes(content)
    served = server.documents[PACKED]
    version = {"etag": served.tag, "modified": "", "size": len(served.content)}
    (part.parent / "source.json").write_text(json.dumps(version))


def pull(world: World, base: str, *words: str) -> Outcome:
    return world.machine("image", "pull", "--stream-base-url", base, *words)


def pull_image(world: World, images: Images, base: str, *words: str) -> Outcome:
    """Run a `machine image pull` that must succeed and leave no temporary files."""
    outcome = pull(world, base, *words)
    assert outcome.status == 0, outcome.stderr
    assert outcome.stdout == f"sha256:{sha256(images.qcow2)}\n"
    assert not list(world.cache.glob("downloads/*/*")) + list(world.cache.glob(".new-*"))
    return outcome


def refuse_image(golden: Golden, world: World, *words: str | Path, case: str = "") -> None:
    """Run a command that must fail as in the golden file and leave no incomplete image."""
    outcome = world.machine(*words)
    golden.matches(transcript(world, without_steps(outcome), *words), case)
    assert (outcome.status, outcome.stdout) == (125, "")
    assert not list(world.cache.glob("sha256-*")) + list(world.cache.glob(".new-*"))


def refuse_pull(golden: Golden, world: World, base: str, *words: str, case: str = "") -> None:
    refuse_image(golden, world, "image", "pull", "--stream-base-url", base, *words, case=case)
