"""Benchmark of emulated guests: how much slower the same busybox runs in them than on this host.

It compares the CPU time of busybox here with that of QEMU, so that other load does not matter. The slowdown that
`machine` states for emulated guests (machine/qemu/acceleration.py) is the last column.
"""

from __future__ import annotations

import argparse
import math
import os
import resource
import shlex
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

# Each runs on one CPU and takes about 0.2 s on a host: integers, bytes, words, floating point, processes.
WORKLOADS = {
    "a shell's loop": "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done",
    "gzip": "$B head -c 20000000 /dev/zero | $B gzip -1 >/dev/null",
    "md5sum": "$B head -c 60000000 /dev/zero | $B md5sum >/dev/null",
    "awk": "$B awk 'BEGIN { for (i = 1; i < 800000; i++) s += i / 3 * 1.5 }'",
    "processes": "i=0; while [ $i -lt 200 ]; do $B true; i=$((i+1)); done",
}


def host_seconds(busybox: Path) -> dict[str, float]:
    """Measure the CPU time of each workload on this host."""

    def used() -> float:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    seconds = {}
    for name, workload in WORKLOADS.items():
        before = used()
        subprocess.run([busybox, "sh", "-c", f"B={shlex.quote(os.fspath(busybox))}; {workload}"], check=True)
        seconds[name] = used() - before
    return seconds


def guest_seconds(bench: Bench, name: str, busybox: str) -> dict[str, float]:
    """Measure QEMU's CPU time for each workload in a guest, which writes a line after each."""
    script = "; ".join([f"B={busybox}", "echo", *(f"{workload}; echo" for workload in WORKLOADS.values())])
    command = [MACHINE, "ssh", name, f"{busybox} sh -c {shlex.quote(script)}"]
    pid = listener_pid(bench.runtime(name) / "qmp-tools.sock")
    statistics, ticks_per_second = Path(f"/proc/{pid}/stat"), os.sysconf("SC_CLK_TCK")

    def used() -> float:
        # utime and stime; the program's name before them is in parentheses (proc(5)).
        fields = statistics.read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / ticks_per_second

    with subprocess.Popen(command, env=bench.environment, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        seconds = {}
        for workload in WORKLOADS:
            before = used()
            if not process.stdout.readline():
                raise RuntimeError(f"the SSH session in {name} ended during: {workload}")
            seconds[workload] = used() - before
    return seconds


def least(rounds: list[dict[str, float]]) -> dict[str, float]:
    return {name: min(seconds[name] for seconds in rounds) for name in WORKLOADS}


def ratios(guest: Mapping[str, float], host: Mapping[str, float]) -> list[float]:
    """Return the slowdown of each workload, and their geometric mean."""
    each = [guest[name] / host[name] for name in WORKLOADS]
    return [*each, math.exp(sum(map(math.log, each)) / len(each))]


def show(first: str, *cells: str) -> None:
    print(f"{first:10}", *(f"{cell:>14}" for cell in cells), flush=True)


def measure(bench: Bench, arch: Arch, cache: Path) -> dict[str, float]:
    """Measure a guest of one architecture."""
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
    arches = parser.parse_args().arches or [own, Arch.AARCH64 if own is Arch.X86_64 else Arch.X86_64]
    root = Path(tempfile.mkdtemp(prefix="b2p-", dir="/tmp"))
    bench = Bench(root)
    cache = (bench.home / "data" / "streams").resolve().parents[1]
    try:
        for arch in arches:
            build = [MACHINE, "image", "build", "--arch", arch]
            subprocess.run(build, env={**bench.environment, "MACHINE_HOME": str(cache)}, check=True, timeout=BUILD_S)
        busybox = static_busybox(own, cache)
        host = least([host_seconds(busybox) for _ in range(ROUNDS)])
        print("slowdown in relation to this host")
        show("", *WORKLOADS, "mean")
        for arch in arches:
            show(arch, *(f"{ratio:.1f}" for ratio in ratios(measure(bench, arch, cache), host)))
    finally:
        bench.clear()


if __name__ == "__main__":
    main()
