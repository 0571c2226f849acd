"""Decide what `machine up` does with each machine of a machines file (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from enum import StrEnum

from machine.model.config import MachineConfig, Resources
from machine.model.host import Host
from machine.model.state import MachineState, State
from machine.ops.init_request import KEYS, InitRequest, Written
from machine.ops.set import SetRequest

_HARDWARE = frozenset({"cpus", "memory", "disk_size", "usb"})
"""The keys that a suspended machine cannot change, because its memory fits only the hardware that it was saved with."""

_SETTABLE = frozenset(field.name for field in fields(SetRequest))
_LONGEST_VALUE = 60


class Action(StrEnum):
    """What `machine up` does with a machine, apart from changing its settings."""

    MAKE = "make"
    """Make the machine, and then start it."""

    START = "start"
    """Start the machine, resume it, or give it a new supervisor."""

    NOTHING = "nothing"
    REMOVE = "remove"
    """Remove the machine, which the file has made, but no longer describes."""

    FORGET = "forget"
    """The same for a host over SSH, on which nothing changes."""


class Change(StrEnum):
    """Whether a setting of a machine can follow the file."""

    NOW = "now"
    STOPPED = "stopped"
    """When the machine is stopped."""

    NEVER = "never"
    """Not while the machine exists."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A key whose value in the file is not that of the machine. The values are None if they are too long to show."""

    key: str
    change: Change
    actual: str | None = None
    wanted: str | None = None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to do with one machine. `state` is None if the machine does not exist."""

    name: str
    state: State | None
    action: Action
    differences: tuple[Difference, ...] = ()

    @property
    def changes(self) -> tuple[str, ...]:
        """The keys that are changed before the machine starts."""
        return tuple(each.key for each in self.differences if each.change is Change.NOW)


def plan_new(name: str) -> Plan:
    return Plan(name=name, state=None, action=Action.MAKE)


def plan_extra(config: MachineConfig, state: MachineState) -> Plan:
    action = Action.FORGET if config.remote else Action.REMOVE
    return Plan(name=config.name, state=state.state, action=action)


def plan_existing(actual: MachineConfig, state: MachineState, wanted: MachineConfig, keys: Iterable[str]) -> Plan:
    """Decide what to do with a machine that exists. `keys` are those that the file has for the machine."""
    resting = not state.state.has_processes
    return Plan(
        name=actual.name,
        state=state.state,
        action=Action.START if resting or state.is_orphaned else Action.NOTHING,
        differences=tuple(_differences(actual, state.state, wanted, keys)),
    )


def _differences(
    actual: MachineConfig, state: State, wanted: MachineConfig, keys: Iterable[str]
) -> Iterable[Difference]:
    for key in keys:
        before, after = _compared(key, actual), _compared(key, wanted)
        if before != after:
            yield Difference(
                key=key, change=_change(key, actual, state, wanted), actual=_shown(before), wanted=_shown(after)
            )


def _compared(key: str, config: MachineConfig) -> Written | None:
    # The file may name a stream, from which the machine has the image that was the newest when it was made.
    return config.image.reference if key == "image" else KEYS[key].write(config)


def _change(key: str, actual: MachineConfig, state: State, wanted: MachineConfig) -> Change:
    shrinks = key == "disk_size" and wanted.resources.disk_gib < actual.resources.disk_gib
    if KEYS[key].field not in _SETTABLE or shrinks:
        return Change.NEVER
    if state.has_processes or (state is State.SUSPENDED and key in _HARDWARE):
        return Change.STOPPED
    return Change.NOW


def _shown(value: Written | None) -> str | None:
    match value:
        case None | "" | ("",):
            return "not set"
        case bool():
            return str(value).lower()
        case int() | str():
            text = str(value)
        case tuple():
            text = ", ".join(value)
        case Mapping():
            text = ", ".join(f"{name}={entry}" for name, entry in value.items())
        case _:
            return None
    return text if len(text) <= _LONGEST_VALUE else None


def set_request(wanted: InitRequest, keys: Sequence[str]) -> SetRequest:
    """Return the request to `machine set` that gives these keys the values that the file has for them."""
    names = [KEYS[key].field for key in keys]
    return SetRequest(**{name: getattr(wanted, name) for name in names})


# How many machines start at once


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How many virtual machines start at a time, and how much memory they lack when all of them run, in MiB."""

    at_once: int
    lacking_mib: int = 0
    hosts: int = 0
    """How many hosts over SSH start besides, all at once."""


def pace(starting: Sequence[Resources], running: Sequence[Resources], host: Host, most: int) -> Pace:
    """Decide how many virtual machines may start at a time, so that any of them together fit the host.

    There is at least one if any is to start, and there are never more than `most`. Guests that run already use memory,
    but hardly any CPU.
    """
    if not starting:
        return Pace(at_once=0)
    spare_mib = host.memory_mib - sum(each.memory_mib for each in running)
    cpus = sorted((each.cpus for each in starting), reverse=True)
    memory = sorted((each.memory_mib for each in starting), reverse=True)
    fitting = [
        count
        for count in range(1, min(len(starting), most) + 1)
        if sum(cpus[:count]) <= host.cpus and sum(memory[:count]) <= spare_mib
    ]
    return Pace(at_once=max(fitting, default=1), lacking_mib=max(0, sum(memory) - spare_mib))
