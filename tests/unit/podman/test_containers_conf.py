"""containers.conf: which files hold, and what of them is for new machines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from machine.errors import BadInputError
from machine.model.host import HostOS
from machine.podman.conf_files import find_files
from machine.podman.containers_conf import load_layers, read_layers
from tests.support.builders import make_host

HOST = make_host()
FILE = Path("/etc/containers/containers.conf")


def write(path: Path, text: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.fixture
def places(tmp_path: Path) -> list[Path]:
    """A file in every place, the strongest last."""
    user = tmp_path / "xdg" / "containers"
    return [
        write(tmp_path / "usr" / "containers.conf"),
        write(tmp_path / "etc" / "containers.conf"),
        write(tmp_path / "etc" / "containers.conf.d" / "10-a.conf"),
        write(tmp_path / "etc" / "containers.conf.d" / "20-b.conf"),
        write(user / "containers.conf"),
        write(user / "containers.conf.d" / "z.conf"),
    ]


def search(tmp_path: Path, **environment: str) -> list[Path]:
    return find_files(
        {"XDG_CONFIG_HOME": str(tmp_path / "xdg"), **environment},
        tmp_path / "home",
        vendor=tmp_path / "usr" / "containers.conf",
        administrator=tmp_path / "etc" / "containers.conf",
    )


def test_places_are_searched_in_order(places: list[Path], tmp_path: Path) -> None:
    write(tmp_path / "etc" / "containers.conf.d" / "README")
    (tmp_path / "etc" / "containers.conf.d" / "30-c.conf").mkdir()
    assert search(tmp_path) == places


def test_places_without_a_file_are_left_out(places: list[Path], tmp_path: Path) -> None:
    for path in places[:2]:
        path.unlink()
    assert search(tmp_path) == places[2:]


def test_home_has_the_files_where_xdg_does_not_say(tmp_path: Path) -> None:
    own = write(tmp_path / "home" / ".config" / "containers" / "containers.conf")
    assert search(tmp_path, XDG_CONFIG_HOME="") == [own]


def test_containers_conf_replaces_all(places: list[Path], tmp_path: Path) -> None:
    named = write(tmp_path / "named.conf")
    assert search(tmp_path, CONTAINERS_CONF=str(named)) == [named]
    assert search(tmp_path, CONTAINERS_CONF="") == places


def test_override_comes_last(places: list[Path], tmp_path: Path) -> None:
    named, last = write(tmp_path / "named.conf"), write(tmp_path / "last.conf")
    assert search(tmp_path, CONTAINERS_CONF_OVERRIDE=str(last)) == [*places, last]
    assert search(tmp_path, CONTAINERS_CONF=str(named), CONTAINERS_CONF_OVERRIDE=str(last)) == [named, last]


@pytest.mark.parametrize("variable", ["CONTAINERS_CONF", "CONTAINERS_CONF_OVERRIDE"])
def test_named_file_has_to_exist(variable: str, tmp_path: Path) -> None:
    with pytest.raises(BadInputError) as caught:
        search(tmp_path, **{variable: "/nowhere.conf"})
    assert caught.value.line == f"{variable} names /nowhere.conf, which does not exist; unset {variable}"


def test_table_machine_is_read_by_our_names() -> None:
    document = {
        "machine": {
            "cpus": 3, "memory": 3000, "disk_size": 44, "image": "stable", "user": "joe", "volumes": ["$HOME:$HOME"],
            "provider": "qemu", "rosetta": True, "import_native_ca": True, "new_key": [{}],
        },
        "containers": {"tz": "Europe/Berlin", "log_size_max": -1},
        "engine": {"active_service": "box"},
    }  # fmt: skip
    (layer,) = read_layers([(FILE, document)], HOST)
    assert layer.origin == f"containers.conf: {FILE}"
    assert layer.values == {
        "cpus": 3, "memory": 3000, "disk_size": 44, "image": "stable", "username": "joe", "timezone": "Europe/Berlin",
        "volumes": ("$HOME:$HOME",), "import_native_ca": True,
    }  # fmt: skip


def test_empty_texts_say_nothing() -> None:
    document = {"machine": {"image": "", "user": ""}, "containers": {"tz": ""}}
    assert read_layers([(FILE, document)], HOST)[0].values == {}


def test_names_of_the_host_are_put_into_the_image() -> None:
    host = make_host(HostOS.MACOS, "arm64")
    document = {"machine": {"image": "https://h.example/$OS/$ARCH/$os-$arch.qcow2"}}
    assert read_layers([(FILE, document)], host)[0].values == {
        "image": "https://h.example/darwin/arm64/darwin-arm64.qcow2"
    }


def test_volumes_are_replaced_unless_they_append() -> None:
    def volumes(*lists: list[Any]) -> list[Any]:
        documents = [(FILE, {"machine": {"volumes": entries}}) for entries in lists]
        return [layer.values["volumes"] for layer in read_layers(documents, HOST)]

    assert volumes(["/a:/a"], ["/b:/b"]) == [("/a:/a",), ("/b:/b",)]
    assert volumes(["/a:/a"], ["/b:/b", {"append": True}], ["/c:/c"], ["/d:/d", {"append": False}]) == [
        ("/a:/a",),
        ("/a:/a", "/b:/b"),
        ("/a:/a", "/b:/b", "/c:/c"),
        ("/d:/d",),
    ]


@pytest.mark.parametrize(
    ("document", "line"),
    [
        ({"machine": {"cpus": "x"}}, "[machine] cpus must be a whole number"),
        ({"machine": {"memory": True}}, "[machine] memory must be a whole number"),
        ({"machine": {"user": 1}}, "[machine] user must be a string in quotes"),
        ({"machine": {"volumes": "/a:/a"}}, '[machine] volumes must be a list of strings like ["/a:/a"]'),
        ({"machine": {"volumes": [1]}}, '[machine] volumes must be a list of strings like ["/a:/a"]'),
        ({"machine": 1}, "machine must be a table"),
        ({"containers": {"tz": 1}}, "[containers] tz must be a string in quotes"),
    ],
)
def test_value_that_podman_would_not_take_either(document: dict[str, Any], line: str) -> None:
    with pytest.raises(BadInputError) as caught:
        read_layers([(FILE, document)], HOST)
    assert caught.value.line == f"{FILE}: {line}"


@pytest.mark.parametrize("content", [b"garbage[", b"[machine]\nimage = '\xff'"])
def test_file_that_is_not_toml_is_told(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "containers.conf"
    path.write_bytes(content)
    with pytest.raises(BadInputError, match=f"^{path} is not TOML: "):
        load_layers([path], HOST)
    with pytest.raises(BadInputError, match=f"^cannot read {tmp_path}: Is a directory$"):
        load_layers([tmp_path], HOST)
