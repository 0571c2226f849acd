"""How `machine doctor` shows what was found."""

from __future__ import annotations

import json

import pytest

from machine.cli.doctor import FIELDS, report
from machine.model.doctor_check import Check, failure, ok, warning
from machine.ops import doctor as ops
from tests.support.command_line import Machine

QEMU = ok("qemu", "version 7.2")
PODMAN = warning("podman", "there is none", "apt install podman")
KEYS = failure("keys", "there is none", "make one")


@pytest.mark.parametrize(
    ("checks", "text"),
    [
        (
            [QEMU, PODMAN],
            """\
ok       qemu    version 7.2
warning  podman  there is none
                 remedy: apt install podman

See the documentation for each check: troubleshooting#doctor
Machines can be made and started on this host: 1 warning""",
        ),
        ([QEMU], "ok       qemu  version 7.2\n\nMachines can be made and started on this host: no warnings"),
        (
            [KEYS, KEYS],
            """\
failure  keys  there is none
               remedy: make one
failure  keys  there is none
               remedy: make one

See the documentation for each check: troubleshooting#doctor
Machines cannot be made and started on this host: 2 failures, no warnings""",
        ),
    ],
)
def test_report_has_a_line_for_each_and_a_verdict(checks: list[Check], text: str) -> None:
    assert report(checks) == text


@pytest.mark.parametrize(("found", "status"), [([QEMU, PODMAN], 0), ([QEMU, PODMAN, KEYS], 1)])
@pytest.mark.parametrize("words", [(), ("--format", "json"), ("--format", "{{.Name}}")])
def test_exit_status_tells_whether_machines_can_run(
    found: list[Check], status: int, words: tuple[str, ...], machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ops, "doctor", lambda _: found)
    outcome = machine("doctor", *words)
    assert (outcome.status, outcome.stderr) == (status, "")


def test_json_and_templates(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ops, "doctor", lambda _: [QEMU, PODMAN])
    document = json.loads(machine("doctor", "--format", "json").stdout)
    assert [tuple(entry) for entry in document] == [FIELDS, FIELDS]
    assert document[0] == {"Name": "qemu", "Status": "ok", "Finding": "version 7.2", "Remedy": ""}
    assert machine("doctor", "--format", "{{.Status}} {{.Remedy}}").stdout == "ok \nwarning apt install podman\n"
    assert machine("doctor", "--format", "table {{.Name}}").stdout.splitlines() == ["NAME", "qemu", "podman"]


def test_format_that_means_nothing_is_an_error_of_ours(machine: Machine) -> None:
    outcome = machine("doctor", "--format", "xml")
    assert (outcome.status, outcome.stdout) == (125, "")
