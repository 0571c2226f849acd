"""The index of modules in ARCHITECTURE.md."""

from __future__ import annotations

from pathlib import Path

from scripts.module_index import PAGE, index, updated


def test_index_is_current() -> None:
    page = PAGE.read_text()
    assert page == updated(page), "update it with: python -m scripts.module_index"


def test_module_is_listed_with_the_first_sentence_of_its_docstring(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "one.py").write_text('"""Do one\nthing. And more.\n\nMuch more."""\n')
    (tmp_path / "sub" / "__init__.py").touch()
    (tmp_path / "sub" / "two.py").write_text('"""Do two things."""\n')
    assert index(tmp_path) == (
        "**The ground floor**\n\n- `one.py`: Do one thing\n\n**`sub/`**\n\n- `two.py`: Do two things"
    )
