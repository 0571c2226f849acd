"""Which OS a guest has, which image is meant, and what a check has found."""

from __future__ import annotations

import json
from typing import Any

import pytest

from machine.errors import BadInputError, GuestError
from machine.model.guest_os import (
    Family,
    GuestOS,
    OSImage,
    UpgradeCheck,
    parse_check,
    parse_guest_os,
    parse_os_image,
)

COREOS = 'NAME="Fedora Linux"\nID=fedora\nVARIANT_ID=coreos\nPRETTY_NAME="Fedora CoreOS 44.20260707.3.1"\n'
DEBIAN = "PRETTY_NAME='Debian GNU/Linux 13 (trixie)'\nID=debian\nVARIANT_ID=boot2podman\n"


@pytest.mark.parametrize(
    ("said", "family", "name"),
    [
        (f"ostree\n{COREOS}", Family.OSTREE, "Fedora CoreOS 44.20260707.3.1"),
        (DEBIAN, Family.APT, "Debian GNU/Linux 13 (trixie)"),
        ("ID=linuxmint\nID_LIKE='ubuntu debian'\n", Family.APT, "linuxmint"),
        (COREOS, Family.OTHER, "Fedora CoreOS 44.20260707.3.1"),
        ('PRETTY_NAME="no end\nID=alpine\n', Family.OTHER, "alpine"),
        ("", Family.OTHER, "an unknown OS"),
    ],
)
def test_family_is_told_by_how_it_was_booted_and_os_release(said: str, family: Family, name: str) -> None:
    assert parse_guest_os(said) == GuestOS(family=family, name=name)


@pytest.mark.parametrize(
    ("text", "transport", "name"),
    [
        ("quay.io/podman/machine-os:6.0", "registry", "quay.io/podman/machine-os:6.0"),
        ("localhost:5000/os@sha256:0a1b", "registry", "localhost:5000/os@sha256:0a1b"),
        ("myimage:latest", "registry", "myimage:latest"),
        ("docker://quay.io/x", "registry", "quay.io/x"),
        ("registry:quay.io/x:1", "registry", "quay.io/x:1"),
        ("oci:/var/tmp/os", "oci", "/var/tmp/os"),
        ("oci-archive:/var/tmp/os.tar", "oci-archive", "/var/tmp/os.tar"),
        ("containers-storage:localhost/os:1", "containers-storage", "localhost/os:1"),
    ],
)
def test_image_is_one_of_a_registry_or_names_its_transport(text: str, transport: str, name: str) -> None:
    assert parse_os_image(text) == OSImage(transport=transport, name=name)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ftp://quay.io/x", 'unknown transport "ftp" given'),
        ("", '"" is not an image reference'),
        ("oci:", '"oci:" is not an image reference'),
        ("--experimental", '"--experimental" is not an image reference'),
        ("two words", '"two words" is not an image reference'),
    ],
)
def test_image_that_is_none_is_refused(text: str, message: str) -> None:
    with pytest.raises(BadInputError) as refused:
        parse_os_image(text)
    assert refused.value.message == message
    assert refused.value.hint


BOOTED = {"booted": True, "checksum": "abc", "version": "44.1"}
STAGED = {"booted": False, "checksum": "old", "version": "43.9"}
NOTE = "Note: --check and --preview may be unreliable.  See https://github.com/coreos/rpm-ostree/issues/1579\n"


def rpm_ostree(said: str, **facts: str) -> str:
    return (
        json.dumps({"deployments": [STAGED, {**BOOTED, **facts}], "transaction": None}, indent=2) + "\n" + NOTE + said
    )


REGISTRY = "ostree-image-signed:docker://quay.io/fedora/fedora-coreos:stable"


def registry(digest: str, **digests: str) -> str:
    manifests = [{"digest": own, "platform": {"architecture": arch, "os": "linux"}} for arch, own in digests.items()]
    manifest = {"manifests": manifests} if digests else {"layers": []}
    return f"image {REGISTRY} {digest} x86_64\n{json.dumps(manifest, indent=2)}\n"


def from_registry(said: str) -> str:
    other = "image ostree-unverified-registry:quay.io/x sha256:7 x86_64\n{}\n"
    facts = {"container-image-reference": REGISTRY, "container-image-reference-digest": "sha256:1"}
    return rpm_ostree(other + said, **facts)


def bootc(update: dict[str, Any] | None) -> str:
    booted = {"image": {"imageDigest": "sha256:1", "version": "6.0"}, "cachedUpdate": update}
    return json.dumps({"status": {"booted": booted, "staged": None}})


@pytest.mark.parametrize(
    ("said", "version", "current", "new", "available"),
    [
        (rpm_ostree("No updates available.\n"), "44.1", "abc", "abc", False),
        (
            rpm_ostree("AvailableUpdate:\n        Version: 44.2 (2026-07-07T00:00:00Z)\n         Commit: def\n"),
            "44.1", "abc", "def", True,
        ),
        (
            rpm_ostree("AvailableUpdate:\n  Digest: sha256:2\n", **{"container-image-reference-digest": "sha256:1"}),
            "44.1", "sha256:1", "sha256:2", True,
        ),
        (rpm_ostree("AvailableUpdate:\n     Diff: 3 upgraded\n"), "44.1", "abc", "abc", True),
        (from_registry(registry("sha256:1")), "44.1", "sha256:1", "sha256:1", False),
        (from_registry(registry("sha256:2")), "44.1", "sha256:1", "sha256:2", True),
        (from_registry(registry("sha256:9", amd64="sha256:1")), "44.1", "sha256:1", "sha256:1", False),
        (from_registry(registry("sha256:9", arm64="sha256:1", amd64="sha256:2")), "44.1", "sha256:1", "sha256:2", True),
        (from_registry(registry("sha256:1", amd64="sha256:2")), "44.1", "sha256:1", "sha256:1", False),
        (bootc(None), "6.0", "sha256:1", "sha256:1", False),
        (bootc({"imageDigest": "sha256:2"}), "6.0", "sha256:1", "sha256:2", True),
        (bootc({"imageDigest": "sha256:1"}), "6.0", "sha256:1", "sha256:1", False),
    ],
)  # fmt: skip
def test_check_tells_what_is_booted_and_what_is_new(
    said: str, version: str, current: str, new: str, available: bool
) -> None:
    assert parse_check(said) == UpgradeCheck(version=version, current_hash=current, new_hash=new, available=available)


@pytest.mark.parametrize(
    "said",
    [
        "",
        "nonsense",
        "{}",
        '{"deployments": []}',
        '{"status": {"booted": null}}',
        '{"deployments": [3]}',
        "[]",
        from_registry("").replace(REGISTRY, "x"),
    ],
)
def test_check_that_makes_no_sense_is_an_error_of_the_guest(said: str) -> None:
    with pytest.raises(GuestError, match="cannot find out which OS image the guest has booted"):
        parse_check(said)
