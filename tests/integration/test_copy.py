"""`machine cp` against a real sshd on loopback, in the place of a guest: the record's SSH port leads there."""

from __future__ import annotations

import contextlib
import getpass
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from machine.errors import DeadlineError, GuestError, MachineError
from machine.ops.cp import copy
from machine.report import SilentReporter
from machine.ssh import keys, session
from machine.ssh.command import known_hosts_line
from machine.ssh.session import GuestFiles, guest_files
from tests.support.builders import make_context, make_record, make_roots, save_machine
from tests.support.loaded_modules import HEAVY, run_and_list_modules
from tests.support.sshd import Sshd, serving_sshd
from tests.support.start import guest_that_runs
from tests.support.waiting import wait_until
from tests.support.warm import warm_program
from tests.support.world import COMMAND_S, World, machine_program, make_world

ODD_NAMES = tuple(
    os.fsdecode(name)
    for name in (
        b"a b", b"new\nline", b"caf\xc3\xa9 \xe5\xb3\xb6", b"latin-1 \xe9\xff", b"*?[x]", b"-q", b"~", b"a:b",
        b"x" * 255
    )
)  # fmt: skip
MEBIBYTE = 1024**2


@dataclass(kw_only=True)
class Guest:
    """A machine `box` that runs, as far as `machine cp` can see; `home` is where its relative paths begin."""

    world: World
    sshd: Sshd
    home: Path
    host: Path

    def cp(self, *words: str | Path, stdin: bytes | None = None, stdout: int | None = None) -> Done:
        """Run `machine cp` to its end, in the directory `host`; where it has to do with pipes, by itself."""
        if stdin is None and stdout is None and "-" not in words:
            status, said, errors = warm_program(machine_program()).run(
                ["cp", *(os.fspath(word) for word in words)], self.world.environment, self.host, timeout_s=COMMAND_S
            )
            return Done(status=status, stdout=said.encode(), stderr=errors)
        stdout = subprocess.PIPE if stdout is None else stdout
        done = subprocess.run(
            [machine_program(), "cp", *(os.fsencode(word) for word in words)],
            env=self.world.environment,
            cwd=self.host,
            input=stdin or b"",
            stdout=stdout,
            stderr=subprocess.PIPE,
            timeout=COMMAND_S,
            check=False,
        )
        return Done(status=done.returncode, stdout=done.stdout or b"", stderr=done.stderr.decode())

    def copied(self, *words: str | Path) -> Done:
        """One that has to succeed."""
        done = self.cp(*words)
        assert (done.status, done.stdout) == (0, b"Copy successful\n"), done.stderr
        return done

    def refused(self, *words: str | Path, stdin: bytes | None = None) -> str:
        """The one line of a copy that has to fail."""
        done = self.cp("-q", *words, stdin=stdin)
        assert (done.status, done.stdout) == (125, b""), done.stderr
        assert done.stderr.count("\n") == 1
        return done.stderr.removesuffix("\n")

    @contextlib.contextmanager
    def copying(self, *words: str | Path) -> Iterator[subprocess.Popen[bytes]]:
        """One that is under way; a test that fails does not wait for it."""
        with subprocess.Popen(
            ["/usr/bin/env", "--default-signal=INT", machine_program(), "cp", "-q", *words],
            env=self.world.environment,
            cwd=self.host,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process:
            try:
                yield process
            except BaseException:
                process.kill()
                raise


@dataclass(frozen=True, kw_only=True)
class Done:
    status: int
    stdout: bytes
    stderr: str


@contextlib.contextmanager
def running_guest(base: Path, *, options: str = "") -> Iterator[Guest]:
    world = make_world(base / "w")
    home, host, settings = base / "guest", base / "host", base / "etc"
    for directory in (home, host, settings):
        directory.mkdir()
    paths = make_roots(world.home).machine("box")
    paths.directory.mkdir(parents=True)
    subsystem = f"Subsystem sftp internal-sftp -d {home} {options}"
    with serving_sshd(paths.directory, settings, subsystem) as sshd:
        record = save_machine(
            make_roots(base / "aside"), make_record(ssh_port=sshd.target.port, username=getpass.getuser())
        ).record
        record.rename(paths.record)
        with guest_that_runs(paths):
            yield Guest(world=world, sshd=sshd, home=home, host=host)


@pytest.fixture
def guest(short_path: Path) -> Iterator[Guest]:
    with running_guest(short_path) as running:
        yield running


@pytest.fixture
def files(guest: Guest) -> Iterator[GuestFiles]:
    """The guest's files, in this process."""
    with guest_files("box", guest.sshd.target) as opened:
        yield opened


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
    guest.copied("t", "box:there")
    assert tree(guest.home / "there") == tree(guest.host / "t")
    guest.copied("box:there", "back")
    assert tree(guest.host / "back") == tree(guest.host / "t")
    assert len(tree(guest.host / "back")) == 8 + len(ODD_NAMES)
    # A second time, over what is there: read-only files, too.
    (guest.home / "there" / "deep" / "er").chmod(0o755)
    (guest.home / "there" / "big").chmod(0o600)
    (guest.home / "there" / "big").write_bytes(b"other")
    guest.copied("t/.", "box:there")
    assert tree(guest.home / "there")["big"] == tree(guest.host / "t")["big"]
    assert list((guest.home / "there").rglob(".*.part-*")) == []


def test_existing_directory_receives_and_a_new_name_is_taken(guest: Guest) -> None:
    (guest.host / "d").mkdir()
    (guest.host / "d" / "f").write_text("f")
    (guest.home / "into").mkdir()
    guest.copied("d", "box:into")
    guest.copied("d/f", "box:into/")
    guest.copied("d/f", "box:~/into/renamed")
    guest.copied("d", f"box:{guest.home}/new/")
    guest.copied("d/.", "box:into")
    found = sorted(str(path.relative_to(guest.home)) for path in guest.home.rglob("*"))
    assert found == ["into", "into/d", "into/d/f", "into/f", "into/renamed", "new", "new/f"]
    guest.copied("box:into/d", ".")
    guest.copied("box:new/f", "./a:b")
    guest.copied("box:~", "home")
    assert names(guest.host) == ["a:b", "d", "home"]
    assert (guest.host / "home" / "into" / "d" / "f").read_text() == "f"


@pytest.mark.parametrize("name", ODD_NAMES, ids=ascii)
def test_odd_name_on_the_command_line(name: str, guest: Guest) -> None:
    path = guest.host / name
    path.write_bytes(b"odd")
    guest.copied("--", path, "box:.")
    path.unlink()
    guest.copied("--", f"box:./{name}", f"./{name}")
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
    done = guest.copied("box:d", "d")
    assert done.stderr.splitlines() == [
        "Copying box:d to d",
        "Skipped box:d/fi\\nfo: it is neither a regular file nor a directory",
        "Skipped box:d/loop: the link points to a directory that contains it",
        "Skipped box:d/nowhere: the target of the link does not exist",
        "Skipped box:d/sub/up: the link points to a directory that contains it",
    ]
    assert names(guest.host / "d") == ["link", "sub"]
    assert (guest.host / "d" / "link").read_text() == "target"
    assert not (guest.host / "d" / "link").is_symlink()


def test_link_at_the_destination_stays_and_what_it_leads_to_is_replaced(guest: Guest) -> None:
    (guest.host / "f").write_text("new")
    for side, source, destination in ((guest.home, "f", "box:link"), (guest.host, "box:link", "link")):
        (side / "real").write_text("old")
        (side / "link").symlink_to("real")
        guest.copied(source, destination)
        assert (side / "link").readlink() == Path("real")
        assert (side / "real").read_text() == "new"


@pytest.mark.skipif(os.getuid() != 0, reason="only root may give files away")
def test_file_that_is_replaced_keeps_its_owner(guest: Guest) -> None:
    (guest.host / "f").write_text("new")
    for side, source, destination in ((guest.home, "f", "box:g"), (guest.host, "box:g", "h")):
        path = side / destination.removeprefix("box:")
        path.touch()
        os.chown(path, 1234, 4321)
        guest.copied(source, destination)
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
    guest.copied("./-", "box:-")
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


def test_what_cannot_be_copied_is_told_in_a_line(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(guest.host)
    (guest.host / "f").write_text("f")
    (guest.host / "d" / "x").mkdir(parents=True)
    (guest.home / "f").write_text("f")
    (guest.home / "d" / "f").mkdir(parents=True)
    (guest.home / "d" / "d").write_text("a file")
    os.mkfifo(guest.home / "fifo")
    before = sorted(guest.home.rglob("*"))
    streams = "use - for standard input and output"
    lines = {
        ("no", "box:x"): "cannot read no: No such file or directory",
        ("box:no", "x"): "cannot read box:no: No such file or directory",
        ("f", "box:no/such"): "cannot write box:no/such: No such file or directory",
        ("d", "box:no/such"): "cannot make box:no/such: No such file or directory",
        ("box:f", "no/such"): "cannot write no/such: No such file or directory",
        ("box:d", "no/such"): "cannot make no/such: No such file or directory",
        ("f", "box:no/"): "box:no/ does not exist: a file can only be copied into an existing directory",
        ("d", "box:f"): '"box:f" exists but is not a directory',
        ("box:d", "f"): '"f" exists but is not a directory',
        ("f", "box:d"): '"box:d/f" is a directory, which a file cannot replace',
        ("d", "box:d"): '"box:d/d" exists but is not a directory',
        ("f", "box:fifo"): f'"box:fifo" is neither a regular file nor a directory; {streams}',
        ("box:fifo", "x"): f'"box:fifo" is neither a regular file nor a directory; {streams}',
        ("box:f", "/dev/null"): f'"/dev/null" is neither a regular file nor a directory; {streams}',
        ("-", "box:d"): '"box:d" is a directory, which a file cannot replace',
        ("-", "box:f/"): '"box:f/" exists but is not a directory',
        ("box:d", "-"): '"box:d" is a directory: only a file can be copied to standard output',
    }
    found: dict[tuple[str, str], str] = {}
    for words in lines:
        with pytest.raises(MachineError) as caught:
            copy(*words, make_context(guest.world.home), SilentReporter())
        found[words] = caught.value.line
    assert found == {words: f"copy failed: {line}" for words, line in lines.items()}
    assert sorted(guest.home.rglob("*")) == before
    assert names(guest.host) == ["d", "f"]


def test_guest_that_lets_nothing_be_written(short_path: Path) -> None:
    with running_guest(short_path, options="-R") as guest:
        (guest.host / "f").write_text("f")
        (guest.host / "d").mkdir()
        assert guest.refused("f", "box:f") == "Error: copy failed: cannot write box:f: Permission denied"
        assert guest.refused("d", "box:d") == "Error: copy failed: cannot make box:d: Permission denied"


def test_host_directory_that_lets_nothing_be_written(guest: Guest) -> None:
    (guest.home / "f").write_text("f")
    assert guest.refused("box:f", "/sys/kernel/f") in (
        "Error: copy failed: cannot write /sys/kernel/f: Permission denied",
        "Error: copy failed: cannot write /sys/kernel/f: Read-only file system",
    )


@pytest.fixture
def small_disk(short_path: Path) -> Iterator[Path]:
    """A file system of one mebibyte."""
    disk = short_path / "small"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "small", disk], capture_output=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"a small disk needs root's rights to mount: {mounted.stderr.decode().strip()}")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_full_disk_on_either_side_is_told_and_leaves_the_old_content(guest: Guest, small_disk: Path) -> None:
    (guest.host / "big").write_bytes(os.urandom(2 * MEBIBYTE))
    (small_disk / "big").write_text("old")
    lines: dict[tuple[str | Path, ...], str] = {
        ("big", f"box:{small_disk}"): f"cannot write box:{small_disk}/big: no space left on that disk of box",
        (f"box:{guest.host}/big", small_disk): (
            f"no space left on the disk that holds {small_disk}; free some space and try again"
        ),
    }
    for words, line in lines.items():
        assert guest.refused(*words) == f"Error: copy failed: {line}"
        assert names(small_disk) == ["big"]
        assert (small_disk / "big").read_text() == "old"


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def parts(directory: Path) -> list[Path]:
    return [path for path in directory.iterdir() if ".part-" in path.name and path.stat().st_size]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_copy_leaves_nothing(number: signal.Signals, guest: Guest) -> None:
    with guest.copying("-", "box:f") as process:
        assert process.stdin
        process.stdin.write(bytes(MEBIBYTE))
        process.stdin.flush()
        wait_until(lambda: bool(parts(guest.home)), "part in the guest")
        assert stat.S_IMODE(parts(guest.home)[0].stat().st_mode) == 0o600
        process.send_signal(number)
        assert process.wait(COMMAND_S) == 130
        assert process.stderr
        assert process.stderr.read() == b"\n"
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
    assert names(guest.home) == []
    with (guest.home / "huge").open("wb") as huge:
        huge.truncate(1024**4)
    (guest.host / "huge").write_text("old")
    with guest.copying("box:huge", "huge") as process:
        wait_until(lambda: bool(parts(guest.host)), "part on the host")
        process.send_signal(number)
        assert process.communicate(timeout=COMMAND_S) == (b"", b"\n")
        assert process.returncode == 130
    assert names(guest.host) == ["huge"]
    assert (guest.host / "huge").read_text() == "old"


