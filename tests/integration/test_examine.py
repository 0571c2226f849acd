"""The script by which a guest tells what is wrong with it, run here with a systemd that the test plays."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from machine.ignition.assets import images_directory
from machine.supervisor.vitals import ClosedSocket, SocketState, Vitals, parse_vitals

SCRIPT = images_directory() / "ignition" / "files" / "examine.sh"

# The user's units are in the directory `user`, root's in `root`: a file for each property that a unit has.
SYSTEMCTL = """#!/bin/sh
case $1 in --user) here=$UNITS/user; shift ;; *) here=$UNITS/root ;; esac
echo "${here##*/} $*" >>"$UNITS/log"
case "$*" in
"is-active podman.socket") cat "$here/socket" ;;
"show --property=LoadState --value podman.socket") cat "$here/loaded" ;;
"is-failed --quiet podman.service") test -e "$here/service-failed" ;;
"is-failed --quiet user@0.service user-runtime-dir@0.service") test -e "$here/user-failed" ;;
"is-active user@0.service") cat "$here/user" ;;
esac
"""
SETPRIV = '#!/bin/sh\nwhile [ "$1" != --clear-groups ]; do shift; done\nshift\nexec "$@"\n'


class Guest:
    """A guest's systemd and podman, in a directory."""

    def __init__(self, directory: Path) -> None:
        self.units = directory / "units"
        self._bin = directory / "bin"
        self._bin.mkdir()
        for tool in ("cat", "dmesg", "grep", "sed", "stat", "tail"):
            (self._bin / tool).symlink_to(str(shutil.which(tool)))
        self._write("systemctl", SYSTEMCTL)
        self._write("setpriv", SETPRIV)
        self._write("podman", "#!/bin/sh\n")
        for owner in ("user", "root"):
            (self.units / owner).mkdir(parents=True)
            self.say(owner, "socket", "active")

    def _write(self, name: str, text: str) -> None:
        (self._bin / name).write_text(text)
        (self._bin / name).chmod(0o755)

    def say(self, owner: str, name: str, text: str = "") -> None:
        (self.units / owner / name).write_text(f"{text}\n")

    def forbid_podman(self) -> None:
        (self._bin / "podman").chmod(0o644)

    def ask(self, depth: str) -> Vitals:
        words = ["/bin/sh", os.fspath(SCRIPT), depth, "root", "0"]
        environment = {"PATH": os.fspath(self._bin), "UNITS": os.fspath(self.units)}
        done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True, timeout=20)
        vitals = parse_vitals(done.stdout)
        assert vitals is not None
        return vitals

    @property
    def started(self) -> list[str]:
        return [line for line in (self.units / "log").read_text().splitlines() if " start " in line]


@pytest.fixture
def guest(tmp_path: Path) -> Guest:
    return Guest(tmp_path)


@pytest.mark.parametrize("depth", ["brief", "full"])
def test_healthy_guest_tells_no_trouble(guest: Guest, depth: str) -> None:
    told = guest.ask(depth)
    assert (told.service_failed, told.socket_failed, told.closed_sockets, told.has_podman) == (False, False, (), True)
    assert told.clock is not None
    assert told.memory is not None


@pytest.mark.parametrize("owner", ["user", "root"])
@pytest.mark.parametrize("depth", ["brief", "full"])
def test_podman_that_has_failed_is_told_at_every_depth(guest: Guest, depth: str, owner: str) -> None:
    guest.say(owner, "service-failed")
    assert guest.ask(depth).service_failed
    assert guest.started == []


def test_podman_that_may_not_be_executed_is_told(guest: Guest) -> None:
    guest.forbid_podman()
    assert not guest.ask("brief").has_podman


@pytest.mark.parametrize(
    ("loaded", "state"),
    [("masked", SocketState.MASKED), ("loaded", SocketState.STOPPED), ("", SocketState.NO_MANAGER)],
)
def test_socket_that_somebody_has_stopped_is_told_and_stays_as_it_is(
    guest: Guest, loaded: str, state: SocketState
) -> None:
    guest.say("root", "socket", "inactive")
    guest.say("root", "loaded", loaded)
    for depth in ("full", "try"):
        assert guest.ask(depth).closed_sockets == (ClosedSocket(owner="root", state=state),)
    assert guest.started == []


def test_socket_that_systemd_has_given_up_is_started_again(guest: Guest) -> None:
    guest.say("user", "socket", "failed")
    assert guest.ask("try").socket_failed
    assert guest.started == ["user start podman.socket", "user start --no-block podman.service"]


@pytest.mark.parametrize(
    ("manager", "told"),
    [
        ("activating", {"is_starting": True}),
        ("inactive", {"closed_sockets": (ClosedSocket(owner="root", state=SocketState.NO_MANAGER),)}),
    ],
)
def test_users_systemd_is_waited_for_while_it_starts(guest: Guest, manager: str, told: dict[str, object]) -> None:
    guest.say("user", "socket", "inactive")
    guest.say("user", "loaded", "")
    guest.say("root", "user", manager)
    answer = guest.ask("full")
    assert {"is_starting": answer.is_starting, "closed_sockets": answer.closed_sockets} == {
        "is_starting": False, "closed_sockets": (), **told
    }  # fmt: skip
    assert guest.started == []


def test_users_systemd_that_has_failed_is_started_again(guest: Guest) -> None:
    guest.say("user", "socket", "")
    guest.say("user", "loaded", "")
    guest.say("root", "user-failed")
    guest.say("root", "user", "activating")
    assert guest.ask("full").is_starting
    assert guest.started == ["root start --no-block user@0.service"]
