"""Stream metadata, as Fedora CoreOS publishes it and as it may come damaged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from machine.errors import MachineError, NotFoundError
from machine.image.reference import StreamReference
from machine.image.streams import (
    Artifact,
    MetadataCache,
    find_artifact,
    find_container_disk,
    parse_artifact,
    parse_container_disk,
    parse_release,
)
from machine.image.web import Web, WebSettings
from machine.model.arch import Arch
from machine.report import SilentReporter
from tests.support.builders import DIGEST, make_metadata, make_metadata_text

URL = "https://mirror.example/streams/stable.json"
LOCAL = StreamReference(stream="boot2podman", local=True)
STABLE = StreamReference(stream="stable", local=False)


def test_every_field_of_the_image_is_read() -> None:
    text = make_metadata_text(
        "https://elsewhere.example/box.qcow2.xz",
        sha256=DIGEST.upper(),
        uncompressed_sha256=DIGEST.upper(),
        signature="https://elsewhere.example/box.qcow2.xz.sig",
    )
    assert parse_artifact(text, URL, STABLE, Arch.X86_64) == Artifact(
        reference="fcos:stable",
        arch=Arch.X86_64,
        location="https://elsewhere.example/box.qcow2.xz",
        sha256=DIGEST,
        uncompressed_sha256=DIGEST,
        signature="https://elsewhere.example/box.qcow2.xz.sig",
        stream="stable",
        release="43.20260101.3.0",
    )


def test_relative_locations_are_beside_the_metadata() -> None:
    artifact = parse_artifact(make_metadata_text("43/box.qcow2.xz", signature="43/box.sig"), URL, STABLE, Arch.X86_64)
    assert artifact.location == "https://mirror.example/streams/43/box.qcow2.xz"
    assert artifact.signature == "https://mirror.example/streams/43/box.sig"


def test_image_without_an_uncompressed_hash_or_signature_is_accepted() -> None:
    document = make_metadata()
    disk = disk_of(document)
    del disk["uncompressed-sha256"]
    artifact = parse_artifact(json.dumps(document).encode(), URL, STABLE, Arch.X86_64)
    assert (artifact.uncompressed_sha256, artifact.signature) == (None, None)


def disk_of(document: dict[str, Any]) -> dict[str, Any]:
    disk: dict[str, Any] = document["architectures"]["x86_64"]["artifacts"]["qemu"]["formats"]["qcow2.xz"]["disk"]
    return disk


@pytest.mark.parametrize("text", [b"[]", b"null", b'{"stream": "stable"}', b'{"architectures": {}}'])
def test_what_is_no_metadata_is_told_by_its_url(text: bytes) -> None:
    with pytest.raises(MachineError) as caught:
        parse_artifact(text, URL, STABLE, Arch.X86_64)
    assert caught.value.line == f"{URL} is not stream metadata"


@pytest.mark.parametrize(
    ("text", "what"), [(b"", "not JSON"), (b"\n<html>", "a web page"), (b"[" * 200_000, "not JSON")]
)
def test_what_is_no_json_is_told_by_its_url(text: bytes, what: str) -> None:
    with pytest.raises(MachineError) as caught:
        parse_artifact(text, URL, STABLE, Arch.X86_64)
    assert caught.value.line == f"{URL} is {what} instead of metadata"


@pytest.mark.parametrize("field", ["location", "signature"])
def test_metadata_of_a_server_names_no_files_of_this_host(field: str, tmp_path: Path) -> None:
    document = make_metadata(signature="box.sig")
    disk_of(document)[field] = "file:///etc/passwd"
    text = json.dumps(document).encode()
    with pytest.raises(MachineError) as caught:
        parse_artifact(text, URL, STABLE, Arch.X86_64)
    assert caught.value.line == f"{URL} describes no qcow2.xz image for QEMU on x86_64"
    local = parse_artifact(text, (tmp_path / "stable.json").as_uri(), STABLE, Arch.X86_64)
    assert "file:///etc/passwd" in (local.location, local.signature)


def test_missing_architecture_is_told_with_those_that_there_are() -> None:
    with pytest.raises(MachineError) as caught:
        parse_artifact(make_metadata_text(arch="s390x"), URL, STABLE, Arch.AARCH64)
    assert caught.value.line == "stream stable has no image for aarch64; its architectures are: s390x"


def test_stream_without_an_image_for_qemu_is_told() -> None:
    document = make_metadata()
    document["architectures"]["x86_64"]["artifacts"] = {"metal": {}}
    with pytest.raises(MachineError) as caught:
        parse_artifact(json.dumps(document).encode(), URL, STABLE, Arch.X86_64)
    assert caught.value.line == f"{URL} describes no qcow2.xz image for QEMU on x86_64"


@pytest.mark.parametrize("sha256", ["", "0" * 63, "../../../../etc/passwd", "g" * 64])
@pytest.mark.parametrize("key", ["sha256", "uncompressed-sha256"])
def test_hash_that_is_none_is_refused_rather_than_not_checked(key: str, sha256: str) -> None:
    document = make_metadata()
    disk_of(document)[key] = sha256
    with pytest.raises(MachineError) as caught:
        parse_artifact(json.dumps(document).encode(), URL, STABLE, Arch.X86_64)
    assert caught.value.line == f"{URL} describes no qcow2.xz image for QEMU on x86_64"


LEAF: st.SearchStrategy[object] = st.none() | st.integers() | st.text() | st.lists(st.integers(), max_size=2)


@given(
    depth=st.integers(min_value=0, max_value=7),
    field=st.sampled_from(["location", "sha256", "uncompressed-sha256", "signature"]),
    value=LEAF,
)
def test_metadata_with_anything_at_any_depth_is_read_or_refused(depth: int, field: str, value: object) -> None:
    document = make_metadata()
    node = document
    path = ["architectures", "x86_64", "artifacts", "qemu", "formats", "qcow2.xz", "disk", field]
    for key in path[:depth]:
        node = node[key]
    node[path[depth]] = value
    try:
        told = parse_artifact(json.dumps(document).encode(), URL, STABLE, Arch.X86_64).location
    except MachineError as error:
        told = error.line
    assert isinstance(told, str)


def metadata(directory: Path) -> MetadataCache:
    """One that never needs the network."""
    web = Web(WebSettings(offline=True))
    return MetadataCache(directory / "cache", web, offline=True, report=SilentReporter())


def release_document() -> dict[str, Any]:
    """The metadata of one release (stream-metadata-go, release/release.go)."""
    disk = {"location": "https://h/box.qcow2.xz", "sha256": DIGEST, "signature": "https://h/box.qcow2.xz.sig"}
    media = {"qemu": {"artifacts": {"qcow2.xz": {"disk": disk}}}}
    return {
        "release": "43.1", "stream": "stable", "metadata": {},
        "architectures": {"x86_64": {"commit": "0" * 64, "media": media}},
    }  # fmt: skip


def test_release_has_a_schema_of_its_own() -> None:
    text = json.dumps(release_document()).encode()
    assert parse_release(text, URL, STABLE, Arch.X86_64) == Artifact(
        reference="fcos:stable",
        arch=Arch.X86_64,
        location="https://h/box.qcow2.xz",
        sha256=DIGEST,
        signature="https://h/box.qcow2.xz.sig",
        stream="stable",
        release="43.1",
    )


def test_what_is_no_release_is_told() -> None:
    with pytest.raises(MachineError) as caught:
        parse_release(make_metadata_text(), URL, STABLE, Arch.X86_64)
    assert caught.value.line == f"{URL} describes no qcow2.xz image for QEMU on x86_64"
    with pytest.raises(MachineError, match="is not release metadata"):
        parse_release(b"{}", URL, STABLE, Arch.X86_64)


def test_local_stream_that_was_never_built_is_told_with_the_way_to_build_it(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError) as caught:
        find_artifact(LOCAL, Arch.AARCH64, metadata(tmp_path), local=tmp_path, base_url=None)
    remedy = "build one with: machine image build --arch aarch64"
    assert caught.value.line == f"there is no boot2podman image on this host; {remedy}"


def test_local_stream_is_read_from_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "a folder #1"
    folder.mkdir()
    (folder / "boot2podman.json").write_bytes(make_metadata_text(stream="boot2podman"))
    artifact = find_artifact(LOCAL, Arch.X86_64, metadata(tmp_path), local=folder, base_url=None)
    assert artifact.location == (folder / "box.qcow2.xz").as_uri()
    assert artifact.stream == "boot2podman"


CONTAINER = f"quay.io/fedora/fedora-coreos-kubevirt@sha256:{DIGEST}"
IN_STREAM, IN_RELEASE = ("images", "kubevirt"), ("media", "kubevirt", "image")


def with_container(entry: object, *place: str) -> bytes:
    document = {"stream": "stable", "architectures": {"x86_64": entry}}
    for key in reversed(place):
        document["architectures"] = {"x86_64": {key: document["architectures"]["x86_64"]}}  # type: ignore[index]
    return json.dumps(document).encode()


@pytest.mark.parametrize("place", [IN_STREAM, IN_RELEASE])
def test_container_image_for_kubevirt_is_found_by_its_digest(place: tuple[str, ...]) -> None:
    text = with_container({"image": "quay.io/x:stable", "digest-ref": CONTAINER}, *place)
    assert parse_container_disk(text, URL, Arch.X86_64, place) == CONTAINER


@pytest.mark.parametrize(
    "entry", [None, {}, [], {"digest-ref": 1}, {"digest-ref": "quay.io/x:stable"}, {"digest-ref": f"{CONTAINER}\n"}]
)
def test_container_image_without_a_digest_is_none(entry: object) -> None:
    with pytest.raises(MachineError, match=f"^{URL} names no image for KubeVirt on x86_64$"):
        parse_container_disk(with_container(entry, *IN_STREAM), URL, Arch.X86_64, IN_STREAM)


def test_container_image_of_a_release_is_in_the_metadata_of_the_release(tmp_path: Path) -> None:
    (tmp_path / "streams").mkdir()
    index = tmp_path / "prod" / "streams" / "stable"
    index.mkdir(parents=True)
    (tmp_path / "streams" / "stable.json").write_bytes(with_container({"digest-ref": CONTAINER}, *IN_STREAM))
    (index / "releases.json").write_text(json.dumps({"releases": [{"version": "43.1", "metadata": "43.1.json"}]}))
    older = CONTAINER.replace(DIGEST, "cd" * 32)
    (index / "43.1.json").write_bytes(with_container({"digest-ref": older}, *IN_RELEASE))
    metadata = MetadataCache(tmp_path, Web(WebSettings()), offline=True, report=SilentReporter())
    base = (tmp_path / "streams").as_uri()
    release = StreamReference(stream="stable", local=False, release="43.1")
    assert find_container_disk(STABLE, Arch.X86_64, metadata, base_url=base) == CONTAINER
    assert find_container_disk(release, Arch.X86_64, metadata, base_url=base) == older