def test_connection_that_is_cut_leaves_nothing_under_the_name(guest: Guest) -> None:
    (guest.home / "f").write_text("old")
    with guest.copying("-", "box:f") as process:
        assert process.stdin
        process.stdin.write(bytes(MEBIBYTE))
        process.stdin.flush()
        wait_until(lambda: bool(parts(guest.home)), "part in the guest")
        guest.sshd.signal_sessions(signal.SIGKILL)
        with contextlib.suppress(BrokenPipeError):
            for _ in range(64):
                process.stdin.write(bytes(MEBIBYTE))
            process.stdin.close()
        assert process.wait(COMMAND_S) == 125
        assert process.stderr
        assert process.stderr.read().decode() == (
            f"Error: copy failed: cannot write box:{guest.home}/f: the connection to box is lost\n"
        )
    assert (guest.home / "f").read_text() == "old"
    with (guest.home / "huge").open("wb") as huge:
        huge.truncate(1024**4)
    with guest.copying("box:huge", "huge") as process:
        wait_until(lambda: bool(parts(guest.host)), "part on the host")
        guest.sshd.signal_sessions(signal.SIGKILL)
        assert process.communicate(timeout=COMMAND_S)[1] == (
            b"Error: copy failed: cannot read box:huge: the connection to box is lost\n"
        )
        assert process.returncode == 125
    assert names(guest.host) == []


