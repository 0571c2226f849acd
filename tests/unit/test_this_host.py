"""What is asked of this host without changing it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from machine.this_host import lasting_path, own_python

CASES = (
    ("Cellar/boot2podman/1.0/bin/machine", "opt/boot2podman/bin/machine"),
    ("Cellar/python@3.14/3.14.2/bin/python3.14", "opt/python@3.14/bin/python3.14"),
    ("Cellar/boot2podman/1.0/bin/other", "Cellar/boot2podman/1.0/bin/other"),  # not in the version that opt links to
    ("bin/machine", "bin/machine"),
    ("Cellar", "Cellar"),
)


@pytest.mark.parametrize(("path", "lasting"), CASES)
def test_path_of_one_version_becomes_that_of_homebrews_link(tmp_path: Path, path: str, lasting: str) -> None:
    for there in ("opt/boot2podman/bin/machine", "opt/python@3.14/bin/python3.14", "bin/machine"):
        (tmp_path / there).parent.mkdir(parents=True)
        (tmp_path / there).touch()
    assert lasting_path(tmp_path / path) == tmp_path / lasting


def test_own_python_outlives_an_upgrade(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for version in ("1.0", "1.1"):
        python = tmp_path / "Cellar" / "boot2podman" / version / "libexec" / "bin" / "python3"
        python.parent.mkdir(parents=True)
        python.touch()
    (tmp_path / "opt").mkdir()
    (tmp_path / "opt" / "boot2podman").symlink_to("../Cellar/boot2podman/1.1")
    monkeypatch.setattr(sys, "executable", f"{tmp_path}/Cellar/boot2podman/1.0/libexec/bin/python3")
    assert own_python() == f"{tmp_path}/opt/boot2podman/libexec/bin/python3"
