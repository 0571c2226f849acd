"""When the watch for idle machines requests a suspend, by a clock of the test's own."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import cast

import pytest

from machine.errors import MachineError
from machine.model.idle import Activity, IdleSuspend
from machine.model.state import MachineState, State
from machine.supervisor.clock import HostClock
from machine.supervisor.commands import Commands
from machine.supervisor.idle_watch import IdleWatch

NOTHING = Activity(connections=0, containers=0)
CLIENT = Activity(connections=1, containers=None)


@dataclass(kw_only=True)
class World:
    """A machine, its users and the host's clocks, which the test moves."""

    now: float = 0.0
    slept: float = 0.0
    activity: Activity = NOTHING
    state: MachineState = field(default_factory=lambda: MachineState(state=State.RUNNING))
    suspends: list[float] = field(default_factory=list)
    refuses: bool = False

    def suspend(self, *, if_idle: bool) -> None:
        assert if_idle
        self.suspends.append(self.now)
        if self.refuses:
            raise MachineError("it is paused")

    async def look(self) -> Activity:
        return self.activity


def watched(world: World, after_s: int = 60) -> IdleWatch:
    return IdleWatch(
        wish=IdleSuspend(after_s=after_s),
        commands=cast("Commands", world),
        look=world.look,
        clock=lambda: world.now,
        host_clock=HostClock(wall=lambda: world.now + world.slept, monotonic=lambda: world.now),
    )


def run(watch: IdleWatch, world: World, until_s: float) -> None:
    while world.now < until_s:
        asyncio.run(watch.look_once())
        world.now += watch.pause_s


def test_idle_machine_is_suspended_but_not_in_its_first_five_minutes() -> None:
    world = World()
    run(watched(world), world, 320)
    assert world.suspends == [300]


def test_client_begins_the_time_anew() -> None:
    world = World()
    watch = watched(world, after_s=900)
    run(watch, world, 600)
    world.activity = CLIENT
    run(watch, world, 660)
    world.activity = NOTHING
    run(watch, world, 1620)
    assert world.suspends == [1560]


def test_sleep_of_the_host_begins_the_time_anew() -> None:
    world = World()
    watch = watched(world, after_s=900)
    run(watch, world, 840)
    world.slept = 36_000
    run(watch, world, 1790)
    assert world.suspends == []
    run(watch, world, 1900)
    assert world.suspends == [1800]


@pytest.mark.parametrize("state", [State.STARTING, State.DEGRADED, State.PAUSED])
def test_machine_that_is_not_just_running_is_left_alone(state: State) -> None:
    world = World(state=MachineState(state=state))
    run(watched(world), world, 3600)
    assert world.suspends == []


def test_suspend_that_is_refused_is_tried_again_after_the_whole_time() -> None:
    world = World(refuses=True)
    watch = watched(world, after_s=600)
    run(watch, world, 1900)
    assert world.suspends == [600, 1260]


@pytest.mark.parametrize(("after_s", "pause_s"), [(60, 15), (100, 25), (900, 60), (86400, 60)])
def test_how_often_it_looks(after_s: int, pause_s: float) -> None:
    assert watched(World(), after_s=after_s).pause_s == pause_s
