"""What carries a forward, and the table that outlives a supervisor."""

from __future__ import annotations

import os
import socket
import sys
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import NoReturn

import psutil
import pytest

from machine.errors import MachineError, Page
from machine.model.ports import (
    Driver,
    Endpoint,
    Forward,
    Origin,
    Protocol,
    SocketPath,
    forward_text,
    parse_address,
    parse_forward,
    parse_host,
)
from machine.ports.drivers import hostfwd, ssh_ends
from machine.ports.holder import check_can_listen, find_holder, listening_pids
from machine.ports.table import Binding, Table, bindings

SLIRP, SSH = Driver.SLIRP, Driver.SSH


def listen_problem(endpoint: Endpoint | SocketPath) -> str | None:
    """Why the host cannot listen at `endpoint`, or None if it can."""
    try:
        check_can_listen(endpoint)
    except MachineError as error:
        return error.line
    return None


def forward(address: str, port: int = 8080, protocol: Protocol = Protocol.TCP) -> Forward:
    endpoint = Endpoint(protocol=protocol, address=address, port=port)
    return Forward(endpoint=endpoint, guest=80, origin=Origin.PUBLISHED)


@pytest.mark.parametrize(
    ("address", "protocol", "carried"),
    [
        ("127.0.0.1", Protocol.TCP, [(SLIRP, "127.0.0.1")]),
        ("::1", Protocol.TCP, [(SSH, "::1")]),
        ("", Protocol.TCP, [(SLIRP, "0.0.0.0"), (SSH, "::")]),
        ("0.0.0.0", Protocol.TCP, [(SLIRP, "0.0.0.0")]),
        ("::", Protocol.TCP, [(SSH, "::")]),
        ("127.0.0.1", Protocol.UDP, [(SLIRP, "127.0.0.1")]),
        ("", Protocol.UDP, [(SLIRP, "0.0.0.0")]),
    ],
)
def test_what_carries_a_forward(address: str, protocol: Protocol, carried: list[tuple[Driver, str]]) -> None:
    found = bindings(forward(address, protocol=protocol), SLIRP, ipv6=True)
    addresses = [binding.endpoint.address for binding in found if isinstance(binding.endpoint, Endpoint)]
    assert list(zip([binding.driver for binding in found], addresses, strict=True)) == carried


def test_tcp_goes_by_ssh_where_that_is_wanted() -> None:
    assert [binding.driver for binding in bindings(forward("127.0.0.1"), SSH, ipv6=True)] == [SSH]


def test_udp_on_an_ipv6_address_cannot_be_carried() -> None:
    with pytest.raises(ValueError, match=r"cannot publish \[::1\]:8080/udp: UDP is forwarded on IPv4 only"):
        bindings(forward("::1", protocol=Protocol.UDP), SLIRP, ipv6=True)


@pytest.mark.parametrize(
    ("address", "monitor", "ssh"),
    [
        ("127.0.0.1", "tcp:127.0.0.1:8080", "127.0.0.1:8080"),
        ("", "tcp::8080", "*:8080"),
        ("::1", "", "[::1]:8080"),
    ],
)
def test_lines_of_the_drivers(address: str, monitor: str, ssh: str) -> None:
    endpoint = Endpoint(protocol=Protocol.TCP, address=address, port=8080)
    assert ssh_ends(Binding(driver=SSH, endpoint=endpoint, guest=80)) == (ssh, "127.0.0.1:80")
    if monitor:
        assert hostfwd(endpoint) == monitor


def test_table_outlives_its_supervisor() -> None:
    table = Table(SSH, ipv6=True)
    users = ("/run/a.sock:/run/b.sock", "/run/c.sock:80", "8081:/run/b.sock")
    for entry in (forward("127.0.0.1"), forward("::1"), forward("", 53, Protocol.UDP), *map(parse_forward, users)):
        table.add(entry)
    restored = Table.load(table.dump(), ipv6=True)
    assert (list(restored), restored.tcp_driver) == (list(table), SSH)
    assert table.remove(forward("::1").endpoint) == forward("::1")
    assert table.get(forward("::1").endpoint) is None
    assert len(table.of(Origin.PUBLISHED)) == 2


@pytest.mark.parametrize(
    ("first", "second"),
    [("*:1:2", "0.0.0.0:1:2"), ("[::]:1:2", "*:1:2"), ("1:2", "1:3"), ("/a.sock:1", "/a.sock:2"), ("*:1:2", "*:1:3")],
)
def test_two_forwards_cannot_listen_at_one_place(first: str, second: str) -> None:
    table = Table(SSH, ipv6=True)
    table.add(parse_forward(first))
    assert table.rival(parse_forward(first)) is None
    assert table.rival(parse_forward(second)) == parse_forward(first)
    assert table.rival(parse_forward("127.0.0.1:9:9")) is None


