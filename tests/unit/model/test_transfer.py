"""Which side is a machine's, and which names copies have."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from machine.errors import BadInputError
from machine.model.transfer import (
    CopyRequest,
    Facts,
    Kind,
    base_name,
    overwrite_error,
    parse_request,
    part_path,
    printable,
    target_path,
)

SIDES = "write the machine's side as NAME:PATH, and a local path that contains a colon as ./PATH"


def facts(kind: Kind = Kind.FILE, mode: int = 0o644) -> Facts:
    return Facts(kind=kind, size=1, mode=mode, uid=0, gid=0, accessed=0, modified=0)


@pytest.mark.parametrize(
    ("source", "destination", "request_"),
    [
        ("a", "box:b", ("box", "a", "b", True)),
        ("box:a", "b", ("box", "a", "b", False)),
        ("./a:b", "box:/c:d", ("box", "./a:b", "/c:d", True)),
        ("/a:b", "box:.", ("box", "/a:b", ".", True)),
        (".a:b", "box:c", ("box", ".a:b", "c", True)),
        ("../a:b", "box:c", ("box", "../a:b", "c", True)),
        ("a b", "box: c ", ("box", "a b", " c ", True)),
        ("-", "box:a", ("box", "-", "a", True)),
        ("box:-", "-", ("box", "-", "-", False)),
        ("~", "box:~", ("box", "~", ".", True)),
        ("a", "box:~/", ("box", "a", ".", True)),
        ("box:~//a/~b", "~/b", ("box", "a/~b", "~/b", False)),
        ("box:./~a", "b", ("box", "./~a", "b", False)),
        (":a", "box:b", ("box", "a", "b", True)),
        ("no machine:a", "b", ("no machine", "a", "b", False)),
    ],
)
def test_one_side_is_a_machines(source: str, destination: str, request_: tuple[str, str, str, bool]) -> None:
    machine, from_path, to_path, to_guest = request_
    assert parse_request(source, destination) == CopyRequest(
        machine=machine, source=from_path, destination=to_path, to_guest=to_guest
    )


@pytest.mark.parametrize(
    ("source", "destination", "message", "hint"),
    [
        ("one:a", "two:b", "copying between two machines is unsupported", SIDES),
        ("a", "b", "a machine name must prefix either the source path or destination path", SIDES),
        ("-", "-", "a machine name must prefix either the source path or destination path", SIDES),
        ("a", "./box:b", "a machine name must prefix either the source path or destination path", SIDES),
        ("box:", "b", 'invalid arguments "box:", "b": you must specify paths', None),
        ("", "box:b", 'invalid arguments "", "box:b": you must specify paths', None),
        ("a", "", 'invalid arguments "a", "": you must specify paths', None),
        (
            "a",
            "box:~core/a",
            'the home directory "~core" cannot be resolved',
            "write the full path, or ./~core/a for a file of that name",
        ),
    ],
)
def test_sides_that_cannot_be_meant(source: str, destination: str, message: str, hint: str | None) -> None:
    with pytest.raises(BadInputError) as caught:
        parse_request(source, destination)
    assert (caught.value.message, caught.value.hint) == (message, hint)


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("a", "a"), ("/x/a", "a"), ("x/a/", "a"), ("a//", "a"), ("...", "..."), (".a", ".a"),
        (".", ""), ("..", ""), ("/", ""), ("x/.", ""), ("x/..", ""), ("x/./", ""), (" ", " "), ("a\n", "a\n"),
    ],
)  # fmt: skip
def test_name_in_the_directory_that_receives(source: str, name: str) -> None:
    assert base_name(source) == name


DIRECTORY = facts(Kind.DIRECTORY, 0o755)


@pytest.mark.parametrize(
    ("destination", "there", "source", "directory", "target"),
    [
        ("new", None, "a", False, "new"),
        ("new", None, "d", True, "new"),
        ("new/", None, "d", True, "new"),
        ("there", DIRECTORY, "x/a", False, "there/a"),
        ("there/", DIRECTORY, "x/d/", True, "there/d"),
        ("there", DIRECTORY, "x/d/.", True, "there"),
        ("/", DIRECTORY, "d", True, "/d"),
        (".", DIRECTORY, "a", False, "./a"),
        ("file", facts(), "a", False, "file"),
    ],
)
def test_target(destination: str, there: Facts | None, source: str, directory: bool, target: str) -> None:
    assert target_path(destination, "SHOWN", there, source, directory=directory) == target


@pytest.mark.parametrize(
    ("destination", "there", "directory", "message"),
    [
        ("no/", None, False, "SHOWN does not exist, and a file can only be copied into an existing directory"),
        ("file", facts(), True, '"SHOWN" exists but is not a directory'),
        ("file/", facts(), False, '"SHOWN" exists but is not a directory'),
    ],
)
def test_destination_that_cannot_be(destination: str, there: Facts | None, directory: bool, message: str) -> None:
    with pytest.raises(BadInputError) as caught:
        target_path(destination, "SHOWN", there, "a", directory=directory)
    assert caught.value.message == message


def test_what_is_in_the_way() -> None:
    assert overwrite_error(facts(), "x", directory=False) is None
    assert overwrite_error(DIRECTORY, "x", directory=True) is None
    reasons = [
        overwrite_error(facts(), "x", directory=True),
        overwrite_error(DIRECTORY, "x", directory=False),
        overwrite_error(facts(Kind.OTHER), "x", directory=False),
    ]
    assert [reason and reason.message for reason in reasons] == [
        '"x" exists but is not a directory',
        '"x" is a directory, which a file cannot replace',
        '"x" is neither a regular file nor a directory',
    ]


def test_set_uid_is_not_kept_as_the_owner_is_not() -> None:
    assert facts(mode=0o6755).kept_mode == 0o755
    assert facts(Kind.DIRECTORY, 0o7755).kept_mode == 0o1755


@given(st.binary(min_size=1, max_size=255).filter(lambda name: b"/" not in name and b"\0" not in name))
def test_part_has_a_name_that_every_directory_takes(name: bytes) -> None:
    path = part_path(f"/x/{os.fsdecode(name)}", "0a1b2c3d")
    assert path.startswith("/x/.")
    assert path.endswith(".part-0a1b2c3d")
    assert path.count("/") == 2
    assert len(os.fsencode(path)) <= 255


def test_part_of_a_relative_name_is_beside_it() -> None:
    assert part_path("a", "1") == ".a.part-1"
    assert part_path("d/a", "1") == "d/.a.part-1"
    assert part_path("/a", "1") == "/.a.part-1"


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"plain", "plain"),
        ("blå 島".encode(), "blå 島"),
        (b"a\nb\x1b[31m", "a\\nb\\x1b[31m"),
        (b"a\xff", "a\\xff"),
    ],
)
def test_path_in_a_message(raw: bytes, text: str) -> None:
    assert printable(os.fsdecode(raw)) == text
