"""The documentation names the fields of each `--format json`: all of them, and no others."""

from __future__ import annotations

import json
import re

from tests.support.pages import DOCS
from tests.support.world import World

_HEAD = "| field | type |"
_MACHINE = "| field of `Machine` | type |"
SHARED = {"Schema", "State", "Reason", "Arch", "Accelerator", "Uptime", "Labels"}
"""The fields of `Machine` that the page names in a sentence."""

COMMANDS = {
    "machine ls": ("ls",),
    "machine inspect": ("inspect", "box"),
    "machine status": ("status", "box"),
    "machine top": ("top", "--no-stream", "--all"),
    "machine port ls": ("port", "ls", "box"),
    "machine mount ls": ("mount", "ls", "box"),
    "machine snapshot ls": ("snapshot", "ls", "box"),
    "machine image ls": ("image", "ls"),
    "machine image verify": ("image", "verify"),
    "machine image catalogue": ("image", "catalogue"),
    "machine doctor": ("doctor",),
    "machine config get": ("config", "get"),
    "machine info": ("info",),
}


def documented(title: str, head: str = _HEAD) -> set[str]:
    """Return the names in the first column of a section's table."""
    text = (DOCS / "reference" / "json.md").read_text()
    section = re.split(r"^## ", text.split(f"## {title}", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]
    rows = section.split(head, 1)[1].splitlines()[2:]
    cells = [row.split("|")[1] for row in rows[: rows.index("") if "" in rows else None]]
    return {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}


def test_page_names_all_fields(box: World) -> None:
    (box.root / "src").mkdir()
    box.must("set", "--volume", f"{box.root / 'src'}:/src", "box")
    box.edit_record("box", guest={"provisioned": True})
    box.must("snapshot", "create", "box")
    printed = {title: json.loads(box.machine(*words, "--format", "json").stdout) for title, words in COMMANDS.items()}
    fields = {title: set(found[0] if isinstance(found, list) else found) for title, found in printed.items()}
    assert fields == {title: documented(title) for title in COMMANDS}


def test_page_names_all_fields_of_ours_in_inspect(box: World) -> None:
    assert set(box.inspect("box")["Machine"]) == documented("machine inspect", _MACHINE) | SHARED


def test_page_has_the_fields_of_nested_objects(box: World) -> None:
    page = (DOCS / "reference" / "json.md").read_text()
    inspected = box.inspect("box")
    nested = [inspected[name] for name in ("Resources", "SSHConfig")]
    nested += [inspected["Machine"][name] for name in ("Image", "Sockets", "Logs")]
    info = json.loads(box.must("info", "--format", "json").stdout)
    names = {name for each in (*nested, info["Host"], info["Machine"]) for name in each}
    assert {name for name in names if f"`{name}`" not in page} == set()
