"""Have a guest ask this host for the addresses of names, instead of QEMU's network."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from machine import async_runner
from machine.errors import MachineError, reason_of
from machine.model import network
from machine.ssh.command import SSH_FAILED

if TYPE_CHECKING:
    from machine.resolver.server import ResolverServer

log = logging.getLogger(__name__)

_SCRIPT_S = 20.0


@dataclass(kw_only=True)
class GuestNames:
    """Answers a guest's questions about names while the guest can be reached."""

    ssh: Callable[[str], Sequence[str]]
    """Returns, for a command, the command line that runs it as root in the guest, over the SSH master."""

    script: str
    """The text of host-names.sh."""

    server: ResolverServer | None
    """Answers the guest. If there is none, the rules of an earlier supervisor are removed from the guest."""

    on_notice: Callable[[str], None]
    time_scale: int
    """The factor by which the guest's timeouts are longer than with hardware acceleration."""

    _port: int | None = field(default=None, init=False)

    async def provide(self) -> None:
        """Listen for the guest's questions, and tell the guest where to ask."""
        try:
            if self.server and self._port is None:
                self._port = await self.server.open()
            words = [network.DNS, network.HOST, *([str(self._port)] if self._port else [])]
            done = await async_runner.run(
                self.ssh(f"sh -s {' '.join(words)}"),
                stdin=self.script, timeout_s=_SCRIPT_S * self.time_scale, check=False,
            )  # fmt: skip
        except (MachineError, OSError) as error:
            log.warning("the guest was not told where to ask for names: %s", reason_of(error))
            return
        if done.returncode not in (0, SSH_FAILED):
            reason = done.stderr.strip().rpartition("\n")[2] or f"exit status {done.returncode}"
            if self.server is None:
                log.info("rules of an earlier supervisor, if there are any, stay in the guest: %s", reason)
                return
            self.on_notice(f"The guest does not ask this host for the addresses of names: {reason}")

    def close(self) -> None:
        if self.server:
            self.server.close()
