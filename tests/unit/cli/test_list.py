"""`machine ls`, `machine inspect` and `machine rm` on records alone: nothing runs."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from machine.cli.list import as_json, last_up, row
from machine.cli.tables import table
from machine.model.record import GuestFacts
from machine.model.state import STOPPED, MachineState, State
from machine.ops.list import ListedMachine
from machine.ops.shared.context import current_context
from machine.podman.connections import connection_uri
from machine.store.paths import Roots
from tests.support.builders import CREATED, DIGEST, make_paths, make_record, make_roots, save_machine
from tests.support.command_line import Machine
from tests.support.start import held_lock

HEADING = "NAME        VM TYPE     CREATED     LAST UP     CPUS        MEMORY      DISK SIZE\n"
EMPTY = "Expecting value: line 1 column 1 (char 0)"
NEWER = "schema 7, this one reads up to 3"
RESTORE = "restore its last good copy with: cp {1} {0}"
NOW = CREATED + timedelta(hours=3)


@pytest.fixture
def roots(tmp_path: Path) -> Roots:
    """Those that MACHINE_HOME leads to."""
    return make_roots(tmp_path / "world" / "m")


def listed(state: MachineState = STOPPED, **fields: Any) -> ListedMachine:
    return ListedMachine(record=make_record(**fields), state=state, paths=make_paths(Path("/m")), default=False)


def test_no_machines_are_a_heading_alone(machine: Machine) -> None:
    outcome = machine("ls")
    assert (outcome.status, outcome.stdout, outcome.stderr) == (0, HEADING, "")
    assert machine("ls", "--noheading").stdout == ""
    assert machine("ls", "--quiet").stdout == ""
    assert json.loads(machine("ls", "--format", "json").stdout) == []


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ('{{index .Labels "team"}}|', "web|\n|\n"),
        ("{{.Labels}} {{len .Labels}}", "map[a:b team:web] 2\nmap[] 0\n"),
        ('table {{.Name}} {{index .Labels "team"}}', "NAME        TEAM\nbox         web\nplain       \n"),
        ("table {{.Name}} {{.Labels}}", "NAME        LABELS\nbox         map[a:b team:web]\nplain       map[]\n"),
    ],
)
def test_labels_are_a_map_to_templates(machine: Machine, roots: Roots, template: str, text: str) -> None:
    save_machine(roots, make_record("box", labels=(("team", "web"), ("a", "b"))))
    save_machine(roots, make_record("plain"))
    assert machine("ls", "--format", template).stdout == text
    inspected = machine("inspect", "box", "--format", "{{.Machine.Labels.team}} {{len .Machine.Labels}}")
    assert inspected.stdout == "web 2\n"


def test_machines_that_ran_last_come_first(machine: Machine, roots: Roots) -> None:
    hour_ago = datetime.now(UTC) - timedelta(hours=1)
    save_machine(roots, make_record("never", created=datetime.now(UTC)))
    save_machine(roots, make_record("old", guest=GuestFacts(last_up=hour_ago - timedelta(days=4)), created=hour_ago))
    save_machine(roots, make_record("new", guest=GuestFacts(last_up=hour_ago), created=hour_ago))
    assert machine("ls", "--quiet").stdout == "new\nold\nnever\n"
    assert machine("ls").stdout == (
        "NAME        VM TYPE     CREATED                 LAST UP            CPUS        MEMORY      DISK SIZE\n"
        "new         qemu        About an hour ago       About an hour ago  2           2GiB        100GiB\n"
        "old         qemu        About an hour ago       4 days ago         2           2GiB        100GiB\n"
        "never       qemu        Less than a second ago  Never              2           2GiB        100GiB\n"
    )


def test_default_machine_is_marked(machine: Machine, roots: Roots, tmp_path: Path) -> None:
    save_machine(roots, make_record("box"))
    uri = connection_uri(current_context().roots.machine("box").podman_root_socket)
    (tmp_path / "world" / "podman-connections.json").write_text(
        json.dumps({"Connection": {"Default": "box-root", "Connections": {"box-root": {"URI": uri}}}})
    )
    assert machine("ls", "--quiet").stdout == "box*\n"
    assert json.loads(machine("ls", "--format", "json").stdout)[0]["Default"] is True


def test_json_of_a_listing_has_podmans_fields() -> None:
    assert as_json(listed(guest=GuestFacts(last_up=CREATED)), NOW) == {
        "Name": "box",
        "Default": False,
        "Created": "2026-01-02T03:04:05.678901Z",
        "Running": False,
        "Starting": False,
        "LastUp": "2026-01-02T03:04:05.678901Z",
        "Stream": "stable",
        "VMType": "qemu",
        "CPUs": 2,
        "Memory": "2147483648",
        "Swap": "0",
        "DiskSize": "107374182400",
        "Port": 40022,
        "RemoteUsername": "core",
        "IdentityPath": "/m/data/machines/box/id_ed25519",
        "UserModeNetworking": True,
        "State": "stopped",
        "Reason": "",
        "Arch": "x86_64",
        "Accelerator": "auto",
        "Image": "fcos:stable",
        "Release": "43.1",
        "Verified": "nothing",
        "Uptime": 0,
        "Labels": {},
        "Schema": 1,
    }


def test_machine_that_never_ran_has_gos_zero_time() -> None:
    assert as_json(listed(), NOW)["LastUp"] == "0001-01-01T00:00:00Z"


@pytest.mark.parametrize(
    ("state", "running", "starting", "text"),
    [
        (MachineState(state=State.RUNNING), True, False, "Currently running"),
        (MachineState(state=State.STARTING), False, True, "Currently starting"),
        (MachineState(state=State.DEGRADED, reason="why"), True, False, "Currently degraded (why)"),
        (MachineState(state=State.PAUSED), True, False, "Currently paused"),
        (STOPPED, False, False, "3 hours ago"),
    ],
)
def test_state_in_the_listing(state: MachineState, running: bool, starting: bool, text: str) -> None:
    machine = listed(state, guest=GuestFacts(last_up=CREATED))
    assert (as_json(machine, NOW)["Running"], as_json(machine, NOW)["Starting"]) == (running, starting)
    assert as_json(machine, NOW)["Uptime"] == (3 * 3600 if running else 0)
    assert last_up(machine, NOW) == text


def test_row_of_a_listing() -> None:
    assert row(listed(cpus=3, memory_mib=3000), NOW) == (
        "box",
        "qemu",
        "3 hours ago",
        "Never",
        "3",
        "2.93GiB",
        "100GiB",
    )


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        ([], ""),
        ([("a", "b")], "a           b\n"),
        ([("a", "b"), ("x" * 10, "y")], "a           b\nxxxxxxxxxx  y\n"),
        ([("a", "b"), ("x" * 11, "y" * 20)], "a            b\nxxxxxxxxxxx  yyyyyyyyyyyyyyyyyyyy\n"),
    ],
)
def test_columns_are_twelve_wide_or_two_apart(rows: list[tuple[str, ...]], text: str) -> None:
    assert table(rows) == text


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", f"the record {{0}} is damaged: not JSON ({EMPTY}); {RESTORE}"),
        ('{"schema": 7}', f"{{}} was written by a newer version of this program ({NEWER}); upgrade boot2podman"),
    ],
)
def test_machine_that_cannot_be_read_hides_no_other(content: str, reason: str, machine: Machine, roots: Roots) -> None:
    save_machine(roots, make_record("good"))
    record = save_machine(roots, make_record("bad")).record
    record.write_text(content)
    outcome = machine("ls", "--quiet")
    assert (outcome.status, outcome.stdout) == (0, "good\n")
    assert outcome.stderr == f"Error: {reason.format(record, record.with_name('record.last-good.json'))}\n"


def test_running_machine_with_a_damaged_record_is_listed(machine: Machine, roots: Roots) -> None:
    paths = save_machine(roots, make_record("bad"))
    paths.record.write_text("{")
    with held_lock(paths):
        outcome = machine("ls", "--format", "{{.Name}} {{.State}} {{.Reason}}")
    assert outcome.stdout == "bad degraded its record is damaged; its supervisor has ended\n"
    assert outcome.stderr.startswith(f"Error: the record {paths.record} is damaged")


def test_connections_that_cannot_be_read_hide_no_machine(machine: Machine, roots: Roots, tmp_path: Path) -> None:
    save_machine(roots, make_record("box"))
    (tmp_path / "world" / "podman-connections.json").write_text("{")
    outcome = machine("ls", "--quiet")
    assert (outcome.status, outcome.stdout) == (0, "box\n")


def test_inspect_prints_everything_as_an_array(machine: Machine, roots: Roots) -> None:
    paths = save_machine(roots, make_record("box", rootful=True))
    outcome = machine("inspect", "box")
    assert (outcome.status, outcome.stderr) == (0, "")
    (document,) = json.loads(outcome.stdout)
    assert document["ConfigDir"] == {"Path": str(paths.directory)}
    assert document["ConnectionInfo"]["PodmanSocket"]["Path"].endswith("/box/podman-root.sock")
    assert document["Resources"] == {"CPUs": 2, "DiskSize": 100, "Memory": 2048, "USBs": []}
    assert document["SSHConfig"] == {"IdentityPath": str(paths.identity), "Port": 40022, "RemoteUsername": "core"}
    assert (document["State"], document["Rootful"]) == ("stopped", True)
    assert document["Machine"]["Image"]["Digest"] == f"sha256:{DIGEST}"


def test_inspect_tells_of_each_that_is_missing_and_prints_the_others(machine: Machine, roots: Roots) -> None:
    save_machine(roots, make_record("box"))
    outcome = machine("inspect", "no1", "box", "no2")
    assert outcome.status == 125
    assert outcome.stderr == "".join(
        f"Error: {name}: VM does not exist; the only machine is box\n" for name in ("no1", "no2")
    )
    assert [document["Name"] for document in json.loads(outcome.stdout)] == ["box"]


@pytest.mark.parametrize(
    "words", [("start", "no"), ("stop", "no"), ("ssh", "no"), ("ssh", "no", "ls"), ("rm", "no"), ("rm", "-f", "no")]
)
def test_unknown_machine_is_told_by_every_verb(words: tuple[str, ...], machine: Machine) -> None:
    outcome = machine(*words)
    assert (outcome.status, outcome.stdout) == (125, "")
    assert outcome.stderr == "Error: no: VM does not exist; there are no machines; make one with: machine init\n"


def test_default_machine_is_meant_where_none_is_named(machine: Machine) -> None:
    line = "podman-machine-default: VM does not exist; there are no machines; make one with: machine init"
    for verb in ("start", "stop", "ssh", "rm"):
        assert machine(verb).stderr == f"Error: {line}\n"


def test_ssh_into_a_machine_that_does_not_run(machine: Machine, roots: Roots) -> None:
    save_machine(roots, make_record("box"))
    outcome = machine("ssh", "box")
    line = 'Error: vm "box" is not running; start it with: machine start box\n'
    assert (outcome.status, outcome.stderr) == (125, line)


def test_words_that_are_no_machine_are_a_command_for_the_default_one(machine: Machine, roots: Roots) -> None:
    save_machine(roots, make_record("podman-machine-default"))
    line = 'Error: vm "podman-machine-default" is not running; start it with: machine start podman-machine-default\n'
    assert machine("ssh", "uname", "-a").stderr == line


def test_home_that_is_a_file_is_told_in_one_line(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("MACHINE_HOME", str(tmp_path / "file"))
    outcome = machine("ls")
    assert outcome.status == 125
    assert outcome.stderr == f"Error: {tmp_path / 'file' / 'data' / 'machines'}: Not a directory\n"
