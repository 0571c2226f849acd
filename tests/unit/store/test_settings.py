"""The user's own defaults."""

from __future__ import annotations

from pathlib import Path

import pytest

from machine.errors import BadInputError
from machine.store.settings import Settings, load_settings
from tests.builders import make_roots


def test_no_file_is_an_empty_one(tmp_path: Path) -> None:
    assert load_settings(make_roots(tmp_path)) == Settings()


def test_base_url_is_read(tmp_path: Path) -> None:
    write(tmp_path, 'stream_base_url = "https://mirror.example/streams"')
    assert load_settings(make_roots(tmp_path)).stream_base_url == "https://mirror.example/streams"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("stream_url = 'x'", '{}: unknown setting "stream_url"; it may hold: stream_base_url'),
        ("stream_base_url = 3", '{}: "stream_base_url" must be a text in quotes'),
    ],
)
def test_setting_that_means_nothing_is_told(text: str, line: str, tmp_path: Path) -> None:
    path = write(tmp_path, text)
    with pytest.raises(BadInputError) as caught:
        load_settings(make_roots(tmp_path))
    assert caught.value.line == line.format(path)


def test_file_that_is_not_toml_is_told(tmp_path: Path) -> None:
    path = write(tmp_path, "=")
    with pytest.raises(BadInputError, match=f"{path} is not TOML"):
        load_settings(make_roots(tmp_path))


def write(directory: Path, text: str) -> Path:
    path = make_roots(directory).config / "config.toml"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    return path
