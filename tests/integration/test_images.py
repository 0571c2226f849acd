"""Images on their way into the cache: from a real server that fails in every way, checked by the real gpgv."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from machine.guestimage.publish import PUBLIC_KEY, sign
from machine.image.download import PIECE_BYTES, Download
from machine.image.web import WebSettings
from tests.support.builders import make_metadata_text
from tests.support.disk_images import Images, sha256
from tests.support.golden import Golden
from tests.support.http_server import Fault, ImageServer, serving
from tests.support.streams import PACKED, SIGNATURE, download_of, part_of, stream
from tests.support.transcripts import transcript, without_steps
from tests.support.world import Outcome, World


def arrived(world: World, images: Images, server: ImageServer, content: bytes) -> None:
    """What an earlier attempt has left of the packed image."""
    part = part_of(world, images)
    part.parent.mkdir(parents=True)
    part.write_bytes(content)
    served = server.documents[PACKED]
    version = {"etag": served.tag, "modified": "", "size": len(served.content)}
    (part.parent / "source.json").write_text(json.dumps(version))


def pull(world: World, base: str, *words: str) -> Outcome:
    return world.machine("image", "pull", "--stream-base-url", base, *words)


def pulled(world: World, images: Images, base: str, *words: str) -> Outcome:
    outcome = pull(world, base, *words)
    assert outcome.status == 0, outcome.stderr
    assert outcome.stdout == f"sha256:{sha256(images.qcow2)}\n"
    assert not list(world.cache.glob("downloads/*/*")) + list(world.cache.glob(".new-*"))
    return outcome


def refuse(golden: Golden, world: World, *words: str | Path, case: str = "") -> None:
    """A command that fails as the golden file has it, and leaves nothing half-made."""
    outcome = world.machine(*words)
    golden.matches(transcript(world, without_steps(outcome), *words), case)
    assert (outcome.status, outcome.stdout) == (125, "")
    assert not list(world.cache.glob("sha256-*")) + list(world.cache.glob(".new-*"))


def refuse_pull(golden: Golden, world: World, base: str, *words: str, case: str = "") -> None:
    refuse(golden, world, "image", "pull", "--stream-base-url", base, *words, case=case)


# The main way


def test_stream_is_fetched_once_and_cached(world: World, images: Images, server: ImageServer) -> None:
    base = stream(world, server, images)
    outcome = world.init("one", "fcos:stable", "--stream-base-url", base)
    assert outcome.stderr == f"Fetching {base}43/disk.qcow2.xz\n"
    assert world.init("two", "stable", "--stream-base-url", base).stderr == ""
    assert server.ranges_of(PACKED) == [None]
    image = world.inspect("two")["Machine"]["Image"]
    assert (image["Stream"], image["Release"]) == ("stable", "43.20260101.3.0")
    assert image["Digest"] == f"sha256:{sha256(images.qcow2)}"
    assert image["Verified"] == "signature"
    assert "boot2podman local images" in image["Signer"]
    assert server.statuses_of("/streams/stable.json") == [200, 304]


def test_base_url_may_be_a_setting(world: World, images: Images, server: ImageServer) -> None:
    base = stream(world, server, images)
    config = world.home / "config" / "config.toml"
    config.parent.mkdir(parents=True)
    config.write_text(f'stream_base_url = "{base}"\n')
    world.init("box", "stable")
    assert server.ranges_of(PACKED) == [None]


def test_release_that_is_pinned_comes_by_its_own_metadata(world: World, images: Images, server: ImageServer) -> None:
    base = stream(world, server, images)
    index = {"releases": [{"version": "42.1", "metadata": "builds/42.1/release.json"}]}
    server.add("/prod/streams/stable/releases.json", json.dumps(index).encode())
    # The index may say what it likes: a release is what its own metadata says.
    index["releases"].append({"version": "42.2", "metadata": "builds/42.1/release.json"})
    server.add("/prod/streams/stable/releases.json", json.dumps(index).encode())
    disk = {"location": f"{server.url}{PACKED}", "signature": f"{server.url}{SIGNATURE}", "sha256": sha256(images.xz)}
    media = {"qemu": {"artifacts": {"qcow2.xz": {"disk": disk}}}}
    release = {"release": "42.1", "stream": "stable", "architectures": {"x86_64": {"media": media}}}
    server.add("/prod/streams/stable/builds/42.1/release.json", json.dumps(release).encode())
    world.init("box", "fcos:stable@42.1", "--stream-base-url", base)
    image = world.inspect("box")["Machine"]["Image"]
    assert (image["Reference"], image["Release"]) == ("fcos:stable@42.1", "42.1")
    unknown = pull(world, base, "stable@41.9")
    assert unknown.stderr == 'Error: stream stable has no release "41.9"; its newest is 42.2\n'
    wrong = pull(world, base, "stable@42.2")
    assert wrong.stderr.endswith("release.json is that of release 42.1 of stable, not of 42.2\n")


def test_server_with_a_certificate_is_checked(
    world: World, images: Images, certificate: Path, server: ImageServer
) -> None:
    with serving(certificate) as secure:
        base = stream(world, secure, images)
        url = f"{base}stable.json"
        refused = pull(world, base)
        assert refused.stderr.startswith(f"Error: cannot fetch {url}: ")
        assert "certificate" in refused.stderr
        world.extra["SSL_CERT_FILE"] = str(certificate)
        pulled(world, images, base)


def test_redirect_is_followed(world: World, images: Images, server: ImageServer) -> None:
    base = stream(world, server, images)
    elsewhere = server.add("/elsewhere", images.xz.read_bytes())
    server.documents[PACKED].redirect = elsewhere
    server.documents["/elsewhere"].faults.append(Fault(cut_after=1_000_000))
    pulled(world, images, base)
    assert server.ranges_of("/elsewhere")[0] is None
    assert len(server.ranges_of("/elsewhere")) == 2


def test_two_processes_fetch_the_same_image_once(world: World, images: Images, server: ImageServer) -> None:
    base = stream(world, server, images)
    server.rate = 4_000_000
    with (
        world.popen("image", "pull", "--stream-base-url", base) as one,
        world.popen("image", "pull", "--stream-base-url", base) as two,
    ):
        said = [process.communicate(timeout=60) for process in (one, two)]
    assert [one.returncode, two.returncode] == [0, 0]
    assert len(server.ranges_of(PACKED)) == 1
    assert sum("Another process is fetching the same image: waiting for it\n" in stderr for _, stderr in said) == 1


def test_proxy_of_the_environment_is_used(world: World, images: Images, server: ImageServer) -> None:
    stream(world, server, images)
    # A proxy is asked for the whole URL; this one knows some.
    base = "http://mirror.invalid/streams/"
    for path in list(server.documents):
        server.documents[f"http://mirror.invalid{path}"] = server.documents[path]
    world.extra["http_proxy"] = server.url
    pulled(world, images, base)


# Going on where it ended


def test_interrupted_download_goes_on_where_it_ended(world: World, images: Images, server: ImageServer) -> None:
    base = stream(world, server, images)
    arrived(world, images, server, images.xz.read_bytes()[:1_000_000])
    pulled(world, images, base)
    assert server.ranges_of(PACKED) == ["bytes=1000000-"]


def test_holes_of_an_earlier_download_are_filled(world: World, images: Images, server: ImageServer) -> None:
    base = stream(world, server, images)
    content = images.xz.read_bytes()
    arrived(world, images, server, content[:500_000])
    (download_of(world, images) / f"{1_000_000:016}.part").write_bytes(content[1_000_000:1_200_000])
    pulled(world, images, base)
    assert server.ranges_of(PACKED) == ["bytes=500000-999999", "bytes=1200000-"]


def test_server_that_sends_everything_again_is_understood(world: World, images: Images, server: ImageServer) -> None:
    base = stream(world, server, images)
    server.documents[PACKED].ranges = False
    arrived(world, images, server, images.xz.read_bytes()[:1_000_000])
    outcome = pulled(world, images, base)
    assert "or its server cannot resume downloads: starting over\n" in outcome.stderr


def test_whole_download_is_not_asked_for_again(world: World, images: Images, server: ImageServer) -> None:
    base = stream(world, server, images)
    arrived(world, images, server, images.xz.read_bytes())
    pulled(world, images, base)
    assert server.ranges_of(PACKED) == []


def test_download_of_something_else_is_thrown_away(world: World, images: Images, server: ImageServer) -> None:
    base = stream(world, server, images)
    arrived(world, images, server, bytes(1_000_000))
    pulled(world, images, base)
    assert server.ranges_of(PACKED)[-1] is None


def test_file_that_changes_while_it_is_away_is_fetched_anew(world: World, images: Images, server: ImageServer) -> None:
    base = stream(world, server, images)
    arrived(world, images, server, images.xz.read_bytes()[:1_000_000])
    server.documents[PACKED].etag = '"another"'
    outcome = pulled(world, images, base)
    assert "has changed" in outcome.stderr
    assert server.statuses_of(PACKED) == [200, 200]


def test_pulling_the_plug_again_and_again_costs_little(world: World, server: ImageServer) -> None:
    """kill -9 at twenty random moments: the next one goes on, and little is fetched twice."""
    content = bytes(510) + b"\x55\xaa" + random.Random(1).randbytes(32 * 1024**2 - 512)
    digest = hashlib.sha256(content).hexdigest()
    url = server.add("/disk.raw", content)
    server.rate = len(content) / 10
    moments = random.Random(20)
    words = ("image", "pull", "--image-sha256", digest, url)
    for _ in range(20):
        asked = len(server.requests)
        with world.popen(*words) as process:
            until = time.monotonic() + 20
            while len(server.requests) == asked:
                assert process.poll() is None
                assert time.monotonic() < until
                time.sleep(0.01)
            time.sleep(moments.uniform(0, 0.25))
            process.send_signal(signal.SIGKILL)
            process.communicate()
    server.rate = 0
    outcome = world.machine(*words)
    assert outcome.stdout == f"sha256:{digest}\n", outcome.stderr
    assert len(server.ranges_of("/disk.raw")) >= 21
    assert server.sent["/disk.raw"] <= 1.1 * len(content), server.sent["/disk.raw"] / len(content)


# Several connections


def test_more_connections_come_where_each_is_slow(server: ImageServer, tmp_path: Path) -> None:
    content = os.urandom(6 * PIECE_BYTES)
    url = server.add("/large", content, rate=6e6)
    with Download(url, tmp_path / "d", WebSettings()) as download:
        assert fetched(download) == content
    assert len(server.ranges_of("/large")) > 3
    assert server.sent["/large"] <= 1.1 * len(content)


def test_one_connection_is_enough_where_the_line_is_the_limit(server: ImageServer, tmp_path: Path) -> None:
    content = os.urandom(4 * PIECE_BYTES)
    url = server.add("/large", content)
    server.rate = 6e6
    with Download(url, tmp_path / "d", WebSettings()) as download:
        assert fetched(download) == content
    assert download._pace.workers <= 2  # a second one is tried, and let go as soon as it brings nothing
    assert server.sent["/large"] <= 1.1 * len(content)


def test_server_without_ranges_has_one_connection(server: ImageServer, tmp_path: Path) -> None:
    content = os.urandom(3 * PIECE_BYTES)
    url = server.add("/large", content, rate=8e6, ranges=False)
    with Download(url, tmp_path / "d", WebSettings()) as download:
        assert fetched(download) == content
    assert server.ranges_of("/large") == [None]


def fetched(download: Download) -> bytes:
    with download.reader() as reader:
        return b"".join(iter(lambda: reader.read(1024**2) or b"", b""))


def test_server_that_allows_one_connection_is_content_with_one(server: ImageServer, tmp_path: Path) -> None:
    content = os.urandom(4 * PIECE_BYTES)
    url = server.add("/large", content, rate=6e6, most_connections=1)
    with Download(url, tmp_path / "d", WebSettings()) as download:
        assert fetched(download) == content
    assert 503 in server.statuses_of("/large")


# Servers that fail


@pytest.mark.parametrize(
    "faults",
    [
        [Fault(status=500)],
        [Fault(status=503), Fault(cut_after=0)],
        [Fault(cut_after=700_000), Fault(cut_after=700_000), Fault(cut_after=700_000), Fault(cut_after=700_000)],
        [Fault(wrong_length=1000)],
    ],
    ids=["500 then fine", "503, silence, then fine", "cut four times", "a length that is too long once"],
)
def test_server_that_recovers_is_forgiven(
    faults: list[Fault], world: World, images: Images, server: ImageServer
) -> None:
    base = stream(world, server, images)
    server.documents[PACKED].faults.extend(faults)
    pulled(world, images, base)


def test_metadata_that_fails_once_is_asked_for_again(world: World, images: Images, server: ImageServer) -> None:
    base = stream(world, server, images)
    server.documents["/streams/stable.json"].faults.append(Fault(status=502))
    pulled(world, images, base)


def always(fault: Fault) -> list[Fault]:
    return [fault] * 20


SERVER_FAULTS = {"500": Fault(status=500), "403": Fault(status=403), "cut at once": Fault(cut_after=0)}


@pytest.mark.parametrize("what", SERVER_FAULTS)
def test_server_that_does_not_recover_is_told(
    what: str, world: World, images: Images, server: ImageServer, golden: Golden
) -> None:
    base = stream(world, server, images)
    server.documents[PACKED].faults.extend(always(SERVER_FAULTS[what]))
    refuse_pull(golden, world, base)
    asked = len(server.ranges_of(PACKED))
    assert asked == 1 if what == "403" else asked > 2
    server.documents[PACKED].faults.clear()
    pulled(world, images, base)


def test_unreachable_url(world: World, server: ImageServer, golden: Golden) -> None:
    url = "http://127.0.0.1:1/disk.qcow2"
    refuse(golden, world, "image", "pull", url)


def test_stream_without_metadata(world: World, server: ImageServer, golden: Golden) -> None:
    refuse_pull(golden, world, server.url, "testing")


@pytest.mark.parametrize("path", ["/streams/stable.json", PACKED], ids=["metadata", "image"])
def test_web_page_in_place_of_what_was_asked_for(
    path: str, world: World, images: Images, server: ImageServer, golden: Golden
) -> None:
    base = stream(world, server, images)
    server.documents[path].content = b"<html>Please log in to the hotel's network</html>"
    refuse_pull(golden, world, base)
    server.documents.clear()
    pulled(world, images, stream(world, server, images))


# Offline


def test_host_that_is_offline_uses_what_it_knows(world: World, images: Images, server: ImageServer) -> None:
    base = stream(world, server, images)
    world.init("one", "stable", "--stream-base-url", base)
    asked = len(server.requests)
    world.init("two", "stable", "--stream-base-url", base, "--offline")
    assert len(server.requests) == asked
    metadata = server.documents.pop("/streams/stable.json")
    metadata.faults.extend(always(Fault(status=503)))
    server.documents["/streams/stable.json"] = metadata
    outcome = world.init("three", "stable", "--stream-base-url", base)
    today = time.strftime("%Y-%m-%d", time.gmtime())
    assert f"{base}stable.json answered 503 Service Unavailable: using the copy of {today}\n" in outcome.stderr


def test_image_that_is_not_here_is_not_fetched_offline(
    world: World, images: Images, server: ImageServer, golden: Golden
) -> None:
    base = stream(world, server, images)
    pulled(world, images, base)
    shutil.rmtree(next(world.cache.glob("sha256-*")))
    refuse_pull(golden, world, base, "--offline")


# Content that is not what it should be


def test_wrong_hash_of_a_download_keeps_nothing(
    world: World, images: Images, server: ImageServer, golden: Golden
) -> None:
    base = stream(world, server, images, sha256="0" * 64)
    refuse_pull(golden, world, base)
    assert not list(world.cache.glob("downloads/*/*"))
    pulled(world, images, stream(world, server, images))


def test_wrong_hash_of_the_content_keeps_nothing(
    world: World, images: Images, server: ImageServer, golden: Golden
) -> None:
    base = stream(world, server, images, uncompressed_sha256="0" * 64)
    refuse_pull(golden, world, base)


def test_sha256_of_the_users_own_is_checked(world: World, images: Images, server: ImageServer, golden: Golden) -> None:
    url = server.add("/disk.raw.gz", images.gz.read_bytes())
    refuse(golden, world, "image", "pull", url, "--image-sha256", "0" * 64)
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
    assert outcome.stderr.splitlines()[-1].startswith(
        (f"Error: {url} has at least ", f"Error: {url} is damaged: ", f"Error: {url} is cut short")
    )
    assert not list(world.cache.glob("sha256-*"))


def test_download_that_is_cut_short_by_its_publisher(
    world: World, images: Images, server: ImageServer, golden: Golden
) -> None:
    url = server.add("/disk.qcow2.xz", images.xz.read_bytes()[:-100])
    refuse(golden, world, "image", "pull", url)


def test_disk_without_room_is_told_before_anything_is_written(
    world: World, images: Images, server: ImageServer, small_disk: Path
) -> None:
    base = stream(world, server, images)
    world.cache.parent.mkdir(parents=True)
    world.cache.symlink_to(small_disk)
    outcome = pull(world, base)
    assert outcome.status == 125
    assert outcome.stderr.splitlines()[-1].startswith(
        f"Error: not enough space for the image in {world.cache}: it needs at least "
    )
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
    pulled(world, images, base)
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
    end = "; nothing was stored; do not use it"
    (tmp_path / "another").mkdir()
    shutil.copy(images.gz, tmp_path / "another" / "x")
    shutil.copytree(images.xz.parent / "keys", tmp_path / "keys")
    sign([tmp_path / "another" / "x"], tmp_path / "keys")
    old, key = expired_signature(images, tmp_path / "expired")
    cases = [
        (other_signature(images, tmp_path / "other"), "it is signed by a key that is not trusted here"),
        ((tmp_path / "another" / "x.sig").read_bytes(), "the signature does not belong to this file"),
        (b"<html>", "the file with the signature contains none"),
        (old, "the key of the signature has expired"),
    ]
    (world.home / "data" / "keys" / "old.gpg").write_bytes(key)
    for signature, reason in cases:
        server.add(SIGNATURE, signature)
        outcome = pull(world, base)
        line = outcome.stderr.splitlines()[-1]
        assert line.startswith(f"Error: {bad}{reason}"), line
        assert line.endswith(end)
        assert not list(world.cache.glob("sha256-*")) + list(world.cache.glob("downloads/*/*"))
    pulled(world, images, stream(world, server, images))


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
    assert "it is signed by a key that is not trusted here" in refused.stderr
    keys = world.home / "data" / "keys"
    keys.mkdir()
    (keys / PUBLIC_KEY).write_bytes(images.key)
    assert world.machine("image", "pull", "--quiet", "boot2podman").stderr == ""


# The cache


def test_base_that_is_damaged_is_made_anew(world: World, images: Images, server: ImageServer) -> None:
    base = stream(world, server, images)
    pulled(world, images, base)
    (image,) = world.cache.glob("sha256-*/image.qcow2")
    whole = image.read_bytes()
    description = image.parent / "artifact.json"
    for spoil in (image.unlink, lambda: os.truncate(image, 1000), lambda: description.write_text("{")):
        image.parent.chmod(0o700)
        if image.exists():
            image.chmod(0o600)
        spoil()
        assert world.machine("image", "ls", "-q").stdout == ""
        pulled(world, images, base)
        assert image.read_bytes() == whole
    image.chmod(0o600)
    image.unlink()
    assert world.machine("image", "prune").status == 0
    assert not list(world.cache.glob("sha256-*"))


def test_promise_made_later_is_remembered(world: World, images: Images, server: ImageServer) -> None:
    url = server.add("/disk.xz", images.xz.read_bytes())
    for words in ((), ("--image-sha256", sha256(images.xz)), ("--image-sha256", sha256(images.xz)), ("--offline",)):
        assert world.machine("image", "pull", url, *words).status == 0
    assert server.ranges_of("/disk.xz") == [None]
    (listed,) = json.loads(world.machine("image", "ls", "--format", "json").stdout)
    assert listed["Verified"] == "sha256"


def test_promise_for_a_local_file_is_checked(world: World, images: Images) -> None:
    world.init("one", images.xz)
    refused = world.machine("image", "pull", images.gz, "--image-sha256", sha256(images.xz))
    promise = f"sha256 {sha256(images.gz)} instead of {sha256(images.xz)}"
    assert refused.stderr == f"Error: {images.gz} is not the expected file: {promise}\n"


def test_image_that_is_neither_file_nor_disk(world: World) -> None:
    fifo = world.root / "fifo"
    os.mkfifo(fifo)
    for path in (fifo, Path("/dev/zero")):
        refused = world.machine("image", "pull", path)
        assert refused.stderr == f"Error: image {path} is neither a file nor a disk\n"


def test_login_in_a_url_is_used_and_not_written_down(world: World, images: Images, server: ImageServer) -> None:
    url = server.add("/disk.xz", images.xz.read_bytes(), login="me:secret")
    assert "answered 401" in world.machine("image", "pull", url).stderr
    world.init("box", url.replace("http://", "http://me:secret@"))
    everything = "".join(path.read_text(errors="replace") for path in world.home.rglob("*.json"))
    assert "secret" not in everything + world.machine("image", "ls").stdout + world.machine("inspect", "box").stdout


def test_removing_nothing_removes_nothing(world: World, images: Images) -> None:
    world.init("box", images.qcow2)
    world.machine("rm", "--force", "box")
    assert world.machine("image", "rm", "").stderr == 'Error: no image "" in the cache; see: machine image ls\n'
    assert len(list(world.cache.glob("sha256-*"))) == 1


def test_machine_without_record_and_disk_blocks_removal_alone(world: World, images: Images) -> None:
    world.init("box", images.qcow2)
    (world.machines / "box" / "record.json").write_text("{")
    (world.machines / "box" / "disk.qcow2").unlink()
    assert len(world.machine("image", "ls", "-q").stdout.splitlines()) == 1
    refused = world.machine("image", "prune").stderr
    assert refused.startswith("Error: cannot find out which image box uses: ")
    assert refused.endswith("; remove it with: machine rm --force box\n")


def test_verbs_of_the_cache(world: World, images: Images, server: ImageServer) -> None:
    base = stream(world, server, images)
    world.init("box", "stable", "--stream-base-url", base)
    url = server.add("/other.raw.gz", images.gz.read_bytes())
    other = world.machine("image", "pull", "--quiet", url).stdout.strip().removeprefix("sha256:")
    heading, first, second = world.machine("image", "ls").stdout.splitlines()
    assert heading.split() == ["REFERENCE", "RELEASE", "ARCH", "SIZE", "VERIFIED", "USED", "BY", "DIGEST"]
    rows = {row.split()[0]: row.split() for row in (first, second)}
    assert rows["fcos:stable"][1:3] == ["43.20260101.3.0", "x86_64"]
    assert rows["fcos:stable"][-3:] == ["signature", "box", sha256(images.qcow2)[:12]]
    assert rows[url][-3:] == ["nothing", "-", other[:12]]
    (described,) = json.loads(world.machine("image", "inspect", other[:12]).stdout)
    assert (described["Reference"], described["UsedBy"]) == (url, [])
    refused = world.machine("image", "rm", other[:12], "stable")
    digest = sha256(images.qcow2)[:12]
    assert refused.stderr == f"Error: fcos:stable ({digest}) is the base of: box; remove these machines first\n"
    assert len(world.machine("image", "ls", "-q").stdout.splitlines()) == 2
    assert world.machine("image", "rm", url).stdout == f"sha256:{other}\n"
    assert world.machine("image", "rm", url).stderr == f'Error: no image "{url}" in the cache; see: machine image ls\n'
    world.machine("rm", "--force", "box")
    assert world.machine("image", "prune", "--keep", "1").stdout == ""
    pruned = world.machine("image", "prune")
    assert pruned.stdout == f"sha256:{sha256(images.qcow2)}\n"
    assert pruned.stderr.startswith("Freed ")
    assert not [path for path in world.cache.rglob("*") if path.is_file() and path.stat().st_size]


def test_base_of_a_machine_with_a_damaged_record_is_in_use(world: World, images: Images) -> None:
    world.init("box", images.qcow2)
    (world.machines / "box" / "record.json").write_text("{")
    assert world.machine("image", "prune").stdout == ""
    assert len(list(world.cache.glob("sha256-*/image.qcow2"))) == 1


def test_prune_does_not_disturb_who_fetches(world: World, images: Images, server: ImageServer) -> None:
    base = stream(world, server, images)
    server.documents[PACKED].faults.append(Fault(stall_after=1_000_000))
    with world.popen("image", "pull", "--stream-base-url", base) as process:
        assert server.stalled.wait(20)
        refused = world.machine("image", "prune")
        process.kill()
        process.communicate()
    assert refused.stderr == "Error: an image is being fetched or a machine made; try again when it is done\n"
    assert world.machine("image", "prune").status == 0
    assert not list(world.cache.glob("downloads/*"))


def test_empty_disk(world: World) -> None:
    world.init("box", "/dev/null", "--disk-size", "3")
    info = subprocess.run(
        ["qemu-img", "info", "--output=json", world.machines / "box" / "disk.qcow2"], check=True, capture_output=True
    )
    facts = json.loads(info.stdout)
    assert (facts["virtual-size"], facts.get("backing-filename")) == (3 * 1024**3, None)


def test_image_that_was_cached_from_a_file_is_known_as_the_streams(
    world: World, images: Images, server: ImageServer
) -> None:
    base = stream(world, server, images)
    world.init("one", images.xz)
    world.init("two", "stable", "--stream-base-url", base, "--no-verify-signature")
    assert server.ranges_of(PACKED) == []


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A key and its self-signed certificate for 127.0.0.1, in one file."""
    key, public, both = (tmp_path / name for name in ("key.pem", "cert.pem", "both.pem"))
    subprocess.run(
        [
            "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1",
            "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", public,
        ],
        check=True, capture_output=True,
    )  # fmt: skip
    both.write_bytes(key.read_bytes() + public.read_bytes())
    return both
