"""Golden files: expected texts under version control, so that a diff shows how a change affects them.

A golden file is either one text (a command line of QEMU, an Ignition config, a help text) or has the texts of one test
module, each below the name of its test:

    ## qemu_without_slirp[mac]
    FAILURE  /opt/qemu was built without slirp, which every machine needs
          -> install it with: brew install qemu

`pytest --update-golden` writes them; without it nothing is written.
"""

from __future__ import annotations

import fcntl
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

UPDATE = "--update-golden"
ADVICE = f"if it should, run the test again with {UPDATE} and look at the diff"
DIRECTORY = "golden"

USED = pytest.StashKey[set[Path]]()
"""The golden files used in this run."""
ORDERS = pytest.StashKey[dict[Path, list[str]]]()
"""The names of each module's tests, in the module's order."""


@dataclass(kw_only=True)
class Golden:
    """The golden files of one test."""

    texts: Path
    test: str
    order: list[str]
    update: bool
    used: set[Path]
    _cases: set[str] = field(default_factory=set)

    def matches_file(self, text: str, name: str) -> None:
        """Compare a text with the file `name` in the directory of golden files beside the test."""
        self.matches_path(text, self.texts.parent / name)

    def matches_path(self, text: str, path: Path) -> None:
        """Compare a text with any file."""
        self.used.add(path)
        if self.update:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        assert path.exists(), f"there is no golden file {path.name}; {ADVICE}"
        assert text == path.read_text(), f"{path.name} differs; {ADVICE}"

    def matches(self, text: str, case: str = "") -> None:
        """Compare a text with that of this test in the module's golden file; `case` names one of several."""
        heading = f"{self.test}: {case}" if case else self.test
        assert heading not in self._cases, f"{heading} was compared before: give each text of a test a case of its own"
        self._cases.add(heading)
        text = text.strip("\n")
        assert not re.search("^## ", text, re.MULTILINE), "a text cannot have a heading in it"
        self.used.add(self.texts)
        if self.update:
            with _editing(self.texts) as sections:
                sections[heading] = text
                _sort(sections, self.order)
            return
        expected = read_sections(self.texts)
        assert heading in expected, f"{self.texts.name} has no text for {heading}; {ADVICE}"
        assert text == expected[heading], f"{self.texts.name} has another text for {heading}; {ADVICE}"

    def drop_unused(self) -> None:
        """Fail if the golden file has texts of this test that were not compared, or remove them if updating."""
        left = {heading for heading in read_sections(self.texts) if test_of(heading) == self.test} - self._cases
        if left and self.update:
            with _editing(self.texts) as sections:
                for heading in left:
                    sections.pop(heading, None)
            return
        assert not left, f"{self.texts.name} has texts that the test does not compare: {sorted(left)}; {ADVICE}"


def texts_of(module: Path) -> Path:
    """Return the golden file with the texts of a test module."""
    return module.parent / DIRECTORY / f"{module.stem.removeprefix('test_')}.txt"


def name_of(item: pytest.Item) -> str:
    return item.name.removeprefix("test_")


def test_of(heading: str) -> str:
    """Return the name of the test that a heading belongs to; a parameter may contain a colon."""
    test, bracket, rest = heading.partition("[")
    return f"{test}[{rest.rpartition(']')[0]}]" if bracket and ":" not in test else heading.partition(": ")[0]


def read_sections(path: Path) -> dict[str, str]:
    """Read the texts of a golden file by heading."""
    if not path.exists():
        return {}
    _, *sections = re.split("^## ", path.read_text(), flags=re.MULTILINE)
    parts = [section.partition("\n") for section in sections]
    return {heading: text.strip("\n") for heading, _, text in parts}


def write_sections(path: Path, sections: Mapping[str, str]) -> None:
    path.write_text("\n".join(f"## {heading}\n{text}\n" for heading, text in sections.items()))


@contextmanager
def _editing(path: Path) -> Iterator[dict[str, str]]:
    """Edit the texts of a golden file during the block, locked against other workers of the run."""
    path.parent.mkdir(exist_ok=True)
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        sections = read_sections(path)
        yield sections
        write_sections(path, sections)


def _sort(sections: dict[str, str], order: list[str]) -> None:
    """Sort texts in the order of the tests; those without a test come first, so that they are noticed."""
    places = {test: place for place, test in enumerate(order)}
    ordered = sorted(sections.items(), key=lambda section: places.get(test_of(section[0]), -1))
    sections.clear()
    sections.update(ordered)


def remember_orders(config: pytest.Config, items: Iterable[pytest.Item]) -> None:
    orders = config.stash.setdefault(ORDERS, {})
    for item in items:
        orders.setdefault(item.path, []).append(name_of(item))


def stale_texts(config: pytest.Config) -> dict[Path, list[str]]:
    """Find texts without a test, by file; modules of which only some tests were requested are left out."""
    partly = {Path(argument.partition("::")[0]).resolve() for argument in config.args if "::" in argument}
    stale = {}
    for module, order in config.stash[ORDERS].items():
        headings = read_sections(texts_of(module))
        if module not in partly and (left := [heading for heading in headings if test_of(heading) not in order]):
            stale[texts_of(module)] = left
    return stale


def drop_stale(stale: Mapping[Path, list[str]]) -> None:
    for path, headings in stale.items():
        with _editing(path) as sections:
            for heading in headings:
                sections.pop(heading, None)


def unused_files(config: pytest.Config, root: Path) -> list[Path]:
    """Find golden files that no test has used, in directories all of whose test modules have run."""
    orders, used = config.stash.get(ORDERS, {}), config.stash.get(USED, set())
    directories = {module.parent for module in orders if set(module.parent.glob("test_*.py")) <= set(orders)}
    kept = [path for directory in directories for path in (directory / DIRECTORY).glob("*")]
    return sorted(path.relative_to(root) for path in kept if path not in used)
