"""The host's port of a guest's SSH server: kept while it is free, moved with a notice when it is not."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from machine.store import records, ssh_ports
from machine.supervisor.launch import with_free_port
from tests.support.builders import make_record, make_roots, save_machine


@pytest.fixture
def taken_port() -> Iterator[int]:
    """A port on which a program of somebody else's listens."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]


def test_taken_port_is_not_free(taken_port: int) -> None:
    assert not ssh_ports.is_free(taken_port)


def test_chosen_port_is_free_and_not_reserved() -> None:
    port = ssh_ports.choose(set())
    assert ssh_ports.is_free(port)
    even = set(range(0, 65536, 2))
    assert all(ssh_ports.choose(even) % 2 == 1 for _ in range(8))


def test_reserved_ports_are_those_of_all_other_machines(tmp_path: Path) -> None:
    roots = make_roots(tmp_path)
    for name, port in (("a", 1001), ("b", 1002)):
        save_machine(roots, make_record(name, ssh_port=port))
    save_machine(roots, make_record("broken")).record.write_text("")
    assert ssh_ports.reserved_ports(roots) == {1001, 1002}
    assert ssh_ports.reserved_ports(roots, but="b") == {1001}


def test_port_that_is_taken_at_start_is_replaced_with_a_notice(tmp_path: Path, taken_port: int) -> None:
    roots = make_roots(tmp_path)
    save_machine(roots, make_record(ssh_port=taken_port))
    notices: list[str] = []
    changed = with_free_port(make_record(ssh_port=taken_port), roots, notices.append)
    assert notices == [f"detected port conflict on machine ssh port [{taken_port}], reassigning"]
    assert changed.config.ssh_port != taken_port
    assert ssh_ports.is_free(changed.config.ssh_port)
    assert records.load(roots, "box") == changed


def test_port_that_is_free_at_start_is_kept(tmp_path: Path) -> None:
    notices: list[str] = []
    record = make_record(ssh_port=ssh_ports.choose(set()))
    roots = make_roots(tmp_path)
    save_machine(roots, record)
    assert with_free_port(record, roots, notices.append) == record
    assert notices == []
