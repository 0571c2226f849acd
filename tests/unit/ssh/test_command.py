"""Command lines of the OpenSSH client."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import pytest

from machine.ssh.command import (
    SshTarget,
    host_key_alias,
    known_hosts_line,
    local_forward,
    master_argv,
    quoted,
    script_argv,
    session_argv,
)

TARGET = SshTarget(
    alias="machine-box",
    port=40022,
    username="core",
    identity=Path("/m y/100%/id_ed25519"),
    known_hosts=Path("/m y/100%/known_hosts"),
)

BASE = [
    "-F", "/dev/null",
    "-o", "BatchMode=yes",
    "-o", "CheckHostIP=no",
    "-o", "Ciphers=^aes128-gcm@openssh.com",
    "-o", "GlobalKnownHostsFile=/dev/null",
    "-o", "HostKeyAlias=machine-box",
    "-o", "IdentitiesOnly=yes",
    "-o", "IdentityAgent=none",
    "-o", 'IdentityFile="/m y/100%%/id_ed25519"',
    "-o", "LogLevel=ERROR",
    "-o", "PreferredAuthentications=publickey",
    "-o", "SetEnv=LC_ALL=",
    "-o", "StrictHostKeyChecking=yes",
    "-o", "UpdateHostKeys=no",
    "-o", 'UserKnownHostsFile="/m y/100%%/known_hosts"',
    "-p", "40022",
]  # fmt: skip


def test_session_without_a_command_has_a_terminal() -> None:
    assert session_argv(TARGET, []) == ["ssh", *BASE, "-o", "ConnectTimeout=30", "-t", "core@127.0.0.1"]


def test_command_goes_along_word_by_word_after_two_dashes() -> None:
    words = ["ls", "-l", "--", "a b"]
    assert session_argv(TARGET, words) == ["ssh", *BASE, "-o", "ConnectTimeout=30", "core@127.0.0.1", "--", *words]


def test_master_forwards_each_socket_and_ends_when_one_cannot_be() -> None:
    forwards = {
        Path("/run/me/box/podman.sock"): "/run/user/1000/podman/podman.sock",
        Path("/run/me/box/podman-root.sock"): "/run/podman/podman.sock",
    }
    assert master_argv(TARGET, Path("/run/me 5%/ssh.ctl"), forwards) == [
        "ssh", *BASE,
        "-M", "-N", "-T", "-n",
        "-o", 'ControlPath="/run/me 5%%/ssh.ctl"',
        "-o", "ConnectTimeout=15",
        "-o", "ControlPersist=no",
        "-o", "ExitOnForwardFailure=yes",
        "-o", "ServerAliveCountMax=8",
        "-o", "ServerAliveInterval=5",
        "-o", "StreamLocalBindUnlink=yes",
        "-L", "/run/me/box/podman.sock:/run/user/1000/podman/podman.sock",
        "-L", "/run/me/box/podman-root.sock:/run/podman/podman.sock",
        "core@127.0.0.1",
    ]  # fmt: skip


@pytest.mark.parametrize(("patience", "connect", "alive"), [(1, 15, 8), (5, 75, 40)])
def test_patient_master_waits_longer_for_every_answer(patience: int, connect: int, alive: int) -> None:
    words = master_argv(TARGET, Path("/ctl"), {}, patience=patience)
    assert {f"ConnectTimeout={connect}", f"ServerAliveCountMax={alive}"} <= set(words)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("/plain", '"/plain"'),
        ("/with space", '"/with space"'),
        ("/50%h", '"/50%%h"'),
        ('/a"b', '"/a\\"b"'),
    ],
)
def test_path_as_a_value_of_an_option(path: str, value: str) -> None:
    assert quoted(Path(path)) == value


@pytest.mark.parametrize(
    ("path", "value"), [("/a b", "/a b"), ("/a:b", "/a\\:b"), ("/a%d", "/a%%d"), ("/a\\", "/a\\\\")]
)
def test_path_as_an_end_of_a_forward(path: str, value: str) -> None:
    assert local_forward("127.0.0.1:80", PurePosixPath(path)) == f"127.0.0.1:80:{value}"


def test_known_hosts_line_has_the_alias_and_no_comment() -> None:
    assert known_hosts_line("box", "ssh-ed25519 AAAA host-key-of-box\n") == "machine-box ssh-ed25519 AAAA\n"


def test_alias_tells_machines_apart_from_hosts() -> None:
    assert host_key_alias("github.com") == "machine-github.com"


def test_script_s_words_reach_it_as_they_are_and_a_guest_that_is_gone_ends_it() -> None:
    argv = script_argv(TARGET, ["apply", "registry", "a b;$(c)'"])
    assert argv[-3:] == ["core@127.0.0.1", "--", "bash -s -- apply registry 'a b;$(c)'\"'\"''"]
    assert {"ConnectTimeout=30", "ServerAliveCountMax=8", "ServerAliveInterval=15"} <= set(argv)


def test_script_runs_over_the_master_if_one_is_given() -> None:
    assert 'ControlPath="/run/a %%/ssh.ctl"' in script_argv(TARGET, (), control=Path("/run/a %/ssh.ctl"))
    assert not [word for word in script_argv(TARGET, ()) if "ControlPath" in word]