def test_guest_that_falls_silent_is_not_waited_for(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "IDLE_S", 1.0)
    (guest.home / "f").write_bytes(bytes(1000))
    with guest_files("box", guest.sshd.target) as files:
        guest.sshd.signal_sessions(signal.SIGSTOP)
        try:
            with pytest.raises(DeadlineError, match="cannot read box:f: box has not answered for 1 s"):
                b"".join(files.read("f", 1000))
        finally:
            guest.sshd.signal_sessions(signal.SIGCONT)


def test_listener_that_never_says_a_word_is_not_waited_for(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "_ANSWER_S", 0.5)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        with (
            pytest.raises(GuestError, match=f"no SSH session with box on 127.0.0.1:{port}: "),
            guest_files("box", replace(guest.sshd.target, port=port)),
        ):
            pass


def test_only_the_machine_itself_is_talked_to(guest: Guest) -> None:
    (guest.host / "f").write_text("f")
    directory = guest.sshd.directory
    port = guest.sshd.target.port
    known_hosts = directory / "known_hosts"
    known = known_hosts.read_text()
    known_hosts.write_text(known_hosts_line("box", keys.generate(directory / "other", comment="x")))
    assert guest.refused("f", "box:f") == (
        f"Error: copy failed: the server on 127.0.0.1:{port} does not have the host key of box: nothing was sent to it"
    )
    known_hosts.write_text("")
    assert guest.refused("f", "box:f") == (
        f"Error: copy failed: no SSH session with box on 127.0.0.1:{port}: "
        "Server 'machine-box' not found in known_hosts"
    )
    assert known_hosts.read_text() == ""
    known_hosts.unlink()
    assert guest.refused("f", "box:f") == (f"Error: copy failed: cannot read {known_hosts}: No such file or directory")
    known_hosts.write_text(known)
    (directory / "id_ed25519").rename(directory / "right")
    keys.generate(directory / "stranger", comment="x")
    (directory / "stranger").rename(directory / "id_ed25519")
    assert guest.refused("f", "box:f") == (
        f'Error: copy failed: box refuses its own key for the user "{getpass.getuser()}"'
    )
    assert names(guest.home) == []


