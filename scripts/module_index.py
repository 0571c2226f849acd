"""Write the index of modules in ARCHITECTURE.md from the modules' own docstrings: `python -m scripts.module_index`."""

from __future__ import annotations

import ast
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent
PAGE = REPOSITORY / "ARCHITECTURE.md"
BEGIN = "<!-- The index is written by: python -m scripts.module_index -->"
END = "<!-- The end of the index -->"


def index(package: Path) -> str:
    """Return a list of all modules below `package`, each with the first sentence of its docstring."""
    lines = []
    for directory in sorted({path.parent for path in package.rglob("*.py")}):
        modules = sorted(path for path in directory.glob("*.py") if path.name != "__init__.py")
        name = directory.relative_to(package).as_posix()
        lines += ["", f"**`{name}/`**" if name != "." else "**The ground floor**", ""]
        lines += [f"- `{path.name}`: {first_sentence(path)}" for path in modules]
    return "\n".join(lines[1:])


def first_sentence(path: Path) -> str:
    paragraph = (ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n\n")[0]
    return " ".join(paragraph.split()).removesuffix(".").partition(". ")[0]


def updated(page: str) -> str:
    """Return the page with a current index between its two marks."""
    before, _, rest = page.partition(BEGIN)
    return f"{before}{BEGIN}\n\n{index(REPOSITORY / 'machine')}\n\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    PAGE.write_text(updated(PAGE.read_text()))
