"""Try one fault on a machine."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field

from tests.support.faults.fault import SILENT_S, STOPPED, Ask, Cure, Fault, Shown, Verdict
from tests.support.faults.folder_rig import FolderRig
from tests.support.faults.rig import Rig

_POLL_S = 0.3


@dataclass(kw_only=True)
class _Findings:
    shown: str = ""
    shown_after_s: float | None = None
    back_after_s: float | None = None
    problems: list[str] = field(default_factory=list)


def attempt(fault: Fault, rig: Rig) -> Verdict:
    """Bring the machine into its initial state, provoke a fault, and look what is shown and what is lost."""
    if fault.needs_folder:
        rig = FolderRig(world=rig.world)
    rig.restore()
    rig.note()
    found = _Findings()
    with ExitStack() as lasting:
        lasting.enter_context(fault.provoke(rig))
        if fault.shown:
            _see(fault.shown, rig, found)
        for ask in fault.asks:
            found.problems += _refusals(ask, rig)
    ended = time.monotonic()
    found.problems += _cure(fault.cure, rig)
    lost = _recover(fault, rig, found, since=ended)
    if fault.check and found.back_after_s is not None:
        found.problems += list(fault.check(rig))
    return Verdict(
        name=fault.name,
        shown=found.shown,
        shown_after_s=found.shown_after_s,
        cure=fault.cure.text,
        back_after_s=found.back_after_s,
        lost=tuple(lost),
        problems=tuple(found.problems),
    )


def _see(wanted: Shown, rig: Rig, found: _Findings) -> None:
    """Wait until a state is shown."""
    found.shown_after_s = _seconds_until(lambda: wanted.matches(*rig.state()), wanted.within_s)
    state, reason = rig.state()
    found.shown = f"{state}: {reason}" if reason else state
    if found.shown_after_s is None:
        found.problems.append(f'shown after {wanted.within_s:.0f} s: "{found.shown}"')


def _refusals(ask: Ask, rig: Rig) -> list[str]:
    """Run a command while the fault lasts; returns what is wrong with its answer."""
    done = rig.watch(ask.words, timeout_s=ask.within_s + SILENT_S)
    line = f"machine {' '.join(ask.words)}"
    wrong = []
    if done.took_s > ask.within_s:
        wrong.append(f"{line}: took {done.took_s:.0f} s")
    if done.silent_s > SILENT_S and ask.status != 0:
        wrong.append(f"{line}: silent for {done.silent_s:.0f} s")
    if done.outcome.status != ask.status or ask.says not in done.said:
        wrong.append(f"{line}: ended with {done.outcome.status} and said: {done.said.strip()}")
    return wrong


def _cure(cure: Cure, rig: Rig) -> list[str]:
    wrong, said = [], ""
    for words in cure.lines:
        done = rig.watch(words, timeout_s=cure.within_s)
        said += done.said
        line = f"machine {' '.join(words)}"
        if done.silent_s > SILENT_S:
            wrong.append(f"{line}: silent for {done.silent_s:.0f} s")
        if done.outcome.status != 0:
            wrong.append(f"{line}: ended with {done.outcome.status} and said: {done.said.strip()}")
    if cure.says not in said:
        wrong.append(f'"{cure.says}" is not in: {said.strip()}')
    return wrong


def _recover(fault: Fault, rig: Rig, found: _Findings, *, since: float) -> list[str]:
    """Wait until everything works again; returns what was lost."""
    if fault.after is STOPPED:
        came_back = _seconds_until(lambda: STOPPED.matches(*rig.state()), fault.back_within_s)
    else:
        came_back = _seconds_until(lambda: rig.works(fault.after.state, fault.after.reason), fault.back_within_s)
    if came_back is None:
        found.problems.append(f"not back after {fault.back_within_s:.0f} s: {': '.join(filter(None, rig.state()))}")
        return []
    found.back_after_s = time.monotonic() - since
    return [] if fault.after is STOPPED else rig.losses(reboots=fault.reboots)


def _seconds_until(condition: Callable[[], bool], timeout_s: float) -> float | None:
    """Wait for a condition; returns how long that took, or None after `timeout_s`."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > timeout_s:
            return None
        time.sleep(_POLL_S)
    return time.monotonic() - began
