"""Which machines there are, and what is said of one that there is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from machine.errors import NotFoundError
from machine.store.names import check_exists, machine_names
from machine.store.paths import MachinePaths, Roots
from tests.support.builders import make_record, make_roots, save_machine


@pytest.mark.parametrize("name", ["nosuch", "", "..", "../data", "a/b", ".hidden"])
def test_machine_that_is_not_there_is_not_found(name: str, tmp_path: Path) -> None:
    roots = make_roots(tmp_path)
    save_machine(roots, make_record(".hidden"))
    with pytest.raises(NotFoundError) as caught:
        check_exists(roots, name)
    assert caught.value.message == f"{name}: VM does not exist"


def test_names_are_those_of_visible_directories_in_order(tmp_path: Path) -> None:
    roots = make_roots(tmp_path)
    assert machine_names(roots) == []
    for name in ("b", "a", ".half.tmp"):
        (roots.machines / name).mkdir(parents=True)
    (roots.machines / ".lock").touch()
    (roots.machines / "a-file").touch()
    assert machine_names(roots) == ["a", "b"]


def hint_for(name: str, roots: Roots) -> str | None:
    with pytest.raises(NotFoundError) as caught:
        check_exists(roots, name)
    assert caught.value.message == f"{name}: VM does not exist"
    return caught.value.hint


def test_missing_default_machine_names_those_that_exist(tmp_path: Path) -> None:
    roots = make_roots(tmp_path)
    assert hint_for("podman-machine-default", roots) == "there are no machines; make one with: machine init"
    save_machine(roots, make_record(name="web"))
    save_machine(roots, make_record(name="box"))
    assert hint_for("podman-machine-default", roots) == "add the name of a machine that exists: box, web"


def test_mistyped_name_brings_the_similar_ones(tmp_path: Path) -> None:
    roots = make_roots(tmp_path)
    save_machine(roots, make_record(name="podman-machine-default"))
    save_machine(roots, make_record(name="web"))
    assert hint_for("wbe", roots) == "the machines are: podman-machine-default, web"
    assert hint_for("we", roots) == "did you mean web?"
    assert hint_for("podman", roots) == "did you mean podman-machine-default?"


def test_name_like_no_other_brings_all_names_if_they_are_few(tmp_path: Path) -> None:
    roots = make_roots(tmp_path)
    assert hint_for("nosuch", roots) == "there are no machines; make one with: machine init"
    save_machine(roots, make_record(name="box"))
    assert hint_for("nosuch", roots) == "the only machine is box"
    for number in range(6):
        save_machine(roots, make_record(name=f"web-{number}"))
    assert hint_for("nosuch", roots) == "see: machine ls"
    assert hint_for("podman-machine-default", roots) == "see: machine ls"


class FoldingRoots(Roots):
    """Directories on a file system that ignores the case of names, as on most Macs."""

    def machine(self, name: str) -> MachinePaths:
        return super().machine(name.lower())


def test_name_in_another_case_is_not_that_of_the_machine_whose_directory_it_opens(tmp_path: Path) -> None:
    roots = FoldingRoots(data=tmp_path, runtime=tmp_path, cache=tmp_path, config=tmp_path)
    roots.machine("box").directory.mkdir(parents=True)
    with pytest.raises(NotFoundError) as caught:
        check_exists(roots, "BOX")
    assert caught.value.line == "BOX: VM does not exist; did you mean box?"
    check_exists(roots, "box")