@pytest.mark.parametrize(
    "text", ["", "{", "[1]", '{"tcp_driver": "x", "forwards": []}', '{"tcp_driver": "ssh", "forwards": [1]}', "{}"]
)
def test_table_that_is_damaged_is_none(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        Table.load(text, ipv6=True)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("", ""),
        ("0.0.0.0", "0.0.0.0"),
        ("127.0.0.1", "127.0.0.1"),
        ("[::1]", "::1"),
        ("0:0:0:0:0:0:0:1", "::1"),
        ("::", "::"),
    ],
)
def test_addresses(text: str, address: str) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize(
    "text", ["127.0.0.1]", "[]", "x", "224.0.0.1", "255.255.255.255", "ff02::1", "fe80::1%lo", "localhost"]
)
def test_nobody_can_listen_there(text: str) -> None:
    with pytest.raises(ValueError, match=r"address|zone"):
        parse_address(text)


@pytest.mark.parametrize("protocol", list(Protocol))
def test_port_that_is_taken_is_told_with_its_holder(protocol: Protocol) -> None:
    kind = socket.SOCK_STREAM if protocol is Protocol.TCP else socket.SOCK_DGRAM
    with socket.socket(socket.AF_INET, kind) as taken:
        taken.bind(("127.0.0.1", 0))
        if protocol is Protocol.TCP:
            taken.listen()
        endpoint = Endpoint(protocol=protocol, address="127.0.0.1", port=taken.getsockname()[1])
        assert find_holder(replace(endpoint, address="127.0.0.2")) is None
        holder = find_holder(endpoint)
        assert holder
        assert find_holder(replace(endpoint, address="")) == holder
        assert holder.endswith(f"(pid {os.getpid()})")
        with pytest.raises(MachineError) as caught:
            check_can_listen(endpoint)
        reason = f"the port is taken by {holder}; choose another host port"
        assert caught.value.line == f"cannot publish {endpoint}: {reason}"
        assert caught.value.page is Page.PORT_TAKEN
    check_can_listen(endpoint)
    assert find_holder(endpoint) is None


def test_holder_whose_name_is_cut_within_a_character(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil.Process, "name", lambda _: os.fsdecode("сервером".encode()[:15]))
    with socket.create_server(("127.0.0.1", 0)) as server:
        endpoint = Endpoint(protocol=Protocol.TCP, address="127.0.0.1", port=server.getsockname()[1])
        assert find_holder(endpoint) == f"серверо\N{REPLACEMENT CHARACTER} (pid {os.getpid()})"


@pytest.mark.parametrize(
    "command", [["qemu", "-name", "guest=machine-box,x"], ["ssh", "-o", "HostKeyAlias=machine-box"]]
)
def test_machine_that_holds_a_port_is_named(command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil.Process, "cmdline", lambda _: command)
    with socket.create_server(("127.0.0.1", 0)) as server:
        endpoint = Endpoint(protocol=Protocol.TCP, address="127.0.0.1", port=server.getsockname()[1])
        assert find_holder(endpoint) == "machine box"


def test_holder_is_found_where_only_root_may_ask_for_all_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on macOS."""

    def refuse(kind: str) -> NoReturn:
        raise psutil.AccessDenied

    monkeypatch.setattr(psutil, "net_connections", refuse)
    with socket.create_server(("127.0.0.1", 0)) as server:
        endpoint = Endpoint(protocol=Protocol.TCP, address="127.0.0.1", port=server.getsockname()[1])
        assert listening_pids(endpoint) == {os.getpid()}


def test_address_that_the_host_does_not_have() -> None:
    endpoint = Endpoint(protocol=Protocol.TCP, address="198.51.100.1", port=8080)
    assert (
        listen_problem(endpoint) == "cannot publish 198.51.100.1:8080/tcp: this host does not have that address; "
        "choose another address, or leave it out"
    )


def test_port_of_roots_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", forbidden)
    endpoint = Endpoint(protocol=Protocol.TCP, address="", port=80)
    sentence = "cannot publish *:80/tcp: only root may listen below port 1024 on this host; choose 1024 or higher"
    monkeypatch.setattr(sys, "platform", "linux")
    assert (
        listen_problem(endpoint) == f"{sentence}, or allow it with: sudo sysctl net.ipv4.ip_unprivileged_port_start=80"
    )
    monkeypatch.setattr(sys, "platform", "darwin")
    reason = "macOS lets only root listen on a single address below port 1024; choose 1024 or higher, or listen on"
    assert listen_problem(replace(endpoint, address="127.0.0.1")) == (
        f"cannot publish 127.0.0.1:80/tcp: {reason} every address: '*:80:GUEST_PORT' for machine port add, or "
        "80:GUEST_PORT for podman run -p"
    )
    # An address that the user did not write, because a forward without one is this host's alone.
    assert f"{reason} every address: '*:81:GUEST_PORT/udp' for machine" in str(
        listen_problem(parse_forward("81:81/udp").endpoint)
    )


@pytest.mark.parametrize(("held", "wanted"), [("127.0.0.1", ""), ("", "127.0.0.1")])
def test_port_that_bind_gives_although_another_program_answers_there_is_taken(
    held: str, wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on macOS, where one program may listen on every address and another on one."""
    with socket.create_server((held, 0)) as server:
        endpoint = Endpoint(protocol=Protocol.TCP, address=wanted, port=server.getsockname()[1])
        monkeypatch.setattr(socket.socket, "bind", lambda *_: None)
        problem = f"cannot publish {endpoint}: the port is taken by {find_holder(endpoint)}; choose another host port"
        assert listen_problem(endpoint) == problem


