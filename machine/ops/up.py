"""`machine up`: make and start the machines that a machines file describes."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from enum import StrEnum

from machine.deadline import Deadline
from machine.errors import MachineError
from machine.model.config import MachineConfig
from machine.model.state import State
from machine.ops.init import Planned, make, plan_machine
from machine.ops.set import set_machine
from machine.ops.shared.client_registration import ClientRegistration
from machine.ops.shared.context import Context
from machine.ops.shared.interrupt import Interrupt
from machine.ops.shared.parallel import MAX_AT_ONCE, each
from machine.ops.shared.state import machine_state
from machine.ops.start import start
from machine.ops.up_file import MachinesFile, Wanted, check_made_from, has_moved, read_machines
from machine.ops.up_plan import Action, Pace, Plan, pace, plan_existing, plan_new, set_request
from machine.report import Reporter
from machine.store import records
from machine.store.names import exists

_ENDING_S = 3.0
_POLL_S = 0.1


class Done(StrEnum):
    """What has been done with a machine, in the word that the summary has for it."""

    MADE = "made"
    CHANGED = "changed"
    STARTED = "started"
    RESUMED = "resumed"
    REMOVED = "removed"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What has been done with a machine of the file, and the error that ended it, if there was one.

    `state` is what the machine is afterwards, or None if it does not exist.
    """

    name: str
    state: State | None
    done: tuple[Done, ...] = ()
    error: Exception | None = None


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A machine of the file, and the plan for it. If the machine's record cannot be read, there is an error instead."""

    name: str
    wanted: Wanted
    planned: Planned
    plan: Plan | None = None
    error: MachineError | None = None
    is_taken_over: bool = False
    """Whether the machine belonged to a file that no longer exists, as after the project was moved."""


def prepare(file: MachinesFile, names: Sequence[str], context: Context, report: Reporter) -> list[Prepared]:
    """Check the whole file, and decide what to do with the machines called `names`. Nothing is changed.

    Raises:
        BadInputError: something in the file is invalid, or this host cannot provide it.
        MachineError: this host lacks what a machine needs, or another file has made one of the machines.
    """
    machines = read_machines(file)
    missing = {name for name in machines if not exists(context.roots, name)}
    registration = ClientRegistration(context) if missing else None  # it asks an old podman, which takes a while
    prepared = [
        _prepare(name, wanted, registration if name in missing else None, file, context, report)
        for name, wanted in machines.items()
    ]
    return [each for each in prepared if each.name in names]


def _prepare(
    name: str,
    wanted: Wanted,
    registration: ClientRegistration | None,
    file: MachinesFile,
    context: Context,
    report: Reporter,
) -> Prepared:
    """Decide what to do with one machine. There is a registration if the machine does not exist."""
    try:
        planned = plan_machine(wanted.request, registration, context, report)
    except MachineError as error:
        where = file.shown_table(name)
        raise type(error)(f"{where}: {error.message}", details=error.details, hint=error.hint) from error
    if registration:
        return Prepared(name=name, wanted=wanted, planned=planned, plan=plan_new(name))
    try:
        actual = records.load(context.roots, name).config
    except MachineError as error:
        return Prepared(name=name, wanted=wanted, planned=planned, error=error)
    check_made_from(actual, file)
    state = machine_state(context.roots.machine(name))
    plan = plan_existing(actual, state, planned.config, wanted.keys)
    return Prepared(name=name, wanted=wanted, planned=planned, plan=plan, is_taken_over=has_moved(actual, file))


Reporting = Callable[[str], AbstractContextManager[Reporter]]
"""Returns the reporter for the work on the machine of this name."""


def up(
    prepared: Iterable[Prepared],
    context: Context,
    on_pace: Callable[[Pace, Sequence[str]], None],
    in_turn: Reporting,
    at_once: Reporting,
) -> Generator[Outcome, None, None]:
    """Carry out the plans, and yield an outcome for each machine once it is there.

    Machines are made and changed in turn, and then started, as many at once as the host has room for. Before that,
    `on_pace` is called with that number and the names. A machine that fails does not keep the others from being done.

    ^C leaves whole machines only. A machine that is being made is dropped, and a guest that boots is ended.
    """
    ready: dict[str, Prepared] = {}
    before: dict[str, tuple[Done, ...]] = {}
    for machine in prepared:
        try:
            before[machine.name] = _make_or_change(machine, context, in_turn)
        except (MachineError, OSError) as error:
            yield outcome_of(machine.name, context, error=error)
            continue
        if machine.plan and machine.plan.action is not Action.NOTHING:
            ready[machine.name] = machine
        else:
            yield outcome_of(machine.name, context)
    if ready:
        yield from _start_all(ready, before, context, on_pace, at_once)


