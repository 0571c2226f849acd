"""Our command lines under the real OpenSSH client, against a real sshd on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import os
import shlex
import signal
import socket
import stat
import subprocess
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest

from machine.errors import MachineError
from machine.ssh import keys
from machine.ssh import power_off as power_off_module
from machine.ssh.command import (
    SshTarget,
    command_argv,
    control_argv,
    known_hosts_line,
    master_argv,
    session_argv,
)
from machine.ssh.greeting import greets
from machine.ssh.leftover_masters import end_leftover_masters
from machine.ssh.power_off import power_off
from tests.support.copying import running_guest
from tests.support.sshd import Sshd, serving_sshd
from tests.support.waiting import WAIT_S, wait_until

ODD = "a b%h:c"


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    """One whose keys lie in a directory that has characters that ssh's options take for something else."""
    directory = tmp_path_factory.mktemp("sshd") / ODD
    directory.mkdir(mode=0o700)
    with serving_sshd(directory, tmp_path_factory.mktemp("etc")) as sshd:
        yield sshd


def run(argv: Sequence[str], **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        argv, env={**os.environ, **environment}, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        timeout=WAIT_S,
    )  # fmt: skip


@pytest.mark.parametrize("status", [0, 1, 125, 255])
def test_exit_status_of_the_command_passes_through(status: int, sshd: Sshd) -> None:
    done = run(session_argv(sshd.target, ["echo", "out;", "exit", str(status)]))
    assert (done.returncode, done.stdout, done.stderr) == (status, "out\n", "")


def test_words_are_joined_and_evaluated_over_there(sshd: Sshd) -> None:
    done = run(session_argv(sshd.target, ["printf", "'%s|'", "'a  b'", "-c", "$((1+1))"]))
    assert (done.stdout, done.stderr) == ("a  b|-c|2|", "")


@pytest.mark.parametrize(("no_input", "lines"), [(False, "1\n"), (True, "1\n2\n3\n")])
def test_command_in_a_loop_leaves_the_loops_input_alone_if_told_so(no_input: bool, lines: str, sshd: Sshd) -> None:
    ssh = shlex.join(session_argv(sshd.target, ["cat", ">/dev/null"], no_input=no_input))
    loop = f"while read line; do {ssh}; echo $line; done"
    done = subprocess.run(
        ["sh", "-c", loop], input="1\n2\n3\n", capture_output=True, text=True, check=True, timeout=WAIT_S
    )
    assert (done.stdout, done.stderr) == (lines, "")


def test_other_host_key_is_refused(sshd: Sshd, tmp_path: Path) -> None:
    other = keys.generate(tmp_path / "other", comment="x")
    known = tmp_path / "known_hosts"
    known.write_text(known_hosts_line("box", other))
    done = run(session_argv(replace(sshd.target, known_hosts=known), ["echo", "reached"]))
    assert (done.returncode, done.stdout) == (255, "")
    assert "REMOTE HOST IDENTIFICATION HAS CHANGED" in done.stderr
    assert known.read_text() == known_hosts_line("box", other)


def test_unknown_host_key_is_refused_and_not_learnt(sshd: Sshd, tmp_path: Path) -> None:
    known = tmp_path / "known_hosts"
    known.touch()
    done = run(session_argv(replace(sshd.target, known_hosts=known), ["echo", "reached"]))
    assert (done.returncode, done.stdout) == (255, "")
    assert done.stderr.startswith("No ED25519 host key is known for machine-box")
    assert known.read_text() == ""


def test_other_key_is_refused_without_asking_for_a_password(sshd: Sshd, tmp_path: Path) -> None:
    keys.generate(tmp_path / "stranger", comment="x")
    done = run(session_argv(replace(sshd.target, identity=tmp_path / "stranger"), ["echo", "reached"]))
    assert (done.returncode, done.stdout) == (255, "")
    assert "Permission denied (publickey)" in done.stderr


def test_guest_that_rejects_the_key_is_named_after_sshs_own_words(short_path: Path) -> None:
    with running_guest(short_path) as guest:
        done = guest.world.machine("ssh", "box", "exit", "3")
        assert (done.status, done.stdout, done.stderr) == (3, "", "")
        done = guest.world.machine("ssh", "box", "exit", "255")
        assert (done.status, done.stdout, done.stderr) == (255, "", "")
        (short_path / "etc" / "authorized_keys").write_text("")
        done = guest.world.machine("ssh", "box", "true")
        user = getpass.getuser()
        assert (done.status, done.stdout) == (125, "")
        assert done.stderr.splitlines() == [
            f"{user}@127.0.0.1: Permission denied (publickey).",
            f'Error: box rejects the machine\'s key for the user "{user}"',
            "  see the documentation: troubleshooting#login",
        ]
        key = guest.world.machines / "box" / "id_ed25519"
        key.unlink()
        done = guest.world.machine("ssh", "box", "true")
        assert done.stderr.startswith(f"Error: the SSH key of box is missing: {key}; restore it from a backup, or ")


HOSTILE = """\
Host *
  ProxyCommand false
  Port 1
  User nobody
  HostKeyAlias evil
  RequestTTY force
  RemoteCommand rm
"""


