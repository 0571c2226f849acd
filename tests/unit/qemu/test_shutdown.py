"""How a guest without a monitor is ended; the ways with a monitor are those of a supervisor (test_loop.py)."""

from __future__ import annotations

import asyncio
import signal
from dataclasses import dataclass, field

import pytest

from machine.errors import MachineError
from machine.qemu import shutdown
from machine.qemu.shutdown import Ending, Means, shut_down

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

    def end(self, *, patience: float) -> Ending:
        means = Means(monitor=None, log_in_and_power_off=self.log_in, send_signal=self.asked.append, ended=self.ended)
        return asyncio.run(shut_down(means, patience=patience))


@pytest.fixture(autouse=True)
def _short_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutdown, "_LOGIN_S", 0)


@pytest.mark.parametrize(
    ("obeys", "patience", "ending", "asked"),
    [
        (OBEYS_ALL, 180, Ending.POWERED_DOWN, ["login"]),
        (OBEYS_ALL - {"login"}, 180, Ending.QUIT, ["login", signal.SIGTERM]),
        (frozenset({signal.SIGKILL}), 180, Ending.KILLED, ["login", signal.SIGTERM, signal.SIGKILL]),
        (OBEYS_ALL, 0, Ending.QUIT, [signal.SIGTERM]),
    ],
)
def test_guest_without_a_monitor_is_asked_over_ssh_before_any_signal(
    obeys: frozenset[object], patience: float, ending: Ending, asked: list[object]
) -> None:
    guest = Guest(obeys)
    assert guest.end(patience=patience) is ending
    assert guest.asked == asked


def test_qemu_that_survives_every_signal_is_an_error() -> None:
    with pytest.raises(MachineError, match="QEMU is still running after SIGKILL"):
        Guest(frozenset()).end(patience=0)
