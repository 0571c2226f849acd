"""The user's own defaults: reading config.toml, and changing it without losing anything."""

from __future__ import annotations

import stat
import tomllib
from pathlib import Path

import hypothesis
import pytest
from hypothesis import strategies as st

from machine.errors import BadInputError
from machine.model.ports import Driver
from machine.model.settings import Value, built_in
from machine.store import settings
from machine.store.settings import load_layer, load_settings
from tests.support.builders import make_host, make_roots

HOST = make_host()
COMMENTED = """\
# My machines.

cpus = 2  # of four
# Builds need it.
memory = 4096
volumes = [
    "/a:/a",  # the first
]
"""


def test_no_file_is_an_empty_one(tmp_path: Path) -> None:
    assert load_settings(make_roots(tmp_path), HOST) == built_in(HOST)


def test_file_with_everything_is_read(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        'cpus = 3\nmemory = 3000\ndisk_size = 50\nimage = "boot2podman"\nusername = "me"\nrootful = true\n'
        'timezone = "UTC"\nvolumes = ["/a:/b"]\naccel = "tcg"\nstream_base_url = "https://mirror.example"\n'
        'port_driver = "ssh"\nallow_wildcard = false\nallow_privileged_ports = true\nmax_published_ports = 5\n'
        "patience = 3\n",
    )
    expected: dict[str, Value] = {
        "cpus": 3, "memory": 3000, "disk_size": 50, "image": "boot2podman", "username": "me", "rootful": True,
        "timezone": "UTC", "volumes": ("/a:/b",), "accel": "tcg", "stream_base_url": "https://mirror.example",
        "port_driver": "ssh", "allow_wildcard": False, "allow_privileged_ports": True, "max_published_ports": 5,
        "patience": 3,
    }  # fmt: skip
    layer = load_layer(make_roots(tmp_path))
    assert (layer.values, layer.origin) == (expected, f"config.toml: {path}")
    assert load_settings(make_roots(tmp_path), HOST).port_driver is Driver.SSH


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "memory = '2GiB'",
            '{}: "memory" must be a whole number of at least 512; correct it with: machine config edit',
        ),
        ("accel = 'x'", '{}: "accel" must be one of: auto, kvm, hvf, tcg; correct it with: machine config edit'),
        ("username = 'root'", '{}: invalid username "root": root always exists in the guest; use --rootful'),
    ],
)
def test_setting_that_means_nothing_is_told(text: str, line: str, tmp_path: Path) -> None:
    path = write(tmp_path, text)
    with pytest.raises(BadInputError) as caught:
        load_layer(make_roots(tmp_path))
    assert caught.value.line == line.format(path)


def test_unknown_setting_is_told_with_those_that_there_are(tmp_path: Path) -> None:
    path = write(tmp_path, "[machine]\ncpus = 2\n")
    with pytest.raises(BadInputError) as caught:
        load_layer(make_roots(tmp_path))
    assert caught.value.line.startswith(f'{path}: unknown setting "machine"; choose one of: cpus, memory, disk_size, ')


@pytest.mark.parametrize("content", [b"=", b"cpus = 1\ncpus = 2\n", b"image = '\xff'"])
def test_file_that_is_not_toml_is_told(content: bytes, tmp_path: Path) -> None:
    path = write(tmp_path, "")
    path.write_bytes(content)
    with pytest.raises(BadInputError) as caught:
        load_layer(make_roots(tmp_path))
    assert caught.value.message.startswith(f"{path} is not TOML: ")
    assert caught.value.hint == "correct it with: machine config edit"


def test_directory_in_the_place_of_the_file_is_told(tmp_path: Path) -> None:
    path = make_roots(tmp_path).settings
    path.mkdir(parents=True)
    with pytest.raises(BadInputError) as caught:
        load_layer(make_roots(tmp_path))
    assert caught.value.line.startswith(f"cannot read {path}: Is a directory")


# Changing it


def test_comments_and_order_are_kept() -> None:
    text = settings.with_value(COMMENTED, "cpus", 4)
    assert text == COMMENTED.replace("cpus = 2  #", "cpus = 4  #")
    text = settings.with_value(text, "image", 'a "b" \\ c')
    assert text == COMMENTED.replace("cpus = 2  #", "cpus = 4  #") + 'image = "a \\"b\\" \\\\ c"\n'
    assert settings.without(COMMENTED, "memory") == COMMENTED.replace("memory = 4096\n", "")
    assert settings.without(COMMENTED, "accel") == COMMENTED


@pytest.mark.parametrize("text", ["", "# nothing", "cpus = 2", "cpus = 2\r\n# end\r\n", "\n\n"])
def test_value_is_added_to_any_file(text: str) -> None:
    changed = settings.with_value(text, "memory", 700)
    assert changed.startswith(text.rstrip("\r\n"))
    assert tomllib.loads(changed) == {**tomllib.loads(text), "memory": 700}


@hypothesis.settings(deadline=None)  # the first example loads tomlkit
@hypothesis.given(value=st.text(st.characters(codec="utf-8")))
def test_any_text_can_be_written(value: str) -> None:
    assert tomllib.loads(settings.with_value(COMMENTED, "image", value))["image"] == value


def test_sample_chooses_nothing_and_every_line_of_it_can_be_used() -> None:
    text = settings.sample(built_in(HOST))
    path = Path("config.toml")
    assert settings.parse(text.encode(), path) == {}
    used = "\n".join(line.removeprefix("#") for line in text.splitlines() if not line.startswith("# "))
    assert settings.parse(used.encode(), path) == vars(built_in(HOST))


def test_change_that_would_mean_nothing_leaves_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, "cpus = 2\n")
    with pytest.raises(BadInputError, match="unknown setting"):
        settings.change(make_roots(tmp_path), lambda text: text + "oops = 1\n")
    assert path.read_text() == "cpus = 2\n"


def test_key_of_no_meaning_can_be_taken_out(tmp_path: Path) -> None:
    path = write(tmp_path, "disk-size = 5\ncpus = 2\n")
    settings.change(make_roots(tmp_path), lambda text: settings.without(text, "disk-size"))
    assert path.read_text() == "cpus = 2\n"


def test_link_and_mode_of_the_file_stay(tmp_path: Path) -> None:
    path = write(tmp_path, "")
    target = tmp_path / "dotfiles.toml"
    target.write_text("cpus = 2\n")
    target.chmod(0o640)
    path.unlink()
    path.symlink_to(target)
    settings.change(make_roots(tmp_path), lambda text: settings.with_value(text, "cpus", 3))
    assert path.is_symlink()
    assert target.read_text() == "cpus = 3\n"
    assert stat.S_IMODE(target.stat().st_mode) == 0o640


def test_whole_file_is_replaced_only_if_nobody_else_has_changed_it(tmp_path: Path) -> None:
    path = write(tmp_path, "cpus = 2\n")
    roots = make_roots(tmp_path)
    with pytest.raises(BadInputError) as caught:
        settings.replace(roots, b"cpus = 4\n", before=b"cpus = 1\n")
    assert caught.value.line == f"{path} was changed by another command in the meantime"
    assert path.read_text() == "cpus = 2\n"
    settings.replace(roots, b"cpus = 4\n", before=b"cpus = 2\n")
    assert path.read_text() == "cpus = 4\n"


def write(directory: Path, text: str) -> Path:
    path = make_roots(directory).settings
    path.parent.mkdir(parents=True)
    path.write_text(text)
    return path
