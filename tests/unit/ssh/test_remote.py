"""How ssh reaches a host."""

from __future__ import annotations

from pathlib import Path

import pytest

from machine.errors import BadInputError
from machine.ssh import keys
from machine.ssh.command import SshTarget, config_block, proxy_argv, session_argv
from machine.ssh.remote import HostName, is_key, parse_host, parse_route

ROUTE = """\
user core
hostname server.example
port 22
identityfile ~/.ssh/id_ed25519
identityfile /k
globalknownhostsfile /etc/ssh/ssh_known_hosts
userknownhostsfile ~/.ssh/known_hosts ~/.ssh/known_hosts2
"""
TARGET = SshTarget(
    alias="machine-far",
    address="server.example",
    port=2022,
    username="core",
    proxy_command="nc -X %% %h %p %r",
    identity=Path("/k"),
    has_own_key=False,
    agent=None,
    known_hosts=Path("/h"),
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("h", HostName(host="h")),
        ("me@h:2022", HostName(host="h", user="me", port=2022)),
        ("me@[fe80::1%eth0]:22", HostName(host="fe80::1%eth0", user="me", port=22)),
        ("::1", HostName(host="::1")),
        ("[::1]", HostName(host="::1")),
        ("me@ad.example@h:2022", HostName(host="h", user="me@ad.example", port=2022)),
        (r"DOM\me@h", HostName(host="h", user=r"DOM\me")),
    ],
)
def test_names_of_hosts(text: str, expected: HostName) -> None:
    assert parse_host(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "@h",
        "-h",
        "me@-h",
        "-l@h",
        "a b",
        "h:",
        "h:0",
        "h:65536",
        "h:x",
        "[::1",
        "[::1]x",
        "h;x",
        "h:²",
        "a:b:c",
        "a$b@h",
        "a\\@h",
        "@@h",
        "[h:1]",
    ],
)
def test_what_is_no_host_is_refused(text: str) -> None:
    with pytest.raises(BadInputError, match="is not a host"):
        parse_host(text)


def test_malformed_keys_are_none(tmp_path: Path) -> None:
    key = keys.generate(tmp_path / "key", comment="me")
    kind, text = key.split()[:2]
    assert is_key(key)
    assert is_key(f"{kind} {text}")
    for malformed in (
        "",
        "x",
        f"{kind} AAAA",
        f"{kind} {text[:-4]}",
        f"ssh-rsa {text}",
        text,
        f"h {key}",
        f"{key}\n{key}",
    ):
        assert not is_key(malformed), malformed


def test_route_follows_the_users_configuration() -> None:
    route = parse_route(ROUTE, None)
    assert (route.address, route.port, route.username) == ("server.example", 22, "core")
    assert (route.proxy_command, route.agent, route.key_name) == (None, None, "server.example")
    assert route.identities == (Path("~/.ssh/id_ed25519").expanduser(), Path("/k"))
    own = [Path(f"~/.ssh/{name}").expanduser() for name in ("known_hosts", "known_hosts2")]
    assert list(route.known_hosts) == [*own, Path("/etc/ssh/ssh_known_hosts")]
    other = parse_route(ROUTE.replace("port 22", "port 2022") + "identityagent /a.sock\n", None)
    assert (other.agent, other.key_name) == ("/a.sock", "[server.example]:2022")
    assert parse_route(ROUTE + "hostkeyalias x\n", None).key_name == "x"


@pytest.mark.parametrize(
    ("line", "given", "expected"),
    [
        ("proxycommand nc %h %p", None, "nc %h %p"),
        ("proxycommand nc %h %p", "mine", "mine"),
        ("proxyjump jump", None, "ssh -W '[%h]:%p' -- jump"),
        ("proxyjump a,me@b:2022", None, "ssh -J a -W '[%h]:%p' -p 2022 -l me -- b"),
        ("proxyjump jump", "mine", "mine"),
        ("proxycommand none", None, None),
    ],
)
def test_proxy_commands_and_jump_hosts(line: str, given: str | None, expected: str | None) -> None:
    assert parse_route(f"{ROUTE}{line}\n", given).proxy_command == expected


def test_host_is_reached_by_its_proxy_command_with_the_users_agent() -> None:
    argv = session_argv(TARGET, ["true"])
    assert "ProxyCommand=nc -X %% %h %p %r" in argv
    assert argv[-3:] == ["core@server.example", "--", "true"]
    assert not any(word.startswith("IdentityAgent") for word in argv)
    assert proxy_argv(TARGET) == ["sh", "-c", "exec nc -X % server.example 2022 core"]
    assert "  HostName server.example\n  Port 2022\n" in config_block(TARGET)
