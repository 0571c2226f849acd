"""Catalogues and the files of checksums beside the images in them, in the forms that distributions write."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import pytest

from machine.errors import BadInputError, MachineError, NotFoundError
from machine.ignition.assets import images_directory
from machine.image.catalogue import Catalogue, Checksums, load_catalogue, parse_checksums
from machine.image.reference import CatalogueReference
from machine.model.arch import Arch
from machine.model.config import Provisioning

OURS = images_directory() / "catalogue.toml"
URL = "https://h/SUMS"
A, B, C = "a" * 64, "b" * 64, "c" * 128

DEBIAN = f"""\
{"1" * 128}  debian-13-generic-amd64.json
{C}  debian-13-generic-amd64.qcow2
{"2" * 128}  debian-13-generic-amd64.tar.xz
{"3" * 128}  debian-13-genericcloud-amd64.qcow2
"""
UBUNTU = f"""\
{B} *ubuntu-26.04-server-cloudimg-amd64-azure.vhd.tar.gz
{A} *ubuntu-26.04-server-cloudimg-amd64.img
{B} *ubuntu-26.04-server-cloudimg-amd64.manifest
"""
FEDORA = f"""\
-----BEGIN PGP SIGNED MESSAGE-----
Hash: SHA256

# Fedora-Cloud-Base-Generic-44-1.7.x86_64.qcow2: 580649984 bytes
SHA256 (Fedora-Cloud-Base-Generic-44-1.7.x86_64.qcow2) = {A}
# Fedora-Cloud-Base-UEFI-UKI-44-1.7.x86_64.qcow2: 542900224 bytes
SHA256 (Fedora-Cloud-Base-UEFI-UKI-44-1.7.x86_64.qcow2) = {B}
-----BEGIN PGP SIGNATURE-----

iQIzBAEBCAAdFiEENvYS3PJ/fRpIqDXk2/z3HG2fkKYFAmnn
=abcd
-----END PGP SIGNATURE-----
"""


@pytest.mark.parametrize(
    ("text", "name", "found"),
    [
        pytest.param(DEBIAN, "debian-13-generic-amd64.qcow2", Checksums(sha512=C), id="debian"),
        pytest.param(UBUNTU, "ubuntu-26.04-server-cloudimg-amd64.img", Checksums(sha256=A), id="ubuntu"),
        pytest.param(FEDORA, "Fedora-Cloud-Base-Generic-44-1.7.x86_64.qcow2", Checksums(sha256=A), id="fedora"),
        pytest.param(FEDORA.replace("\n", "\r\n"), "Fedora-Cloud-Base-UEFI-UKI-44-1.7.x86_64.qcow2",
                     Checksums(sha256=B), id="line ends"),
        pytest.param(f"{C.upper()}\n", "generic_alpine-3.22.4-x86_64-bios-cloudinit-r0.qcow2", Checksums(sha512=C),
                     id="the digest alone"),
        pytest.param(f"{A}  ./images/x\n{B}  ./x\n", "x", Checksums(sha256=B), id="here, not below"),
        pytest.param(f"SHA256 (x) = {A}\nSHA512 (x) = {C}\n", "x", Checksums(sha256=A, sha512=C), id="both"),
    ],
)  # fmt: skip
def test_checksum_is_found_in_every_form(text: str, name: str, found: Checksums) -> None:
    assert parse_checksums(text.encode(), name, URL) == found


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<html>Sign in to the hotel's network</html>",
        f"{A}  other\n",
        f"{A}  x.qcow2.bak\n",
        f"{'d' * 32}  x.qcow2\n",
        f"MD5 (x.qcow2) = {'d' * 32}\n",
        f"{A}\n{B}\n",
    ],
)
def test_file_without_the_images_checksum_is_refused(text: str) -> None:
    with pytest.raises(MachineError) as caught:
        parse_checksums(text.encode(), "x.qcow2", URL)
    assert caught.value.line == "https://h/SUMS has no SHA-256 or SHA-512 of x.qcow2"


def catalogue(tmp_path: Path, text: str = "") -> Catalogue:
    """Ours, and over it the user's with this text."""
    users = tmp_path / "catalogue.toml"
    if text:
        users.write_text(text)
    return load_catalogue(OURS, users)


def reference(text: str) -> CatalogueReference:
    name, _, tag = text.partition(":")
    return CatalogueReference(name=name, tag=tag)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("debian:13", "debian:13"),
        ("debian:trixie", "debian:13"),
        ("debian", "debian:13"),
        ("ubuntu:26.04", "ubuntu:26.04"),
        ("fedora-cloud:44", "fedora-cloud:44"),
        ("alpine:3.22", "alpine:3.22"),
    ],
)
def test_image_is_found_by_its_tag_or_an_alias(tmp_path: Path, text: str, found: str) -> None:
    assert str(catalogue(tmp_path).find(reference(text)).reference) == found


def test_every_image_of_ours_has_a_checksum_and_a_way_over_tls(tmp_path: Path) -> None:
    images = catalogue(tmp_path).images
    assert images
    for image in images:
        for arch in image.arches:
            assert urlsplit(image.location(arch)).scheme == "https"
            assert "{" not in image.location(arch)
        assert urlsplit(image.checksums).scheme == "https"
        assert {Arch.X86_64, Arch.AARCH64} <= image.arches.keys()