def test_users_own_configuration_changes_nothing(sshd: Sshd, tmp_path: Path) -> None:
    home = tmp_path / "hostile"
    (home / ".ssh").mkdir(parents=True, mode=0o700)
    (home / ".ssh" / "config").write_text(HOSTILE)
    environment = {"HOME": str(home), "SSH_AUTH_SOCK": str(tmp_path / "no-agent")}
    done = run(session_argv(sshd.target, ["id", "-un"]), **environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{getpass.getuser()}\n", "")
    assert [path.name for path in (home / ".ssh").iterdir()] == ["config"]


@contextlib.contextmanager
def echo_server(path: Path) -> Iterator[None]:
    """A Unix socket that answers one line with the same line."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(os.fspath(path))
    listener.listen()

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection:
                    connection.sendall(connection.recv(1024))

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def ask(path: Path) -> bytes:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(WAIT_S)
        connection.connect(os.fspath(path))
        connection.sendall(b"hello")
        return connection.recv(1024)


@pytest.mark.parametrize("folder", ["plain", ODD])
def test_master_forwards_both_sockets_once_its_control_socket_is_there(
    folder: str, sshd: Sshd, short_path: Path
) -> None:
    guest, host = short_path / "guest", short_path / folder
    guest.mkdir()
    host.mkdir()
    names = ("podman.sock", "podman-root.sock")
    forwards = {host / name: os.fspath(guest / name) for name in names}
    (host / "podman.sock").touch()  # what a master that was killed has left
    late = host / "late.sock"
    with echo_server(guest / names[0]), echo_server(guest / names[1]):
        control = host / "ssh.ctl"
        argv = master_argv(sshd.target, control, forwards)
        with subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        ) as master:
            try:
                wait_until(lambda: control.exists() or master.poll() is not None, "control socket")
                assert master.poll() is None, master.stdout and master.stdout.read()
                assert [ask(host / name) for name in names] == [b"hello", b"hello"]
                ends = (late, PurePosixPath(guest / names[0]))
                assert run(control_argv(sshd.target, control, "forward", *ends)).returncode == 0
                assert ask(late) == b"hello"
                assert run(control_argv(sshd.target, control, "cancel", *ends)).returncode == 0
                with pytest.raises(ConnectionRefusedError):
                    ask(late)
                there = run(command_argv(sshd.target, control, "echo here"))
                assert (there.returncode, there.stdout) == (0, "here\n")
                assert stat.S_IMODE((host / "podman.sock").stat().st_mode) & 0o077 == 0
            finally:
                master.terminate()
            master.wait(WAIT_S)
        assert not control.exists()
        alone = run(command_argv(sshd.target, control, "echo here"))
        assert (alone.returncode, alone.stdout) == (255, "")


def test_master_whose_control_socket_is_gone_is_ended_by_its_command_line(sshd: Sshd, short_path: Path) -> None:
    control = short_path / "ssh.ctl"
    masters = []
    for path in (control, short_path / "other.ctl"):
        masters.append(subprocess.Popen(master_argv(sshd.target, path, {}), stdin=subprocess.DEVNULL))
        wait_until(path.exists, "control socket")
    control.unlink()
    try:
        end_leftover_masters(control)
        assert masters[0].wait(WAIT_S) == -signal.SIGKILL
        assert masters[1].poll() is None
    finally:
        for master in masters:
            master.kill()
            master.wait()


def test_guest_that_is_told_to_power_down_has_accepted_it_or_not(
    sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = tmp_path / "told"
    for script, accepted in ((f'echo "$@" >{told}', True), ("exit 1", False)):
        monkeypatch.setattr(power_off_module, "_SCRIPT", power_off_module._SCRIPT.replace("systemctl", "told"))
        monkeypatch.setattr(power_off_module, "_SCRIPT", f"told() {{ {script}; }}; {power_off_module._SCRIPT}")
        assert asyncio.run(power_off(sshd.target)) is accepted
        monkeypatch.undo()
    assert told.read_text() == "--no-block poweroff\n"
    assert not asyncio.run(power_off(replace(sshd.target, port=1)))


def test_slow_guest_is_told_to_power_down_with_more_patience(sshd: Sshd, monkeypatch: pytest.MonkeyPatch) -> None:
    script = power_off_module._SCRIPT.replace("systemctl", "told")
    monkeypatch.setattr(power_off_module, "_SCRIPT", f"told() {{ sleep 1; }}; {script}")
    monkeypatch.setattr(power_off_module, "_LOGIN_S", 0.5)
    assert not asyncio.run(power_off(sshd.target))
    assert asyncio.run(power_off(sshd.target, patience=60))


def local_target(port: int) -> SshTarget:
    return SshTarget(alias="x", port=port, username="x", identity=Path("x"), known_hosts=Path("x"))


@pytest.mark.parametrize("greeting", [b"SSH-2.0-x\r\n", b"", None])
def test_guest_answers_if_it_greets(greeting: bytes | None) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        if greeting is None:  # it accepts nothing
            assert not greets(local_target(port), timeout_s=0.3)
            return
        with ThreadPoolExecutor() as pool:
            answer = pool.submit(greets, local_target(port), timeout_s=WAIT_S)
            server.settimeout(WAIT_S)
            connection, _ = server.accept()
            connection.sendall(greeting)
            connection.close()
            assert answer.result() is bool(greeting)
    assert not greets(local_target(port), timeout_s=WAIT_S)


def test_master_ends_where_a_socket_cannot_be_made(sshd: Sshd, short_path: Path) -> None:
    forwards = {short_path / "no" / "such" / "x.sock": "/x"}
    done = run(master_argv(sshd.target, short_path / "ssh.ctl", forwards))
    assert done.returncode == 255
    assert "x.sock" in done.stderr


def test_key_pair_is_private_without_a_passphrase_and_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a b" / "id_ed25519"
    path.parent.mkdir()
    line = keys.generate(path, comment="machine-box")
    assert line.split()[0] == "ssh-ed25519"
    assert line.endswith(" machine-box")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    derived = run(["ssh-keygen", "-y", "-P", "", "-f", os.fspath(path)])
    assert derived.stdout.split()[:2] == line.split()[:2]
    before = path.read_bytes()
    with pytest.raises(MachineError):
        keys.generate(path, comment="again")
    assert path.read_bytes() == before
