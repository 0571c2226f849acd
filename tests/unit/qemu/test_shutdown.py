"""How a guest without a monitor is ended; the ways with a monitor are those of a supervisor (test_loop.py)."""

from __future__ import annotations

import asyncio
import signal
from dataclasses import dataclass, field

import pytest

from machine.errors import MachineError
from machine.model.host import Accelerator
from machine.qemu import shutdown
from machine.qemu.shutdown import Ending, Limits, Means, choose_limits, shut_down

OBEYS_ALL = frozenset({"login", signal.SIGTERM, signal.SIGKILL})


@dataclass
class Guest:
    """A guest and its QEMU, which end when they are asked in one of the ways that they obey."""

    obeys: frozenset[object]
    asked: list[object] = field(default_factory=list)

    async def log_in(self) -> bool:
        self.asked.append("login")
        return "login" in self.obeys

    async def ended(self, timeout_s: float) -> bool:
        assert timeout_s <= 200
        return bool(self.obeys.intersection(self.asked))

    def end(self, *, at_once: bool) -> Ending:
        means = Means(monitor=None, log_in_and_power_off=self.log_in, send_signal=self.asked.append, ended=self.ended)
        limits = choose_limits(Accelerator.TCG, at_once=at_once)
        return asyncio.run(shut_down(means, limits))


@pytest.fixture(autouse=True)
def _short_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutdown, "_LOGIN_S", 0)


@pytest.mark.parametrize(
    ("obeys", "at_once", "ending", "asked"),
    [
        (OBEYS_ALL, False, Ending.POWERED_DOWN, ["login"]),
        (OBEYS_ALL - {"login"}, False, Ending.QUIT, ["login", signal.SIGTERM]),
        (frozenset({signal.SIGKILL}), False, Ending.KILLED, ["login", signal.SIGTERM, signal.SIGKILL]),
        (OBEYS_ALL, True, Ending.QUIT, [signal.SIGTERM]),
    ],
)
def test_guest_without_a_monitor_is_asked_over_ssh_before_any_signal(
    obeys: frozenset[object], at_once: bool, ending: Ending, asked: list[object]
) -> None:
    guest = Guest(obeys)
    assert guest.end(at_once=at_once) is ending
    assert guest.asked == asked


def test_qemu_that_survives_every_signal_is_an_error() -> None:
    with pytest.raises(MachineError, match="QEMU is still running after SIGKILL"):
        Guest(frozenset()).end(at_once=True)


@pytest.mark.parametrize(
    ("accelerator", "patience", "at_once", "limits"),
    [
        (Accelerator.KVM, 1, False, Limits(power_down_s=90, login_s=60, quit_s=10, kill_s=10)),
        (Accelerator.TCG, 1, False, Limits(power_down_s=180, login_s=60, quit_s=10, kill_s=10)),
        (Accelerator.KVM, 5, False, Limits(power_down_s=450, login_s=300, quit_s=50, kill_s=50)),
        (Accelerator.TCG, 5, True, Limits(power_down_s=0, login_s=300, quit_s=50, kill_s=50)),
    ],
)
def test_patience_multiplies_every_limit(
    accelerator: Accelerator, patience: int, at_once: bool, limits: Limits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    assert choose_limits(accelerator, patience=patience, at_once=at_once) == limits


@pytest.mark.parametrize("accelerator", [Accelerator.KVM, Accelerator.TCG])
def test_guest_whose_programs_may_hang_is_not_waited_for_so_long(
    accelerator: Accelerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    assert choose_limits(accelerator, may_hang=True).power_down_s == 75
    assert choose_limits(accelerator, may_hang=True, at_once=True).power_down_s == 0
