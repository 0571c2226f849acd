"""Usage errors: one line on stderr and exit status 125, as podman has it."""

from __future__ import annotations

from pathlib import Path

import pytest

from machine.cli import main as cli_main
from machine.errors import MachineError
from tests.support.builders import make_record, make_roots, save_machine
from tests.support.command_line import Machine


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["lst"], "unrecognized command `machine lst`; did you mean list or ls?; see 'machine --help'"),
        (["remove"], "unrecognized command `machine remove`; see 'machine --help'"),
        (["strat"], "unrecognized command `machine strat`; did you mean stats or start?; see 'machine --help'"),
        (["--nosuch"], "unknown flag: --nosuch; see 'machine --help'"),
        (["init", "--cpu", "2"], "unknown flag: --cpu; did you mean --cpus?; see 'machine init --help'"),
        (["init", "--cpus"], "flag needs an argument: --cpus; see 'machine init --help'"),
        (
            ["init", "--cpus", "two"],
            'invalid argument "two" for "--cpus" flag: must be a whole number; see \'machine init --help\'',
        ),
        (
            ["init", "--memory", "1.5"],
            'invalid argument "1.5" for "-m, --memory" flag: must be a whole number; see \'machine init --help\'',
        ),
        (
            ["init", "--accel", "warp"],
            "invalid value for '--accel': 'warp' is not one of 'auto', 'kvm', 'hvf', 'tcg'; see 'machine init --help'",
        ),
        (["ip", "a", "b"], "accepts at most 1 arg(s), received 2; see 'machine ip --help'"),
        (["os", "upgrade", "--format", "xml"], "only value of `json` is supported"),
        (["os", "upgrade", "-n", "--restart"], "--restart cannot be used with --dry-run or --format"),
        (["os", "upgrade", "-f", "json", "--restart"], "--restart cannot be used with --dry-run or --format"),
        (["os", "apply"], "accepts between 1 and 2 arg(s), received 0; see 'machine os apply --help'"),
        (["stop", "--all", "a"], "use either names or --all, not both; see 'machine stop --help'"),
        (
            ["ls", "--format", "xml"],
            "unknown format \"xml\"; choose table, json or a Go template, such as '{{json .}}'",
        ),
        (
            ["info", "--format", "yml"],
            "unknown format \"yml\"; choose yaml, json or a Go template, such as '{{json .}}'",
        ),
        (["LS"], "unrecognized command `machine LS`; did you mean ls?; see 'machine --help'"),
        (["unpro"], "unrecognized command `machine unpro`; did you mean unprotect?; see 'machine --help'"),
        (
            ["in"],
            "unrecognized command `machine in`; did you mean info or init or inspect?; see 'machine --help'",
        ),
        (["image", "nosuch"], "unrecognized command `machine image nosuch`; see 'machine image --help'"),
        (
            ["image", "prnue"],
            "unrecognized command `machine image prnue`; did you mean prune?; see 'machine image --help'",
        ),
        (["port", "lsit"], "unrecognized command `machine port lsit`; see 'machine port --help'"),
        (
            ["config", "unst"],
            "unrecognized command `machine config unst`; did you mean unset?; see 'machine config --help'",
        ),
    ],
)
def test_usage_error_is_one_line(words: list[str], line: str, machine: Machine) -> None:
    outcome = machine(*words)
    assert outcome.stderr == f"Error: {line}\n"
    assert (outcome.status, outcome.stdout) == (125, "")


@pytest.mark.parametrize(("words", "path"), [([], "machine"), (["image"], "machine image"), (["os"], "machine os")])
def test_missing_command_shows_the_help_and_fails(
    words: list[str], path: str, machine: Machine, tmp_path: Path
) -> None:
    save_machine(make_roots(tmp_path / "world" / "m"), make_record("box"))
    outcome = machine(*words)
    assert outcome.status == 125
    assert outcome.stdout + outcome.stderr == (
        machine(*words, "--help").stdout + f"Error: missing command '{path} COMMAND'\n"
    )


def test_host_without_a_machine_is_told_the_first_two_commands(machine: Machine) -> None:
    last = machine().stderr.splitlines()[-1]
    assert last == (
        "Error: missing command 'machine COMMAND'; to make and start your first machine: machine init && machine start"
    )
    assert machine("image").stderr.splitlines()[-1] == "Error: missing command 'machine image COMMAND'"


@pytest.mark.parametrize(
    ("failure", "status", "stderr"),
    [
        (MachineError("it failed", details=["why"], hint="do this"), 125, "Error: it failed; do this\n  why\n"),
        (MachineError("two\nlines"), 125, "Error: two lines\n"),
        (KeyboardInterrupt(), 130, ""),
        (
            ZeroDivisionError("x"),
            125,
            "Error: this program has a bug; to see what to report, run the command again with: machine -vv\n",
        ),
        (IsADirectoryError(21, "Is a directory", "/x"), 125, "Error: /x: Is a directory\n"),
    ],
)
def test_every_end_has_its_status(
    failure: BaseException, status: int, stderr: str, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**_: object) -> None:
        raise failure

    monkeypatch.setattr(cli_main.cli, "main", fail)
    outcome = machine()
    assert (outcome.status, outcome.stderr) == (status, stderr)


def test_interrupt_while_a_class_is_made_is_one(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted:
        def __set_name__(self, owner: type, name: str) -> None:
            raise KeyboardInterrupt

    def load(**_: object) -> None:
        type("Late", (), {"field": Interrupted()})

    monkeypatch.setattr(cli_main.cli, "main", load)
    outcome = machine()
    assert (outcome.status, outcome.stderr) == (130, "")
