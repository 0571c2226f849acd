"""One operation on several machines: results as they come, failures that stop nobody, and ^C."""

from __future__ import annotations

import os
import threading

import pytest

from machine.errors import MachineError
from machine.model.state import ORPHANED, STOPPED, MachineState, State
from machine.ops.shared.interrupt import Interrupt
from machine.ops.shared.parallel import applies, each


def test_one_that_fails_stops_no_other() -> None:
    def operation(name: str) -> str:
        if name == "b":
            raise MachineError("no")
        return name.upper()

    results = {result.name: result for result in each(["a", "b", "c"], operation)}
    assert {name: result.value for name, result in results.items()} == {"a": "A", "b": None, "c": "C"}
    assert [name for name, result in results.items() if result.error] == ["b"]


def test_they_run_at_the_same_time() -> None:
    everyone = threading.Barrier(3, timeout=20)
    assert len([result for result in each(["a", "b", "c"], lambda _: everyone.wait()) if not result.error]) == 3


def test_no_machines_are_no_results() -> None:
    assert list(each([], lambda name: name)) == []


def test_interrupt_ends_what_has_begun_and_begins_nothing_more() -> None:
    interrupt = Interrupt()
    names = [str(number) for number in range(20)]
    begun, ended = [], []

    def operation(name: str) -> None:
        if name == "0":
            return
        begun.append(name)
        reading, writing = os.pipe()
        with os.fdopen(reading, "rb") as silent:
            try:
                list(interrupt.lines(silent))
            except KeyboardInterrupt:
                ended.append(name)
                raise
            finally:
                os.close(writing)

    results = each(names, operation, interrupt)
    assert next(results).name == "0"
    with pytest.raises(KeyboardInterrupt):
        results.throw(KeyboardInterrupt)
    assert sorted(begun) == sorted(ended)
    assert len(begun) < 19
    with pytest.raises(KeyboardInterrupt):
        interrupt.check()


def test_lines_of_a_pipe_are_whole() -> None:
    reading, writing = os.pipe()
    os.write(writing, b"one\ntw")
    with os.fdopen(reading, "rb") as stream:
        lines = Interrupt().lines(stream)
        assert next(lines) == b"one"
        os.write(writing, b"o\nthree\n")
        os.close(writing)
        assert list(lines) == [b"two", b"three"]


OTHERWISE = MachineState(state=State.DEGRADED, reason="SSH connection lost: eof")
RUNNING = MachineState(state=State.RUNNING)


@pytest.mark.parametrize(
    ("verb", "concerned"),
    [
        ("start", [STOPPED, ORPHANED]),
        ("stop", [ORPHANED, OTHERWISE, RUNNING]),
        ("restart", [ORPHANED, OTHERWISE, RUNNING]),
    ],
)
def test_all_means_those_that_the_verb_does_something_to(verb: str, concerned: list[MachineState]) -> None:
    assert [state for state in (STOPPED, ORPHANED, OTHERWISE, RUNNING) if applies(verb, state)] == concerned
