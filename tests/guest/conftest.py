"""Guests of one image, built once and cached outside the checkout.

Every boot here is a real one, and under TCG a slow one. So the tests share machines: in the order in which they stand
few of them wait for a boot. Each can run alone as well, since its fixtures bring the machine that it needs into the
state that it needs; see tests/support/guest_machines.py.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.guest_machines import Change, MainMachine, SecondMachine, SharedMachine, first_boots
from tests.support.guests import (
    busybox_archive,
    debian_clients,
    make_guest_world,
    ordinary_user,
    own_disk,
    publish,
    served,
    take_down,
)
from tests.support.world import World

# Building the image and booting under TCG, all in the setup of one test.
GUEST_TEST_S = 3600


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.timeout(GUEST_TEST_S))


# What the machines are made of, and where


@pytest.fixture(scope="session")
def streams() -> Path:
    """The local stream with the guest image."""
    published = publish()
    # The same stream under a name of Fedora's, for whoever asks a mirror for it.
    shutil.copyfile(published / "boot2podman.json", published / "stable.json")
    return published


@pytest.fixture(scope="session")
def mirror(streams: Path) -> Iterator[str]:
    """The base URL of a server that has the guest image as Fedora's servers have theirs."""
    with served(streams) as url:
        yield url


@pytest.fixture(scope="session")
def busybox(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return busybox_archive(Path("/bin/busybox"), tmp_path_factory.mktemp("busybox"))


@pytest.fixture(scope="session")
def clients() -> Callable[[str], list[str]]:
    """Command lines of Debian 13's clients by their paths below /usr."""
    root = debian_clients()
    libraries = root / "usr" / "lib" / "x86_64-linux-gnu"
    loader = [str(libraries / "ld-linux-x86-64.so.2"), "--library-path", str(libraries)]
    return lambda program: [*loader, str(root / "usr" / program)]


@pytest.fixture(scope="session")
def world(streams: Path) -> Iterator[World]:
    """The world of the user who runs the tests."""
    made = make_guest_world(streams, os.getuid())
    with own_disk(made.machines):
        yield made
        take_down(made)
    shutil.rmtree(made.root, ignore_errors=True)


@pytest.fixture(scope="session")
def ordinary_world(streams: Path) -> Iterator[World]:
    """A world of an ordinary user's, where the tests run as root and that user can reach what they need."""
    with ordinary_user() as uid:
        made = make_guest_world(streams, uid)
        yield made
        take_down(made)


# Machines


@pytest.fixture(scope="session")
def both_machines(world: World, ordinary_world: World, mirror: str, busybox: Path) -> tuple[MainMachine, SecondMachine]:
    """Two that have booted for the first time, at once: whoever asks for one has both."""
    main = MainMachine(world=world, mirror=mirror, busybox=busybox)
    second = SecondMachine(world=ordinary_world)
    first_boots(main, second)
    return main, second


@pytest.fixture(scope="session")
def main_machine(both_machines: tuple[MainMachine, SecondMachine]) -> MainMachine:
    return both_machines[0]


@pytest.fixture(scope="session")
def second_machine(both_machines: tuple[MainMachine, SecondMachine]) -> SecondMachine:
    return both_machines[1]


@pytest.fixture
def box(main_machine: MainMachine) -> str:
    """The name of the main machine, which runs."""
    return main_machine.run()


@pytest.fixture
def box2(second_machine: SecondMachine) -> str:
    """The name of the second machine, which runs."""
    return second_machine.run()


@pytest.fixture
def sleeper(main_machine: MainMachine) -> None:
    """A container of that name runs in `box`, beside the image `busybox`."""
    main_machine.run_sleeper()


@pytest.fixture
def stopped_box(main_machine: MainMachine) -> str:
    return main_machine.stop()


@pytest.fixture
def crate(main_machine: MainMachine, second_machine: SecondMachine) -> Change:
    """`crate` runs: what has become of `box`. The second machine boots meanwhile, which costs no time."""
    if main_machine.change:
        return main_machine.run_changed()
    with second_machine.starting_anew():
        return main_machine.run_changed()


@pytest.fixture
def stopped_crate(main_machine: MainMachine) -> str:
    return main_machine.stop_changed()


@pytest.fixture
def box2_anew(second_machine: SecondMachine) -> str:
    """The second machine runs with other variables of its host's than at first, and with the other port driver."""
    return second_machine.run_anew()


@pytest.fixture(scope="session")
def shared_machine(world: World) -> SharedMachine:
    """The machine with folders of the host's."""
    return SharedMachine(world=world, folders=world.root / "src")
