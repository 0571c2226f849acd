"""Wait until the containers that start with a guest have been started."""

from __future__ import annotations

import asyncio
import logging
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from machine import async_runner
from machine.errors import MachineError
from machine.supervisor.progress import ProgressBroadcaster

log = logging.getLogger(__name__)

# How much longer than it was told to wait the guest may take to answer.
_ANSWER_S = 20.0
_STARTING = "starting "


@dataclass(frozen=True, kw_only=True)
class ContainerWait:
    """How to wait for the containers of one guest."""

    ssh: Callable[[str], Sequence[str]]
    """Returns the command line that runs a command as root in the guest, over the SSH master."""

    script: str
    """await-containers.sh, which waits in the guest."""

    username: str
    silent_s: float
    """How many seconds to wait before reporting that the supervisor is waiting."""

    patience_s: int
    """How many seconds to wait at most."""

    async def wait(self, report: ProgressBroadcaster) -> None:
        """Wait for the containers. When the time is over, report which services are still starting containers."""
        asking = asyncio.create_task(self._ask())
        await asyncio.wait([asking], timeout=self.silent_s)
        if not asking.done():
            report.step("Waiting for the containers that start with the guest")
        if units := await asking:
            report.notice(f"The guest is still starting containers: {', '.join(units)}")

    async def _ask(self) -> tuple[str, ...]:
        words = ["sh", "-s", "--", str(self.patience_s), self.username]
        timeout_s = self.patience_s + _ANSWER_S
        try:
            done = await async_runner.run(
                self.ssh(shlex.join(words)), stdin=self.script, timeout_s=timeout_s, check=False
            )
        except MachineError as error:
            log.warning("cannot find out which containers the guest starts: %s", error)
            return ()
        log.debug("containers that start with the guest: %s %s", done.stdout.splitlines(), done.stderr.strip())
        return starting_units(done.stdout)


def starting_units(text: str) -> tuple[str, ...]:
    """Return the units that await-containers.sh has listed as still starting, each once."""
    units = (line.removeprefix(_STARTING) for line in text.splitlines() if line.startswith(_STARTING))
    return tuple(dict.fromkeys(units))
