"""The table of what has run on real guests, and how the tests that boot guests record it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest

from scripts.real_runs import PAGE, table, updated
from tests.support import fedora_shape
from tests.support.real_runs import (
    GUEST,
    CommandLine,
    RealRuns,
    load,
    lost,
    parse,
    spellings,
    tracked,
    wrong_places,
)
from tests.support.real_runs import updated as updated_record
from tests.support.real_runs_missing import MISSING
from tests.support.waiting import wait_until


def test_every_verb_and_flag_has_run_on_a_real_guest_or_the_reason_is_given() -> None:
    untried = tracked() - set(load()) - set(MISSING)
    assert not untried, "give it to a machine of the guest tier, and run that test with --update-golden"


def test_reasons_are_given_only_for_what_has_not_run() -> None:
    assert set(MISSING) <= tracked() - set(load())


def test_places_in_the_record_are_still_in_the_tests() -> None:
    assert wrong_places(load()) == [], "run the tests at the present place with --update-golden"


def test_table_is_current() -> None:
    page = PAGE.read_text()
    assert page == updated(page), "update it with: python -m scripts.real_runs"


def test_table_says_what_has_not_run_and_why() -> None:
    lines = table({"start": {GUEST: "x", "other": "y"}}, {"stop": "it cannot"}).splitlines()
    assert "| `start` | boot2podman, other |" in lines
    assert "| `stop` | none: it cannot |" in lines
    assert "| `rm` | none: no reason is given |" in lines


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["ls", "-q"], CommandLine(verb="list", flags={"--quiet": "True"}, arguments=())),
        (["port", "add", "box", "1:2"], CommandLine(verb="port add", flags={}, arguments=("box", "1:2"))),
        (
            ["init", "--rootless", "-m", "512", "box"],
            CommandLine(verb="init", flags={"--memory": "512", "--rootful": "False"}, arguments=("box",)),
        ),
        (["ssh", "box", "ls", "-l"], CommandLine(verb="ssh", flags={}, arguments=("box", "ls", "-l"))),
        (["nonsense"], None),
        (["init", "--nonsense"], None),
        ([], None),
    ],
)
def test_command_line_is_parsed_as_the_program_does(words: list[str], expected: CommandLine | None) -> None:
    assert parse(words) == expected


@dataclass
class Ended:
    returncode: int | None = 0


def recorded(directory: Path, *lines: str, failing: Sequence[str] = (), running: Sequence[str] = ()) -> set[str]:
    """Return what is recorded of these command lines, of which some fail and others have not ended."""
    runs = RealRuns()
    for line in (*lines, *failing):
        runs.add(line.split(), Ended(1 if line in failing else None if line in running else 0), directory)
    found = runs.record()
    assert {place for places in found.values() for place in places.values()} <= {f"{THIS}::recorded"}
    return {f"{use} on {guest}" for use, places in found.items() for guest in places}


THIS = "tests/unit/test_real_runs.py"


def test_place_is_the_function_that_waits_or_runs_and_no_lambda_in_it(tmp_path: Path) -> None:
    runs = RealRuns()
    add = cast("Callable[..., object]", runs.add)
    wait_until(lambda: add(["ls"], Ended(), tmp_path) is None, timeout_s=1, what="the run")
    (run,) = runs.runs
    assert run.place == f"{THIS}::{test_place_is_the_function_that_waits_or_runs_and_no_lambda_in_it.__name__}"


def test_flags_of_init_and_set_count_when_the_machine_has_started(tmp_path: Path) -> None:
    made = "init --image boot2podman --swap 256 box"
    assert recorded(tmp_path, made, "set --cpus 1 box") == set()
    assert recorded(tmp_path, made, failing=["start box"]) == set()
    assert recorded(tmp_path, made, "start box", running=["start box"]) == set()
    later = ("stop box", "set --disk-size 20 box", "ls")
    assert "set --disk-size on boot2podman" not in recorded(tmp_path, made, "start box", *later)
    expected = {"init", "init --image", "init --swap", "set", "set --cpus", "start", "start --quiet"}
    found = recorded(tmp_path, made, "set --cpus 1 box", "start -q box", "set --memory 512 box")
    assert found == {f"{use} on {GUEST}" for use in expected}


def test_verbs_count_on_the_machines_that_they_name(tmp_path: Path) -> None:
    deb, arm = "init --image debian:13 --now deb", "init --arch aarch64 --now arm"
    found = recorded(tmp_path, deb, arm, "stop deb", "cp arm:/x .", "ls")
    assert {"stop on Debian's cloud image", "cp on boot2podman, aarch64"} <= found
    assert {"list on Debian's cloud image", "list on boot2podman, aarch64"} <= found
    assert not {"cp on Debian's cloud image", "stop on boot2podman, aarch64"} & found


def test_guest_that_is_shaped_otherwise_is_not_taken_for_ours(tmp_path: Path) -> None:
    found = recorded(tmp_path, f"init --image /cache/{fedora_shape.NAME} --volume /x shape", "start shape")
    assert "init --volume on the shape of Fedora CoreOS" in found
    assert not any(use.endswith(GUEST) for use in found)


def test_machine_keeps_its_guest_under_another_name(tmp_path: Path) -> None:
    found = recorded(tmp_path, "init --image debian:13 --env A=b a", "rename a b", "start b", "clone b c", "start c")
    assert {"init --env on Debian's cloud image", "rename on Debian's cloud image"} <= found
    assert "clone on Debian's cloud image" in found


@pytest.mark.parametrize(
    ("init", "counts"),
    [("--image debian:13", True), ("--image-path debian:13", True), ("--image debian:12", False)],
)
def test_pull_counts_when_a_machine_of_the_image_has_started(tmp_path: Path, init: str, counts: bool) -> None:
    found = recorded(tmp_path, "image pull debian:13", f"init {init} deb", "start deb")
    assert any(use.startswith("image pull on ") for use in found) is counts


def test_keys_of_a_file_are_flags(tmp_path: Path) -> None:
    (tmp_path / "box.toml").write_text('name = "box"\nimage = "debian:13"\nssh_authorized_key = ["x"]\n')
    found = recorded(tmp_path, "init --now -f box.toml")
    flags = ("file", "ssh-authorized-key", "image", "now")
    assert {f"init --{flag} on Debian's cloud image" for flag in flags} <= found


def test_up_starts_the_machines_of_its_file_and_makes_those_that_are_missing(tmp_path: Path) -> None:
    text = '[defaults]\nimage = "boot2podman"\n[machine.box]\n[machine.deb]\nimage = "debian:13"\n'
    (tmp_path / "machines.toml").write_text(text)
    found = recorded(tmp_path, "init --cpus 1 box", "up", "down deb")
    assert found >= {f"up on {GUEST}", "up on Debian's cloud image", f"init --cpus on {GUEST}"}
    assert {use for use in found if use.startswith("down")} == {"down on Debian's cloud image"}


def test_record_keeps_what_this_run_has_not_done_and_drops_what_no_longer_exists() -> None:
    old = {"stop": {GUEST: "a"}, "start": {"other": "b"}, "nonsense": {GUEST: "c"}}
    assert updated_record(old, {"start": {GUEST: "d"}}) == {"start": {GUEST: "d", "other": "b"}, "stop": {GUEST: "a"}}


def test_complete_run_misses_what_it_has_not_done_on_its_own_guests() -> None:
    record = {"stop": {GUEST: "a", "other": "b"}, "start": {GUEST: "c"}}
    assert lost(record, {"start": {GUEST: "c"}}) == [f"stop on {GUEST}"]


def test_place_that_is_gone_or_has_lost_the_word_is_wrong() -> None:
    assert wrong_places({"init --swap": {GUEST: "tests/guest/test_1_main_job.py::nowhere"}})
    assert wrong_places({"init --hostname": {GUEST: f"{THIS}::no_such_function"}})
    assert wrong_places({"init --playbook": {GUEST: "tests/guest/test_1_main_job.py::test_files_go_in_and_out"}})
    assert wrong_places({"stop": {GUEST: "tests/guest/test_5_changes.py::test_rm_leaves_nothing"}}) == []


def test_words_are_looked_for_as_the_tests_may_write_them() -> None:
    assert spellings("list") == {'"list', '"ls'}
    assert spellings("init --memory") == {'"-m', '"--memory', "memory = "}
    assert spellings("init --rootful") == {'"--rootful', '"--rootless', "rootful = "}
