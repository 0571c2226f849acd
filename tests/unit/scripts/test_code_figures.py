"""The metrics of code that is little or none."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.code_figures import report


def test_directory_without_python_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "README.md").touch()
    for directory in (tmp_path, tmp_path / "nosuch"):
        with pytest.raises(SystemExit) as caught:
            report(directory)
        assert caught.value.code == f"code-figures: there are no Python files in {directory}"


@pytest.mark.parametrize("text", ["", "def f():\n    pass\n"])
def test_code_with_less_than_two_functions_has_figures(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(text)
    assert report(tmp_path).startswith(f"lines: {len(text.splitlines())} in 1 modules\n")
