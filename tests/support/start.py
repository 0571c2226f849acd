"""Starts of machines with empty disks, on which a real QEMU never boots."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from machine import lock
from machine.model.hardware import Hardware, Suspension
from machine.model.host import Accelerator
from machine.sockets import listens
from machine.store.paths import MachinePaths
from machine.store.suspension import commit_suspension, mark_of
from tests.support.waiting import wait_until
from tests.support.world import World

HARDWARE = Hardware(
    accelerator=Accelerator.TCG, cpu="max", first_boot=False, rekey=False, folder_slots=2, shared_memory=False
)


def put_to_sleep(world: World, name: str = "box", *, memory: bytes = b"no memory") -> None:
    """Give a machine a saved memory that no QEMU can load."""
    world.edit_record(name, guest={"provisioned": True})
    paths = MachinePaths(directory=world.machines / name, runtime=world.runtime(name))
    paths.memory_in_work.write_bytes(memory)
    suspension = Suspension(
        hardware=replace(HARDWARE, machine_type="q35", folder_slots=0),
        qemu="7.2.0",
        disk=mark_of(paths.disk),
        suspended=datetime(2026, 11, 26, tzinfo=UTC),
    )
    commit_suspension(paths, suspension)


def control_socket(world: World) -> Path:
    return Path(world.inspect("box")["ConnectionInfo"]["PodmanSocket"]["Path"]).with_name("control.sock")


@contextlib.contextmanager
def starting(world: World) -> Iterator[subprocess.Popen[str]]:
    """Run `machine start box`; the block begins when its QEMU is running."""
    with world.popen("start", "box") as process:
        tools_socket = control_socket(world).with_name("qmp-tools.sock")
        lock_file = world.machines / "box" / "lock"
        wait_until(lambda: listens(tools_socket) and lock.holder_pid(lock_file), "QEMU")
        yield process


@contextlib.contextmanager
def held_lock(paths: MachinePaths) -> Iterator[None]:
    """Hold a machine's lock, so that it seems to run without a supervisor."""
    descriptor = lock.acquire(paths.lock)
    assert descriptor is not None
    lock.write_holder(descriptor, os.getpid())
    yield
    os.close(descriptor)