def test_every_name_of_ours_has_one_newest_image(tmp_path: Path) -> None:
    images = catalogue(tmp_path).images
    for name in {image.name for image in images}:
        assert len([image for image in images if image.name == name and "latest" in image.aliases]) == 1


def test_location_has_the_distributions_word_for_the_architecture(tmp_path: Path) -> None:
    image = catalogue(tmp_path).find(reference("debian:13"))
    assert image.location(Arch.AARCH64).endswith("/debian-13-generic-arm64.qcow2")
    with pytest.raises(NotFoundError) as caught:
        image.location(Arch.S390X)
    assert caught.value.line == "debian:13 has no image for s390x; its architectures are: aarch64, ppc64le, x86_64"


def test_unknown_name_and_unknown_tag_are_told_with_what_there_is(tmp_path: Path) -> None:
    images = catalogue(tmp_path)
    with pytest.raises(BadInputError) as name:
        images.find(reference("debain:13"))
    assert name.value.message == 'unknown image "debain:13"'
    assert "fcos:stable" in str(name.value.hint)
    assert "debian:12, debian:13" in str(name.value.hint)
    with pytest.raises(BadInputError) as tag:
        images.find(reference("debian:99"))
    assert tag.value.line == 'unknown image "debian:99"; choose one of: debian:12, debian:13'


USERS = """
["debian:13"]
url = "http://mirror/{arch}.img"
arch = { x86_64 = "amd64" }

["own:9"]
aliases = ["latest"]
url = "file:///srv/own.qcow2"
arch = { x86_64 = "" }
provisioning = "ignition"
packages = []

["own:10"]
url = "file:///srv/own-10.qcow2"
arch = { x86_64 = "" }
"""


def test_users_catalogue_adds_to_ours_and_replaces_in_it(tmp_path: Path) -> None:
    images = catalogue(tmp_path, USERS)
    debian = images.find(reference("debian:13"))
    assert (debian.location(Arch.X86_64), debian.checksums) == ("http://mirror/amd64.img", None)
    assert debian.packages == ("podman",)
    assert images.find(reference("debian:12")).checksums
    own = images.find(reference("own"))
    assert (own.tag, own.provisioning, own.packages) == ("9", Provisioning.IGNITION, ())
    assert [image.tag for image in images.images if image.name == "own"] == ["9", "10"]


GOOD = 'url = "http://h/{arch}"\narch = { x86_64 = "amd64" }\n'


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[", " is not a catalogue: "),
        ("[debian]\n" + GOOD, ': the table ["debian"] must have a name and a tag, as in ["NAME:TAG"]'),
        ('["Debian:13"]\n' + GOOD, ': the table ["Debian:13"] must have a name and a tag, as in ["NAME:TAG"]'),
        ('"d:1" = 2', ': "d:1" must be a table; write ["d:1"]'),
        ('["d:1"]\narch = { x86_64 = "a" }', ': ["d:1"] lacks the key "url"'),
        ('["d:1"]\nurl = "http://h"', ': ["d:1"] lacks the key "arch"'),
        ('["d:1"]\nurl = 1\narch = { x86_64 = "a" }', ': in ["d:1"], url is not a string'),
        ('["d:1"]\nurl = "ftp://h"\narch = { x86_64 = "a" }',
         ': "ftp://h" in ["d:1"] is not a URL that can be fetched'),
        ('["d:1"]\nurl = "http://h/x"\narch = { x86_64 = "a", aarch64 = "b" }',
         ': ["d:1"] has several architectures, so "http://h/x" must contain {arch}'),
        ('["d:1"]\nurl = "http://h/x"\narch = { amd64 = "a" }',
         ': in ["d:1"], "amd64" is not one of x86_64, aarch64, '),
        ('["d:1"]\nurl = "http://h/x"\narch = "amd64"',
         ': in ["d:1"], arch must be a table such as { x86_64 = "amd64" }'),
        ('["d:1"]\nprovisioning = "kickstart"\n' + GOOD,
         ': in ["d:1"], "kickstart" is not one of ignition, cloud-init'),
        ('["d:1"]\naliases = 1\n' + GOOD, ': in ["d:1"], aliases and packages must be lists of strings'),
        ('["d:1"]\npackages = "podman"\n' + GOOD, ': in ["d:1"], aliases and packages must be lists of strings'),
        ('["d:1"]\naliases = [1]\n' + GOOD, ': in ["d:1"], aliases and packages must be lists of strings'),
        ('["d:1"]\nurl = "http://h/{ARCH}"\narch = { x86_64 = "a" }',
         ': "http://h/{ARCH}" in ["d:1"] contains braces, but only {arch} is replaced'),
        ('["fcos:44"]\n' + GOOD, ': the table ["fcos:44"] uses the reserved name fcos'),
        ('["d:1"]\nchecksum = "x"\n' + GOOD,
         ': ["d:1"] has the unknown key "checksum"; choose from aliases, arch, checksums, packages, provisioning, url'),
    ],
)  # fmt: skip
def test_what_is_wrong_in_the_users_catalogue_is_told(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(BadInputError) as caught:
        catalogue(tmp_path, text)
    assert caught.value.line.startswith(f"{tmp_path / 'catalogue.toml'}{problem}")
