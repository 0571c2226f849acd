"""What two samples of a machine tell together, and what a guest's answer means."""

from __future__ import annotations

from dataclasses import replace

import pytest

from machine.model.state import State
from machine.model.units import GIB, MIB
from machine.ops import top
from machine.ops.top import Usage
from machine.ops.top_network import Traffic, parse_counters
from machine.ops.top_probe import ProcessSample, Sample

QEMU = ProcessSample(pid=10, started=1000.0, cpu_s=20.0, memory_bytes=600 * MIB, storage=(4096, 8192))
HELPER = ProcessSample(pid=11, started=1001.0, cpu_s=1.0, memory_bytes=24 * MIB, storage=None)
BEFORE = Sample(
    name="box",
    state=State.RUNNING,
    time=1100.0,
    monotonic_s=50.0,
    processes=(QEMU, HELPER),
    memory_limit_bytes=2 * GIB,
    disk_bytes=3 * GIB,
    disk_size_bytes=100 * GIB,
)
NETWORK = Traffic(received=7, sent=9)


def usage(before: Sample | None, after: Sample) -> Usage:
    return top.usage(before, after, NETWORK)


def later(*processes: ProcessSample, **fields: object) -> Sample:
    """The same machine two seconds after `BEFORE`."""
    return replace(BEFORE, time=1102.0, monotonic_s=52.0, processes=processes, **fields)  # type: ignore[arg-type]


def spent(process: ProcessSample, cpu_s: float) -> ProcessSample:
    return replace(process, cpu_s=process.cpu_s + cpu_s)


def test_usage_sums_up_qemu_and_its_helpers() -> None:
    after = later(spent(QEMU, 2.5), spent(HELPER, 0.5))
    assert usage(BEFORE, after) == Usage(
        name="box",
        state=State.RUNNING,
        processes=2,
        uptime_s=102.0,
        cpu_percent=150.0,
        memory_bytes=624 * MIB,
        memory_limit_bytes=2 * GIB,
        disk_bytes=3 * GIB,
        disk_size_bytes=100 * GIB,
        network=NETWORK,
        block=Traffic(received=4096, sent=8192),
    )
    assert usage(BEFORE, after).memory_percent == pytest.approx(30.46875)


def test_cpu_time_of_a_new_process_counts_and_that_of_one_that_ended_does_not() -> None:
    born = ProcessSample(pid=12, started=1101.0, cpu_s=0.25, memory_bytes=0, storage=None)
    assert usage(BEFORE, later(QEMU, born)).cpu_percent == 12.5


def test_process_with_the_id_of_an_earlier_one_is_another() -> None:
    reborn = replace(QEMU, started=1101.5, cpu_s=0.5)
    assert usage(BEFORE, later(reborn)).cpu_percent == 25.0


def test_cpu_is_unknown_without_an_earlier_sample_and_without_time_in_between() -> None:
    assert usage(None, BEFORE).cpu_percent is None
    assert usage(BEFORE, BEFORE).cpu_percent is None


def test_stopped_machine_has_its_disk_alone() -> None:
    found = usage(BEFORE, later(state=State.STOPPED))
    assert (found.processes, found.disk_bytes) == (0, 3 * GIB)
    assert (found.cpu_percent, found.memory_bytes, found.memory_percent, found.uptime_s) == (None,) * 4
    assert (found.network, found.block) == (Traffic(), Traffic())


def test_host_over_ssh_shows_its_network_alone() -> None:
    found = usage(replace(BEFORE, is_remote=True), later(spent(QEMU, 2.5), is_remote=True))
    assert (found.processes, found.cpu_percent, found.memory_bytes, found.memory_percent) == (None, None, None, None)
    assert (found.block, found.network, found.uptime_s) == (Traffic(), NETWORK, 102.0)


def test_machine_that_has_just_started_has_used_its_cpu_since() -> None:
    stopped = replace(BEFORE, processes=(), state=State.STOPPED)
    assert usage(stopped, later(replace(QEMU, cpu_s=1.0))).cpu_percent == 50.0


def test_clock_of_the_host_that_was_set_back_gives_no_negative_uptime() -> None:
    assert usage(BEFORE, replace(BEFORE, time=900.0)).uptime_s == 0.0


@pytest.mark.parametrize(
    ("answer", "received", "sent"), [("123\n\n45\n", 123, 45), ("1\n2\n\n3\n4\n", 3, 7), ("\n\n", 0, 0)]
)
def test_counters_of_all_network_cards_are_added(answer: str, received: int, sent: int) -> None:
    assert parse_counters(answer) == Traffic(received=received, sent=sent)


def test_answer_that_has_no_numbers_is_refused() -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        parse_counters("Welcome!\n\n45\n")
