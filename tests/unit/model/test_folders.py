"""Folders as a person writes them, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from machine.errors import BadInputError
from machine.model.folders import Folder, check_targets, parse_volume, read_folder
from machine.model.transport import TransportChoice

ENVIRONMENT = {"HOME": "/home/me", "EMPTY": ""}
FORM = "write SRC[:DST[:ro]]; paths must be UTF-8 without colons or control characters"


def parse(text: str) -> Folder:
    return parse_volume(text, environment=ENVIRONMENT, cwd="/work/here")


@pytest.mark.parametrize(
    ("text", "folder"),
    [
        ("/a", Folder(source="/a", target="/a")),
        ("/a:/b", Folder(source="/a", target="/b")),
        ("/a:/b:ro", Folder(source="/a", target="/b", read_only=True)),
        ("/a:/b:ro,rw", Folder(source="/a", target="/b")),
        ("/a:/b:", Folder(source="/a", target="/b")),
        ("/a:/b:security_model=none,ro", Folder(source="/a", target="/b", read_only=True)),
        ("$HOME:$HOME", Folder(source="/home/me", target="/home/me")),
        ("${HOME}/x:/b", Folder(source="/home/me/x", target="/b")),
        ("/a$EMPTY$UNSET:/b", Folder(source="/a", target="/b")),
        ("/a$$HOME:/b$$$HOME", Folder(source="/a$HOME", target="/b$/home/me")),
        ("src:/b", Folder(source="/work/here/src", target="/b")),
        (".", Folder(source="/work/here", target="/work/here")),
        ("//a/../b//c/:/d/./e/", Folder(source="/b/c", target="/d/e")),
        ("/my folder, é:/mnt/my folder, é", Folder(source="/my folder, é", target="/mnt/my folder, é")),
    ],
)
def test_volume_is_read_as_podman_reads_it(text: str, folder: Folder) -> None:
    assert parse(text) == folder


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (":/b", f'invalid volume ":/b"; {FORM}'),
        ("a:b:c:d", f'invalid volume "a:b:c:d"; {FORM}'),
        ("/a\n:/b", f'invalid volume "/a?:/b"; {FORM}'),
        ("/a:/\udcff", f'invalid volume "/a:/?"; {FORM}'),
        ("/a:b", 'invalid volume "/a:b": the path in the guest must be absolute; write SRC[:DST[:ro]]'),
        ("/a:", 'invalid volume "/a:": the path in the guest must be absolute; write SRC[:DST[:ro]]'),
        ("/a:/b ", 'invalid volume "/a:/b ": the path in the guest must not end with white space or a backslash'),
        ("/a:/b\\", 'invalid volume "/a:/b\\": the path in the guest must not end with white space or a backslash'),
        ("/a:/b:z", 'unknown option "z" of volume "/a:/b:z"; choose one of: ro, rw'),
    ],
)
def test_what_is_no_volume(text: str, line: str) -> None:
    with pytest.raises(BadInputError) as caught:
        parse(text)
    assert caught.value.line == line


TAKEN = (
    "/", "/bin", "/boot", "/dev", "/etc", "/home", "/proc", "/root", "/run", "/sbin", "/sys", "/tmp", "/usr", "/var",
    "/dev/shm", "/proc/1", "/sys/fs", "/home/core", "/home/core/.ssh", "/var/home", "/root/.ssh", "/etc/ssh",
    "/etc/systemd", "/etc/systemd/system", "/lib", "/usr/lib", "/usr/bin", "/var/lib", "/sysroot",
)  # fmt: skip


@pytest.mark.parametrize("target", TAKEN)
def test_target_that_the_guest_has_for_itself(target: str) -> None:
    with pytest.raises(BadInputError) as caught:
        check_targets([Folder(source="/a", target=target)], "core")
    assert caught.value.line == (
        f'machine mount destination cannot be "{target}": '
        "consider another location or a subdirectory of an existing location"
    )


@pytest.mark.parametrize(
    "target",
    [
        "/home/me",
        "/home/core/src",
        "/root/x",
        "/tmp/x",
        "/a",
        "/homes",
        "/etc/containers",
        "/usr/local/src",
        "/var/lib/data",
    ],
)
def test_target_that_is_free(target: str) -> None:
    check_targets([Folder(source="/a", target=target)], "core")


@pytest.mark.parametrize(("one", "other"), [("/a", "/a"), ("/a", "/a/b"), ("/a/b/c", "/a")])
def test_targets_that_overlap(one: str, other: str) -> None:
    with pytest.raises(BadInputError) as caught:
        check_targets([Folder(source="/x", target=one), Folder(source="/y", target=other)], "core")
    expected = f'machine mount destinations "{one}" and "{other}" overlap; mount each folder at a path of its own'
    assert caught.value.line == expected


def test_targets_that_begin_alike_do_not_overlap() -> None:
    check_targets([Folder(source="/x", target="/ab"), Folder(source="/x", target="/a")], "core")


PATHS = st.text(st.characters(exclude_characters=":", exclude_categories=["Cc", "Cs"])).map(lambda text: f"/{text}")


@given(PATHS, PATHS, st.booleans())
def test_what_a_record_keeps_comes_back(source: str, target: str, read_only: bool) -> None:
    folder = Folder(source=source, target=target, read_only=read_only)
    assert read_folder(str(folder)) == folder
    assert len(folder.tag.encode()) <= 31


@pytest.mark.parametrize("text", ["", "/a", "/a:b", "a:/b", "/a:/b:rw", "/a:/b:ro:x"])
def test_record_that_has_no_folder(text: str) -> None:
    with pytest.raises(ValueError, match=r"^\".*\" is not SRC\[:DST\[:ro\]\] with absolute paths$"):
        read_folder(text)


def test_podmans_old_word_for_9p_is_known() -> None:
    assert TransportChoice.parse("virtfs") is TransportChoice.NINEP
    with pytest.raises(BadInputError, match='unknown volume driver "nfs"'):
        TransportChoice.parse("nfs")
