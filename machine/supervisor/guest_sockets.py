"""Make links in the guest, so that its API sockets can be found there by the paths that they have on this host.

Clients mount the paths of the host into containers.
"""

from __future__ import annotations

import logging
import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from machine import async_runner
from machine.errors import MachineError, reason_of
from machine.ignition import assets
from machine.model.config import MachineConfig
from machine.ssh.command import SSH_FAILED
from machine.store.paths import MachinePaths

log = logging.getLogger(__name__)

_SCRIPT_S = 20.0

# The script gets its own text, so that the guest can keep the script for its later boots.
COMMAND = shlex.join(["sh", "-c", 'program=$(cat) && eval "$program"'])


@dataclass(frozen=True, kw_only=True)
class GuestSockets:
    """Makes links in the guest that lead from the sockets' paths on this host to the guest's sockets."""

    ssh: Callable[[str], Sequence[str]]
    """Returns the command line that runs a command as root in the guest, over the SSH master."""

    on_host: Mapping[Path, str]
    """The guest's API sockets, by their paths on this host."""

    script: str | None
    """None if no links are made in the guest."""

    on_notice: Callable[[str], None]
    """Is called with a notice for the user if these links cannot be made in the guest."""

    time_scale: int
    """The factor by which the guest's timeouts are longer than with hardware acceleration."""

    async def provide(self) -> None:
        """Make the links in the guest, and remove the links of an earlier start."""
        if self.script is None:
            return
        timeout_s = _SCRIPT_S * self.time_scale
        try:
            done = await async_runner.run(self.ssh(COMMAND), stdin=self.script, timeout_s=timeout_s, check=False)
        except (MachineError, OSError) as error:
            log.warning("the guest was not given the paths of its sockets: %s", reason_of(error))
            return
        if done.returncode == SSH_FAILED:
            log.info("the SSH master was lost; the next one gives the guest the paths of its sockets")
        elif done.returncode != 0:
            reason = done.stderr.strip().rpartition("\n")[2] or f"exit status {done.returncode}"
            self.on_notice(f"Containers cannot mount {' and '.join(map(str, self.on_host))}: {reason}")


def sockets_script(paths: MachinePaths, config: MachineConfig) -> str:
    """Return the text of api-sockets.sh for this machine."""
    return assets.load(
        "files/api-sockets.sh",
        directory=shlex.quote(os.fspath(paths.runtime)),
        user_link=shlex.quote(os.fspath(paths.podman_socket)),
        user_socket=config.user_socket,
        root_link=shlex.quote(os.fspath(paths.podman_root_socket)),
        root_socket=config.root_socket,
        uid=str(config.uid),
    )