@pytest.mark.linux("another address of the loopback can be listened on")
@pytest.mark.parametrize("wanted", ["", "0.0.0.0", "127.0.0.1"])
def test_port_that_another_program_has_on_another_address_is_taken_for_every_address(
    wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on macOS, where bind gives the port."""
    own = psutil.net_if_addrs()["lo"]
    monkeypatch.setattr(psutil, "net_if_addrs", lambda: {"lo": own, "en0": [own[0]._replace(address="127.0.0.2")]})
    monkeypatch.setattr(sys, "platform", "darwin")
    with socket.create_server(("127.0.0.2", 0)) as server:
        port = server.getsockname()[1]
        monkeypatch.setattr(socket.socket, "bind", lambda *_: None)
        endpoint = Endpoint(protocol=Protocol.TCP, address=wanted, port=port)
        assert (listen_problem(endpoint) is None) == (wanted == "127.0.0.1")


@pytest.mark.parametrize(
    "text",
    [
        "127.0.0.1:8080:80/tcp",
        "0.0.0.0:53:53/udp",
        "*:53:53/udp",
        "*:80:80/tcp",
        "[::1]:1:2/tcp",
        "[::]:1:2/tcp",
        "/run/a b/x.sock:80",
        "/run/x.sock:/run/y.sock",
        "127.0.0.1:80:/run/y.sock",
    ],
)
def test_users_forward_is_read_as_it_is_written(text: str) -> None:
    assert forward_text(parse_forward(text)) == text


def test_users_forward_is_this_hosts_alone_and_goes_by_ssh() -> None:
    own = parse_forward("8080:80")
    assert (str(own.endpoint), own.origin) == ("127.0.0.1:8080/tcp", Origin.USER)
    assert [binding.driver for binding in bindings(own, SLIRP, ipv6=True)] == [SSH]
    every = bindings(parse_forward("*:8080:80"), SLIRP, ipv6=True)
    assert [ssh_ends(one)[0] for one in every] == ["0.0.0.0:8080", "[::]:8080"]
    assert bindings(parse_forward("*:8080:80"), SLIRP, ipv6=False) == every[:1]


@pytest.mark.parametrize(
    "text", ["8080", "8080:80", "127.0.0.1:8080", "127.0.0.1:8080:80", "8080/tcp", "127.0.0.1:8080/tcp"]
)
def test_hosts_side_of_a_forward_stands_for_it(text: str) -> None:
    endpoint, guest = parse_host(text)
    assert (endpoint, guest in (None, 80)) == (parse_forward("8080:80").endpoint, True)


@pytest.mark.parametrize(("text", "address"), [("*:53/udp", ""), ("[::1]:8080", "::1")])
def test_hosts_side_of_a_forward_with_an_address(text: str, address: str) -> None:
    endpoint, _ = parse_host(text)
    assert isinstance(endpoint, Endpoint)
    assert endpoint.address == address


def test_socket_on_the_hosts_side_stands_for_its_forward() -> None:
    path = SocketPath(path="/run/x.sock")
    assert (parse_host("/run/x.sock"), parse_host("/run/x.sock:80")) == ((path, None), (path, 80))


def test_sockets_go_by_ssh() -> None:
    (binding,) = bindings(parse_forward("/run/x.sock:/run/y.sock"), SLIRP, ipv6=True)
    assert (binding.driver, ssh_ends(binding)) == (SSH, (Path("/run/x.sock"), PurePosixPath("/run/y.sock")))


def test_directory_of_a_socket_must_be_writable(monkeypatch: pytest.MonkeyPatch, short_path: Path) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write everywhere
    path = short_path / "x.sock"
    assert listen_problem(SocketPath(path=str(path))) == (
        f"cannot publish {path}: the directory {short_path} is not writable"
    )


def test_path_of_a_socket_must_be_free(short_path: Path) -> None:
    path = short_path / "x.sock"
    endpoint = SocketPath(path=str(path))
    assert listen_problem(endpoint) is None
    with socket.socket(socket.AF_UNIX) as taken:
        taken.bind(str(path))
        taken.listen()
        assert listen_problem(endpoint) == f"cannot publish {path}: another program listens there; choose another path"
    assert listen_problem(endpoint) is None  # whoever listened there has ended
    path.unlink()
    path.touch()
    assert listen_problem(endpoint) == f"cannot publish {path}: a file with that name exists; choose another path"
    nowhere = path.with_name("no") / "x.sock"
    assert listen_problem(SocketPath(path=str(nowhere))) == (
        f"cannot publish {nowhere}: the directory {nowhere.parent} does not exist"
    )
