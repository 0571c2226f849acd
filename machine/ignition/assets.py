"""Load the files that go into a guest, from the installed package's data or from the checkout."""

from __future__ import annotations

from pathlib import Path

from machine.errors import MachineError

_PACKAGE = Path(__file__).resolve().parents[1]


def images_directory() -> Path:
    """Return the directory `images` of the checkout, or its copy in the installed package.

    Raises:
        MachineError: the installation is incomplete.
    """
    for candidate in (_PACKAGE / "_data", _PACKAGE.parent / "images"):
        if (candidate / "ignition").is_dir():
            return candidate
    raise MachineError(f"this program's data files are missing in {_PACKAGE}", hint="reinstall boot2podman")


def load(name: str, **values: str) -> str:
    """Return the text of `images/ignition/NAME` with every `@KEY@` replaced by its value."""
    text = (images_directory() / "ignition" / name).read_text(encoding="utf-8")
    for key, value in values.items():
        text = text.replace(f"@{key.upper()}@", value)
    return text
