"""Disk images in a real OCI registry, Debian's docker-registry, as podman machine publishes its own."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backports import zstd

from tests.support.disk_images import Images, sha256
from tests.support.waiting import wait_until
from tests.support.world import World

REGISTRY = shutil.which("docker-registry")
NAME = "podman/machine-os"


@dataclass(frozen=True, kw_only=True)
class Repository:
    """A repository to which tests push by the distribution API."""

    address: str
    login: str = ""

    def push_blob(self, content: bytes) -> dict[str, Any]:
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        location = self._request("POST", f"http://{self.address}/v2/{NAME}/blobs/uploads/", b"")
        separator = "&" if "?" in location else "?"
        self._request("PUT", f"{location}{separator}digest={digest}", content, "application/octet-stream")
        return {"mediaType": "application/octet-stream", "digest": digest, "size": len(content)}

    def push_manifest(self, manifest: dict[str, Any], tag: str = "") -> dict[str, Any]:
        body = json.dumps({"schemaVersion": 2, **manifest}).encode()
        digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
        kind = manifest["mediaType"]
        self._request("PUT", f"http://{self.address}/v2/{NAME}/manifests/{tag or digest}", body, kind)
        return {"mediaType": kind, "digest": digest, "size": len(body)}

    def push_disk(self, content: bytes, tag: str, arch: str = "x86_64") -> None:
        """An index with one disk image for each kind of hypervisor."""
        config = self.push_blob(b"{}")
        layer = self.push_blob(content)
        entries = []
        for kind, layers in (("applehv", [config]), ("qemu", [layer])):
            manifest = self.push_manifest(
                {"mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config, "layers": layers}
            )
            platform = {"architecture": arch, "os": "linux"}
            entries.append({**manifest, "platform": platform, "annotations": {"disktype": kind}})
        self.push_manifest({"mediaType": "application/vnd.oci.image.index.v1+json", "manifests": entries}, tag)

    def _request(self, method: str, url: str, body: bytes, kind: str = "") -> str:
        request = urllib.request.Request(url, data=body, method=method)
        if kind:
            request.add_header("Content-Type", kind)
        if self.login:
            request.add_header("Authorization", f"Basic {base64.b64encode(self.login.encode()).decode()}")
        with urllib.request.urlopen(request, timeout=20) as answer:
            return str(answer.headers.get("Location", ""))


@contextlib.contextmanager
def registry(directory: Path, login: str = "") -> Iterator[Repository]:
    """A registry that ends with the block; with `login`, USER:PASSWORD, it is nobody else's."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    settings: dict[str, Any] = {
        "version": "0.1",
        "log": {"level": "error"},
        "storage": {"filesystem": {"rootdirectory": str(directory / "storage")}},
        "http": {"addr": address},
    }
    if login:
        user, _, password = login.partition(":")
        hashed = subprocess.run(["htpasswd", "-nbB", user, password], check=True, capture_output=True, text=True).stdout
        (directory / "htpasswd").write_text(hashed)
        settings["auth"] = {"htpasswd": {"realm": "tests", "path": str(directory / "htpasswd")}}
    (directory / "config.yml").write_text(json.dumps(settings))  # JSON is YAML too
    assert REGISTRY is not None, "Debian's docker-registry is needed by these tests"
    log = (directory / "log").open("wb")
    with log, subprocess.Popen([REGISTRY, "serve", directory / "config.yml"], stdout=log, stderr=log) as process:
        try:
            wait_until(lambda: _answers(address) or process.poll() is not None, "the registry")
            assert process.poll() is None
            yield Repository(address=address, login=login)
        finally:
            process.send_signal(signal.SIGTERM)


def _answers(address: str) -> bool:
    try:
        urllib.request.urlopen(f"http://{address}/v2/", timeout=5).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


def test_disk_image_of_a_registry(world: World, images: Images, tmp_path: Path) -> None:
    packed = zstd.compress(images.qcow2.read_bytes())
    with registry(tmp_path) as repository:
        repository.push_disk(packed, "5.4")
        reference = f"docker://{repository.address}/{NAME}:5.4"
        world.init("box", reference, "--tls-verify=false")
        assert "tls_verify = false\n" in world.must("export", "box").stdout
        image = world.inspect("box")["Machine"]["Image"]
        assert image["Reference"] == reference
        assert image["Digest"] == f"sha256:{sha256(images.qcow2)}"
        assert image["Verified"] == "sha256"
        refused = world.machine("image", "pull", "--tls-verify=false", f"docker://{repository.address}/{NAME}:9")
        assert refused.stderr.startswith(f"Error: http://{repository.address}/v2/{NAME}/manifests/9 answered 404")
        checked = world.machine("image", "pull", reference)
        assert checked.stderr == (
            f"Error: cannot fetch https://{repository.address}/v2/{NAME}/manifests/5.4: server gave HTTP response to "
            "HTTPS client; use --tls-verify=false if you trust the network\n"
        )
    assert world.machine("image", "pull", "-q", "--offline", reference).stdout == f"sha256:{sha256(images.qcow2)}\n"


def test_registry_without_the_image_that_is_wanted(world: World, images: Images, tmp_path: Path) -> None:
    with registry(tmp_path) as repository:
        repository.push_disk(images.xz.read_bytes(), "arm", arch="arm64")
        config, layer = repository.push_blob(b"{}"), repository.push_blob(b"x")
        repository.push_manifest(
            {"mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config, "layers": [layer, config]},
            "container",
        )
        cases = {
            "arm": f"docker://{repository.address}/{NAME}:arm has no image for x86_64; its architectures are: arm64",
            "container": (
                f"docker://{repository.address}/{NAME}:container is not a disk image: it has 2 layers instead of one; "
                "disk images for podman machine are at docker://quay.io/podman/machine-os:VERSION"
            ),
        }
        for tag, line in cases.items():
            reference = f"docker://{repository.address}/{NAME}:{tag}"
            refused = world.machine("image", "pull", "--tls-verify=false", reference)
            assert (refused.status, refused.stderr) == (125, f"Error: {line}\n")
        arm = world.machine(
            "image",
            "pull",
            "-q",
            "--arch",
            "aarch64",
            "--tls-verify=false",
            f"docker://{repository.address}/{NAME}:arm",
        )
        assert arm.stdout == f"sha256:{sha256(images.qcow2)}\n", arm.stderr


def test_registry_that_wants_a_login(world: World, images: Images, tmp_path: Path) -> None:
    with registry(tmp_path, "me:secret") as repository:
        repository.push_disk(images.xz.read_bytes(), "5.4")
        reference = f"docker://{repository.address}/{NAME}:5.4"
        refused = world.machine("image", "pull", "--tls-verify=false", reference)
        assert refused.stderr == f"Error: {reference} is not public; log in with: podman login {repository.address}\n"
        auth = world.root / "auth.json"
        world.extra["REGISTRY_AUTH_FILE"] = os.fspath(auth)
        for password, status in (("wrong", 125), ("secret", 0)):
            encoded = base64.b64encode(f"me:{password}".encode()).decode()
            auth.write_text(json.dumps({"auths": {repository.address: {"auth": encoded}}}))
            outcome = world.machine("image", "pull", "--tls-verify=false", reference)
            assert outcome.status == status, outcome.stderr
        assert "secret" not in "".join(path.read_text() for path in world.cache.glob("*/artifact.json"))
