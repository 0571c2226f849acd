"""Measures how much slower emulated guests compute than this host: one busybox, built for each, does the same work.

What counts is the time that this host's CPUs give to it, which no other load falsifies: that of the program itself
here, that of QEMU for a guest. What `machine` says of a guest that it emulates (machine/qemu/acceleration.py) rests on
the last column.
"""

from __future__ import annotations

import argparse
import math
import os
import resource
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from machine.model.arch import Arch
from machine.sockets import listener_pid
from machine.this_host import current_host
from scripts.bench import MACHINE, Bench
from scripts.busybox import static_busybox

ROUNDS = 3
BUILD_S = 2 * 3600

# Each on one CPU, for a fifth of a second or so on a host: integers, bytes, words, floating point, processes.
WORKS = {
    "a shell's loop": "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done",
    "gzip": "$B head -c 20000000 /dev/zero | $B gzip -1 >/dev/null",
    "md5sum": "$B head -c 60000000 /dev/zero | $B md5sum >/dev/null",
    "awk": "$B awk 'BEGIN { for (i = 1; i < 800000; i++) s += i / 3 * 1.5 }'",
    "processes": "i=0; while [ $i -lt 200 ]; do $B true; i=$((i+1)); done",
}


def host_seconds(busybox: Path) -> dict[str, float]:
    """The CPU time of each work here."""

    def used() -> float:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    seconds = {}
    for name, work in WORKS.items():
        before = used()
        subprocess.run([busybox, "sh", "-c", f"B={shlex.quote(os.fspath(busybox))}; {work}"], check=True)
        seconds[name] = used() - before
    return seconds


def guest_seconds(bench: Bench, name: str, busybox: str) -> dict[str, float]:
    """The CPU time of QEMU for each work there, told by the lines that the guest writes between them."""
    script = "; ".join([f"B={busybox}", "echo", *(f"{work}; echo" for work in WORKS.values())])
    command = [MACHINE, "ssh", name, f"{busybox} sh -c {shlex.quote(script)}"]
    pid = listener_pid(bench.runtime(name) / "qmp-tools.sock")
    statistics, ticks_per_second = Path(f"/proc/{pid}/stat"), os.sysconf("SC_CLK_TCK")

    def used() -> float:
        # After the program's name, which is in parentheses: utime and stime (proc(5)).
        fields = statistics.read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / ticks_per_second

    with subprocess.Popen(command, env=bench.environment, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        seconds = {}
        for work in WORKS:
            before = used()
            if not process.stdout.readline():
                raise RuntimeError(f"{name} ended in the midst of: {work}")
            seconds[work] = used() - before
    return seconds


def least(rounds: list[dict[str, float]]) -> dict[str, float]:
    return {name: min(seconds[name] for seconds in rounds) for name in WORKS}


def ratios(guest: Mapping[str, float], host: Mapping[str, float]) -> list[float]:
    """Of each work, and their geometric mean."""
    each = [guest[name] / host[name] for name in WORKS]
    return [*each, math.exp(sum(map(math.log, each)) / len(each))]


def show(first: str, *cells: str) -> None:
    print(f"{first:10}", *(f"{cell:>14}" for cell in cells), flush=True)


def measure(bench: Bench, arch: Arch, cache: Path) -> dict[str, float]:
    """One guest at a time: two would share what is measured."""
    init = ["init", "--arch", arch, "--image", "boot2podman", "--accel", "tcg", "--cpus", "2", "--now"]
    bench.machine(*init, arch)
    bench.machine("cp", "--quiet", os.fspath(static_busybox(arch, cache)), f"{arch}:/tmp/busybox")
    rounds = [guest_seconds(bench, arch, "/tmp/busybox") for _ in range(ROUNDS)]
    bench.machine("rm", "--force", arch)
    return least(rounds)


def main() -> None:
    own = Arch.parse(current_host().machine)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("arches", nargs="*", type=Arch.parse, metavar="ARCH", help="guests to measure")
    wanted = parser.parse_args().arches or [own, Arch.AARCH64 if own is Arch.X86_64 else Arch.X86_64]
    root = Path(tempfile.mkdtemp(prefix="b2p-", dir="/tmp"))
    bench = Bench(root)
    cache = (bench.home / "data" / "streams").resolve().parents[1]
    try:
        for arch in wanted:
            build = [MACHINE, "image", "build", "--arch", arch]
            subprocess.run(build, env={**bench.environment, "MACHINE_HOME": str(cache)}, check=True, timeout=BUILD_S)
        busybox = static_busybox(own, cache)
        host = least([host_seconds(busybox) for _ in range(ROUNDS)])
        print("times slower than this host")
        show("", *WORKS, "mean")
        for arch in wanted:
            show(arch, *(f"{ratio:.1f}" for ratio in ratios(measure(bench, arch, cache), host)))
    finally:
        for name in bench.machine("ls", "-n", "-q").split():
            bench.machine("rm", "--force", name.rstrip("*"))
        shutil.rmtree(root)


if __name__ == "__main__":
    main()
