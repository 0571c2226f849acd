"""The transport that a start chooses for the host's folders."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest

from machine.folders.transports import MountedFolder, TransportFacts, choose_transport, host_obstacles, plan_folders
from machine.model.folders import Folder, Share
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
    assert choose_transport(TransportChoice(choice), facts, guest) is transport


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
    assert choose_transport(TransportChoice(choice), facts, guest) == Obstacle(reason)


def test_remedy_comes_along() -> None:
    chosen = choose_transport(TransportChoice.VIRTIOFS, replace(FACTS, virtiofsd=NO_VIRTIOFSD))
    assert chosen == Obstacle("virtiofs cannot be used: none here", "install it")


def test_only_devices_can_be_missing_from_qemu() -> None:
    assert FACTS.with_devices(frozenset({Transport.VIRTIOFS})).missing_devices == NO_NINEP
    assert host_obstacles(TransportChoice.AUTO, FACTS.with_devices(frozenset(Transport))) == {}


def test_each_folder_has_its_virtiofsd_and_its_socket() -> None:
    commands = {FOLDER: ["/v", "a"], OTHER: ["/v", "b"]}
    sockets = [Path("/0"), Path("/1")]
    planned = plan_folders({FOLDER: None, OTHER: None}, Transport.VIRTIOFS, commands, sockets)
    assert [(each.virtiofsd, each.problem) for each in planned] == [(["/v", "a"], None), (["/v", "b"], None)]
    assert [each.share for each in planned] == [
        Share(folder=FOLDER, transport=Transport.VIRTIOFS, socket=PurePosixPath("/0")),
        Share(folder=OTHER, transport=Transport.VIRTIOFS, socket=PurePosixPath("/1")),
    ]


def test_folder_without_a_source_is_left_out_and_keeps_its_number() -> None:
    gone = Obstacle("it is gone")
    missing, there = plan_folders({FOLDER: gone, OTHER: None}, Transport.SSHFS, {}, [Path("/0"), Path("/1")])
    assert (missing.transport, missing.problem, missing.share) == (None, "it is gone", None)
    assert there == MountedFolder(folder=OTHER, transport=Transport.SSHFS, socket=Path("/1"))


def test_without_a_transport_every_folder_has_the_reason() -> None:
    (planned,) = plan_folders({FOLDER: None}, Obstacle("nothing works"), NO_VIRTIOFSD, [Path("/0")])
    assert (planned.transport, planned.problem, planned.virtiofsd) == (None, "nothing works", ())
