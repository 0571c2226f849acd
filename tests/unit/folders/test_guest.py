"""Commands for the guest's folder scripts, and their answers."""

from __future__ import annotations

import shlex

import pytest

from machine.folders.guest import (
    GuestReport,
    mount_command,
    parse_release,
    parse_report,
    release_command,
    sshfs_command,
)
from machine.model.folders import Folder
from machine.model.transport import Transport

FOLDER = Folder(source="/a b", target="/mnt/it's é")
READ_ONLY = Folder(source="/c", target="/c", read_only=True)


def test_every_word_reaches_the_guests_shell_as_it_is() -> None:
    command = mount_command([(FOLDER, Transport.VIRTIOFS), (READ_ONLY, Transport.SSHFS)])
    assert shlex.split(command) == [
        "sh", "-s", "--",
        "virtiofs", FOLDER.tag, "rw", "/mnt/it's é",
        "sshfs", READ_ONLY.tag, "ro", "/c",
    ]  # fmt: skip
    words = shlex.split(sshfs_command("x; y", FOLDER, uid=1000, where="/var/mnt/it's é"))
    assert words == ["sh", "-c", "x; y", "sshfs", "rw", "1000", "/var/mnt/it's é", "/a b"]


def test_report_tells_of_each_folder() -> None:
    can = "can virtiofs\ncan sshfs\ncan nfs\n"
    text = f"{can}mounted 0\nready 1 /var/mnt/a b\nfailed 2 mount: no such device\nsealed 3\ndone\n"
    assert parse_report(text, 4) == GuestReport(
        supported=frozenset({Transport.VIRTIOFS, Transport.SSHFS}),
        mounted=frozenset({0}),
        ready={1: "/var/mnt/a b"},
        failed={2: "mount: no such device"},
        sealed=frozenset({3}),
    )


def test_path_may_have_what_only_unicode_takes_for_the_end_of_a_line() -> None:
    report = parse_report("ready 0 /a\u2028b\x85c\ndone\n", 1)
    assert report is not None
    assert report.ready == {0: "/a\u2028b\x85c"}


def test_report_that_ends_early_is_none() -> None:
    assert parse_report("can virtiofs\nmounted 0\n", 1) is None
    assert parse_report("", 0) is None


def test_report_of_what_was_not_asked_for_counts_for_nothing() -> None:
    report = parse_report("mounted 7\nready x /a\nmounted\nfailed 1\nhello\ndone\n", 2)
    assert report == GuestReport(supported=frozenset(), mounted=frozenset(), ready={}, failed={})


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        ("done\n", None),
        ("", "the script that unmounts the host's folders failed"),
        ("held /a sh, process 7\n", "the guest uses folders of this host: /a sh, process 7"),
        (
            "held /a sh, process 7\nheld /b b, process 8 of container 0123456789ab\ndone\n",
            "the guest uses folders of this host: /a sh, process 7; /b b, process 8 of container 0123456789ab",
        ),
    ],
)
def test_guest_says_what_keeps_a_folder_mounted(output: str, reason: str | None) -> None:
    obstacle = parse_release(output)
    assert (obstacle.reason if obstacle else None) == reason


def test_guest_is_told_which_folders_to_unmount() -> None:
    folder = Folder(source="/a b", target="/c d")
    assert release_command([folder]) == f"sh -s -- {folder.tag} '/c d'"
