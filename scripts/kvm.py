"""Runs tests/kvm on KVM, in an emulated host: a machine whose CPU has virtualization and in which machines run.

The emulated host is a machine of ours with a Debian 13 of its own (kvm_root.py) and this checkout as shared folders. No
part of it needs KVM on the real host. What cannot run is a failure.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from machine.deadline import Deadline
from machine.errors import MachineError
from machine.model.arch import Arch
from machine.supervisor.evidence import panic_message
from scripts.kvm_root import ensure_root
from tests.support.guests import CACHE, make_guest_world, publish, take_down
from tests.support.world import World

NAME = "host"
ARCHES = (Arch.X86_64, Arch.AARCH64)
CHECKOUT = Path(__file__).parents[1]

# With two CPUs, which QEMU 7.2 emulates in two threads, the host's kernel once panicked under a busy guest: "corrupted
# stack end detected inside scheduler". With one it has not.
_SIZE = ("--memory", "8192", "--cpus", "1", "--disk-size", "20")
_POLL_S = 0.5
_STATE_EVERY_S = 30.0
_CONSOLE_END = 6000
_BUILD_S = 2 * 3600
_BOOT_S = 3 * 3600.0
_TESTS_S = 2 * 3600.0
_UNIT = "kvm-tests"
# Boards of aarch64 have virtualization only on request, and x86_64's best emulated CPU has it anyway.
_QEMU_AARCH64 = """#!/bin/sh
for word; do
    case $word in virt,*) word=$word,virtualization=on ;; esac
    set -- "$@" "$word"
    shift
done
exec {qemu} "$@"
"""
_ENTER = "/mnt/checkout/tests/kvm/enter.sh"


def main() -> int:
    arch, keeps, words = parse(sys.argv[1:])
    with emulated_host(arch) as host:
        while True:
            status = host.run_tests(words)
            if not keeps:
                return status
            print(f"MACHINE_HOME={host.world.home} {sys.prefix}/bin/machine ssh --username root {NAME}")
            if input("Enter ends the emulated host, anything else runs the tests again: ") == "":
                return status


def parse(words: Sequence[str]) -> tuple[Arch, bool, list[str]]:
    """Return the host's architecture, whether to keep the host after the tests (`--shell`), and pytest's arguments."""
    arch, rest = Arch.X86_64, list(words)
    if rest and not rest[0].startswith("-"):
        try:
            arch = Arch.parse(rest.pop(0))
        except ValueError:
            sys.exit(f"Error: unknown architecture; choose one of: {', '.join(ARCHES)}")
    if arch not in ARCHES:
        sys.exit(f"Error: there is no KVM in an emulated {arch} host; choose one of: {', '.join(ARCHES)}")
    return arch, "--shell" in rest, [word for word in rest if word != "--shell"]


def has_ended(state: str, console: str) -> bool:
    """Whether an emulated host with this state and text of its console runs no more tests."""
    return state == "stopped" or panic_message(console) is not None


class EmulatedHost:
    """An emulated host that is running, and the folder in which it leaves the tests' output and exit status."""

    def __init__(self, world: World, results: Path) -> None:
        self.world = world
        self._results = results

    def run_tests(self, words: Sequence[str]) -> int:
        """Run the tests, show their output while they run, and return pytest's exit status."""
        output, status = self._results / "output", self._results / "status"
        output.write_bytes(b"")
        status.unlink(missing_ok=True)
        began = time.monotonic()
        # Apart from the SSH connection, which a busy host may lose.
        unit = ("systemd-run", "--quiet", "--collect", f"--unit={_UNIT}", "sh", _ENTER, *words)
        self.world.must("ssh", "--username", "root", NAME, shlex.join(unit))
        deadline = Deadline.after(_TESTS_S, "the tests in the emulated host")
        asked = began
        with output.open("rb") as lines:
            while not status.exists():
                _show(lines.read())
                if time.monotonic() - asked > _STATE_EVERY_S:
                    asked = time.monotonic()
                    self._check_running()
                if deadline.passed:
                    raise deadline.error()
                time.sleep(_POLL_S)
            _show(lines.read())
        print(f"The tests took {time.monotonic() - began:.0f} s in the emulated host", file=sys.stderr)
        return int(status.read_text())

    def _check_running(self) -> None:
        """Raise MachineError, with the end of its console, if the emulated host has ended or panicked."""
        state, problem = self.world.state(NAME)
        console = (self.world.machines / NAME / "serial.log").read_text(errors="replace")
        if has_ended(state, console):
            print(console[-_CONSOLE_END:], file=sys.stderr)
            raise MachineError(f"the emulated host has ended: {problem or state}")


@contextlib.contextmanager
def emulated_host(arch: Arch) -> Iterator[EmulatedHost]:
    """Run an emulated host of `arch` during the block."""
    streams = publish("--arch", arch.value, timeout_s=_BUILD_S)
    root = ensure_root(arch, CACHE)
    world = make_guest_world(streams, os.getuid(), timeout_s=_BOOT_S)
    try:
        results = world.root / "results"
        results.mkdir()
        if arch is Arch.AARCH64:
            _add_virtualization(world)
        world.must("image", "pull", "--arch", arch.value, "boot2podman")
        folders = {
            root.parent: "/mnt/root", CHECKOUT: "/mnt/checkout", streams: "/mnt/streams", world.cache: "/mnt/images",
        }  # fmt: skip
        volumes = [word for source, target in folders.items() for word in ("--volume", f"{source}:{target}:ro")]
        own = ("--arch", arch.value, "--image", "boot2podman", "--accel", "tcg", "--rootful")
        world.must("init", *own, *_SIZE, *volumes, "--volume", f"{results}:/mnt/results", NAME)
        began = time.monotonic()
        print("Starting the emulated host", file=sys.stderr)
        world.must("start", NAME)
        print(f"The emulated host took {time.monotonic() - began:.0f} s to start", file=sys.stderr)
        yield EmulatedHost(world, results)
    finally:
        take_down(world)


def _add_virtualization(world: World) -> None:
    """Put a program before QEMU's in the world's PATH, which adds virtualization to the board that QEMU is given."""
    qemu = shutil.which("qemu-system-aarch64")
    assert qemu, "qemu-system-aarch64 is not installed"
    directory = world.root / "bin"
    directory.mkdir()
    program = directory / "qemu-system-aarch64"
    program.write_text(_QEMU_AARCH64.format(qemu=qemu))
    program.chmod(0o755)
    world.path = f"{directory}:{world.path}"


def _show(output: bytes) -> None:
    sys.stdout.buffer.write(output)
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    sys.exit(main())
