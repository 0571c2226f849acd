"""Copies that fail, end early or go to whom they should not."""

from __future__ import annotations

import contextlib
import getpass
import os
import signal
import socket
import stat
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from machine.errors import DeadlineError, GuestError, MachineError
from machine.model.state import MachineState, State
from machine.ops.cp import copy
from machine.report import SilentReporter
from machine.ssh import keys, sftp
from machine.ssh.command import known_hosts_line
from machine.ssh.sftp import guest_files
from tests.support.builders import make_context, make_record, make_roots, save_machine
from tests.support.copying import Guest, names, parts, running_guest
from tests.support.loaded_modules import HEAVY, run_and_list_modules
from tests.support.start import held_lock
from tests.support.waiting import wait_until
from tests.support.world import COMMAND_S, make_world

MEBIBYTE = 1024**2


def test_what_cannot_be_copied_is_told_in_a_line(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(guest.host)
    (guest.host / "f").write_text("f")
    (guest.host / "d" / "x").mkdir(parents=True)
    (guest.home / "f").write_text("f")
    (guest.home / "d" / "f").mkdir(parents=True)
    (guest.home / "d" / "d").write_text("a file")
    os.mkfifo(guest.home / "fifo")
    before = sorted(guest.home.rglob("*"))
    streams = "for standard input or output, write - as the path"
    lines = {
        ("no", "box:x"): "cannot read no: No such file or directory",
        ("box:no", "x"): "cannot read box:no: No such file or directory",
        ("f", "box:no/such"): "cannot write box:no/such: No such file or directory",
        ("d", "box:no/such"): "cannot make box:no/such: No such file or directory",
        ("box:f", "no/such"): "cannot write no/such: No such file or directory",
        ("box:d", "no/such"): "cannot make no/such: No such file or directory",
        ("f", "box:no/"): "box:no/ does not exist, and a file can only be copied into an existing directory",
        ("d", "box:f"): '"box:f" exists but is not a directory',
        ("box:d", "f"): '"f" exists but is not a directory',
        ("f", "box:d"): '"box:d/f" is a directory, which a file cannot replace',
        ("d", "box:d"): '"box:d/d" exists but is not a directory',
        ("f", "box:fifo"): f'"box:fifo" is neither a regular file nor a directory; {streams}',
        ("box:fifo", "x"): f'"box:fifo" is neither a regular file nor a directory; {streams}',
        ("box:f", "/dev/null"): f'"/dev/null" is neither a regular file nor a directory; {streams}',
        ("-", "box:d"): '"box:d" is a directory, which a file cannot replace',
        ("-", "box:f/"): '"box:f/" exists but is not a directory',
        ("box:d", "-"): '"box:d" is a directory, but only a file can be copied to standard output',
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
        assert guest.copy_error("f", "box:f") == "Error: copy failed: cannot write box:f: Permission denied"
        assert guest.copy_error("d", "box:d") == "Error: copy failed: cannot make box:d: Permission denied"


@pytest.mark.linux("macOS has no /sys")
@pytest.mark.linux("macOS has no /sys")
def test_host_directory_that_lets_nothing_be_written(guest: Guest) -> None:
    (guest.home / "f").write_text("f")
    assert guest.copy_error("box:f", "/sys/kernel/f") in (
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
        ("big", f"box:{small_disk}"): f"cannot write box:{small_disk}/big: no space left on that disk",
        (f"box:{guest.host}/big", small_disk): (
            f"no space left on the disk that holds {small_disk}; free some space and try again"
        ),
    }
    for words, line in lines.items():
        assert guest.copy_error(*words) == f"Error: copy failed: {line}"
        assert names(small_disk) == ["big"]
        assert (small_disk / "big").read_text() == "old"


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
    monkeypatch.setattr(sftp, "IDLE_S", 1.0)
    (guest.home / "f").write_bytes(bytes(1000))
    with (
        guest_files("box", guest.sshd.target) as files,
        guest.sshd.sessions_stopped(),
        pytest.raises(DeadlineError, match="cannot read box:f: box has not answered for 1 s"),
    ):
        b"".join(files.read("f", 1000))


def test_listener_that_never_says_a_word_is_not_waited_for(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sftp, "_ANSWER_S", 0.5)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        with (
            pytest.raises(GuestError, match=f"no SSH session with box on 127.0.0.1:{port}: "),
            guest_files("box", replace(guest.sshd.target, port=port)),
        ):
            pass


@pytest.mark.parametrize(
    ("greeting", "reason"),
    [
        (b"", "its SSH server ended the connection before greeting, or did not greet in time"),
        (b"\xff\xfe\r\n", "what answers there is not an SSH server"),
        (b"SSH-2.0-x\r\n", "the connection was closed"),
    ],
)
def test_server_that_ends_or_garbles_the_connection_is_told(guest: Guest, greeting: bytes, reason: str) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(greeting)

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(GuestError) as caught, guest_files("box", replace(guest.sshd.target, port=port)):
            pass
        thread.join()
    assert caught.value.line == f"no SSH session with box on 127.0.0.1:{port}: {reason}"


@pytest.mark.parametrize(
    ("state", "line"),
    [
        (State.STOPPING, 'vm "box" is being stopped'),
        (State.STOPPED, 'vm "box" has stopped'),
        (State.PAUSED, 'the guest of "box" is paused'),
        (State.DEGRADED, "no SSH session with box on 127.0.0.1:{port}: its SSH server ended the connection before"),
    ],
)
def test_session_that_ends_with_the_machine_names_that(
    guest: Guest, state: State, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        target = replace(guest.sshd.target, port=port)
        monkeypatch.setattr("machine.ops.cp.running_target", lambda *_: target)
        monkeypatch.setattr("machine.ops.cp.machine_state", lambda _: MachineState(state=state))

        def serve() -> None:
            listener.accept()[0].close()

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(MachineError) as caught:
            copy("-", "box:f", make_context(guest.world.home), SilentReporter())
        thread.join()
    assert caught.value.line.startswith("copy failed: " + line.format(port=port))


def test_server_without_sftp_is_told(short_path: Path) -> None:
    with running_guest(short_path, subsystem="") as guest:
        (guest.host / "f").write_text("f")
        assert guest.copy_error("f", "box:f") == (
            "Error: copy failed: the SSH server of box offers no access to files (SFTP)"
        )


def test_only_the_machine_itself_is_talked_to(guest: Guest) -> None:
    (guest.host / "f").write_text("f")
    directory = guest.sshd.directory
    port = guest.sshd.target.port
    known_hosts = directory / "known_hosts"
    known = known_hosts.read_text()
    known_hosts.write_text(known_hosts_line("box", keys.generate(directory / "other", comment="x")))
    assert guest.copy_error("f", "box:f") == (
        f"Error: copy failed: the server on 127.0.0.1:{port} does not have the host key of box, "
        "so nothing was sent to it"
    )
    known_hosts.write_text("")
    assert guest.copy_error("f", "box:f") == (
        f"Error: copy failed: {known_hosts} does not have the host key of box, so nothing was sent to it"
    )
    assert known_hosts.read_text() == ""
    known_hosts.unlink()
    assert guest.copy_error("f", "box:f") == (
        f"Error: copy failed: cannot read {known_hosts}: No such file or directory"
    )
    known_hosts.write_text(known)
    (directory / "id_ed25519").rename(directory / "right")
    keys.generate(directory / "stranger", comment="x")
    (directory / "stranger").rename(directory / "id_ed25519")
    assert guest.copy_error("f", "box:f") == (
        f'Error: copy failed: box rejects the machine\'s key for the user "{getpass.getuser()}"'
    )
    (directory / "id_ed25519").write_text("no key")
    assert guest.copy_error("f", "box:f") == (
        f"Error: copy failed: {directory}/id_ed25519 is damaged: it is not a private key"
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
            assert "does not have the host key of box" in guest.copy_error("f", "box:f")
            (own / "known_hosts").rename(directory / "known_hosts")
            assert "rejects the machine's key" in guest.copy_error("f", "box:f")
        finally:
            agent.terminate()


def test_machine_that_does_not_run_or_is_not_there(short_path: Path) -> None:
    world = make_world(short_path / "w")
    save_machine(make_roots(world.home), make_record("box"))
    line = 'Error: vm "box" is not running; start it with: machine start box\n'
    assert world.machine("cp", "/etc/passwd", "box:x").stderr == line
    assert world.machine("cp", "a", "no:x").stderr == "Error: no: VM does not exist; the only machine is box\n"
    (world.root / "a:b").touch()
    assert world.machine("cp", "a:b", "/tmp/x").stderr == (
        "Error: a: VM does not exist; write ./PATH for a local path that contains a colon\n"
    )
    with held_lock(make_roots(world.home).machine("box")):
        keys.generate(make_roots(world.home).machine("box").identity, comment="x")
        make_roots(world.home).machine("box").known_hosts.touch()
        outcome = world.machine("cp", "/etc/passwd", "box:x")
    assert (outcome.status, outcome.stdout) == (125, "")
    assert outcome.stderr == (
        'Error: "box" does not answer: its supervisor has ended; see: machine logs box\n'
        "  see the documentation: troubleshooting#running\n"
    )


@pytest.mark.linux("to imitate a Mac loads many modules")
@pytest.mark.parametrize("words", [["--help"], ["a", "b"], ["a", "box:b"]])
def test_paramiko_is_loaded_by_a_copy_alone(words: list[str], short_path: Path) -> None:
    world = make_world(short_path / "w")
    save_machine(make_roots(world.home), make_record("box"))
    outcome, modules = run_and_list_modules(world, "cp", "-q", *words)
    assert outcome.status == (0 if words == ["--help"] else 125)
    assert HEAVY.isdisjoint(modules), HEAVY.intersection(modules)
