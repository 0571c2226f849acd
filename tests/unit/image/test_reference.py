"""What a person can type after --image."""

from __future__ import annotations

from pathlib import Path

import pytest

from machine.errors import BadInputError
from machine.image.reference import (
    CatalogueReference,
    EmptyReference,
    FileReference,
    Reference,
    RegistryReference,
    StreamReference,
    UrlReference,
    parse_reference,
)

CHOICES = (
    "choose one of: fcos:stable, fcos:testing, fcos:next, fcos:STREAM@RELEASE, boot2podman, a path, an http(s) URL or "
    "docker://REGISTRY/NAME:TAG"
)


@pytest.mark.parametrize(
    ("text", "reference", "shown"),
    [
        ("fcos:stable", StreamReference(stream="stable", local=False), "fcos:stable"),
        ("testing", StreamReference(stream="testing", local=False), "fcos:testing"),
        ("next", StreamReference(stream="next", local=False), "fcos:next"),
        ("fcos:stable@43.1", StreamReference(stream="stable", local=False, release="43.1"), "fcos:stable@43.1"),
        ("next@43.1", StreamReference(stream="next", local=False, release="43.1"), "fcos:next@43.1"),
        ("/dev/null", EmptyReference(), "/dev/null"),
        (
            "docker://quay.io/podman/machine-os:5.4",
            RegistryReference(registry="quay.io", name="podman/machine-os", version="5.4"),
            "docker://quay.io/podman/machine-os:5.4",
        ),
        (
            "docker://127.0.0.1:5000/a/b",
            RegistryReference(registry="127.0.0.1:5000", name="a/b", version="latest"),
            "docker://127.0.0.1:5000/a/b:latest",
        ),
        (
            "docker://localhost/a@sha256:" + "0" * 64,
            RegistryReference(registry="localhost", name="a", version="sha256:" + "0" * 64),
            "docker://localhost/a@sha256:" + "0" * 64,
        ),
        (
            "docker://disk",
            RegistryReference(registry="docker.io", name="library/disk", version="latest"),
            "docker://docker.io/library/disk:latest",
        ),
        ("boot2podman", StreamReference(stream="boot2podman", local=True), "boot2podman"),
        ("./stable", FileReference(path=Path("stable")), str(Path("stable").absolute())),
        ("disk.raw", FileReference(path=Path("disk.raw")), str(Path("disk.raw").absolute())),
        ("/a b:c/d", FileReference(path=Path("/a b:c/d")), "/a b:c/d"),
        ("http://me:secret@h/x", UrlReference(url="http://me:secret@h/x"), "http://h/x"),
        ("http://h/x", UrlReference(url="http://h/x"), "http://h/x"),
        ("https://h/x", UrlReference(url="https://h/x"), "https://h/x"),
        ("ubuntu", CatalogueReference(name="ubuntu"), "ubuntu"),
        ("ubuntu:26.04", CatalogueReference(name="ubuntu", tag="26.04"), "ubuntu:26.04"),
        ("./ubuntu:26.04", FileReference(path=Path("ubuntu:26.04")), str(Path.cwd() / "ubuntu:26.04")),
    ],
)
def test_reference_and_how_it_is_shown(text: str, reference: Reference, shown: str) -> None:
    assert parse_reference(text) == reference
    assert str(reference) == shown


def test_tilde_is_the_home_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert parse_reference("~/disk.raw") == FileReference(path=Path("/home/me/disk.raw"))


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("fcos:rawhide", 'unknown stream "rawhide"; choose one of: stable, testing, next'),
        ("fcos:", 'unknown stream ""; choose one of: stable, testing, next'),
        ("ftp://h/x", f'images cannot be fetched from "ftp://"; {CHOICES}'),
        ("fcos:stable@", '"stable@" has no release after the @; leave out the @ for the newest release'),
        ("fcos:rawhide@1", 'unknown stream "rawhide"; choose one of: stable, testing, next'),
        ("docker://", '"docker://" does not name an image in a registry; write docker://REGISTRY/NAME:TAG'),
        ("docker://h/Name", '"docker://h/Name" does not name an image in a registry; write docker://REGISTRY/NAME:TAG'),
        (
            "docker://h/n@sha256:12",
            '"docker://h/n@sha256:12" does not name an image in a registry; write docker://REGISTRY/NAME:TAG',
        ),
        ("Ubuntu", f'unknown image "Ubuntu"; {CHOICES}'),
        ("ubuntu:", f'unknown image "ubuntu:"; {CHOICES}'),
        ("ubuntu:26:04", f'unknown image "ubuntu:26:04"; {CHOICES}'),
        ("http://", f'"http://" is not a URL that can be fetched; {CHOICES}'),
        ("http://[half/x", f'"http://[half/x" is not a URL that can be fetched; {CHOICES}'),
    ],
)
def test_what_cannot_be_an_image_is_told_with_what_can(text: str, line: str) -> None:
    with pytest.raises(BadInputError) as caught:
        parse_reference(text)
    assert caught.value.line == line
