"""What a file for `machine init -f` says, and what it cannot say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from machine.errors import BadInputError
from machine.ops.machine_file import load
from tests.builders import PUBLIC_KEY


def said(directory: Path, text: str) -> dict[str, Any]:
    path = directory / "box.toml"
    path.write_text(text)
    return load(str(path))


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    texts = ["src:/src", "./src:/a:ro", "..:/b", "/abs:/c", "$HOME/x:/d", "${HOME}:/e", "", ":/f"]
    values = said(tmp_path, f"volume = {texts}\nimage = 'disk.img'\nssh_authorized_key = [' {PUBLIC_KEY} ']\n")
    assert values["volumes"] == (
        f"{tmp_path}/src:/src", f"{tmp_path}/src:/a:ro", f"{tmp_path}/..:/b", "/abs:/c", "$HOME/x:/d", "${HOME}:/e",
        "", ":/f",
    )  # fmt: skip
    assert values["image"] == f"{tmp_path}/disk.img"
    assert values["ssh_keys"] == (PUBLIC_KEY,)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("disk_size = 3\ndisk-size = 4\n", ': "disk_size" stands twice'),
        ("provision = ''\n", ": there is no script in an empty text"),
        ("provision = 'user:'\n", ": there is no script in an empty text"),
        (
            'provision = {name = "a", text = "x\\u0000"}\n',
            ': "provision" must be the path of a file, or a table like {name = "a", text = "…", user = true}',
        ),
    ],
)
def test_what_a_file_cannot_say(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(BadInputError) as caught:
        said(tmp_path, text)
    assert caught.value.message == f"{tmp_path}/box.toml{problem}"
