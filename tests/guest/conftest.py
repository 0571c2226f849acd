"""Guests of one image, which is built once and cached outside the checkout.

Boots are real, and slow under TCG, so the tests share machines; in their order in the files few of them need a boot.
Each can run alone as well, since fixtures bring its machine into the required state; see
tests/support/guest_machines.py.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import FEDORA_SHAPE
from tests.support import real_runs
from tests.support.fedora_shape import fedora_shaped_stream
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

# Includes building the image and booting under TCG, in the setup of the first test.
GUEST_TEST_S = 3600


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.timeout(GUEST_TEST_S))


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    real_runs.finish(session, exitstatus, Path(__file__).parent)


# Images and worlds


@pytest.fixture(scope="session")
def streams() -> Path:
    """The local stream with the guest image."""
    published = publish()
    # The same stream under Fedora's name, for tests that use a mirror.
    shutil.copyfile(published / "boot2podman.json", published / "stable.json")
    return published


@pytest.fixture(scope="session")
def mirror(streams: Path, pytestconfig: pytest.Config) -> Iterator[str]:
    """The base URL of a server that offers the guest image, or one of Fedora's shape, like Fedora's servers."""
    with served(fedora_shaped_stream(streams) if pytestconfig.getoption(FEDORA_SHAPE) else streams) as url:
        yield url


@pytest.fixture(scope="session")
def busybox(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return busybox_archive(Path("/bin/busybox"), tmp_path_factory.mktemp("busybox"))


@pytest.fixture(scope="session")
def clients() -> Callable[[str], list[str]]:
    """A function that returns the command line of a client of Debian 13 by its path below /usr."""
    root = debian_clients()
    libraries = root / "usr" / "lib" / "x86_64-linux-gnu"
    loader = [str(libraries / "ld-linux-x86-64.so.2"), "--library-path", str(libraries)]
    return lambda program: [*loader, str(root / "usr" / program)]


@pytest.fixture(scope="session")
def world(streams: Path, pytestconfig: pytest.Config) -> Iterator[World]:
    """A world of the user who runs the tests."""
    made = make_guest_world(streams, os.getuid())
    with own_disk(made.machines):
        yield made
        take_down(made)
    real_runs.keep(pytestconfig, made.real_runs)
    shutil.rmtree(made.root, ignore_errors=True)


@pytest.fixture(scope="session")
def ordinary_world(streams: Path, pytestconfig: pytest.Config) -> Iterator[World]:
    """A world of an ordinary user, if the tests run as root and that user can read the program's files."""
    with ordinary_user() as uid:
        made = make_guest_world(streams, uid)
        yield made
        take_down(made)
    real_runs.keep(pytestconfig, made.real_runs)


# Machines


@pytest.fixture(scope="session")
def both_machines(world: World, ordinary_world: World, mirror: str, busybox: Path) -> tuple[MainMachine, SecondMachine]:
    """The main and the second machine after their first boots, which run in parallel."""
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
    """The name of the main machine, which is running."""
    return main_machine.run()


@pytest.fixture
def box2(second_machine: SecondMachine) -> str:
    """The name of the second machine, which is running."""
    return second_machine.run()


@pytest.fixture
def sleeper(main_machine: MainMachine) -> None:
    """Run the container `sleeper` in `box`, which also has the image `busybox`."""
    main_machine.run_sleeper()


@pytest.fixture
def stopped_box(main_machine: MainMachine) -> str:
    return main_machine.stop()


@pytest.fixture
def crate(main_machine: MainMachine, second_machine: SecondMachine) -> Change:
    """Run `crate`, which is `box` after a rename and other changes; the second machine boots in parallel."""
    if main_machine.change:
        return main_machine.run_changed()
    with second_machine.reconfiguring():
        return main_machine.run_changed()


@pytest.fixture
def stopped_crate(main_machine: MainMachine) -> str:
    return main_machine.stop_changed()


@pytest.fixture
def box2_reconfigured(second_machine: SecondMachine) -> str:
    """The name of the second machine, which is running with other proxies on the host and the other port driver."""
    return second_machine.run_reconfigured()


@pytest.fixture(scope="session")
def shared_machine(world: World) -> SharedMachine:
    """The machine with folders of the host."""
    return SharedMachine(world=world, folders=world.root / "src")
