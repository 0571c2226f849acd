"""`machine cp` with a real sshd on loopback in the place of a guest: what arrives, and how."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from machine.ops.cp import copy
from machine.report import SilentReporter
from machine.ssh.sftp import GuestFiles
from tests.support.builders import make_context
from tests.support.copying import Guest, names
from tests.support.world import COMMAND_S, machine_program

ODD_NAMES = tuple(
    os.fsdecode(name)
    for name in (
        b"a b", b"new\nline", b"caf\xc3\xa9 \xe5\xb3\xb6", b"latin-1 \xe9\xff", b"*?[x]", b"-q", b"~", b"a:b",
        b"x" * 255
    )
)  # fmt: skip
MEBIBYTE = 1024**2


def make_tree(top: Path) -> None:
    """Every kind of thing, each with a mode and a time of its own."""
    (top / "empty directory").mkdir(parents=True)
    (top / "deep" / "er").mkdir(parents=True)
    (top / "deep" / "er" / "script").write_bytes(b"#!/bin/sh\n")
    (top / "empty").touch()
    (top / "big").write_bytes(os.urandom(3 * MEBIBYTE + 17))
    (top / "exactly").write_bytes(bytes(64 * 1024))
    for name in ODD_NAMES:
        (top / name).write_text("odd")
    modes = {"deep/er/script": 0o750, "empty": 0o600, "big": 0o444, "deep/er": 0o555, "empty directory": 0o1777}
    for name, mode in modes.items():
        (top / name).chmod(mode)
    # The deepest first: what is written below a directory changes its time.
    for number, path in enumerate(sorted(top.rglob("*"), reverse=True)):
        os.utime(path, (1_000_000_000 + number, 1_100_000_000 + number))
    os.utime(top, (1, 2))


def tree(top: Path) -> dict[str, tuple[int, int, bytes | None]]:
    """Mode, time and content of everything, by relative path; links followed."""
    found: dict[str, tuple[int, int, bytes | None]] = {}
    for path in (top, *top.rglob("*")):
        facts = path.stat()
        content = path.read_bytes() if path.is_file() else None
        found[str(path.relative_to(top))] = (stat.S_IMODE(facts.st_mode), int(facts.st_mtime), content)
    return found


def test_tree_goes_there_and_back_with_modes_times_and_odd_names(guest: Guest) -> None:
    make_tree(guest.host / "t")
    guest.copy("t", "box:there")
    assert tree(guest.home / "there") == tree(guest.host / "t")
    guest.copy("box:there", "back")
    assert tree(guest.host / "back") == tree(guest.host / "t")
    assert len(tree(guest.host / "back")) == 8 + len(ODD_NAMES)
    # A second time, over what is there: read-only files, too.
    (guest.home / "there" / "deep" / "er").chmod(0o755)
    (guest.home / "there" / "big").chmod(0o600)
    (guest.home / "there" / "big").write_bytes(b"other")
    guest.copy("t/.", "box:there")
    assert tree(guest.home / "there")["big"] == tree(guest.host / "t")["big"]
    assert list((guest.home / "there").rglob(".*.part-*")) == []


def test_existing_directory_receives_and_a_new_name_is_taken(guest: Guest) -> None:
    (guest.host / "d").mkdir()
    (guest.host / "d" / "f").write_text("f")
    (guest.home / "into").mkdir()
    guest.copy("d", "box:into")
    guest.copy("d/f", "box:into/")
    guest.copy("d/f", "box:~/into/renamed")
    guest.copy("d", f"box:{guest.home}/new/")
    guest.copy("d/.", "box:into")
    found = sorted(str(path.relative_to(guest.home)) for path in guest.home.rglob("*"))
    assert found == ["into", "into/d", "into/d/f", "into/f", "into/renamed", "new", "new/f"]
    guest.copy("box:into/d", ".")
    guest.copy("box:new/f", "./a:b")
    guest.copy("box:~", "home")
    assert names(guest.host) == ["a:b", "d", "home"]
    assert (guest.host / "home" / "into" / "d" / "f").read_text() == "f"


@pytest.mark.parametrize("name", ODD_NAMES, ids=ascii)
def test_odd_name_on_the_command_line(name: str, guest: Guest) -> None:
    path = guest.host / name
    path.write_bytes(b"odd")
    guest.copy("--", path, "box:.")
    path.unlink()
    guest.copy("--", f"box:./{name}", f"./{name}")
    assert path.read_bytes() == b"odd"


def test_links_are_followed_and_loops_and_special_files_are_told(guest: Guest) -> None:
    here = guest.home / "d"
    (here / "sub").mkdir(parents=True)
    (guest.home / "target").write_text("target")
    (here / "link").symlink_to("../target")
    (here / "loop").symlink_to(".")
    (here / "sub" / "up").symlink_to(here)
    (here / "nowhere").symlink_to("no")
    os.mkfifo(here / "fi\nfo")
    done = guest.copy("box:d", "d")
    assert done.stderr.splitlines() == [
        "Copying box:d to d",
        "Skipped box:d/fi\\nfo: it is neither a regular file nor a directory",
        "Skipped box:d/loop: the link points to a directory that contains the link",
        "Skipped box:d/nowhere: the target of the link does not exist",
        "Skipped box:d/sub/up: the link points to a directory that contains the link",
    ]
    assert names(guest.host / "d") == ["link", "sub"]
    assert (guest.host / "d" / "link").read_text() == "target"
    assert not (guest.host / "d" / "link").is_symlink()


def test_link_at_the_destination_stays_and_what_it_leads_to_is_replaced(guest: Guest) -> None:
    (guest.host / "f").write_text("new")
    for side, source, destination in ((guest.home, "f", "box:link"), (guest.host, "box:link", "link")):
        (side / "real").write_text("old")
        (side / "link").symlink_to("real")
        guest.copy(source, destination)
        assert (side / "link").readlink() == Path("real")
        assert (side / "real").read_text() == "new"


@pytest.mark.skipif(os.getuid() != 0, reason="only root may give files away")
def test_file_that_is_replaced_keeps_its_owner(guest: Guest) -> None:
    (guest.host / "f").write_text("new")
    for side, source, destination in ((guest.home, "f", "box:g"), (guest.host, "box:g", "h")):
        path = side / destination.removeprefix("box:")
        path.touch()
        os.chown(path, 1234, 4321)
        guest.copy(source, destination)
        assert (path.stat().st_uid, path.stat().st_gid, path.read_text()) == (1234, 4321, "new")


def test_standard_streams(guest: Guest) -> None:
    content = os.urandom(2 * MEBIBYTE + 1)
    up = guest.cp("-", "box:piped", stdin=content)
    assert (up.status, up.stdout) == (0, b"Copy successful\n")
    assert (guest.home / "piped").read_bytes() == content
    assert stat.S_IMODE((guest.home / "piped").stat().st_mode) == 0o644
    down = guest.cp("box:piped", "-")
    assert (down.status, down.stdout) == (0, content)
    assert down.stderr == "Copying box:piped to standard output\n"
    assert guest.cp("--quiet", "box:piped", "-").stderr == ""
    (guest.home / "piped").chmod(0o400)
    assert guest.cp("-q", "-", "box:piped", stdin=b"").status == 0
    assert (guest.home / "piped").read_bytes() == b""
    assert stat.S_IMODE((guest.home / "piped").stat().st_mode) == 0o400
    (guest.host / "-").write_text("dash")
    guest.copy("./-", "box:-")
    assert guest.cp("box:./-", "-").stdout == b"dash"


def test_standard_streams_that_end(guest: Guest) -> None:
    (guest.home / "big").write_bytes(bytes(MEBIBYTE))
    with Path("/dev/full").open("wb") as full:
        done = guest.cp("-q", "box:big", "-", stdout=full.fileno())
    assert (done.status, done.stderr) == (
        125,
        "Error: copy failed: cannot write to standard output: No space left on device\n",
    )
    read, write = os.pipe()
    os.close(read)
    done = guest.cp("-q", "box:big", "-", stdout=write)
    os.close(write)
    assert (done.status, done.stderr) == (1, "")  # as every command whose output nobody reads
    closed = subprocess.run(
        ["/bin/sh", "-c", f"exec {machine_program()} cp - box:x <&-"],
        env=guest.world.environment, capture_output=True, text=True, check=False, timeout=COMMAND_S,
    )  # fmt: skip
    assert (closed.returncode, closed.stderr) == (125, "Error: cannot read standard input: Bad file descriptor\n")
    assert names(guest.home) == ["big"]


def test_file_that_grows_or_has_no_size_is_read_to_its_end(files: GuestFiles, guest: Guest) -> None:
    (guest.home / "log").write_bytes(os.urandom(200_000))
    chunks = files.read("log", 100)  # as it was when the directory was listed
    assert b"".join(chunks) == (guest.home / "log").read_bytes()
    assert b"".join(files.read("log", 300_000)) == (guest.home / "log").read_bytes()
    assert b"".join(files.read("/proc/self/status", 0)).startswith(b"Name:")
    assert b"".join(files.read("/proc/kallsyms", 0)).count(b"\n") > 1000


class Recorded(SilentReporter):
    def __init__(self) -> None:
        self.steps: list[str] = []
        self.done: list[tuple[int, int | None]] = []

    def step(self, text: str) -> None:
        self.steps.append(text)

    def progress(self, done: int, total: int | None, *, unit: str = "bytes") -> None:
        assert unit == "bytes"
        self.done.append((done, total))


def test_progress_counts_the_bytes_of_all_files(guest: Guest) -> None:
    (guest.host / "d").mkdir()
    (guest.host / "d" / "a").write_bytes(bytes(100_000))
    (guest.host / "d" / "b").write_bytes(bytes(50_000))
    report = Recorded()
    copy(os.fspath(guest.host / "d"), "box:d", make_context(guest.world.home), report)
    assert report.steps == [f"Copying {guest.host}/d to box:d"]
    assert report.done == sorted(report.done)
    assert len(report.done) > 4
    assert report.done[-1] == (150_000, 150_000)


def test_big_file_takes_little_memory(guest: Guest) -> None:
    """Both ways at a speed that lets the test end, and never more than a window of it in memory."""
    size = 256 * MEBIBYTE
    with (guest.home / "big").open("wb") as big:
        big.truncate(size)
    measured = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=2); "
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
        ""
    )
    for words in (("box:big", "big"), ("big", "box:again")):
        done = subprocess.run(
            [sys.executable, "-c", measured, machine_program(), "cp", "-q", *words],
            env=guest.world.environment, cwd=guest.host, capture_output=True, check=True, timeout=COMMAND_S,
        )  # fmt: skip
        assert int(done.stdout) < 128 * 1024
    assert (guest.host / "big").stat().st_size == (guest.home / "again").stat().st_size == size
