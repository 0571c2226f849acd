"""SFTP servers for the guest's sshfs."""

from __future__ import annotations

from machine.folders.sshfs import sftp_server_command
from machine.model.folders import Folder
from machine.model.host import HostOS

FOLDER = Folder(source="/a, b", target="/x")


def test_sftp_server_writes_nothing_of_what_is_read_only() -> None:
    assert sftp_server_command("/s", FOLDER, HostOS.MACOS, ["confine"]) == ["/s", "-e", "-d", "/a, b"]
    odd = Folder(source="/%", target="/x", read_only=True)
    confined = sftp_server_command("/s", odd, HostOS.LINUX, ["python", "confine.py"])
    assert confined == ["python", "confine.py", "/%", "/s", "-e", "-R", "-d", "/%%"]
