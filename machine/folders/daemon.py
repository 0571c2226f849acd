"""virtiofsd's command lines (pure). There are two of them: QEMU's own, in C, up to 7.2, and the one in Rust.

Whoever makes a file, on either side, it is to belong to the user: to the host's user here, to the guest's there. Newer
virtiofsd translates identities itself; for all others it is run in a user namespace that does so.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from machine.folders import confine, idmap
from machine.model.folders import Folder
from machine.model.host import HostOS

_ALL_IDS = 2**32 - 1

Span = tuple[int, int, int]
"""Identities inside a namespace, those outside, and how many."""


class Flavour(StrEnum):
    LEGACY = "legacy"
    """QEMU's own; as root inside its namespace it takes on the identity of whoever makes a file."""

    RUST = "rust"
    """It makes a file of the guest's root as itself."""

    TRANSLATING = "translating"
    """From 1.13 on."""


@dataclass(frozen=True, kw_only=True)
class Virtiofsd:
    path: str
    flavour: Flavour
    has_readonly: bool


@dataclass(frozen=True, kw_only=True)
class Identities:
    """Of the user here and in the guest, whose group has the number of the user; `spare_…` are (first, count) of what
    /etc/subuid and /etc/subgid grant the user, None where that is nothing.
    """

    uid: int
    gid: int
    guest: int
    spare_uids: tuple[int, int] | None = None
    spare_gids: tuple[int, int] | None = None

    def spans(self, flavour: Flavour) -> tuple[list[Span], list[Span]] | None:
        """What a namespace for this flavour maps; None where there are too few identities for it."""
        if flavour is not Flavour.LEGACY:
            return [(self.guest, self.uid, 1)], [(self.guest, self.gid, 1)]
        if self.uid == 0:
            return _swapped(self.guest), _swapped(self.guest)
        if self.spare_uids and self.spare_gids:
            return _around(self.guest, self.uid, self.spare_uids), _around(self.guest, self.gid, self.spare_gids)
        return None


def _swapped(guest: int) -> list[Span]:
    """Root's on the inside belongs to the guest's user's number on the outside, and the other way round."""
    spans = [(0, guest, 1), (guest, 0, 1), (1, 1, guest - 1), (guest + 1, guest + 1, _ALL_IDS - guest - 1)]
    return [span for span in spans if span[2] > 0]


def _around(guest: int, own: int, spare: tuple[int, int]) -> list[Span]:
    """The user in its place, and everybody else from root on out of the spare ones."""
    first, count = spare
    below = min(guest, count)
    spans = [(0, first, below), (guest, own, 1), (guest + 1, first + below, count - below)]
    return [span for span in spans if span[2] > 0]


def parse_spare(text: str, name: str, number: int) -> tuple[int, int] | None:
    """The largest range of the user's in the text of /etc/subuid or /etc/subgid."""
    found = []
    for line in text.splitlines():
        match line.split(":"):
            case [owner, first, count] if owner in (name, str(number)) and first.isdigit() and count.isdigit():
                found.append((int(first), int(count)))
            case _:
                continue
    return max(found, key=lambda spare: spare[1], default=None)


def virtiofsd_commands(daemon: Virtiofsd, identities: Identities, folder: Folder) -> Iterator[list[str]]:
    """Ways to run virtiofsd for one folder, the best first; `--fd` is left to be added."""
    protect = folder.read_only and not daemon.has_readonly
    read_only = ["--readonly"] if folder.read_only and daemon.has_readonly else []
    namespace = _namespace(daemon.flavour, identities, folder.source if protect else "")
    match daemon.flavour:
        case Flavour.LEGACY:
            source = folder.source.replace("\\", "\\\\").replace(",", "\\,")
            for sandbox in ("namespace", "chroot"):
                if namespace:
                    words = ["-o", f"source={source}", "-o", f"sandbox={sandbox},log_level=warn"]
                    yield [*namespace, daemon.path, *words]
        case Flavour.RUST:
            rust = [daemon.path, *_rust_words(folder), *read_only]
            yield [*namespace, *rust, "--sandbox", "none"]
            if identities.uid != 0 and not protect:
                yield [*rust, "--sandbox", "none"]
        case Flavour.TRANSLATING:
            rust = [daemon.path, *_rust_words(folder), *read_only, *_translations(identities)]
            for sandbox in ("namespace", "chroot") if identities.uid == 0 else ("none",):
                yield [*rust, "--sandbox", sandbox]


def _rust_words(folder: Folder) -> list[str]:
    return ["--shared-dir", folder.source, "--log-level", "warn"]


def _translations(identities: Identities) -> list[str]:
    """Everybody in the guest is the user here, and every owner here is the user there."""
    return [
        word
        for kind, own in (("uid", identities.uid), ("gid", identities.gid))
        for word in (
            f"--translate-{kind}", f"squash-guest:0:{own}:{_ALL_IDS}",
            f"--translate-{kind}", f"squash-host:0:{identities.guest}:{_ALL_IDS}",
        )
    ]  # fmt: skip


def _namespace(flavour: Flavour, identities: Identities, read_only: str) -> list[str]:
    spans = identities.spans(flavour)
    if spans is None:
        return []
    maps = [",".join(":".join(map(str, span)) for span in kind) for kind in spans]
    return [sys.executable, "-I", "-S", os.fspath(idmap.__file__), *maps, read_only]


def flavour_of(help_text: str) -> tuple[Flavour, bool]:
    """Which virtiofsd says this of itself, and whether it can be told to change nothing."""
    if "--shared-dir" not in help_text:
        return Flavour.LEGACY, False
    flavour = Flavour.TRANSLATING if "--translate-uid" in help_text else Flavour.RUST
    return flavour, "--readonly" in help_text


def sftp_server_command(path: str, folder: Folder, host_os: HostOS) -> list[str]:
    """An SFTP server on its standard input and output; on Linux it reaches nothing else of the user's."""
    read_only = ["-R"] if folder.read_only else []
    server = [path, "-e", *read_only, "-d", folder.source.replace("%", "%%")]
    if host_os is not HostOS.LINUX:
        return server
    return [sys.executable, "-I", "-S", os.fspath(confine.__file__), folder.source, *server]