def _make_or_change(machine: Prepared, context: Context, reporting: Reporting) -> tuple[Done, ...]:
    """Make the machine if it is missing, or change its settings.

    Raises:
        MachineError: this failed, or the machine's record cannot be read.
    """
    name, plan = machine.name, machine.plan
    if plan is None:
        assert machine.error
        raise machine.error
    if plan.action is Action.MAKE:
        with reporting(name) as report:
            report.step(f'Making machine "{name}"')
            make(machine.planned, ClientRegistration(context), context, report)
        return (Done.MADE,)
    if machine.is_taken_over:
        _take_over(name, machine.planned.config.machines_file, context)
    if plan.changes:
        with reporting(name) as report:
            set_machine(name, set_request(machine.wanted.request, plan.changes), context, report)
        return (Done.CHANGED,)
    return ()


def _take_over(name: str, machines_file: str | None, context: Context) -> None:
    """Note in the machine's record that the machine belongs to this file."""
    records.edit(
        context.roots.machine(name),
        lambda record: replace(record, config=replace(record.config, machines_file=machines_file)),
    )


def _start_all(
    ready: Mapping[str, Prepared],
    before: Mapping[str, tuple[Done, ...]],
    context: Context,
    on_pace: Callable[[Pace, Sequence[str]], None],
    reporting: Reporting,
) -> Generator[Outcome, None, None]:
    interrupt = Interrupt()
    configs = {record.name: record.config for record in records.load_readable(context.roots)}
    hosts = {name for name in ready if name in configs and configs[name].remote}
    names = sorted(ready, key=lambda name: name not in hosts)  # no host waits until a virtual machine has started
    chosen = pace_of(names, configs.values(), context)
    room = threading.Semaphore(max(1, chosen.at_once))

    def begin(name: str) -> Done:
        plan = ready[name].plan
        with contextlib.nullcontext() if name in hosts else room, reporting(name) as report:
            interrupt.check()
            start(name, context, report, interrupt)
        return Done.RESUMED if plan and plan.state is State.SUSPENDED else Done.STARTED

    on_pace(chosen, names)
    for result in each(names, begin, interrupt, chosen.at_once + chosen.hosts):
        done = before[result.name] + ((result.value,) if result.value else ())
        yield outcome_of(result.name, context, done, result.error)


def outcome_of(name: str, context: Context, done: tuple[Done, ...] = (), error: Exception | None = None) -> Outcome:
    """Return the outcome for a machine, with the state in which it is now."""
    state = _state_after(name, context, failed=error is not None) if exists(context.roots, name) else None
    return Outcome(name=name, state=state, done=done, error=error)


def _state_after(name: str, context: Context, *, failed: bool) -> State:
    """Return the machine's state. A supervisor that has reported why a start failed gets some time to end."""
    deadline = Deadline.after(_ENDING_S if failed else 0.0, f"{name} to stop")
    while True:
        state = machine_state(context.roots.machine(name)).state
        if state not in (State.STARTING, State.STOPPING) or deadline.passed:
            return state
        time.sleep(_POLL_S)


def pace_of(names: Sequence[str], configs: Iterable[MachineConfig], context: Context) -> Pace:
    """Return how many of the machines called `names` start at a time. `configs` are those of all machines."""
    virtual = [config for config in configs if config.remote is None]  # hosts over SSH use nothing of this host
    starting = [config.resources for config in virtual if config.name in names]
    running = [config.resources for config in virtual if config.name not in names and _runs(config, context)]
    chosen = pace(starting, running, context.host, MAX_AT_ONCE)
    return replace(chosen, hosts=len(names) - len(starting))


def _runs(config: MachineConfig, context: Context) -> bool:
    return machine_state(context.roots.machine(config.name)).state.has_processes
