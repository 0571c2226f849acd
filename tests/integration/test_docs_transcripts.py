"""The transcripts in the documentation that need no guest."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support.disk_images import Images
from tests.support.pages import DOCS, ROOT, Place, check, pages_with, transcripts
from tests.support.world import World, machine_program

pytestmark = pytest.mark.linux("a Mac's shell is another")

STARTED_ONCE = ("guides/snapshots.md",)
"""The pages whose reader has the machine `box`, which has been up."""


@pytest.fixture
def reader(page: str, world: World, images: Images) -> World:
    """A world of somebody who types what a page says, with a disk image in the current directory."""
    shutil.copy(images.qcow2, world.root / "disk.qcow2")
    (world.root / "machines.toml").write_text('[defaults]\nimage = "./disk.qcow2"\n[machine.web]\nmemory = 1024\n')
    (world.root / "home").mkdir()
    if page in STARTED_ONCE:
        world.init("box", images.qcow2)
        world.edit_record("box", guest={"provisioned": True})
    world.path = f"{Path(machine_program()).parent}:{world.path}:/usr/bin:/bin"
    return world


@pytest.mark.parametrize("page", pages_with(Place.HOST))
def test_transcript_prints_what_the_page_says(page: str, reader: World) -> None:
    for block in transcripts(page, Place.HOST):
        check(block, reader.run("bash", "-ec", block.script).stdout)


def test_readme_names_programs_that_exist() -> None:
    readme = (ROOT / "README.md").read_text()
    for program in ("quickstart", "test", "setup", "docs", "make-formula"):
        assert f"scripts/{program}" in readme
        assert (ROOT / "scripts" / program).stat().st_mode & 0o111
    assert len(readme.splitlines()) <= 100


def test_most_transcripts_are_run() -> None:
    counts = {place: sum(len(transcripts(page, place)) for page in pages_with(place)) for place in Place}
    assert DOCS.is_dir()
    assert counts[Place.HOST] >= 10
    assert counts[Place.GUEST] >= 4
