"""Command lines of virtiofsd (pure). There are two programs of that name: QEMU's own in C, up to 7.2, and one in Rust.

Files belong to the user whoever makes them, on either side: to the host's user here, to the guest's user there. Newer
virtiofsd translates owners itself; any other is run in a user namespace that does.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from machine.folders import idmap
from machine.model.folders import Folder

_ALL_IDS = 2**32 - 1

Span = tuple[int, int, int]
"""Of a user namespace's map: the first id inside, the first id outside, and how many."""


class Flavour(StrEnum):
    LEGACY = "legacy"
    """QEMU's own: as root in its namespace it takes on the ids of whoever makes a file."""

    RUST = "rust"
    """The one in Rust: as itself it makes files of the guest's root."""

    TRANSLATING = "translating"
    """The one in Rust from 1.13 on, which translates owners."""


@dataclass(frozen=True, kw_only=True)
class Virtiofsd:
    """A virtiofsd that is installed on this host."""

    path: str
    flavour: Flavour
    has_readonly: bool
    """It can refuse all changes by itself."""


@dataclass(frozen=True, kw_only=True)
class OwnerIds:
    """The numbers that own files: the host user's, and the guest user's, whose group has the same number."""

    uid: int
    gid: int
    guest: int
    spare_uids: tuple[int, int] | None = None
    """The first of the ids that /etc/subuid grants the user, and how many; None where it grants none."""

    spare_gids: tuple[int, int] | None = None
    """The same of /etc/subgid."""

    def maps(self, flavour: Flavour) -> tuple[list[Span], list[Span]] | None:
        """The uid and gid maps of a namespace for this flavour; None where the user has too few ids for it."""
        if flavour is not Flavour.LEGACY:
            return [(self.guest, self.uid, 1)], [(self.guest, self.gid, 1)]
        if self.uid == 0:
            return _swapped(self.guest), _swapped(self.guest)
        if self.spare_uids and self.spare_gids:
            return _around(self.guest, self.uid, self.spare_uids), _around(self.guest, self.gid, self.spare_gids)
        return None


def _swapped(guest: int) -> list[Span]:
    """A map in which root inside is the guest user's number outside, and the other way round."""
    spans = [(0, guest, 1), (guest, 0, 1), (1, 1, guest - 1), (guest + 1, guest + 1, _ALL_IDS - guest - 1)]
    return [span for span in spans if span[2] > 0]


def _around(guest: int, own: int, spare: tuple[int, int]) -> list[Span]:
    """A map in which the guest user is the host user, and everybody else from root on has a spare id."""
    first, count = spare
    below = min(guest, count)
    spans = [(0, first, below), (guest, own, 1), (guest + 1, first + below, count - below)]
    return [span for span in spans if span[2] > 0]


def parse_spare(text: str, name: str, number: int) -> tuple[int, int] | None:
    """The user's largest range in the text of /etc/subuid or /etc/subgid."""
    found = []
    for line in text.splitlines():
        match line.split(":"):
            case [owner, first, count] if owner in (name, str(number)) and first.isdigit() and count.isdigit():
                found.append((int(first), int(count)))
            case _:
                continue
    return max(found, key=lambda spare: spare[1], default=None)


def virtiofsd_commands(daemon: Virtiofsd, owners: OwnerIds, folder: Folder) -> Iterator[list[str]]:
    """Yield the ways to run virtiofsd for one folder, the best first; the listener's `--fd` is added later."""
    protect = folder.read_only and not daemon.has_readonly
    namespace = _namespace(daemon.flavour, owners, folder.source if protect else "")
    match daemon.flavour:
        case Flavour.LEGACY:
            if namespace:
                for sandbox in ("namespace", "chroot"):
                    yield [*namespace, *_legacy_words(daemon, folder, sandbox)]
        case Flavour.RUST:
            rust = [*_rust_words(daemon, folder), "--sandbox", "none"]
            yield [*namespace, *rust]
            if owners.uid != 0 and not protect:
                yield rust
        case Flavour.TRANSLATING:
            for sandbox in ("namespace", "chroot") if owners.uid == 0 else ("none",):
                yield [*_rust_words(daemon, folder), *_translations(owners), "--sandbox", sandbox]


def _legacy_words(daemon: Virtiofsd, folder: Folder, sandbox: str) -> list[str]:
    source = folder.source.replace("\\", "\\\\").replace(",", "\\,")
    return [daemon.path, "-o", f"source={source}", "-o", f"sandbox={sandbox},log_level=warn"]


def _rust_words(daemon: Virtiofsd, folder: Folder) -> list[str]:
    read_only = ["--readonly"] if folder.read_only and daemon.has_readonly else []
    return [daemon.path, "--shared-dir", folder.source, "--log-level", "warn", *read_only]


def _translations(owners: OwnerIds) -> list[str]:
    """Options that make everybody in the guest the user here, and every owner here the user there."""
    return [
        word
        for kind, own in (("uid", owners.uid), ("gid", owners.gid))
        for word in (
            f"--translate-{kind}", f"squash-guest:0:{own}:{_ALL_IDS}",
            f"--translate-{kind}", f"squash-host:0:{owners.guest}:{_ALL_IDS}",
        )
    ]  # fmt: skip


def _namespace(flavour: Flavour, owners: OwnerIds, read_only: str) -> list[str]:
    """The beginning of a command line that runs the rest of it in a user namespace; empty where none can be had."""
    maps = owners.maps(flavour)
    if maps is None:
        return []
    words = [",".join(":".join(map(str, span)) for span in spans) for spans in maps]
    return [sys.executable, "-I", "-S", os.fspath(idmap.__file__), *words, read_only]


def flavour_of(help_text: str) -> tuple[Flavour, bool]:
    """The flavour whose `--help` says this, and whether that virtiofsd has `--readonly`."""
    if "--shared-dir" not in help_text:
        return Flavour.LEGACY, False
    flavour = Flavour.TRANSLATING if "--translate-uid" in help_text else Flavour.RUST
    return flavour, "--readonly" in help_text
