"""`machine top`: what machines use of this host, sampled again and again."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, repeat

from machine.model.state import State
from machine.ops.list import list_machines
from machine.ops.shared.context import Context
from machine.ops.top_probe import GuestNetworks, Sample, probe
from machine.store import records

# The share of a CPU follows from two samples: the first table comes after this time, and not after a whole interval.
_FIRST_INTERVAL_S = 1.0


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """Bytes that came in and went out, None where that cannot be known."""

    received: int | None = None
    sent: int | None = None


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What one machine uses; None is what cannot be known, or not of a machine that is stopped.

    `cpu_percent` is of one CPU, so 200 are two whole ones. `memory_bytes` may exceed the guest's `memory_limit_bytes`,
    as QEMU and its helpers need some for themselves.
    """

    name: str
    state: State
    processes: int
    uptime_s: float | None
    cpu_percent: float | None
    memory_bytes: int | None
    memory_limit_bytes: int
    disk_bytes: int | None
    disk_size_bytes: int
    network: Traffic
    block: Traffic

    @property
    def memory_percent(self) -> float | None:
        return None if self.memory_bytes is None else 100 * self.memory_bytes / self.memory_limit_bytes


def usage(before: Sample | None, after: Sample) -> Usage:
    """What two samples of a machine tell together (pure)."""
    running = bool(after.processes)
    started = min((process.started for process in after.processes), default=0.0)
    return Usage(
        name=after.name,
        state=after.state,
        processes=len(after.processes),
        uptime_s=max(0.0, after.time - started) if running else None,
        cpu_percent=_cpu_percent(before, after) if before and running else None,
        memory_bytes=sum(process.memory_bytes for process in after.processes) if running else None,
        memory_limit_bytes=after.memory_limit_bytes,
        disk_bytes=after.disk_bytes,
        disk_size_bytes=after.disk_size_bytes,
        network=Traffic(received=after.network[0], sent=after.network[1]) if after.network and running else Traffic(),
        block=_block_traffic(after),
    )


def _cpu_percent(before: Sample, after: Sample) -> float | None:
    """The CPU time between two samples; a process that is new spent all of its own in between."""
    elapsed = after.monotonic_s - before.monotonic_s
    if elapsed <= 0:
        return None
    spent = {process.identity: process.cpu_s for process in before.processes}
    used = sum(process.cpu_s - spent.get(process.identity, 0.0) for process in after.processes)
    return 100 * used / elapsed


def _block_traffic(sample: Sample) -> Traffic:
    known = [process.storage for process in sample.processes if process.storage is not None]
    if not known:
        return Traffic()
    return Traffic(received=sum(read for read, _ in known), sent=sum(written for _, written in known))


def follow(
    names: Sequence[str], context: Context, interval_s: float, *, everything: bool = False
) -> Iterator[list[Usage]]:
    """Sample the machines named, or else those that run, or `everything`, for ever; a list for each interval.

    Raises:
        NotFoundError: there is no such machine.
        MachineError: the record of one that was named is damaged.
    """
    for name in names:
        records.load(context.roots, name)
    with GuestNetworks(context) as networks:
        before = _samples(names, context, networks, everything=everything)
        for pause_s in chain([min(_FIRST_INTERVAL_S, interval_s)], repeat(interval_s)):
            time.sleep(pause_s)
            after = _samples(names, context, networks, everything=everything)
            yield [usage(before.get(name), sample) for name, sample in after.items()]
            before = after


def _samples(names: Sequence[str], context: Context, networks: GuestNetworks, *, everything: bool) -> dict[str, Sample]:
    """A sample of each machine that is wanted, by name."""
    found = {listed.record.name: listed for listed in list_machines(context).machines}
    wanted = (
        [found[name] for name in dict.fromkeys(names) if name in found]
        if names
        else [listed for listed in found.values() if everything or listed.state.state is not State.STOPPED]
    )
    counters = networks.ask(wanted)
    return {listed.record.name: probe(listed, counters.get(listed.record.name)) for listed in wanted}
