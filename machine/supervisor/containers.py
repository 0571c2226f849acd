"""Wait until the containers that start with a guest have been started."""

from __future__ import annotations

import asyncio
import logging
import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from machine import async_runner
from machine.errors import MachineError
from machine.supervisor.diagnosis import systemctl_of
from machine.supervisor.progress import ProgressBroadcaster

log = logging.getLogger(__name__)

# How much longer than it was told to wait the guest may take to answer.
_ANSWER_S = 20.0
_STARTING = "starting "
_FAILED = "failed "
_FAILED_SERVICE = "failed-service "
_MAX_TEXT = 300
_MAX_FAILURES = 5
# How Podman puts it that files of a container's storage are empty or gone, as after a power loss.
_DAMAGED = re.compile(
    r'"(?P<container>[^"]+)": .*?(?P<of_root>/var/lib)?/containers/storage/.*: '
    r"(?:invalid argument|no such file or directory)$"
)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How the containers that start with a guest have been started."""

    pending: tuple[str, ...] = ()
    """The services that are still starting containers."""

    failures: tuple[str, ...] = ()
    """What Podman said of each container that could not be started."""

    failed_services: tuple[tuple[str, str], ...] = ()
    """The owner and the name of each service of Quadlet's that has failed."""

    def notices(self, machine: str) -> tuple[str, ...]:
        """Return what to tell the user of a machine."""
        pending = f"The guest is still starting containers: {', '.join(self.pending)}"
        failures = [f"The guest could not start a container: {text}" for text in self.failures[:_MAX_FAILURES]]
        failures += [_service_failure(*failed, machine) for failed in self.failed_services[:_MAX_FAILURES]]
        return (
            *([pending] if self.pending else []),
            *map(_shortened, failures),
            *(f"To remove what a power loss has damaged, use: {remedy}" for remedy in self._remedies(machine)),
        )

    def _remedies(self, machine: str) -> Iterator[str]:
        """Yield the commands that remove the damaged containers of each user.

        `podman system check --repair --force` finds them, but Podman 5.4 then refuses to remove their layers.
        """
        damaged = [found for text in self.failures if (found := _DAMAGED.search(text))]
        for username, is_roots in (("", False), ("--username root ", True)):
            names = [found["container"] for found in damaged if bool(found["of_root"]) is is_roots]
            if names:
                yield f"machine ssh {username}{machine} podman rm --force {' '.join(names)}"


@dataclass(frozen=True, kw_only=True)
class ContainerWait:
    """How to wait for the containers of one guest."""

    ssh: Callable[[str], Sequence[str]]
    """Returns the command line that runs a command as root in the guest, over the SSH master."""

    machine: str
    """The machine's name."""

    script: str
    """await-containers.sh, which waits in the guest."""

    username: str
    silent_s: float
    """How many seconds to wait before reporting that the supervisor is waiting."""

    patience_s: int
    """How many seconds to wait at most."""

    async def wait(self, report: ProgressBroadcaster) -> None:
        """Wait for the containers. Report which could not be started, or are still being started after the time."""
        asking = asyncio.create_task(self._ask())
        await asyncio.wait([asking], timeout=self.silent_s)
        if not asking.done():
            report.step("Waiting for the containers that start with the guest")
        for notice in (await asking).notices(self.machine):
            report.notice(notice)

    async def _ask(self) -> Outcome:
        words = ["sh", "-s", "--", str(self.patience_s), self.username]
        timeout_s = self.patience_s + _ANSWER_S
        try:
            done = await async_runner.run(
                self.ssh(shlex.join(words)), stdin=self.script, timeout_s=timeout_s, check=False
            )
        except MachineError as error:
            log.warning("cannot find out which containers the guest starts: %s", error)
            return Outcome()
        log.debug("containers that start with the guest: %s %s", done.stdout.splitlines(), done.stderr.strip())
        return parse_outcome(done.stdout)


def parse_outcome(text: str) -> Outcome:
    """Parse the output of await-containers.sh, which may list a service or a failure twice."""
    services = (service.partition(" ") for service in _listed(text, _FAILED_SERVICE))
    return Outcome(
        pending=_listed(text, _STARTING),
        failures=_listed(text, _FAILED),
        failed_services=tuple((owner, name) for owner, _, name in services),
    )


def _listed(text: str, kind: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(line.removeprefix(kind) for line in text.splitlines() if line.startswith(kind)))


def _service_failure(owner: str, service: str, machine: str) -> str:
    look = f"machine ssh --username {owner} {machine} {systemctl_of(owner)} status {service}"
    return f"The guest could not start {service}; see: {look}"


def _shortened(text: str) -> str:
    return text if len(text) <= _MAX_TEXT else f"{text[: _MAX_TEXT - 1]}…"
