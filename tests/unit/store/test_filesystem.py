"""What is told of directories: by made-up lists of mounts, and by real directories."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from machine.store.filesystem import (
    file_system_of,
    parse_mount,
    parse_mountinfo,
    probe_directory,
    read_mounts,
)

MOUNTINFO = r"""23 28 0:21 / /proc rw,nosuid shared:12 - proc proc rw
28 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
40 28 0:35 / /home/me/my\040files rw shared:5 master:2 - fuse.sshfs me@far:/x rw
41 28 0:36 / /mnt rw - nfs4 far:/x rw
42 41 0:37 / /mnt rw - tmpfs tmpfs rw

cut short
"""

MACOS_MOUNT = """/dev/disk3s1s1 on / (apfs, sealed, local, read-only, journaled)
devfs on /dev (devfs, local, nobrowse)
/dev/disk3s5 on /System/Volumes/Data (apfs, local, journaled, nobrowse, protect)
//me@far/share on /Volumes/my share (smbfs, nodev, nosuid, mounted by me)
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "ext4"),
        ("/home/me", "ext4"),
        ("/home/me/my files", "fuse.sshfs"),
        ("/home/me/my files/deep/down", "fuse.sshfs"),
        ("/home/me/my files too", "ext4"),
        ("/mnt/x", "tmpfs"),
    ],
)
def test_mountinfo_tells_the_file_system(path: str, kind: str) -> None:
    assert file_system_of(Path(path), parse_mountinfo(MOUNTINFO)) == kind


@pytest.mark.parametrize(
    ("path", "kind"), [("/Users/me", "apfs"), ("/dev/x", "devfs"), ("/Volumes/my share/x", "smbfs")]
)
def test_mount_of_macos_tells_the_file_system(path: str, kind: str) -> None:
    assert file_system_of(Path(path), parse_mount(MACOS_MOUNT)) == kind


def test_no_list_of_mounts_tells_nothing() -> None:
    assert file_system_of(Path("/x"), parse_mountinfo("")) is None
    assert file_system_of(Path("/x"), parse_mount("")) is None


def test_this_host_tells_of_its_own_root() -> None:
    assert file_system_of(Path("/"), parse_mountinfo(read_mounts()))


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
