"""What programs can do in a folder of the host, by each transport; docs/guides/folders.md has the same table."""

from __future__ import annotations

from collections.abc import Mapping

TRANSPORTS = ("virtiofs", "9p", "sshfs")

# Each is run by sh in an empty directory of its own, by the guest's user.
SCRIPTS = {
    "links that lead upwards": 'ln -s ../x up && test "$(readlink up)" = ../x',
    "absolute links": 'ln -s /x absolute && test "$(readlink absolute)" = /x',
    "links to directories": 'mkdir d && echo t >d/f && ln -s d l && test "$(cat l/f)" = t',
    "hard links": "echo a >f && ln f g && echo b >>g && test \"$(cat f)\" = \"$(printf 'a\\nb')\"",
    "the number of hard links": 'echo a >f && ln f g && test "$(stat -c %h f)" = 2',
    "renaming over an open file": "echo a >f; echo b >g; exec 3<f && mv g f && test \"$(cat <&3) $(cat f)\" = 'a b'",
    "removing an open file": 'echo a >f && exec 3<f && rm f && test "$(cat <&3)" = a',
    "removing the directory of an open file": "mkdir d && echo a >d/f && exec 3<d/f && rm -r d",
    "times finer than a second": "touch -d '2001-01-01 00:00:00.5' f && stat -c %y f | grep -q '00\\.5'",
    "times of links": "ln -s x l && touch -h -d '2001-01-01' l && stat -c %y l | grep -q ^2001",
    "locks between programs of the guest": (
        "exec 3>f && flock -n 3 && ! flock -n f true && flock --fcntl -n 3 && ! flock --fcntl -n f true"
    ),
    "locks between host and guest": "! flock -n ../locked true || ! flock --fcntl -n ../locked true",
    "sockets (bind)": 'ssh-agent -a "$PWD/s" test -S "$PWD/s"',
    "FIFOs (mkfifo)": "mkfifo p",
    "reserving space (fallocate)": "fallocate -l 4096 f",
}  # fmt: skip

_LINKS = dict.fromkeys([*SCRIPTS][:4], True)
_FILES = {"renaming over an open file": True, "removing an open file": True}
_OFTEN = ("removing the directory of an open file", "times finer than a second", "times of links")
_LOCKS = {"locks between programs of the guest": True, "locks between host and guest": False}

SEMANTICS: Mapping[str, Mapping[str, bool]] = {
    "virtiofs": {
        **_LINKS, "the number of hard links": True, **_FILES, **dict.fromkeys(_OFTEN, True), **_LOCKS,
        "sockets (bind)": True, "FIFOs (mkfifo)": True, "reserving space (fallocate)": True,
    },
    "9p": {
        **_LINKS, "the number of hard links": True, **_FILES, **dict.fromkeys(_OFTEN, True), **_LOCKS,
        "sockets (bind)": True, "FIFOs (mkfifo)": True, "reserving space (fallocate)": False,
    },
    "sshfs": {
        **_LINKS, "the number of hard links": False, **_FILES, **dict.fromkeys(_OFTEN, False), **_LOCKS,
        "sockets (bind)": False, "FIFOs (mkfifo)": False, "reserving space (fallocate)": False,
    },
}  # fmt: skip


def script(place: str) -> str:
    """A script of the shell's that tries everything below `place`; it prints yes or no for each, a line each."""
    tries = "\n".join(
        f"rm -rf try; mkdir try; (cd try && {script}) >/dev/null 2>&1 && echo yes || echo no"
        for script in SCRIPTS.values()
    )
    return f"cd '{place}' && touch locked\n{tries}\nrm -rf try"


def told(output: str) -> dict[str, bool]:
    """What a run of the script says."""
    return dict(zip(SCRIPTS, (line == "yes" for line in output.splitlines()), strict=True))


def documented() -> str:
    """The table as the documentation has it."""
    rows = [
        f"| {name} | {' | '.join('yes' if SEMANTICS[transport][name] else 'no' for transport in TRANSPORTS)} |"
        for name in SCRIPTS
    ]
    return "\n".join([f"| | {' | '.join(TRANSPORTS)} |", "| --- | --- | --- | --- |", *rows, ""])
