"""Part of `machine top`: ask guests for their network traffic, because only the guests count it."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from machine import runner
from machine.deadline import Deadline
from machine.errors import MachineError
from machine.model.state import State
from machine.ops.list import ListedMachine
from machine.ops.shared.context import Context
from machine.ops.shared.target import find_target
from machine.ssh.command import ROOT, command_argv

# QEMU's user network has no counters. In sysfs, network cards have a device/net directory, but bridges do not.
_COUNTERS = "; echo; ".join(f"cat /sys/class/net/*/device/net/*/statistics/{kind}_bytes" for kind in ("rx", "tx"))
_ANSWER_S = 10.0
"""How long a guest may take to answer. Emulated guests on a busy host need seconds."""

_PATIENCE_S = 1.0
_END_S = 1.0


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """The numbers of bytes that a guest has received and sent. A number is None if it is unknown."""

    received: int | None = None
    sent: int | None = None


class GuestNetworks:
    """Asks guests for the counters of their network cards. All guests are asked at once, over their SSH masters.

    A guest that is slow to answer does not delay the other guests. Until it answers, its previous answer is used.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._known: dict[str, Traffic] = {}
        self._questions: dict[str, threading.Thread] = {}
        self._clients: set[subprocess.Popen[bytes]] = set()
        self._ended = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End the ssh processes that are still waiting for a guest's answer."""
        self._ended = True
        for client in list(self._clients):
            client.kill()
        self._await(_END_S)

    def ask(self, machines: Iterable[ListedMachine], *, patiently: bool = False) -> dict[str, Traffic]:
        """Return the network traffic of each machine, by the machine's name.

        If a guest does not answer within a second, its previous answer is used. If `patiently` is set, wait longer,
        because no later report follows.
        """
        for listed in machines:
            name = listed.record.name
            if listed.state.state in (State.RUNNING, State.DEGRADED) and name not in self._questions:
                self._questions[name] = threading.Thread(target=self._ask, args=(name,), daemon=True)
                self._questions[name].start()
        self._await(_ANSWER_S if patiently else _PATIENCE_S)
        return dict(self._known)

    def _await(self, seconds: float) -> None:
        deadline = Deadline.after(seconds, "the counters of guests' networks")
        for name, question in list(self._questions.items()):
            question.join(deadline.left_s)
            if not question.is_alive():
                del self._questions[name]

    def _ask(self, name: str) -> None:
        paths = self._context.roots.machine(name)
        try:
            argv = command_argv(find_target(name, ROOT, self._context), paths.ssh_control, _COUNTERS)
            self._known[name] = parse_counters(self._answer(argv))
        except (MachineError, ValueError):
            self._known.pop(name, None)

    def _answer(self, argv: Sequence[str]) -> str:
        with runner.running(argv, output=subprocess.PIPE, errors=subprocess.DEVNULL) as client:
            self._clients.add(client)
            try:
                if self._ended:
                    client.kill()
                with runner.machine_errors(argv):
                    return client.communicate(timeout=_ANSWER_S)[0].decode(errors="replace")
            finally:
                self._clients.discard(client)


def parse_counters(answer: str) -> Traffic:
    """Add up the bytes that all network cards have received and sent (pure).

    The answer has a line for each card's received bytes, an empty line, and a line for each card's sent bytes.

    Raises:
        ValueError: the guest answered something else.
    """
    received, separator, sent = answer.partition("\n\n")
    if not separator:
        raise ValueError("not an answer with two parts")
    return Traffic(received=sum(map(int, received.split())), sent=sum(map(int, sent.split())))
