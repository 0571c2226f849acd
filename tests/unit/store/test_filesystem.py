"""What is told of directories: by made-up mounts, and by real directories."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from machine.store.filesystem import file_system_of, file_systems, probe_directory

MOUNTS = {Path("/"): "ext4", Path("/home/me/my files"): "fuse.sshfs", Path("/mnt"): "nfs4"}


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "ext4"),
        ("/home/me", "ext4"),
        ("/home/me/my files", "fuse.sshfs"),
        ("/home/me/my files/deep/down", "fuse.sshfs"),
        ("/home/me/my files too", "ext4"),
        ("/mnt/x", "nfs4"),
    ],
)
def test_directory_is_on_the_nearest_mount_above_it(path: str, kind: str) -> None:
    assert file_system_of(Path(path), MOUNTS) == kind


def test_no_list_of_mounts_tells_nothing() -> None:
    assert file_system_of(Path("/x"), {}) is None


def test_this_host_tells_of_its_own_root() -> None:
    assert file_systems()[Path("/")]


def test_directory_below_a_link_to_nothing(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/gone")
    facts = probe_directory(tmp_path / "link" / "data", {})
    assert facts.broken_link == f"{tmp_path}/link is a symbolic link to /gone, which does not exist"


def test_directory_that_is_there(tmp_path: Path) -> None:
    facts = probe_directory(tmp_path, {Path("/"): "ext4"})
    assert facts.exists
    assert facts.is_directory
    assert facts.writable
    assert (facts.owner, facts.file_system) == (os.geteuid(), "ext4")
    assert facts.free_bytes > 0


def test_directory_that_is_not_there_yet(tmp_path: Path) -> None:
    facts = probe_directory(tmp_path / "a" / "b", {})
    assert (facts.exists, facts.nearest, facts.is_directory) == (False, tmp_path, True)
    assert list(tmp_path.iterdir()) == [tmp_path / "world"]


def test_file_in_the_way_of_a_directory(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    facts = probe_directory(tmp_path / "a" / "b", {})
    assert (facts.exists, facts.nearest, facts.is_directory) == (False, tmp_path / "a", False)


def test_link_to_another_file_system_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert probe_directory(tmp_path / "link", {tmp_path.resolve() / "real": "nfs"}).file_system == "nfs"
