"""Command lines of every virtiofsd, and whose a file is."""

from __future__ import annotations

import os
import sys
from dataclasses import replace

import pytest

from machine.folders import idmap
from machine.folders.virtiofsd import (
    Flavour,
    OwnerIds,
    Virtiofsd,
    describe,
    parse_subids,
    passes_state_on,
    virtiofsd_commands,
)
from machine.model.folders import Folder

ROOT = OwnerIds(uid=0, gid=0, guest=1000)
USER = OwnerIds(uid=1000, gid=100, guest=1000, subuids=(100000, 65536), subgids=(200000, 65536))
FOLDER = Folder(source="/a, b", target="/x")
IDMAP = [sys.executable, "-I", "-S", os.fspath(idmap.__file__)]
ALL = 2**32 - 1
LEGACY = Virtiofsd(path="/v", flavour=Flavour.LEGACY, has_readonly=False)
RUST = Virtiofsd(path="/v", flavour=Flavour.RUST, has_readonly=False)
TRANSLATING = Virtiofsd(path="/v", flavour=Flavour.TRANSLATING, has_readonly=True)


def commands(flavour: Flavour, owners: OwnerIds, folder: Folder = FOLDER) -> list[list[str]]:
    daemon = Virtiofsd(path="/v", flavour=flavour, has_readonly=flavour is Flavour.TRANSLATING)
    return list(virtiofsd_commands(daemon, owners, folder))


def test_qemus_own_takes_on_every_owner_so_root_and_the_user_change_places() -> None:
    maps = f"0:1000:1,1000:0:1,1:1:999,1001:1001:{ALL - 1001}"
    words = ["/v", "-o", "source=/a\\, b", "-o"]
    assert commands(Flavour.LEGACY, ROOT) == [
        [*IDMAP, maps, maps, "", *words, f"sandbox={sandbox},log_level=warn"] for sandbox in ("namespace", "chroot")
    ]


def test_qemus_own_run_by_a_user_has_the_others_from_subuid() -> None:
    uids, gids = (
        f"0:{first}:1000,1000:{own}:1,1001:{first + 1000}:64536" for first, own in ((100000, 1000), (200000, 100))
    )
    first, _ = commands(Flavour.LEGACY, USER)
    assert first[len(IDMAP) : len(IDMAP) + 3] == [uids, gids, ""]


def test_qemus_own_serves_nobody_without_subuid() -> None:
    assert commands(Flavour.LEGACY, replace(USER, subuids=None)) == []


def test_few_subordinate_ids_leave_the_rest_out() -> None:
    uids, _ = replace(USER, subuids=(100000, 10)).maps(Flavour.LEGACY) or ([], [])
    assert uids == [(0, 100000, 10), (1000, 1000, 1)]


def test_older_rust_gets_one_owner_and_is_run_plainly_where_there_are_no_namespaces() -> None:
    words = ["/v", "--shared-dir", "/a, b", "--log-level", "warn", "--sandbox", "none"]
    assert commands(Flavour.RUST, USER) == [[*IDMAP, "1000:1000:1", "1000:100:1", "", *words], words]
    assert commands(Flavour.RUST, ROOT) == [[*IDMAP, "1000:0:1", "1000:0:1", "", *words]]


def test_newer_rust_translates_by_itself() -> None:
    (words,) = commands(Flavour.TRANSLATING, USER)
    assert words == [
        "/v", "--shared-dir", "/a, b", "--log-level", "warn",
        "--translate-uid", f"squash-guest:0:1000:{ALL}", "--translate-uid", f"squash-host:0:1000:{ALL}",
        "--translate-gid", f"squash-guest:0:100:{ALL}", "--translate-gid", f"squash-host:0:1000:{ALL}",
        "--sandbox", "none",
    ]  # fmt: skip
    assert [words[-1] for words in commands(Flavour.TRANSLATING, ROOT)] == ["namespace", "chroot"]


@pytest.mark.parametrize("flavour", Flavour)
@pytest.mark.parametrize("owners", [ROOT, USER])
def test_read_only_is_enforced_here_in_every_way_to_run_it(flavour: Flavour, owners: OwnerIds) -> None:
    ways = commands(flavour, owners, replace(FOLDER, read_only=True))
    assert ways
    for words in ways:
        assert "--readonly" in words or (words[: len(IDMAP)] == IDMAP and words[len(IDMAP) + 2] == FOLDER.source)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  -o source=PATH", LEGACY),
        ("  --shared-dir <SHARED_DIR>\n", RUST),
        ("  --shared-dir <SHARED_DIR>\n --readonly", replace(RUST, has_readonly=True)),
        ("  --shared-dir <SHARED_DIR>\n --readonly\n --translate-uid <>", TRANSLATING),
        (
            "  --shared-dir <SHARED_DIR>\n --readonly\n --translate-uid <>\n --migration-verify-handles",
            replace(TRANSLATING, passes_state_on=True),
        ),
    ],
)
def test_virtiofsd_is_known_by_its_help(text: str, expected: Virtiofsd) -> None:
    assert describe("/v", text) == expected


def test_virtiofsd_that_can_passes_its_state_on() -> None:
    for daemon in (RUST, TRANSLATING):
        told = [
            [passes_state_on(command) for command in virtiofsd_commands(one, USER, FOLDER)]
            for one in (daemon, replace(daemon, passes_state_on=True))
        ]
        assert [set(each) for each in told] == [{False}, {True}]


def test_subordinate_ids_are_the_largest_range_by_name_or_number() -> None:
    text = "you:1:5\nme:100000:10\n1000:200000:65536\nme:x:9\n\n# me\n"
    assert parse_subids(text, "me", 1000) == (200000, 65536)
    assert parse_subids(text, "other", 7) is None
