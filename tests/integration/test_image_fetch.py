"""Images on their way into the cache: from a real server, which fails in every way."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import shutil
import signal
import socket
import threading
import time
from pathlib import Path

import pytest

from machine.image.download import PIECE_BYTES, Download
from machine.image.web import FetchError, Web, WebSettings
from tests.support.certificates import make_certificate
from tests.support.disk_images import Images, sha256
from tests.support.golden import Golden
from tests.support.http_server import Fault, ImageServer, serving
from tests.support.streams import (
    PACKED,
    SIGNATURE,
    download_of,
    pull,
    pull_image,
    refuse_image,
    refuse_pull,
    stream,
    write_partial_download,
)
from tests.support.waiting import wait_until
from tests.support.world import COMMAND_S, World

CERTIFICATE = "\n  see the documentation: troubleshooting#certificate"
UNREACHABLE = "  see the documentation: troubleshooting#unreachable\n"
PROXY_HINT = "; proxies come from the environment: env | grep -i _proxy\n  see the documentation: troubleshooting#proxy"

# The main way


def test_stream_is_fetched_once_and_cached(world: World, images: Images, server: ImageServer) -> None:
    base = stream(world, server, images)
    outcome = world.init("one", "fcos:stable", "--stream-base-url", base)
    asked, fetched = outcome.stderr.splitlines()
    assert asked == f"Asking for {base}43/disk.qcow2.xz"
    assert re.fullmatch(r"Fetching fcos:stable 43\.20260101\.3\.0 for \w+, [\d.]+[KM]iB", fetched)
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
    assert unknown.stderr == 'Error: stream stable has no release "41.9"; its newest release is 42.2\n'
    wrong = pull(world, base, "stable@42.2")
    assert wrong.stderr.endswith("release.json describes release 42.1 of stable, not 42.2 of stable\n")


def test_server_with_a_certificate_is_checked(
    world: World, images: Images, certificate: Path, server: ImageServer
) -> None:
    with serving(certificate) as secure:
        base = stream(world, secure, images)
        url = f"{base}stable.json"
        refused = pull(world, base)
        assert refused.stderr == (
            f"Error: cannot fetch {url}: certificate signed by unknown authority; name a file with its authority's "
            "certificate in SSL_CERT_FILE, or use --tls-verify=false\n"
            "  see the documentation: troubleshooting#certificate\n"
        )
        pull_image(world, images, base, "--tls-verify=false")
        world.extra["SSL_CERT_FILE"] = str(certificate)
        pull_image(world, images, base)


def test_registry_is_trusted_as_podman_trusts_it(world: World, certificate: Path) -> None:
    """This one has a certificate of an unknown authority, and no image."""
    containers = world.root / "home" / ".config" / "containers"
    with serving(certificate) as secure:
        server = secure.url.removeprefix("https://")
        url = f"{secure.url}/v2/x/y/manifests/1"

        def init(*words: str) -> str:
            return world.machine("init", *words, "--image", f"docker://{server}/x/y:1", "box").stderr

        assert "certificate signed by unknown authority" in init()
        authorities = containers / "certs.d" / server
        authorities.mkdir(parents=True)
        (authorities / "ca.crt").write_bytes(certificate.read_bytes())
        assert init() == f"Error: {url} answered 404 Not Found\n{UNREACHABLE}"
        (authorities / "ca.crt").write_text("none")
        assert init() == f"Error: cannot read the certificate in {authorities}/ca.crt: no certificate or crl found\n"
        shutil.rmtree(authorities)
        (containers / "registries.conf").write_text(f'[[registry]]\nlocation = "{server}"\ninsecure = true\n')
        assert init() == f"Error: {url} answered 404 Not Found\n{UNREACHABLE}"
        assert "certificate signed by unknown authority" in init("--tls-verify")


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("SSL_CERT_FILE", "/nonexistent", ": SSL_CERT_FILE names /nonexistent, which does not exist" + CERTIFICATE),
        ("SSL_CERT_FILE", "/etc/passwd", ": SSL_CERT_FILE names /etc/passwd, which has no certificate" + CERTIFICATE),
        ("https_proxy", "http://a:secret@127.0.0.1:1",
         " through the proxy http://127.0.0.1:1: Connection refused" + PROXY_HINT),
        ("https_proxy", "socks5://127.0.0.1:1",
         " through socks5://127.0.0.1:1, which is not an http(s) proxy" + PROXY_HINT),
        ("https_proxy", "http://:1",
         " through http://:1, which is not an http(s) proxy" + PROXY_HINT),
    ],
)  # fmt: skip
def test_error_names_the_setting_of_the_environment_that_is_wrong(
    world: World, server: ImageServer, variable: str, value: str, told: str
) -> None:
    base = server.url.replace("http:", "https:") + "/"
    world.extra[variable] = value
    assert pull(world, base).stderr == f"Error: cannot fetch {base}stable.json{told}\n"


def test_server_that_does_not_speak_http_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=_greet, args=[listener], daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/x"
        with pytest.raises(FetchError, match="the server does not speak HTTP"), Web(WebSettings()).get(url):
            pass
        thread.join()


def _greet(listener: socket.socket) -> None:
    with listener.accept()[0] as connection:
        connection.recv(4096)
        connection.sendall(b"SSH-2.0-x\r\n")


def test_redirect_is_followed(world: World, images: Images, server: ImageServer) -> None:
    base = stream(world, server, images)
    elsewhere = server.add("/elsewhere", images.xz.read_bytes())
    server.documents[PACKED].redirect = elsewhere
    server.documents["/elsewhere"].faults.append(Fault(cut_after=1_000_000))
    pull_image(world, images, base)
    assert server.ranges_of("/elsewhere")[0] is None
    assert len(server.ranges_of("/elsewhere")) == 2


def test_two_processes_fetch_the_same_image_once(world: World, images: Images, server: ImageServer) -> None:
    base = stream(world, server, images)
    server.rate = 100_000
    words = ("image", "pull", "--stream-base-url", base)
    with world.popen(*words) as one:
        wait_until(lambda: server.ranges_of(PACKED), "the first process to fetch")
        with world.popen(*words) as two:
            assert two.stderr is not None
            assert "Waiting for another process that is fetching the same image\n" in iter(two.stderr.readline, "")
            server.rate = 0
            for process in (one, two):
                process.communicate(timeout=COMMAND_S)
    assert [one.returncode, two.returncode] == [0, 0]
    assert len(server.ranges_of(PACKED)) == 1


def test_proxy_of_the_environment_is_used(world: World, images: Images, server: ImageServer) -> None:
    stream(world, server, images)
    # A proxy is asked for the whole URL; this one knows some.
    base = "http://mirror.invalid/streams/"
    for path in list(server.documents):
        server.documents[f"http://mirror.invalid{path}"] = server.documents[path]
    world.extra["http_proxy"] = server.url
    pull_image(world, images, base)


# Going on where it ended


def test_interrupted_download_goes_on_where_it_ended(world: World, images: Images, server: ImageServer) -> None:
    base = stream(world, server, images)
    write_partial_download(world, images, server, images.xz.read_bytes()[:1_000_000])
    pull_image(world, images, base)
    assert server.ranges_of(PACKED) == ["bytes=1000000-"]


def test_holes_of_an_earlier_download_are_filled(world: World, images: Images, server: ImageServer) -> None:
    base = stream(world, server, images)
    content = images.xz.read_bytes()
    write_partial_download(world, images, server, content[:500_000])
    (download_of(world, images) / f"{1_000_000:016}.part").write_bytes(content[1_000_000:1_200_000])
    pull_image(world, images, base)
    assert server.ranges_of(PACKED) == ["bytes=500000-999999", "bytes=1200000-"]


def test_server_that_sends_everything_again_is_understood(world: World, images: Images, server: ImageServer) -> None:
    base = stream(world, server, images)
    server.documents[PACKED].ranges = False
    write_partial_download(world, images, server, images.xz.read_bytes()[:1_000_000])
    outcome = pull_image(world, images, base)
    assert "or its server cannot resume downloads; starting over\n" in outcome.stderr


def test_whole_download_is_not_asked_for_again(world: World, images: Images, server: ImageServer) -> None:
    base = stream(world, server, images)
    write_partial_download(world, images, server, images.xz.read_bytes())
    pull_image(world, images, base)
    assert server.ranges_of(PACKED) == []


def test_download_of_something_else_is_thrown_away(world: World, images: Images, server: ImageServer) -> None:
    base = stream(world, server, images)
    write_partial_download(world, images, server, bytes(1_000_000))
    pull_image(world, images, base)
    assert server.ranges_of(PACKED)[-1] is None


def test_file_that_changes_while_it_is_away_is_fetched_anew(world: World, images: Images, server: ImageServer) -> None:
    base = stream(world, server, images)
    write_partial_download(world, images, server, images.xz.read_bytes()[:1_000_000])
    server.documents[PACKED].etag = '"another"'
    outcome = pull_image(world, images, base)
    assert "has changed" in outcome.stderr
    assert server.statuses_of(PACKED) == [200, 200]


IN_MEMORY = 512 * 1024
"""The most that four connections may hold in memory, with what was still sent to a process that was killed before."""


def wait_for_another_request(server: ImageServer, asked: int) -> None:
    wait_until(lambda: len(server.requests) > asked, "the request", every_s=0.01)


def test_pulling_the_plug_again_and_again_costs_little(world: World, server: ImageServer) -> None:
    """kill -9 at twenty random moments: the next one goes on, and little is fetched twice."""
    content = bytes(510) + b"\x55\xaa" + random.Random(1).randbytes(32 * 1024**2 - 512)
    digest = hashlib.sha256(content).hexdigest()
    url = server.add("/disk.raw", content)
    server.rate = len(content) / 10
    moments = random.Random(20)
    words = ("image", "pull", "--image-sha256", digest, url)

    def sent() -> int:
        return server.sent.get("/disk.raw", 0)

    def kept() -> int:
        return sum(part.stat().st_size for part in world.cache.glob("downloads/*/*.part"))

    for _ in range(20):
        asked = len(server.requests)
        with world.popen(*words) as process:
            wait_for_another_request(server, asked)
            time.sleep(moments.uniform(0, 0.25))
            process.send_signal(signal.SIGKILL)
            process.communicate()
    # On a busy host, much of what was sent has not been read yet. What has been read is on the disk without delay.
    sent_before, kept_before = sent(), kept()
    with world.popen(*words) as process:
        wait_until(lambda: sent() - sent_before > 2 * IN_MEMORY, "the download")
        with server.line:  # so that no more is sent
            wait_until(lambda: sent() - sent_before - (kept() - kept_before) < IN_MEMORY, "what was sent on the disk")
        process.send_signal(signal.SIGKILL)
        process.communicate()
    server.rate = 0
    sent_before, kept_before = sent(), kept()
    outcome = world.machine(*words)
    assert outcome.stdout == f"sha256:{digest}\n", outcome.stderr
    assert len(server.ranges_of("/disk.raw")) >= 22
    assert sent() - sent_before <= 1.1 * len(content) - kept_before


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
    url = server.add("/large", content, rate=6e6, max_connections=1)
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
    pull_image(world, images, base)


def test_metadata_that_fails_once_is_asked_for_again(world: World, images: Images, server: ImageServer) -> None:
    base = stream(world, server, images)
    server.documents["/streams/stable.json"].faults.append(Fault(status=502))
    pull_image(world, images, base)


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
    pull_image(world, images, base)


def test_unreachable_url(world: World, server: ImageServer, golden: Golden) -> None:
    url = "http://127.0.0.1:1/disk.qcow2"
    refuse_image(golden, world, "image", "pull", url)


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
    pull_image(world, images, stream(world, server, images))


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
    assert f"{base}stable.json answered 503 Service Unavailable; using the copy fetched on {today}\n" in outcome.stderr


def test_image_that_is_not_here_is_not_fetched_offline(
    world: World, images: Images, server: ImageServer, golden: Golden
) -> None:
    base = stream(world, server, images)
    pull_image(world, images, base)
    shutil.rmtree(next(world.cache.glob("sha256-*")))
    refuse_pull(golden, world, base, "--offline")


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    return make_certificate(tmp_path / "both.pem")
