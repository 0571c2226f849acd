"""Requests of the port API, compared with what Podman lists, which tests play here."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import pytest

from machine.errors import MachineError
from machine.model.ports import Claim, Driver, Endpoint, Origin, Protocol, forward_text, parse_endpoint, parse_forward
from machine.ports import forwarding, published
from machine.ports.checks import Cause
from machine.ports.drivers import Drivers
from machine.ports.forwarding import Forwarding
from machine.ports.limits import DEFAULT_LIMITS, PublishLimits
from machine.ports.published import PublishedPorts
from machine.ports.table import Binding
from machine.store.ssh_ports import choose

ACTIVE, DORMANT = Claim.ACTIVE, Claim.DORMANT


class IdleDrivers(Drivers):
    """Opens and closes nothing."""

    def __init__(self) -> None:
        pass

    def on_driver_up(self, driver: Driver) -> None:
        pass

    async def open(self, binding: Binding) -> None:
        pass

    async def close(self, binding: Binding) -> None:
        pass


class FakePodman:
    """A Podman whose containers publish `claims`. While `claims` is None, it does not answer."""

    def __init__(self) -> None:
        self.claims: dict[Endpoint, Claim] | None = {}
        self.asked = 0
        self.meanwhile: Callable[[], Awaitable[None]] | None = None
        """What happens between the moment that the list describes and its arrival."""

    async def list_ports(self) -> Mapping[Endpoint, Claim]:
        self.asked += 1
        if self.claims is None:
            raise MachineError("no answer")
        found = dict(self.claims)
        if self.meanwhile:
            await self.meanwhile()
        return found


class CountedLooks(PublishedPorts):
    begun = 0
    looks = 0

    async def _look(self) -> None:
        self.begun += 1
        await super()._look()
        self.looks += 1


class Guest:
    """The ports of a machine with two Podmans, the user's and root's."""

    def __init__(self, directory: Path, limits: PublishLimits) -> None:
        self.user, self.root = FakePodman(), FakePodman()
        table = directory / "ports.json"
        self.forwarding = Forwarding(IdleDrivers(), table, Driver.SLIRP, on_failure=print, limits=limits)
        self.ports = CountedLooks(self.forwarding, [self.user.list_ports, self.root.list_ports], soon_s=0.01)

    @property
    def open(self) -> list[str]:
        return [forward_text(forward) for forward in self.ports.all()]

    async def expose(self, *endpoints: Endpoint) -> None:
        for endpoint in endpoints:
            await self.ports.expose(endpoint, endpoint.port)

    async def look(self) -> None:
        """Wait until a look that has not begun yet has been made."""
        begun = self.ports.begun
        while self.ports.looks <= begun:
            await asyncio.sleep(0.01)

    async def settle(self) -> None:
        """Wait until nothing is left to check."""
        while self.ports._checks or self.ports.looks < self.ports.begun:
            await asyncio.sleep(0.01)


def play(directory: Path, story: Callable[[Guest], Awaitable[None]], limits: PublishLimits = DEFAULT_LIMITS) -> None:
    async def work() -> None:
        guest = Guest(directory, limits)
        checking = asyncio.create_task(guest.ports.keep_checking())
        try:
            await asyncio.wait_for(story(guest), 30)
        finally:
            checking.cancel()

    asyncio.run(work())


def free(address: str = "127.0.0.1") -> Endpoint:
    return parse_endpoint(f"{address}:{choose(set())}", Protocol.TCP)


def text(endpoint: Endpoint) -> str:
    return f"{endpoint.host_port('*')}:{endpoint.port}/tcp"


def test_port_that_no_container_publishes_is_taken_back(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    false, true = free(""), free()

    async def story(guest: Guest) -> None:
        guest.root.claims = {true: ACTIVE}
        await guest.expose(false, true)
        assert set(guest.open) == {text(false), text(true)}
        await guest.look()
        assert guest.open == [text(true)]

    play(tmp_path, story)
    assert f"closed {false}, because no running container publishes it" in caplog.messages


def test_port_of_either_podman_stays_and_one_look_serves_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forwarding, "write_atomic", lambda *_: None)  # the disk may be slow
    ends = [free(f"127.0.0.{number}") for number in range(1, 31)]

    async def story(guest: Guest) -> None:
        guest.user.claims, guest.root.claims = dict.fromkeys(ends[:15], ACTIVE), dict.fromkeys(ends[15:], ACTIVE)
        guest.ports._soon_s = 2.0
        await guest.expose(*ends)
        await guest.look()
        assert (len(guest.open), guest.ports.looks) == (30, 1)
        guest.ports._soon_s = 0.0
        await asyncio.sleep(0.3)
        assert guest.ports.looks == 1  # nothing is left to check

    play(tmp_path, story)


def test_other_podman_is_not_asked_when_one_list_suffices(tmp_path: Path) -> None:
    first, second = free(), free()

    async def story(guest: Guest) -> None:
        guest.root.claims = {first: ACTIVE, second: ACTIVE}
        await guest.expose(first)
        await guest.look()
        await guest.expose(second)
        await guest.look()
        assert (guest.user.asked, guest.root.asked) == (1, 2)

    play(tmp_path, story)


def test_port_of_a_container_that_is_still_starting_stays(tmp_path: Path) -> None:
    port = free()

    async def story(guest: Guest) -> None:
        guest.user.claims = {port: DORMANT}
        await guest.expose(port)
        await guest.look()
        await guest.look()
        assert guest.open == [text(port)]
        guest.user.claims = {port: ACTIVE}
        await guest.look()
        looks = guest.ports.looks
        await asyncio.sleep(0.3)
        assert (guest.open, guest.ports.looks) == ([text(port)], looks)

    play(tmp_path, story)


def test_nothing_is_closed_while_a_podman_does_not_answer(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    port = free()

    async def story(guest: Guest) -> None:
        guest.root.claims = None
        await guest.expose(port)
        for _ in range(3):
            await guest.look()
        assert guest.open == [text(port)]
        guest.root.claims = {}
        await guest.look()
        assert guest.open == []

    play(tmp_path, story)
    assert caplog.messages.count("published ports cannot be checked until Podman answers: no answer") == 1


def test_second_false_request_about_a_port_opens_nothing(tmp_path: Path) -> None:
    """Else a container could have a port most of the time, by requesting it again and again."""
    port = free()
    same_port = parse_endpoint(f"127.0.0.2:{port.port}", Protocol.TCP)

    async def story(guest: Guest) -> None:
        await guest.expose(port)
        await guest.look()
        await guest.expose(port, same_port)
        assert guest.open == []
        await guest.look()
        assert guest.open == []
        guest.user.claims = {port: ACTIVE}  # a container has it after all, and had to wait for the check
        await guest.expose(port)
        await guest.look()
        assert guest.open == [text(port)]

    play(tmp_path, story)


def test_port_that_is_opened_and_closed_again_and_again_is_suspect(tmp_path: Path) -> None:
    port = free()

    async def story(guest: Guest) -> None:
        async def turn() -> None:
            await guest.expose(port)
            await guest.ports.unexpose(port)

        guest.root.meanwhile = turn  # every list is outdated when it arrives
        for _ in range(published._MAX_CHANGES):
            await turn()
        await guest.expose(port)
        assert guest.open == []
        guest.root.meanwhile = None
        await guest.settle()
        assert guest.open == []

    play(tmp_path, story)


def test_request_that_comes_while_podman_lists_is_checked_by_the_next_list(tmp_path: Path) -> None:
    port = free()

    async def story(guest: Guest) -> None:
        async def restart() -> None:
            guest.user.meanwhile = None
            await guest.ports.unexpose(port)
            guest.user.claims = {port: ACTIVE}
            await guest.expose(port)

        guest.user.meanwhile = restart
        await guest.expose(port)
        await guest.look()
        assert guest.open == [text(port)]
        await guest.settle()
        assert guest.open == [text(port)]

    play(tmp_path, story)


def test_container_that_ends_frees_its_port_at_once(tmp_path: Path) -> None:
    port = free()

    async def story(guest: Guest) -> None:
        guest.user.claims = {port: ACTIVE}
        await guest.expose(port)
        await guest.look()
        guest.user.claims = {port: DORMANT}
        await guest.ports.unexpose(port)
        assert guest.open == []
        await guest.look()
        await guest.expose(port)  # it starts again
        assert guest.open == [text(port)]

    play(tmp_path, story)


def test_port_of_another_container_is_opened_again_and_cannot_be_closed_twice(tmp_path: Path) -> None:
    port = free()

    async def story(guest: Guest) -> None:
        guest.user.claims = {port: ACTIVE}
        await guest.expose(port)
        await guest.look()
        await guest.ports.unexpose(port)
        await guest.look()
        assert guest.open == [text(port)]
        for _ in range(3):
            await guest.ports.unexpose(port)
            assert guest.open == [text(port)]
            await guest.look()
        guest.user.claims = {}  # the container ends, and its port is closed a little later
        await guest.ports.unexpose(port)
        await guest.look()
        assert guest.open == []

    play(tmp_path, story)


def test_port_of_another_container_cannot_be_led_elsewhere(tmp_path: Path) -> None:
    port = free("")
    narrower = parse_endpoint(f"127.0.0.1:{port.port}", Protocol.TCP)

    async def story(guest: Guest) -> None:
        guest.user.claims = {port: ACTIVE}
        await guest.expose(port)
        await guest.look()
        await guest.ports.unexpose(port)
        await guest.ports.expose(port, 22)
        await guest.look()
        assert guest.open == [text(port)]
        guest.ports._disputed.clear()
        await guest.ports.unexpose(port)
        await guest.expose(narrower)
        await guest.look()
        assert guest.open == [text(port)]

    play(tmp_path, story)


def test_ports_that_an_earlier_supervisor_opened_are_checked(tmp_path: Path) -> None:
    ended, running = free(), free()

    async def story(guest: Guest) -> None:
        guest.user.claims = dict.fromkeys((ended, running), ACTIVE)
        await guest.expose(ended, running)
        await guest.look()
        guest.user.claims = {ended: DORMANT, running: ACTIVE}
        guest.ports.check_inherited()
        await guest.look()
        assert guest.open == [text(running)]
        await guest.expose(ended)  # nobody lied about it
        assert set(guest.open) == {text(ended), text(running)}

    play(tmp_path, story)


def test_users_own_forward_stays_whatever_podman_lists(tmp_path: Path) -> None:
    port = free()
    own = parse_forward(f"{port.port}:{port.port}")

    async def story(guest: Guest) -> None:
        guest.forwarding.preload([own])
        with pytest.raises(MachineError, match="already forwards"):
            await guest.ports.expose(port, 1)
        await guest.ports.unexpose(port)
        guest.user.claims = {port: ACTIVE}
        guest.ports._check_soon(port, Cause.UNEXPOSED)
        await guest.look()
        assert [forward.origin for forward, _ in guest.forwarding.statuses()] == [Origin.USER]

    play(tmp_path, story)


def test_limits_bind_containers_and_not_the_user(tmp_path: Path) -> None:
    first, second, users = free(), free(), free()

    async def story(guest: Guest) -> None:
        await guest.expose(first)
        with pytest.raises(MachineError, match="already publish 1 ports"):
            await guest.expose(second)
        await guest.expose(first)  # what is published already can be published again
        await guest.forwarding.add(parse_forward(f"{users.port}:80"))
        assert guest.open == [text(first)]

    play(tmp_path, story, PublishLimits(max_ports=1))


def test_requests_that_cannot_be_checked_do_not_pile_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(published, "_MAX_CHECKS", 2)
    ends = [free(), free(), free()]

    async def story(guest: Guest) -> None:
        guest.root.claims = None
        await guest.expose(*ends[:2])
        with pytest.raises(MachineError, match="too many requests wait until Podman lists its containers"):
            await guest.expose(ends[2])
        await guest.ports.unexpose(ends[0])
        assert guest.open == [text(ends[1])]

    play(tmp_path, story)
