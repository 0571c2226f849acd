"""Make command lines of virtiofsd (pure).

Two programs are called virtiofsd. One is in C, and QEMU contained it up to version 7.2. The other is in Rust. On
the host, all files in a folder belong to the host's user. In the guest, they belong to the guest's user, whoever has
made them. A newer virtiofsd translates the owners itself. An older virtiofsd runs in a user namespace that does so.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from machine.folders import idmap
from machine.model.folders import Folder

_ALL_IDS = 2**32 - 1
# virtiofsd passes its state on through QEMU. Where another file has meanwhile taken the place of one that the guest has
# open, the guest gets errors. It could write to the wrong file otherwise, and by default it could not be resumed.
_STATE = ("--migration-verify-handles", "--migration-on-error", "guest-error")

# As in /etc/login.defs.
_MIN_SUBID = 100_000
_SUBIDS = 65_536

Span = tuple[int, int, int]
"""A line of a user namespace's ID map: the first ID inside, the first ID outside, and the count."""


class Flavour(StrEnum):
    LEGACY = "legacy"
    """QEMU's own virtiofsd. As root in its namespace, it makes files with the IDs of the guest's process."""

    RUST = "rust"
    """virtiofsd in Rust before 1.13. What the guest's root makes gets the IDs of virtiofsd."""

    TRANSLATING = "translating"
    """virtiofsd in Rust since 1.13, which translates owners."""


@dataclass(frozen=True, kw_only=True)
class Virtiofsd:
    """A virtiofsd that is installed on this host."""

    path: str
    flavour: Flavour
    has_readonly: bool
    """Whether this virtiofsd has the option `--readonly`."""

    passes_state_on: bool = False
    """Whether a new virtiofsd can take over from this one, so that a guest is suspended with its folders mounted."""


@dataclass(frozen=True, kw_only=True)
class OwnerIds:
    """The IDs of the users who own the files on the host and in the guest. The guest user's group has the user's ID."""

    uid: int
    gid: int
    guest: int
    subuids: tuple[int, int] | None = None
    """The first of the host user's subordinate user IDs in /etc/subuid, and their count. None if there are none."""

    subgids: tuple[int, int] | None = None
    """The first of the host user's subordinate group IDs in /etc/subgid, and their count. None if there are none."""

    def maps(self, flavour: Flavour) -> tuple[list[Span], list[Span]] | None:
        """Return the UID and GID maps of a user namespace for this flavour of virtiofsd.

        Return None if the user lacks subordinate IDs.
        """
        if flavour is not Flavour.LEGACY:
            return [(self.guest, self.uid, 1)], [(self.guest, self.gid, 1)]
        if self.uid == 0:
            return _swapped(self.guest), _swapped(self.guest)
        if self.subuids and self.subgids:
            return _around(self.guest, self.uid, self.subuids), _around(self.guest, self.gid, self.subgids)
        return None


def _swapped(guest: int) -> list[Span]:
    """Return a map that swaps the IDs of root and the guest user."""
    spans = [(0, guest, 1), (guest, 0, 1), (1, 1, guest - 1), (guest + 1, guest + 1, _ALL_IDS - guest - 1)]
    return [span for span in spans if span[2] > 0]


def _around(guest: int, own: int, subordinate: tuple[int, int]) -> list[Span]:
    """Return a map from the guest user to the host user, and from all other IDs to subordinate IDs."""
    first, count = subordinate
    below = min(guest, count)
    spans = [(0, first, below), (guest, own, 1), (guest + 1, first + below, count - below)]
    return [span for span in spans if span[2] > 0]


def parse_subids(text: str, name: str, number: int) -> tuple[int, int] | None:
    """Return the user's largest range in the text of /etc/subuid or /etc/subgid, or None if the user has none."""
    found = ((first, count) for owner, first, count in _ranges(text) if owner in (name, str(number)))
    return max(found, key=lambda subordinate: subordinate[1], default=None)


def add_subids_command(user: str, subuids: str, subgids: str) -> str:
    """Return the command that gives a user subordinate IDs which nobody has yet.

    `subuids` and `subgids` are the texts of /etc/subuid and /etc/subgid.
    """
    first = max([_MIN_SUBID, *(start + count for text in (subuids, subgids) for _, start, count in _ranges(text))])
    ids = f"{first}-{first + _SUBIDS - 1}"
    return f"sudo usermod --add-subuids {ids} --add-subgids {ids} {user}"


def _ranges(text: str) -> Iterator[tuple[str, int, int]]:
    """Yield each range in the text of /etc/subuid or /etc/subgid, as its owner, its first ID and its count."""
    for line in text.splitlines():
        match line.split(":"):
            case [owner, first, count] if first.isdigit() and count.isdigit():
                yield owner, int(first), int(count)
            case _:
                continue


def virtiofsd_commands(daemon: Virtiofsd, owners: OwnerIds, folder: Folder) -> Iterator[list[str]]:
    """Yield the command lines to try for one folder's virtiofsd, the best first.

    The command lines lack the option `--fd`, which `with_listener` adds.
    """
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
    state = _STATE if daemon.passes_state_on else ()
    return [daemon.path, "--shared-dir", folder.source, "--log-level", "warn", *read_only, *state]


def _translations(owners: OwnerIds) -> list[str]:
    """Return options that map all IDs in the guest to the host's user, and all IDs on the host to the guest's user."""
    return [
        word
        for kind, own in (("uid", owners.uid), ("gid", owners.gid))
        for word in (
            f"--translate-{kind}", f"squash-guest:0:{own}:{_ALL_IDS}",
            f"--translate-{kind}", f"squash-host:0:{owners.guest}:{_ALL_IDS}",
        )
    ]  # fmt: skip


def _namespace(flavour: Flavour, owners: OwnerIds, read_only: str) -> list[str]:
    """Return the beginning of the command line that runs a command in a user namespace. The command follows.

    If the user lacks the subordinate IDs for the namespace, return an empty list.
    """
    maps = owners.maps(flavour)
    if maps is None:
        return []
    words = [",".join(":".join(map(str, span)) for span in spans) for spans in maps]
    return [sys.executable, "-I", "-S", os.fspath(idmap.__file__), *words, read_only]


def passes_state_on(command: Sequence[str]) -> bool:
    """Return whether a new virtiofsd can take over from the one that runs with this command line."""
    return _STATE[0] in command


def describe(path: str, help_text: str) -> Virtiofsd:
    """Return what is known of the virtiofsd at `path`, which prints this help text."""
    if "--shared-dir" not in help_text:
        return Virtiofsd(path=path, flavour=Flavour.LEGACY, has_readonly=False)
    return Virtiofsd(
        path=path,
        flavour=Flavour.TRANSLATING if "--translate-uid" in help_text else Flavour.RUST,
        has_readonly="--readonly" in help_text,
        passes_state_on=_STATE[0] in help_text,
    )
