"""What `machine up` does with machines that exist, and how many start at once."""

from __future__ import annotations

from typing import Any

import pytest

from machine.model.config import FirstBoot, ImageOrigin, Resources, Script
from machine.model.folders import Folder
from machine.model.state import ORPHANED, STOPPED, SUSPENDED, UNRESPONSIVE, MachineState, State
from machine.ops.init_request import KEYS, InitRequest
from machine.ops.set import SetRequest
from machine.ops.up_plan import Action, Change, Difference, Pace, Plan, pace, plan_existing, set_request
from tests.support.builders import make_config, make_full_config, make_host

RUNNING = MachineState(state=State.RUNNING)
STARTING = MachineState(state=State.STARTING)


@pytest.mark.parametrize(
    ("state", "action"),
    [
        (STOPPED, Action.START),
        (SUSPENDED, Action.START),
        (ORPHANED, Action.START),
        (RUNNING, Action.NOTHING),
        (STARTING, Action.NOTHING),
        (UNRESPONSIVE, Action.NOTHING),
        (MachineState(state=State.PAUSED), Action.NOTHING),
    ],
)
def test_what_is_stopped_starts(state: MachineState, action: Action) -> None:
    assert plan_existing(make_config(), state, make_config(), KEYS) == Plan(
        name="box", state=state.state, action=action
    )


def test_machine_is_as_the_file_wants_it_whatever_was_chosen_when_it_was_made() -> None:
    made = make_full_config(image=ImageOrigin(reference="fcos:stable", digest="x", release="43.1"))
    wanted = make_full_config(image=ImageOrigin(reference="fcos:stable", digest=None), ssh_port=0, mac="", uid=7)
    assert plan_existing(made, STOPPED, wanted, KEYS).differences == ()


SCRIPTS = FirstBoot(scripts=(Script(name="a", text="b"),))


@pytest.mark.parametrize(
    ("key", "wanted", "stopped", "suspended"),
    [
        ("cpus", {"cpus": 1}, Change.NOW, Change.STOPPED),
        ("memory", {"memory_mib": 600}, Change.NOW, Change.STOPPED),
        ("disk_size", {"disk_gib": 200}, Change.NOW, Change.STOPPED),
        ("disk_size", {"disk_gib": 50}, Change.NEVER, Change.NEVER),
        ("usb", {"usbs": ("bus=1,devnum=2",)}, Change.NOW, Change.STOPPED),
        ("rootful", {"rootful": True}, Change.NOW, Change.NOW),
        ("volume", {"folders": (Folder(source="/a", target="/b"),)}, Change.NOW, Change.NOW),
        ("mount_inotify", {"mount_inotify": True}, Change.NOW, Change.NOW),
        ("import_native_ca", {"native_ca": True}, Change.NOW, Change.NOW),
        ("idle_suspend", {"idle_suspend": "15m"}, Change.NOW, Change.NOW),
        ("image", {"image": ImageOrigin(reference="boot2podman", digest=None)}, Change.NEVER, Change.NEVER),
        ("username", {"username": "me"}, Change.NEVER, Change.NEVER),
        ("label", {"labels": (("a", "b"),)}, Change.NEVER, Change.NEVER),
        ("provision", {"first_boot": SCRIPTS}, Change.NEVER, Change.NEVER),
    ],
)
def test_what_set_can_change_follows_the_file(
    key: str, wanted: dict[str, Any], stopped: Change, suspended: Change
) -> None:
    changes = [
        plan_existing(make_config(), state, make_config(**wanted), KEYS).differences
        for state in (STOPPED, SUSPENDED, RUNNING)
    ]
    running = Change.NEVER if stopped is Change.NEVER else Change.STOPPED
    assert [[(each.key, each.change) for each in differences] for differences in changes] == [
        [(key, stopped)], [(key, suspended)], [(key, running)],
    ]  # fmt: skip


def test_keys_that_the_file_does_not_have_are_the_users() -> None:
    assert plan_existing(make_config(), STOPPED, make_config(cpus=1), ["memory"]).differences == ()


@pytest.mark.parametrize(
    ("key", "wanted", "texts"),
    [
        ("cpus", {"cpus": 1}, ("2", "1")),
        ("rootful", {"rootful": True}, ("false", "true")),
        ("mount_inotify", {"mount_inotify": True}, ("not set", "true")),
        ("volume", {"folders": (Folder(source="/a", target="/b"),)}, ("not set", "/a:/b")),
        ("label", {"labels": (("a", "b"), ("c", ""))}, ("not set", "a=b, c=")),
        ("label", {"labels": (("a", "b" * 60),)}, ("not set", None)),
        ("provision", {"first_boot": SCRIPTS}, ("not set", None)),
    ],
)
def test_differences_show_both_values_unless_they_are_long(
    key: str, wanted: dict[str, Any], texts: tuple[str | None, str | None]
) -> None:
    (difference,) = plan_existing(make_config(), RUNNING, make_config(**wanted), KEYS).differences
    assert (difference.actual, difference.wanted) == texts


def test_only_what_can_be_changed_now_is_changed() -> None:
    wanted = make_config(cpus=1, username="me", disk_gib=200)
    plan = plan_existing(make_config(), STOPPED, wanted, KEYS)
    assert plan.changes == ("cpus", "disk_size")
    request = InitRequest(cpus=1, disk_gib=200, username="me", memory_mib=1, volumes=())
    assert set_request(request, plan.changes) == SetRequest(cpus=1, disk_gib=200)
    assert Difference(key="username", change=Change.NEVER, actual="core", wanted="me") in plan.differences


def sizes(*sizes: tuple[int, int]) -> list[Resources]:
    return [Resources(cpus=cpus, memory_mib=memory_mib, disk_gib=1) for cpus, memory_mib in sizes]


@pytest.mark.parametrize(
    ("starting", "running", "expected"),
    [
        (sizes((1, 512)), sizes(), Pace(at_once=1)),
        (sizes(), sizes((4, 16384)), Pace(at_once=0)),
        (sizes(*[(1, 512)] * 4), sizes(), Pace(at_once=4)),
        (sizes(*[(2, 512)] * 4), sizes(), Pace(at_once=2)),
        (sizes((3, 512), (1, 512), (1, 512)), sizes(), Pace(at_once=2)),
        (sizes(*[(1, 3000)] * 4), sizes(), Pace(at_once=2, lacking_mib=3808)),
        (sizes(*[(1, 3000)] * 2), sizes((4, 4096)), Pace(at_once=1, lacking_mib=1904)),
        (sizes((4, 8192)), sizes((4, 8192)), Pace(at_once=1, lacking_mib=8192)),
    ],
)
def test_as_many_start_at_once_as_any_of_them_fit_the_host(
    starting: list[Resources], running: list[Resources], expected: Pace
) -> None:
    assert pace(starting, running, make_host(cpus=4, memory_mib=8192), 8) == expected


def test_more_than_the_most_never_start_at_once() -> None:
    assert pace(sizes(*[(1, 1)] * 20), sizes(), make_host(cpus=64), 8).at_once == 8