def test_users_own_keys_agent_and_known_hosts_take_no_part(guest: Guest) -> None:
    """The right key is the user's own and the agent's, and the machine's is another."""
    own = Path(guest.world.environment["HOME"]) / ".ssh"
    own.mkdir(parents=True, mode=0o700)
    directory = guest.sshd.directory
    (directory / "id_ed25519").rename(own / "id_ed25519")
    (directory / "id_ed25519.pub").unlink()
    keys.generate(directory / "id_ed25519", comment="x")
    (directory / "known_hosts").rename(own / "known_hosts")
    (guest.host / "f").write_text("f")
    socket_path = guest.host / "agent"
    with subprocess.Popen(["ssh-agent", "-D", "-a", socket_path], stdout=subprocess.DEVNULL) as agent:
        try:
            wait_until(socket_path.exists, "agent")
            environment = {**os.environ, "SSH_AUTH_SOCK": str(socket_path)}
            subprocess.run(["ssh-add", "-q", own / "id_ed25519"], env=environment, check=True)
            guest.world.extra["SSH_AUTH_SOCK"] = str(socket_path)
            (directory / "known_hosts").touch()
            assert "not found in known_hosts" in guest.refused("f", "box:f")
            (own / "known_hosts").rename(directory / "known_hosts")
            assert "refuses its own key" in guest.refused("f", "box:f")
        finally:
            agent.terminate()


