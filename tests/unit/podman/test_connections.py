"""podman-connections.json, as Podman 5 reads and writes it."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from machine.errors import MachineError
from machine.podman.connections import (
    Connection,
    ConnectionsFile,
    connection_uri,
    connections_file,
    next_default,
)
from machine.podman.legacy_connections import parse_version

BOX = (
    Connection(name="box", uri="unix:///run/box/podman.sock"),
    Connection(name="box-root", uri="unix:///run/box/podman-root.sock"),
)
FOREIGN = {"URI": "ssh://core@host:22/run/podman.sock", "Identity": "/k", "IsMachine": True}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "containers" / "podman-connections.json"


@pytest.fixture
def connections(path: Path) -> ConnectionsFile:
    return ConnectionsFile(path)


def write(path: Path, document: object) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(document))


def read(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(path.read_bytes())
    return document


def test_first_connections_make_the_file_and_the_default(path: Path, connections: ConnectionsFile) -> None:
    connections.add(BOX)
    assert read(path) == {
        "Connection": {
            "Default": "box",
            "Connections": {
                "box": {"URI": "unix:///run/box/podman.sock"},
                "box-root": {"URI": "unix:///run/box/podman-root.sock"},
            },
        },
        "Farm": {},
    }
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_file_that_is_not_there_has_no_connection(connections: ConnectionsFile, path: Path) -> None:
    assert connections.uris() == {}
    assert connections.default() is None
    connections.remove(BOX)
    assert not path.exists()


def test_empty_file_is_one_without_connections(connections: ConnectionsFile, path: Path) -> None:
    path.parent.mkdir()
    path.touch()
    assert connections.uris() == {}


def test_default_of_others_stays(path: Path, connections: ConnectionsFile) -> None:
    write(path, {"Connection": {"Default": "far", "Connections": {"far": FOREIGN}}})
    connections.add(BOX)
    assert connections.default() == "far"
    connections.remove(BOX)
    assert read(path) == {"Connection": {"Default": "far", "Connections": {"far": FOREIGN}}, "Farm": {}}


def test_nobody_becomes_the_default_where_there_are_connections_without_one(
    path: Path, connections: ConnectionsFile
) -> None:
    write(path, {"Connection": {"Connections": {"far": FOREIGN}}})
    connections.add(BOX)
    assert connections.default() is None


def test_keys_that_we_do_not_know_are_kept(path: Path, connections: ConnectionsFile) -> None:
    unknown = {"Connection": {"Connections": {"far": {**FOREIGN, "New": [1]}}, "More": 1}, "Farm": {"List": {}}, "X": 2}
    write(path, unknown)
    connections.add(BOX)
    connections.remove(BOX)
    assert read(path) == unknown


def test_null_stands_for_nothing_as_in_go(path: Path, connections: ConnectionsFile) -> None:
    write(path, {"Connection": {"Connections": None}, "Farm": None})
    connections.add(BOX)
    assert list(connections.uris()) == ["box", "box-root"]


def test_default_that_goes_is_handed_on(path: Path, connections: ConnectionsFile) -> None:
    connections.add(BOX)
    connections.add((Connection(name="zoo", uri="unix:///z"), Connection(name="ant", uri="unix:///a")))
    connections.remove(BOX)
    assert connections.default() == "ant"


def test_last_connection_leaves_no_default(connections: ConnectionsFile) -> None:
    connections.add(BOX)
    connections.remove(BOX)
    assert (connections.default(), connections.uris()) == (None, {})


@pytest.mark.parametrize(
    ("names", "rootful", "default"),
    [
        ([], [], ""),
        (["b", "a"], [], "a"),
        (["a", "podman-machine-default"], [], "podman-machine-default"),
        (["b", "b-root"], ["b"], "b-root"),
        (["b", "b-root"], ["c"], "b"),
        (["b"], ["b"], "b"),
        (["podman-machine-default", "podman-machine-default-root"], ["podman-machine-default"],
         "podman-machine-default-root"),
    ],
)  # fmt: skip
def test_who_becomes_the_default(names: list[str], rootful: list[str], default: str) -> None:
    assert next_default(names, rootful) == default


def test_connection_that_now_leads_elsewhere_is_not_removed(path: Path, connections: ConnectionsFile) -> None:
    connections.add(BOX)
    document = read(path)
    document["Connection"]["Connections"]["box"] = FOREIGN
    write(path, document)
    connections.remove(BOX)
    assert connections.uris() == {"box": FOREIGN["URI"]}
    assert connections.default() == "box"


@pytest.mark.parametrize(
    "content", ["{", "not json", "[1]", '{"Connection": [1]}', '{"Connection": {"Connections": 5}}']
)
def test_damaged_file_is_told_and_left_as_it_is(content: str, path: Path, connections: ConnectionsFile) -> None:
    path.parent.mkdir()
    path.write_text(content)
    with pytest.raises(MachineError) as caught:
        connections.add(BOX)
    assert str(path) in caught.value.line
    assert path.read_text() == content


JSON = st.recursive(
    st.none() | st.integers() | st.text(),
    lambda children: st.lists(children, max_size=2) | st.dictionaries(st.sampled_from("ab"), children, max_size=2),
    max_leaves=4,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
@given(depth=st.integers(min_value=0, max_value=4), value=JSON)
def test_file_with_anything_at_any_depth_is_read_or_refused(depth: int, value: object, path: Path) -> None:
    keys = ("Connection", "Connections", "far", "URI")[:depth]
    document = value
    for key in reversed(keys):
        document = {key: document}
    write(path, document)
    connections = ConnectionsFile(path)
    told = str(path)
    try:
        connections.uris()
        connections.default()
        connections.add(BOX)
        connections.remove(BOX)
    except MachineError as error:
        told = error.line
    assert str(path) in told


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, "/home/me/.config/containers/podman-connections.json"),
        ({"XDG_CONFIG_HOME": "/c"}, "/c/containers/podman-connections.json"),
        ({"XDG_CONFIG_HOME": "/c", "PODMAN_CONNECTIONS_CONF": "/p.json"}, "/p.json"),
    ],
)
def test_place_of_the_file(environment: dict[str, str], expected: str) -> None:
    assert connections_file(environment, Path("/home/me")) == Path(expected)


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("podman version 4.3.1\n", (4, 3)),
        ("podman version 5.0.0-rc1", (5, 0)),
        ("podman-remote version 4.9.4-dev", (4, 9)),
        ("podman.exe version 10.11.0", (10, 11)),
        ("docker", None),
    ],
)
def test_version_of_a_client(text: str, version: tuple[int, int] | None) -> None:
    assert parse_version(text) == version


def test_uri_of_a_socket() -> None:
    assert connection_uri(Path("/run/x.sock")) == "unix:///run/x.sock"


BAX = (
    Connection(name="bax", uri="unix:///run/bax/podman.sock"),
    Connection(name="bax-root", uri="unix:///run/bax/podman-root.sock"),
)


def test_default_moves_between_a_machines_two_connections(connections: ConnectionsFile) -> None:
    connections.add(BOX)
    connections.move_default(("box-root", "box"), "box-root")
    assert connections.default() == "box-root"
    connections.move_default(("bax", "bax-root"), "bax")
    assert connections.default() == "box-root"


def test_default_is_never_a_connection_that_is_not_there(connections: ConnectionsFile) -> None:
    connections.add(BOX[:1])
    connections.move_default(("box", "box-root"), "box-root")
    assert connections.default() == "box"


def test_connections_are_replaced_with_their_default(path: Path, connections: ConnectionsFile) -> None:
    write(path, {"Connection": {"Default": "box-root", "Connections": {"far": FOREIGN}}})
    connections.add(BOX)
    connections.replace(tuple(zip(BOX, BAX, strict=True)))
    assert connections.uris() == {"far": FOREIGN["URI"], **{new.name: new.uri for new in BAX}}
    assert connections.default() == "bax-root"
    connections.replace(tuple(zip(BOX, BAX, strict=True)))
    assert len(connections.uris()) == 3


def test_connection_that_leads_elsewhere_by_now_is_not_replaced(path: Path, connections: ConnectionsFile) -> None:
    write(path, {"Connection": {"Default": "box", "Connections": {"box": FOREIGN}}})
    connections.replace(tuple(zip(BOX, BAX, strict=True)))
    assert connections.uris() == {"box": FOREIGN["URI"]}
    assert connections.default() == "box"
