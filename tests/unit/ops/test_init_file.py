"""What a file for `machine init -f` says, and what it cannot say."""

from __future__ import annotations

from pathlib import Path

import pytest

from machine.errors import BadInputError
from machine.model.folders import parse_volume
from machine.ops.init_file import load
from machine.ops.init_request import InitRequest
from tests.support.builders import PUBLIC_KEY


def said(directory: Path, text: str) -> InitRequest:
    path = directory / "box.toml"
    path.write_text(text)
    return load(str(path))


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    texts = ["src:/src", "./src:/a:ro", "..:/b", "/abs:/c", "$HOME/x:/d", "${HOME}:/e", "", ":/f"]
    values = said(tmp_path, f"volume = {texts}\nimage = 'disk.img'\nssh_authorized_key = [' {PUBLIC_KEY} ']\n")
    assert values.volumes == (
        f"{tmp_path}/src:/src", f"{tmp_path}/src:/a:ro", f"{tmp_path}/..:/b", "/abs:/c", "$HOME/x:/d", "${HOME}:/e",
        "", ":/f",
    )  # fmt: skip
    assert values.image == f"{tmp_path}/disk.img"
    assert values.first_boot.ssh_keys == (PUBLIC_KEY,)


def test_dollar_of_the_files_own_directory_is_no_variable(tmp_path: Path) -> None:
    directory = tmp_path / "d$HOME"
    directory.mkdir()
    (volume,) = said(directory, 'volume = "src$HOME:/src"\n').volumes or ()
    found = parse_volume(volume, environment={"HOME": "-of-mine"}, cwd="/")
    assert found.source == f"{directory}/src-of-mine"


def test_empty_text_is_no_file(tmp_path: Path) -> None:
    values = said(tmp_path, 'ignition_path = ""\nplaybook = ""\n')
    assert (values.first_boot.ignition, values.first_boot.playbook) == (None, None)


def test_file_that_python_cannot_read_is_not_a_defect_of_ours(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"box\.toml is not TOML: "):
        said(tmp_path, f"a = {'[' * 100_000}")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[machine.box]\n", " describes several machines"),
        ("disk_size = 3\ndisk-size = 4\n", ': "disk_size" is given twice'),
        ("provision = ''\n", ": the script must not be empty"),
        ("provision = 'user:'\n", ": the script must not be empty"),
        (
            'provision = [{name = "a", text = "x\\u0000"}]\n',
            ': "provision" contains a NUL character',
        ),
        ('image = "./a\\u0000"\n', ': "image" contains a NUL character'),
        ('env = {"A\\u0000" = ""}\n', ': "env" contains a NUL character'),
        ('env = {"A=B" = "C"}\n', ': "env" must be a table of strings like {NAME = "value"}'),
    ],
)
def test_what_a_file_cannot_say(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(BadInputError) as caught:
        said(tmp_path, text)
    assert caught.value.message == f"{tmp_path}/box.toml{problem}"
