"""`machine ls`: list the machines and their states."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from machine.errors import MachineError
from machine.model.dataclass import dataclass
from machine.model.record import MachineRecord
from machine.model.state import MachineState
from machine.ops.shared.context import Context
from machine.ops.shared.podman_default import DefaultConnections, default_connections
from machine.ops.shared.state import machine_state
from machine.ops.shared.times import NEVER
from machine.store import records
from machine.store.paths import MachinePaths, identity_of
from machine.store.records import BrokenRecord

JSON_SCHEMA = 1
"""The version of the JSON of `ls` and `inspect`. Increase it when a key is removed or gets another meaning."""


@dataclass(frozen=True, kw_only=True)
class ListedMachine:
    record: MachineRecord
    state: MachineState
    paths: MachinePaths
    default: bool

    @property
    def identity(self) -> Path:
        """The file of the key that logs in to the guest."""
        return identity_of(self.record.config, self.paths)


@dataclass(frozen=True, kw_only=True)
class Listing:
    """The machines whose records can be read, and the errors of the machines whose records cannot be read.

    A running machine whose record is damaged is listed with the last good copy of its record. Running machines come
    first. Machines in the same state are sorted by the time when they were last up.
    """

    machines: list[ListedMachine]
    broken: list[BrokenRecord]

    @property
    def names(self) -> list[str]:
        """The sorted names of all machines."""
        return sorted({machine.record.name for machine in self.machines} | {broken.name for broken in self.broken})


def list_machines(context: Context, labels: Sequence[str] = ()) -> Listing:
    """List the machines that have all of the labels (`KEY` or `KEY=VALUE`). Without labels, list all machines."""
    entries = records.load_all(context.roots)
    defaults = _default_connections(context) if entries else None
    found = (_listed(entry, context.roots.machine(entry.name), defaults) for entry in entries)
    machines = [each for each in found if each and _has_all(each.record.config.labels, labels)]
    machines.sort(key=lambda listed: listed.record.guest.last_up or NEVER, reverse=True)
    machines.sort(key=lambda listed: not listed.state.state.is_up)
    return Listing(machines=machines, broken=[entry for entry in entries if isinstance(entry, BrokenRecord)])


def _listed(
    entry: MachineRecord | BrokenRecord, paths: MachinePaths, defaults: DefaultConnections | None
) -> ListedMachine | None:
    """Return a machine with its state. If a stopped machine's record is damaged, return None."""
    state = machine_state(paths)
    if isinstance(entry, MachineRecord):
        record = entry
    elif entry.last_good is None or not state.state.has_processes:
        return None
    else:
        record = entry.last_good
        reason = "its record is damaged" + (f"; {state.reason}" if state.reason else "")
        state = replace(state, reason=reason)
    default = defaults is not None and defaults.lead_to(record.config, paths)
    return ListedMachine(record=record, state=state, paths=paths, default=default)


def _has_all(own: Sequence[tuple[str, str]], labels: Sequence[str]) -> bool:
    if not labels:
        return True
    from machine.model.first_boot import has_label  # not imported above, because most listings need no labels

    return all(has_label(own, label) for label in labels)


def _default_connections(context: Context) -> DefaultConnections | None:
    try:
        return default_connections(context)
    except MachineError:  # commands that change the file report its damage
        return None
