"""The transport that a start chooses for the host's folders."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest

from machine.folders.sources import Source
from machine.folders.transports import (
    MountedFolder,
    TransportFacts,
    choose_transport,
    host_obstacles,
    plan_folders,
    transport_notices,
    within_slots,
)
from machine.model.folders import Folder, Share
from machine.model.hardware import Hardware
from machine.model.host import Accelerator
from machine.model.obstacle import Obstacle
from machine.model.transport import Transport, TransportChoice

ALL = frozenset(Transport)
FOLDER, OTHER = Folder(source="/a", target="/x"), Folder(source="/b", target="/y")
FACTS = TransportFacts(is_root=False, virtiofsd={FOLDER: ["/v"]}, has_sftp_server=True)
ROOT = replace(FACTS, is_root=True)
NO_VIRTIOFSD = Obstacle("none here", "install it")
NO_NINEP = frozenset({Transport.NINEP})


@pytest.mark.parametrize(
    ("choice", "facts", "guest", "transport"),
    [
        ("auto", FACTS, None, Transport.VIRTIOFS),
        ("auto", FACTS, ALL, Transport.VIRTIOFS),
        ("auto", replace(FACTS, virtiofsd=NO_VIRTIOFSD), None, Transport.NINEP),
        ("auto", replace(FACTS, missing_devices=frozenset({Transport.VIRTIOFS})), None, Transport.NINEP),
        (
            "auto",
            replace(FACTS, virtiofsd=NO_VIRTIOFSD),
            frozenset({Transport.VIRTIOFS, Transport.SSHFS}),
            Transport.SSHFS,
        ),
        ("auto", FACTS, frozenset({Transport.NINEP}), Transport.NINEP),
        ("auto", ROOT, None, Transport.VIRTIOFS),
        ("auto", replace(ROOT, virtiofsd=NO_VIRTIOFSD), None, Transport.SSHFS),
        ("sshfs", FACTS, None, Transport.SSHFS),
        ("9p", FACTS, ALL, Transport.NINEP),
        ("9p", ROOT, ALL, Transport.NINEP),
    ],
)
def test_fastest_that_both_sides_have_is_chosen(
    choice: str, facts: TransportFacts, guest: frozenset[Transport] | None, transport: Transport
) -> None:
    assert choose_transport(TransportChoice(choice), facts, FOLDER, guest) is transport


@pytest.mark.parametrize(
    ("choice", "facts", "guest", "reason"),
    [
        (
            "9p",
            replace(FACTS, missing_devices=NO_NINEP),
            None,
            "9p cannot be used: QEMU has no device for it on this host",
        ),
        ("9p", FACTS, frozenset({Transport.SSHFS}), "9p cannot be used: the guest has no support for it"),
        (
            "auto",
            replace(FACTS, virtiofsd=NO_VIRTIOFSD, has_sftp_server=False),
            frozenset({Transport.VIRTIOFS}),
            (
                "no transport for folders works on this host (virtiofs: none here; "
                "9p: the guest has no support for it; sshfs: sftp-server is not installed on this host)"
            ),
        ),
        (
            "auto",
            replace(ROOT, virtiofsd=NO_VIRTIOFSD, has_sftp_server=False),
            None,
            (
                "no transport for folders works on this host (virtiofs: none here; "
                "9p: root's files would have the wrong owner in the guest; "
                "sshfs: sftp-server is not installed on this host)"
            ),
        ),
    ],
)
def test_reason_why_there_is_no_transport(
    choice: str, facts: TransportFacts, guest: frozenset[Transport] | None, reason: str
) -> None:
    assert choose_transport(TransportChoice(choice), facts, FOLDER, guest) == Obstacle(reason)


def test_remedy_comes_along() -> None:
    chosen = choose_transport(TransportChoice.VIRTIOFS, replace(FACTS, virtiofsd=NO_VIRTIOFSD), FOLDER)
    assert chosen == Obstacle("virtiofs cannot be used: none here", "install it")


def test_only_devices_can_be_missing_from_qemu() -> None:
    assert FACTS.with_devices(frozenset({Transport.VIRTIOFS})).missing_devices == NO_NINEP
    assert host_obstacles(TransportChoice.AUTO, FACTS.with_devices(frozenset(Transport)), FOLDER) == {}


AUTO = TransportChoice.AUTO
A, B = (Source(path=folder.source, directory_id=(1, number)) for number, folder in enumerate((FOLDER, OTHER)))
SOURCES = {FOLDER: A, OTHER: B}
SOCKETS = [Path("/0"), Path("/1")]


def test_each_folder_has_its_virtiofsd_and_its_socket() -> None:
    facts = replace(FACTS, virtiofsd={FOLDER: ["/v", "a"], OTHER: ["/v", "b"]})
    planned = plan_folders(SOURCES, AUTO, facts, None, SOCKETS)
    assert [(each.virtiofsd, each.problem) for each in planned] == [(["/v", "a"], None), (["/v", "b"], None)]
    assert [each.share for each in planned] == [
        Share(folder=FOLDER, transport=Transport.VIRTIOFS, socket=PurePosixPath("/0")),
        Share(folder=OTHER, transport=Transport.VIRTIOFS, socket=PurePosixPath("/1")),
    ]
    assert transport_notices(planned, facts) == []


def test_folder_without_a_source_is_left_out_and_keeps_its_number() -> None:
    gone = Obstacle("it is gone")
    missing, there = plan_folders({FOLDER: gone, OTHER: B}, TransportChoice.SSHFS, FACTS, None, SOCKETS)
    assert (missing.transport, missing.problem, missing.share) == (None, "it is gone", None)
    assert there == MountedFolder(folder=OTHER, transport=Transport.SSHFS, socket=Path("/1"))


def test_folder_that_virtiofsd_refuses_leaves_the_others_alone_and_is_told() -> None:
    facts = replace(ROOT, virtiofsd={FOLDER: Obstacle("virtiofsd does not run: no"), OTHER: ["/v"]})
    refused, there = plan_folders(SOURCES, AUTO, facts, ALL, SOCKETS)
    assert (refused.transport, refused.problem, refused.virtiofsd) == (Transport.SSHFS, None, ())
    assert (there.transport, there.virtiofsd) == (Transport.VIRTIOFS, ["/v"])
    assert transport_notices([refused, there], facts) == [
        "sshfs is used instead of virtiofs for /x: virtiofsd does not run: no"
    ]


def test_refusal_of_all_folders_is_told_once_and_a_missing_virtiofsd_or_another_choice_is_none() -> None:
    refusal = Obstacle("virtiofsd does not run: no")
    facts = replace(FACTS, virtiofsd={FOLDER: refusal, OTHER: refusal})
    planned = plan_folders(SOURCES, AUTO, facts, ALL, SOCKETS)
    assert transport_notices(planned, facts) == [
        "9p is used instead of virtiofs for /x, /y: virtiofsd does not run: no"
    ]
    without = replace(FACTS, virtiofsd=NO_VIRTIOFSD)
    assert transport_notices(plan_folders(SOURCES, AUTO, without, ALL, SOCKETS), without) == []


def test_folder_that_virtiofsd_refuses_has_none_where_the_user_chose_virtiofs() -> None:
    facts = replace(FACTS, virtiofsd={FOLDER: Obstacle("no"), OTHER: ["/v"]})
    refused, there = plan_folders(SOURCES, TransportChoice.VIRTIOFS, facts, ALL, SOCKETS)
    assert (refused.transport, refused.problem) == (None, "virtiofs cannot be used: no")
    assert there.transport is Transport.VIRTIOFS


def test_without_a_transport_every_folder_has_the_reason() -> None:
    facts = replace(ROOT, virtiofsd=NO_VIRTIOFSD, has_sftp_server=False)
    (planned,) = plan_folders({FOLDER: A}, AUTO, facts, None, [Path("/0")])
    assert (planned.transport, planned.virtiofsd) == (None, ())
    assert (planned.problem or "").startswith("no transport for folders works on this host (")


@pytest.mark.parametrize(
    ("slots", "shared_memory", "expected"),
    [
        (2, True, ["virtiofs", "9p", "sshfs"]),
        (1, True, ["virtiofs", "sshfs", "sshfs"]),
        (2, False, ["sshfs", "9p", "sshfs"]),
        (0, False, ["sshfs", "sshfs", "sshfs"]),
    ],
)
def test_resumed_guest_has_a_device_for_as_many_folders_as_it_has_slots(
    slots: int, shared_memory: bool, expected: list[str]
) -> None:
    hardware = Hardware(
        accelerator=Accelerator.TCG,
        cpu="max",
        first_boot=False,
        rekey=False,
        folder_slots=slots,
        shared_memory=shared_memory,
    )
    folders = [
        MountedFolder(folder=Folder(source="/a", target="/a"), transport=Transport.VIRTIOFS, virtiofsd=["/v"]),
        MountedFolder(folder=Folder(source="/b", target="/b"), transport=Transport.NINEP),
        MountedFolder(folder=Folder(source="/c", target="/c"), transport=Transport.SSHFS),
    ]
    kept = within_slots(folders, hardware)
    assert [each.transport for each in kept] == expected
    assert all(bool(each.virtiofsd) == (each.transport is Transport.VIRTIOFS) for each in kept)
