"""One operation on several machines: results as they come, failures that stop nobody, and ^C."""

from __future__ import annotations

import os
import threading

import pytest

from machine.errors import MachineError
from machine.model.state import STOPPED, MachineState, State
from machine.ops.many import Interrupt, concerns, each
from machine.ops.state import SUPERVISOR_LOST


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
    begun = threading.Barrier(9, timeout=20)
    ended = []

    def operation(name: str) -> None:
        reading, writing = os.pipe()
        with os.fdopen(reading, "rb") as lines:
            begun.wait()
            try:
                list(interrupt.lines(lines))
            except KeyboardInterrupt:
                ended.append(name)
                raise
            finally:
                os.close(writing)

    results = each([str(number) for number in range(20)], operation, interrupt)
    # What the main thread would be doing when ^C comes: waiting for the first result.
    waiting = threading.Thread(target=lambda: pytest.raises(StopIteration, next, results), daemon=True)
    waiting.start()
    begun.wait()
    interrupt.trip()
    deadline = threading.Event()
    for _ in range(200):
        if len(ended) == 8:
            break
        deadline.wait(0.05)
    assert len(ended) == 8
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


LOST = MachineState(state=State.DEGRADED, reason=SUPERVISOR_LOST)
OTHERWISE = MachineState(state=State.DEGRADED, reason="SSH connection lost: eof")
RUNNING = MachineState(state=State.RUNNING)


@pytest.mark.parametrize(
    ("verb", "concerned"),
    [("start", [STOPPED, LOST]), ("stop", [LOST, OTHERWISE, RUNNING]), ("restart", [LOST, OTHERWISE, RUNNING])],
)
def test_all_means_those_that_the_verb_does_something_to(verb: str, concerned: list[MachineState]) -> None:
    assert [state for state in (STOPPED, LOST, OTHERWISE, RUNNING) if concerns(verb, state)] == concerned