def test_machine_that_does_not_run_or_is_not_there(short_path: Path) -> None:
    world = make_world(short_path / "w")
    save_machine(make_roots(world.home), make_record("box"))
    assert world.machine("cp", "/etc/passwd", "box:x").stderr == 'Error: vm "box" is not running\n'
    assert world.machine("cp", "a", "no:x").stderr == "Error: no: VM does not exist\n"
    (world.root / "a:b").touch()
    assert world.machine("cp", "a:b", "/tmp/x").stderr == (
        "Error: a: VM does not exist; write ./PATH for a local path that contains a colon\n"
    )
    with guest_that_runs(make_roots(world.home).machine("box")):
        keys.generate(make_roots(world.home).machine("box").identity, comment="x")
        make_roots(world.home).machine("box").known_hosts.touch()
        outcome = world.machine("cp", "/etc/passwd", "box:x")
    assert (outcome.status, outcome.stdout) == (125, "")
    assert outcome.stderr == "Error: copy failed: box does not answer on 127.0.0.1:40022: Connection refused\n"


@pytest.mark.parametrize("words", [["--help"], ["a", "b"], ["a", "box:b"]])
def test_paramiko_is_loaded_by_a_copy_alone(words: list[str], short_path: Path) -> None:
    world = make_world(short_path / "w")
    save_machine(make_roots(world.home), make_record("box"))
    outcome, modules = run_and_list_modules(world, "cp", "-q", *words)
    assert outcome.status == (0 if words == ["--help"] else 125)
    assert HEAVY.isdisjoint(modules), HEAVY.intersection(modules)


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
