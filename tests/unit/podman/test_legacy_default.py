"""What is remembered of an old Podman's default connection; a script plays the client."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from machine.errors import MachineError
from machine.podman.connections import Connection
from machine.podman.legacy_default import LegacyDefault, legacy_default

BOX = LegacyDefault(connection=Connection(name="box", uri="unix:///box.sock"))


class OldPodman:
    """A Podman on PATH, and its file of connections. It notes each run."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.files = [directory / "containers.conf"]
        self.files[0].write_text("[engine]\n")
        self.cache = directory / "cache" / "podman-default.json"
        self.write("4.3.1", "box*\tunix:///box.sock\nother\tunix:///other.sock")

    def write(self, version: str, listing: str) -> None:
        runs, listed = shlex.quote(str(self.directory / "runs")), shlex.quote(listing)
        script = self.directory / "podman"
        script.write_text(
            f"#!/bin/sh\necho run >>{runs}\n"
            f"case $1 in --version) echo podman version {version} ;; *) printf '%s\\n' {listed} ;; esac\n"
        )
        script.chmod(0o755)

    @property
    def runs(self) -> int:
        path = self.directory / "runs"
        return len(path.read_text().splitlines()) if path.exists() else 0

    def default(self) -> LegacyDefault | None:
        return legacy_default(self.files, self.cache)


@pytest.fixture
def podman(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OldPodman:
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return OldPodman(tmp_path)


@pytest.mark.parametrize(
    ("listing", "expected"),
    [
        ("box*\tunix:///box.sock\nother\tunix:///other.sock", BOX),
        ("box\tunix:///box.sock", LegacyDefault(connection=None)),
    ],
    ids=["default", "no default"],
)
def test_client_is_not_run_again(listing: str, expected: LegacyDefault, podman: OldPodman) -> None:
    podman.write("4.3.1", listing)
    assert podman.default() == expected
    before = podman.runs
    assert podman.default() == expected
    assert podman.runs == before > 0


def test_new_client_is_remembered_too(podman: OldPodman) -> None:
    podman.write("5.4.2", "")
    assert podman.default() is None
    before = podman.runs
    assert podman.default() is None
    assert podman.runs == before > 0


def test_client_is_run_again_after_a_change(podman: OldPodman) -> None:
    assert podman.default() == BOX
    podman.files[0].write_text("[engine]\nactive_service = 'other'\n")
    podman.write("4.3.1", "box\tunix:///box.sock\nother*\tunix:///other.sock")
    other = LegacyDefault(connection=Connection(name="other", uri="unix:///other.sock"))
    assert podman.default() == other
    podman.write("5.4.2", "")
    assert podman.default() is None
    podman.write("4.3.1", "")
    podman.files.append(podman.directory / "another.conf")
    podman.files[1].touch()
    assert podman.default() == LegacyDefault(connection=None)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"mark": 1}'])
def test_what_cannot_be_read_is_asked_again(text: str, podman: OldPodman) -> None:
    podman.cache.parent.mkdir()
    podman.cache.write_text(text)
    assert podman.default() == BOX


def test_answer_that_cannot_be_kept_is_given(podman: OldPodman) -> None:
    podman.cache.parent.write_text("no directory")
    assert podman.default() == BOX


def test_client_that_fails_is_told(podman: OldPodman) -> None:
    script = podman.directory / "podman"
    script.write_text("#!/bin/sh\ncase $1 in --version) echo podman version 4.3.1 ;; *) exit 3 ;; esac\n")
    with pytest.raises(MachineError):
        podman.default()
    assert not podman.cache.exists()
