"""Build hooks: one generates man pages and completion scripts for the wheel, one the README that goes with it."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.metadata.plugin.interface import MetadataHookInterface

_COMPLETIONS = {
    "bash": "share/bash-completion/completions/{}",
    "zsh": "share/zsh/site-functions/_{}",
    "fish": "share/fish/vendor_completions.d/{}.fish",
}


class SharedData(BuildHookInterface):  # type: ignore[type-arg]  # generic to type checkers alone
    """The hook, which hatchling finds by its base class."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":  # generated files would become outdated
            return
        sys.path.insert(0, self.root)
        self._directory = Path(tempfile.mkdtemp())
        for name, text in {**_manual(), **_completions(list(self.metadata.core.scripts))}.items():
            path = self._directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        build_data["shared_data"][os.fspath(self._directory / "share")] = "share"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002
        if version != "editable":
            shutil.rmtree(self._directory)


class Readme(MetadataHookInterface):
    """The hook of the package's description, which hatchling finds by its base class, too."""

    def update(self, metadata: dict[str, Any]) -> None:
        sys.path.insert(0, self.root)
        from machine import DOCUMENTATION
        from scripts.readme import absolute

        text = absolute((Path(self.root) / "README.md").read_text(encoding="utf-8"), DOCUMENTATION)
        metadata["readme"] = {"content-type": "text/markdown", "text": text}


def _manual() -> dict[str, str]:
    from machine import __version__
    from machine.cli.main import ALIASES, SECTIONS, cli
    from scripts.manual import Program, pages

    # See https://reproducible-builds.org/specs/source-date-epoch/
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    day = datetime.fromtimestamp(int(epoch), UTC) if epoch else datetime.now(UTC)
    program = Program(name="machine", command=cli, aliases=ALIASES, sections=SECTIONS)
    return {f"share/man/man1/{name}": text for name, text in pages(program, __version__, day).items()}


def _completions(programs: list[str]) -> dict[str, str]:
    """Generate click's scripts, which call the program for every completion."""
    from click.shell_completion import ShellComplete, get_completion_class

    from machine.cli.main import cli

    found = {}
    for shell, place in _COMPLETIONS.items():
        kind = get_completion_class(shell)
        assert kind is not None
        for program in programs:
            variable = f"_{program}_COMPLETE".replace("-", "_").upper()
            # Not kind.source, which for bash runs bash to check its version.
            found[place.format(program)] = ShellComplete.source(kind(cli, {}, program, variable))
    return found
