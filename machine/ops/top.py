"""`machine top`: measure at intervals how much CPU time, memory and so on each machine uses."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, repeat

from machine.model.state import State
from machine.ops.list import ListedMachine, Listing, list_machines
from machine.ops.shared.context import Context
from machine.ops.top_network import GuestNetworks, Traffic
from machine.ops.top_probe import Sample, probe
from machine.store import records
from machine.store.records import BrokenRecord

# CPU figures need two samples. The first figures come after this time instead of a whole interval.
_FIRST_INTERVAL_S = 1.0


@dataclass(frozen=True, kw_only=True)
class Usage:
    """The resources that one machine uses. A value is None if it is unknown, or if the machine is stopped.

    What is used on a host over SSH is unknown, except for its network traffic.
    """

    name: str
    state: State
    processes: int | None
    uptime_s: float | None
    cpu_percent: float | None
    """The CPU usage in percent. 100 is one CPU of the host."""

    memory_bytes: int | None
    """The host memory that QEMU and its helpers use. It may exceed the limit, which counts only the guest's memory."""

    memory_limit_bytes: int
    disk_bytes: int | None
    disk_size_bytes: int
    network: Traffic
    block: Traffic

    @property
    def memory_percent(self) -> float | None:
        return None if self.memory_bytes is None else 100 * self.memory_bytes / self.memory_limit_bytes


def usage(before: Sample | None, after: Sample, network: Traffic) -> Usage:
    """Calculate a machine's usage from two samples of the machine, and from the network traffic of its guest (pure)."""
    running = bool(after.processes)
    is_measured = running and not after.is_remote
    started = min((process.started for process in after.processes), default=0.0)
    return Usage(
        name=after.name,
        state=after.state,
        processes=None if after.is_remote else len(after.processes),
        uptime_s=max(0.0, after.time - started) if running else None,
        cpu_percent=_cpu_percent(before, after) if before and is_measured else None,
        memory_bytes=sum(process.memory_bytes for process in after.processes) if is_measured else None,
        memory_limit_bytes=after.memory_limit_bytes,
        disk_bytes=after.disk_bytes,
        disk_size_bytes=after.disk_size_bytes,
        network=network if running else Traffic(),
        block=Traffic() if after.is_remote else _block_traffic(after),
    )


def _cpu_percent(before: Sample, after: Sample) -> float | None:
    """Return the CPU usage in percent of one CPU between two samples, or None if that is unknown.

    A process that started between the samples counts with all its CPU time.
    """
    elapsed = after.monotonic_s - before.monotonic_s
    if elapsed <= 0:
        return None
    spent = {process.key: process.cpu_s for process in before.processes}
    used = sum(process.cpu_s - spent.get(process.key, 0.0) for process in after.processes)
    return 100 * used / elapsed


def _block_traffic(sample: Sample) -> Traffic:
    known = [process.storage for process in sample.processes if process.storage is not None]
    if not known:
        return Traffic()
    return Traffic(received=sum(read for read, _ in known), sent=sum(written for _, written in known))


@dataclass(frozen=True, kw_only=True)
class Report:
    """The usage of the machines, and the machines whose records cannot be read."""

    usages: list[Usage]
    broken: list[BrokenRecord]


def follow(
    names: Sequence[str], context: Context, interval_s: float, *, everything: bool = False, once: bool = False
) -> Iterator[Report]:
    """Yield the usage of the named machines at each interval, forever or, with `once`, one time.

    Without names, yield the usage of the running machines or, with `everything`, of all machines.

    Raises:
        NotFoundError: there is no such machine.
        MachineError: the record of one of the named machines is damaged.
    """
    for name in names:
        records.load(context.roots, name)
    with GuestNetworks(context) as networks:
        before = _samples(_selected(names, context, everything=everything).machines)
        for pause_s in chain([min(_FIRST_INTERVAL_S, interval_s)], () if once else repeat(interval_s)):
            time.sleep(pause_s)
            selected = _selected(names, context, everything=everything)
            after = _samples(selected.machines)
            # The guests are asked last, so that the first figures do not include the CPU time that emulated guests need
            # to answer.
            traffic = networks.ask(selected.machines, patiently=once)
            yield Report(
                usages=[
                    usage(before.get(name), sample, traffic.get(name, Traffic())) for name, sample in after.items()
                ],
                broken=selected.broken,
            )
            before = after


def _selected(names: Sequence[str], context: Context, *, everything: bool) -> Listing:
    """Return the machines to show. A named machine that has been removed since the command began is left out."""
    listing = list_machines(context)
    if names:
        found = {machine.record.name: machine for machine in listing.machines}
        return Listing(
            machines=[found[name] for name in dict.fromkeys(names) if name in found],
            broken=[broken for broken in listing.broken if broken.name in names],
        )
    shown = [machine for machine in listing.machines if everything or machine.state.state.has_processes]
    return Listing(machines=shown, broken=listing.broken)


def _samples(machines: Sequence[ListedMachine]) -> dict[str, Sample]:
    return {machine.record.name: probe(machine) for machine in machines}
