"""`machine wait`: wait until a machine is running, answers or has stopped."""

from __future__ import annotations

import asyncio
import time
from enum import StrEnum

from machine.deadline import Deadline
from machine.errors import MachineError
from machine.model.state import State
from machine.ops.shared.api_sockets import api_socket
from machine.ops.shared.context import Context
from machine.ops.status import status
from machine.podman import api

_POLL_S = 0.5


class Condition(StrEnum):
    """The condition that a command waits for."""

    RUNNING = "running"
    API = "api"
    """The machine is running and answers on its API socket."""

    STOPPED = "stopped"
    SUSPENDED = "suspended"

    @property
    def state(self) -> State:
        return State.RUNNING if self is Condition.API else State(self.value)

    @property
    def waits_for(self) -> str:
        """What the machine is expected to do, in the words of the error message after a timeout."""
        return "answer on its API socket" if self is Condition.API else f"be {self.state}"


def wait(name: str, condition: Condition, timeout_s: float, context: Context) -> None:
    """Wait until the condition holds.

    Raises:
        NotFoundError: there is no such machine, or the machine was removed meanwhile.
        MachineError: the machine's record is damaged.
        DeadlineError: the condition did not hold in time.
    """
    deadline = Deadline.after(timeout_s, f"{name} to {condition.waits_for}")
    while True:
        state = status(name, context)
        if state.state is condition.state and (condition is not Condition.API or _answers(name, context, deadline)):
            return
        if deadline.passed:
            raise deadline.error(last=state.state)
        time.sleep(min(_POLL_S, deadline.left_s))


def _answers(name: str, context: Context, deadline: Deadline) -> bool:
    socket = api_socket(name, context)
    try:
        asyncio.run(api.ping(socket, timeout_s=max(1.0, deadline.left_s)))
    except MachineError:
        return False
    return True
