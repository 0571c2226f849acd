"""How `machine top` words what machines use."""

from __future__ import annotations

from dataclasses import replace

import pytest

from machine.cli.top import FIELDS, LiveTable, as_json, item, row
from machine.model.state import State
from machine.model.units import GIB, MIB
from machine.ops.top import Usage
from machine.ops.top_network import Traffic
from tests.support.command_line import Machine

COLUMNS = (
    "NAME", "CPU %", "MEM USAGE / LIMIT", "MEM %", "DISK USAGE / SIZE", "NET IO", "BLOCK IO", "PIDS", "UPTIME",
)  # fmt: skip
RUNNING = Usage(
    name="box",
    state=State.RUNNING,
    processes=3,
    uptime_s=7300.6,
    cpu_percent=12.3456,
    memory_bytes=512 * MIB,
    memory_limit_bytes=2 * GIB,
    disk_bytes=3 * GIB,
    disk_size_bytes=100 * GIB,
    network=Traffic(received=2048, sent=0),
    block=Traffic(),
)
STOPPED = Usage(
    name="web",
    state=State.STOPPED,
    processes=0,
    uptime_s=None,
    cpu_percent=None,
    memory_bytes=None,
    memory_limit_bytes=2 * GIB,
    disk_bytes=0,
    disk_size_bytes=100 * GIB,
    network=Traffic(),
    block=Traffic(),
)


def test_line_of_the_table() -> None:
    assert row(RUNNING) == (
        "box", "12.35%", "512MiB / 2GiB", "25.00%", "3GiB / 100GiB", "2KiB / 0B", "-- / --", "3", "2 hours"
    )  # fmt: skip
    assert row(STOPPED) == ("web", "--", "-- / 2GiB", "--", "0B / 100GiB", "-- / --", "-- / --", "0", "--")


def test_json_has_numbers_and_null_for_what_is_unknown() -> None:
    assert as_json(RUNNING) == {
        "Name": "box", "State": "running", "CPUPerc": 12.35, "MemUsage": 512 * MIB, "MemLimit": 2 * GIB,
        "MemPerc": 25.0, "DiskUsage": 3 * GIB, "DiskSize": 100 * GIB, "NetInput": 2048, "NetOutput": 0,
        "BlockInput": None, "BlockOutput": None, "PIDs": 3, "Uptime": 7300,
    }  # fmt: skip
    assert [key for key, value in as_json(STOPPED).items() if value is None] == [
        "CPUPerc", "MemUsage", "MemPerc", "NetInput", "NetOutput", "BlockInput", "BlockOutput", "Uptime"
    ]  # fmt: skip


def test_template_has_every_field_in_the_tables_words() -> None:
    assert set(item(RUNNING)) == set(FIELDS)
    assert item(RUNNING)["MemUsage"] == "512MiB / 2GiB"
    assert item(STOPPED)["NetInput"] == "--"


def test_interval_has_to_be_positive_as_podman_says(machine: Machine) -> None:
    for words in (("--interval", "0"), ("-i", "-3")):
        outcome = machine("top", *words)
        assert (outcome.status, outcome.stderr) == (
            125,
            "Error: invalid interval, must be a positive number greater zero\n",
        )


def test_names_and_all_exclude_each_other(machine: Machine) -> None:
    outcome = machine("top", "--all", "box")
    expected = "Error: use either names or --all, not both; see 'machine top --help'\n"
    assert (outcome.status, outcome.stderr) == (125, expected)


BUSY = replace(
    RUNNING,
    network=Traffic(received=1234567890, sent=98765432),
    block=Traffic(received=1234567890, sent=98765432),
)


@pytest.mark.parametrize("room", [20, 40, 60, 80, 100, 120, 140])
@pytest.mark.parametrize("usage", [RUNNING, BUSY, STOPPED], ids=["quiet", "busy", "stopped"])
def test_live_table_cuts_no_value_at_any_width(usage: Usage, room: int) -> None:
    lines = LiveTable().text([row(usage)], room).splitlines()
    heading, values = lines[:2]
    assert max(len(heading.rstrip()), len(values.rstrip())) <= room
    shown = [cell for column, cell in zip(COLUMNS, row(usage), strict=True) if column in heading]
    assert all(cell in values for cell in shown)
    hidden = [column for column in COLUMNS if column not in heading]
    assert lines[2:] == ([f"Too wide for this terminal: {', '.join(hidden)}"] if hidden else [])


def test_live_table_of_80_columns_has_the_traffic_and_the_processes() -> None:
    assert LiveTable().text([row(RUNNING)], 80) == (
        "NAME  CPU %   MEM USAGE / LIMIT  MEM %   NET IO     BLOCK IO  PIDS  UPTIME \n"
        "box   12.35%  512MiB / 2GiB      25.00%  2KiB / 0B  -- / --   3     2 hours\n"
        "Too wide for this terminal: DISK USAGE / SIZE\n"
    )
    heading = LiveTable().text([row(BUSY)], 80).splitlines()[0]
    assert heading.split("  ")[-1].strip() == "PIDS"


def test_column_of_the_live_table_does_not_come_back_when_values_become_shorter() -> None:
    table = LiveTable()
    table.text([row(BUSY)], 80)
    assert "UPTIME" not in table.text([row(RUNNING)], 80).splitlines()[0]


def test_live_table_shows_a_name_that_alone_is_too_wide() -> None:
    assert LiveTable().text([row(replace(RUNNING, name="a" * 30))], 20).splitlines()[1] == "a" * 30


def test_interval_has_to_be_one_that_can_be_waited_for(machine: Machine) -> None:
    for interval in ("99999999999999", "9" * 5000):
        outcome = machine("top", "-i", interval)
        line = f'Error: invalid argument "{interval}" for "-i, --interval" flag: must be at most 31622400'
        assert (outcome.status, outcome.stderr) == (125, f"{line}; see 'machine top --help'\n")
