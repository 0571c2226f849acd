"""Run an operation on several machines at once, each in its own thread, because operations block."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from machine.deadline import Deadline
from machine.model.state import MachineState, State
from machine.ops.shared.context import Context
from machine.ops.shared.interrupt import Interrupt
from machine.ops.shared.state import machine_state
from machine.store.names import machine_names

# If more guests booted at the same time, they could slow each other down until they miss their deadlines.
MAX_AT_ONCE = 8

_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class Result(Generic[_T]):
    """The result of the operation for one machine: what the operation returned, or why it failed."""

    name: str
    value: _T | None = None
    error: Exception | None = None


def each(
    names: Sequence[str],
    operation: Callable[[str], _T],
    interrupt: Interrupt | None = None,
    at_once: int = MAX_AT_ONCE,
) -> Generator[Result[_T], None, None]:
    """Run the operation on every machine, on up to `at_once` machines at a time. Yield each result once it is there.

    After ^C, `interrupt` tells the operations that are running to end, and this function waits for them. If `interrupt`
    is None, these operations are abandoned.
    """
    waiting: queue.SimpleQueue[str] = queue.SimpleQueue()
    results: queue.SimpleQueue[Result[_T]] = queue.SimpleQueue()
    for name in names:
        waiting.put(name)

    def work() -> None:
        with contextlib.suppress(queue.Empty, KeyboardInterrupt):
            while True:
                results.put(_outcome(waiting.get_nowait(), operation))

    # These are daemon threads, so that an abandoned operation does not keep the process alive.
    threads = [threading.Thread(target=work, daemon=True) for _ in range(min(len(names), at_once))]
    try:
        for thread in threads:
            thread.start()
        for _ in names:
            yield results.get()
    except (KeyboardInterrupt, GeneratorExit):
        if interrupt:
            interrupt.trip()
            _await_end(threads, interrupt.patience_s)
        raise


def _await_end(threads: Sequence[threading.Thread], patience_s: float) -> None:
    deadline = Deadline.after(patience_s, "the operations to end")
    for thread in threads:
        if thread.ident:
            thread.join(deadline.left_s)


def _outcome(name: str, operation: Callable[[str], _T]) -> Result[_T]:
    try:
        return Result(name=name, value=operation(name))
    except Exception as error:  # noqa: BLE001  (the caller reports or raises it)
        return Result(name=name, error=error)


def machines_for(verb: str, context: Context) -> list[str]:
    """Return the names of the machines that the verb would change or show. `--all` stands for these machines."""
    names = machine_names(context.roots)
    if verb in ("rm", "status", "protect", "unprotect"):
        return names
    return [name for name in names if applies(verb, machine_state(context.roots.machine(name)))]


def applies(verb: str, state: MachineState) -> bool:
    """Return whether the verb would change or show a machine in this state."""
    if verb == "start":
        return not state.state.has_processes or state.is_orphaned
    if verb in ("kill", "suspend"):
        return state.state.has_processes
    return state.state is not State.STOPPED
