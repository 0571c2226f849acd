"""Names of snapshots, their comments, and what a restore brings back."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from machine.errors import BadInputError
from machine.model.config import Resources
from machine.model.ports import parse_forward
from machine.model.record import GuestFacts, Pending
from machine.model.snapshot import (
    MAX_COMMENT_LENGTH,
    as_of,
    check_snapshot_name,
    checked_comment,
    default_name,
    name_before_restore,
)
from tests.support.builders import make_record


@pytest.mark.parametrize(
    ("taken", "default", "before"),
    [
        ([], "snapshot1", "before-restore"),
        (["clean", "snapshot1"], "snapshot2", "before-restore"),
        (["snapshot2"], "snapshot1", "before-restore"),
        (["Snapshot1", "before-restore"], "snapshot2", "before-restore2"),
        (["before-restore", "Before-Restore2", "before-restore4"], "snapshot1", "before-restore3"),
    ],
)
def test_names_that_are_chosen_are_free(taken: list[str], default: str, before: str) -> None:
    assert (default_name(taken), name_before_restore(taken)) == (default, before)


@pytest.mark.parametrize("name", ["", ".hidden", "../up", "a/b", "-flag", "a b", "é", "x" * 31])
def test_name_that_breaks_the_rule(name: str) -> None:
    with pytest.raises(BadInputError):
        check_snapshot_name(name)


def test_name_may_be_one_that_is_reserved_for_machines() -> None:
    assert check_snapshot_name("qemu") == "qemu"


@pytest.mark.parametrize(
    ("given", "comment"),
    [
        (None, None),
        ("", None),
        ("all is well: ü", "all is well: ü"),
        ("x" * MAX_COMMENT_LENGTH, "x" * MAX_COMMENT_LENGTH),
    ],
)
def test_comment_of_one_line(given: str | None, comment: str | None) -> None:
    assert checked_comment(given) == comment


@pytest.mark.parametrize("given", ["two\nlines", "a\ttab", "\x1b[31m", "\udcff", "x" * (MAX_COMMENT_LENGTH + 1)])
def test_comment_that_does_not_fit_into_a_table(given: str) -> None:
    with pytest.raises(BadInputError):
        checked_comment(given)


def test_restore_brings_back_what_describes_disk_memory_and_guest() -> None:
    then = make_record(
        resources=Resources(cpus=1, memory_mib=1024, disk_gib=10),
        usbs=("bus=1,devnum=2",),
        timezone="Europe/Berlin",
        pending=Pending(scripts=True),
        guest=GuestFacts(provisioned=True, last_up=datetime(2026, 11, 1, tzinfo=UTC), followed="then"),
    )
    present = make_record(
        "crate",
        resources=Resources(cpus=4, memory_mib=4096, disk_gib=20),
        forwards=(parse_forward("127.0.0.1:8080:80/tcp"),),
        protected=True,
        rootful=True,
        ssh_port=40000,
        pending=Pending(restoring="clean"),
        guest=GuestFacts(provisioned=True, followed="now"),
    )
    after = as_of(then, present)
    assert (after.config.resources, after.config.usbs) == (then.config.resources, then.config.usbs)
    assert (after.config.timezone, after.guest) == ("Europe/Berlin", then.guest)
    assert after.pending == Pending(scripts=True, guest_outdated=True)
    kept = ("name", "forwards", "protected", "rootful", "ssh_port", "mac", "created", "folders", "labels")
    assert all(getattr(after.config, name) == getattr(present.config, name) for name in kept)
