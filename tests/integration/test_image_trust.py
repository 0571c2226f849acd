"""What is fetched is what was promised, checked by the real gpgv."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from machine.guestimage.publish import PUBLIC_KEY, sign
from tests.support.builders import make_metadata_text
from tests.support.disk_images import Images, sha256
from tests.support.golden import Golden
from tests.support.http_server import ImageServer
from tests.support.streams import (
    PACKED,
    SIGNATURE,
    pull,
    pull_image,
    refuse_image,
    refuse_pull,
    stream,
)
from tests.support.world import World

# Content that is not what it should be


def test_wrong_hash_of_a_download_keeps_nothing(
    world: World, images: Images, server: ImageServer, golden: Golden
) -> None:
    base = stream(world, server, images, sha256="0" * 64)
    refuse_pull(golden, world, base)
    assert not list(world.cache.glob("downloads/*/*"))
    pull_image(world, images, stream(world, server, images))


def test_wrong_hash_of_the_content_keeps_nothing(
    world: World, images: Images, server: ImageServer, golden: Golden
) -> None:
    base = stream(world, server, images, uncompressed_sha256="0" * 64)
    refuse_pull(golden, world, base)


def test_sha256_of_the_users_own_is_checked(world: World, images: Images, server: ImageServer, golden: Golden) -> None:
    url = server.add("/disk.raw.gz", images.gz.read_bytes())
    refuse_image(golden, world, "image", "pull", url, "--image-sha256", "0" * 64)
    world.init("box", url, "--image-sha256", sha256(images.gz))
    assert world.inspect("box")["Machine"]["Image"]["Verified"] == "sha256"


def test_url_without_a_promise_is_fetched_with_a_notice(world: World, images: Images, server: ImageServer) -> None:
    url = server.add("/disk.raw.gz", images.gz.read_bytes())
    outcome = world.init("box", url)
    assert f"{url} could not be verified; pass --image-sha256 to check it\n" in outcome.stderr
    image = world.inspect("box")["Machine"]["Image"]
    assert (image["Location"], image["Verified"]) == (url, "nothing")


@pytest.mark.parametrize("ending", [b"garbage", b"\xfd7zXZ\x00garbage"])
def test_trailing_garbage(ending: bytes, world: World, images: Images, server: ImageServer) -> None:
    url = server.add("/disk.xz", images.xz.read_bytes() + ending)
    outcome = world.machine("image", "pull", url)
    assert outcome.status == 125
    error, page = outcome.stderr.splitlines()[-2:]
    assert page == "  see the documentation: troubleshooting#checksum"
    assert error.startswith((f"Error: {url} has at least ", f"Error: {url} is damaged: ", f"Error: {url} is cut short"))
    assert not list(world.cache.glob("sha256-*"))


def test_download_that_is_cut_short_by_its_publisher(
    world: World, images: Images, server: ImageServer, golden: Golden
) -> None:
    url = server.add("/disk.qcow2.xz", images.xz.read_bytes()[:-100])
    refuse_image(golden, world, "image", "pull", url)


def test_disk_without_room_is_told_before_anything_is_written(
    world: World, images: Images, server: ImageServer, small_disk: Path
) -> None:
    base = stream(world, server, images)
    world.cache.parent.mkdir(parents=True)
    world.cache.symlink_to(small_disk)
    outcome = pull(world, base)
    assert outcome.status == 125
    error, page = outcome.stderr.splitlines()[-2:]
    assert page == "  see the documentation: troubleshooting#disk-full-host"
    assert error.startswith(f"Error: not enough space for the image in {world.cache}: it needs at least ")
    assert not list(small_disk.rglob("*.part"))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MiB."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    mount = tmp_path / "small"
    mount.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", mount], check=True)
    yield mount
    subprocess.run(["umount", mount], check=True)


# Signatures


@pytest.mark.parametrize("checker", ["gpgv", "sqv"])
def test_signature_is_checked_by_what_there_is(checker: str, world: World, images: Images, server: ImageServer) -> None:
    if checker != "gpgv":
        world.without("gpgv")
        world.link_tool(checker)
    base = stream(world, server, images)
    pull_image(world, images, base)
    (listed,) = json.loads(world.machine("image", "ls", "--format", "json").stdout)
    assert listed["Verified"] == "signature"
    server.add(SIGNATURE, other_signature(images, world.root.parent / "other"))
    world.machine("image", "rm", "stable")
    refused = pull(world, base)
    assert refused.status == 125
    assert f"the signature of {base}43/disk.qcow2.xz is invalid: " in refused.stderr


def other_signature(images: Images, directory: Path) -> bytes:
    """By a key that nobody trusts."""
    directory.mkdir()
    shutil.copy(images.xz, directory / "x")
    sign([directory / "x"], directory / "keys")
    return (directory / "x.sig").read_bytes()


def expired_signature(images: Images, directory: Path) -> tuple[bytes, bytes]:
    """A signature and its key, which has expired since."""
    home = Path("/tmp") / f"b2p-gpg-{os.getpid()}"
    home.mkdir(mode=0o700)
    directory.mkdir()
    gpg = ["gpg", "--homedir", str(home), "--batch", "--quiet", "--no-tty", "--passphrase", "", "--faked-system-time"]
    try:
        for words in (
            ["--quick-generate-key", "Old <old@x.invalid>", "ed25519", "sign", "1d"],
            ["--output", str(directory / "sig"), "--detach-sign", str(images.xz)],
            ["--output", str(directory / "key"), "--export"],
        ):
            subprocess.run([*gpg, "20240101T000000!", *words], check=True, capture_output=True)
    finally:
        subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "gpg-agent"], check=False)
        shutil.rmtree(home, ignore_errors=True)
    return (directory / "sig").read_bytes(), (directory / "key").read_bytes()


def test_signatures_that_are_not_good(world: World, images: Images, server: ImageServer, tmp_path: Path) -> None:
    base = stream(world, server, images)
    url = f"{base}43/disk.qcow2.xz"
    bad = f"the signature of {url} is invalid: "
    end = "; nothing was stored; do not use the image"
    (tmp_path / "another").mkdir()
    shutil.copy(images.gz, tmp_path / "another" / "x")
    shutil.copytree(images.xz.parent / "keys", tmp_path / "keys")
    sign([tmp_path / "another" / "x"], tmp_path / "keys")
    old, key = expired_signature(images, tmp_path / "expired")
    cases = [
        (other_signature(images, tmp_path / "other"), "the signing key is not trusted"),
        ((tmp_path / "another" / "x.sig").read_bytes(), "the signature does not belong to this file"),
        (b"<html>", "the signature file contains no signature"),
        (old, "the signing key has expired"),
    ]
    (world.home / "data" / "keys" / "old.gpg").write_bytes(key)
    for signature, reason in cases:
        server.add(SIGNATURE, signature)
        outcome = pull(world, base)
        *_, line, page = outcome.stderr.splitlines()
        assert line.startswith(f"Error: {bad}{reason}"), line
        assert page == "  see the documentation: troubleshooting#signature"
        assert line.endswith(end)
        assert not list(world.cache.glob("sha256-*")) + list(world.cache.glob("downloads/*/*"))
    pull_image(world, images, stream(world, server, images))


def test_missing_signature_is_told_before_the_image_is_fetched(
    world: World, images: Images, server: ImageServer, golden: Golden
) -> None:
    base = stream(world, server, images)
    del server.documents[SIGNATURE]
    refuse_pull(golden, world, base, case="promised")
    unsigned = stream(world, server, images, signature="")
    refuse_pull(golden, world, unsigned, case="not promised")
    assert server.ranges_of(PACKED) == []
    outcome = world.init("box", "stable", "--stream-base-url", base, "--no-verify-signature")
    assert "The signature of fcos:stable is NOT checked, as you asked\n" in outcome.stderr
    assert world.inspect("box")["Machine"]["Image"]["Verified"] == "sha256"
    # What was taken unchecked is not good enough for who wants it checked.
    signed = stream(world, server, images)
    world.init("two", "stable", "--stream-base-url", signed)
    assert world.inspect("two")["Machine"]["Image"]["Verified"] == "signature"
    assert len(server.ranges_of(PACKED)) == 2


def test_local_image_needs_its_own_key_like_any_other(world: World, images: Images) -> None:
    streams = world.home / "data" / "streams"
    streams.mkdir(parents=True)
    shutil.copy(images.xz, streams / "disk.xz")
    (streams / "disk.xz.sig").write_bytes(images.signature)
    described = {**images.hashes, "signature": "disk.xz.sig"}
    (streams / "boot2podman.json").write_bytes(make_metadata_text("disk.xz", stream="boot2podman", **described))
    refused = world.machine("image", "pull", "boot2podman")
    assert "the signing key is not trusted" in refused.stderr
    keys = world.home / "data" / "keys"
    keys.mkdir()
    (keys / PUBLIC_KEY).write_bytes(images.key)
    (streams / "disk.xz.sig").unlink()
    unsigned = world.machine("image", "pull", "boot2podman").stderr.splitlines()
    assert unsigned[-2].startswith("Error: the signature of the image is missing: /")
    assert unsigned[-1] == "  see the documentation: troubleshooting#signature"
    (streams / "disk.xz.sig").write_bytes(images.signature)
    assert world.machine("image", "pull", "--quiet", "boot2podman").stderr == ""
