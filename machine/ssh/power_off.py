"""Ask a guest over SSH to power down, because QEMU's monitor cannot be reached."""

from __future__ import annotations

import logging

from machine import async_runner
from machine.errors import MachineError
from machine.ssh.command import SshTarget, script_argv

log = logging.getLogger(__name__)

_LOGIN_S = 45.0

_ACCEPTED = "accepted"
# The guest may end the connection before ssh has learnt the script's exit status.
_SCRIPT = f"systemctl --no-block poweroff && echo {_ACCEPTED}"


async def power_off(target: SshTarget, *, patience: int = 1) -> bool:
    """Log in to the guest as root, and ask it to power down. Return whether the guest has accepted the request.

    `patience` is how many times as long as usual the guest may take.
    """
    try:
        done = await async_runner.run(
            script_argv(target, ()), stdin=_SCRIPT, timeout_s=_LOGIN_S * patience, check=False
        )  # fmt: skip
    except MachineError as error:
        log.info("the guest cannot be reached over SSH to power it down: %s", error)
        return False
    log.info("asked the guest over SSH to power down, and it answered: %s %s", done.stdout.strip(), done.stderr.strip())
    return _ACCEPTED in done.stdout.split()
