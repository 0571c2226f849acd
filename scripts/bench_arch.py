"""Measures how much slower emulated guests compute than this host: one busybox, built for each, does the same work.

The rounds go over the host and all guests in turn, for what else this computer does is noise; the figures are the
quickest of each. What `machine` tells of a guest that it emulates rests on the last column (machine/qemu/acceleration).
"""

from __future__ import annotations

import argparse
import itertools
import math
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

from machine.hosts import current_host
from machine.model.arch import Arch
from scripts.bench import MACHINE, Bench
from scripts.busybox import static_busybox

ROUNDS = 3
BUILD_S = 2 * 3600

# Each takes this host tenths of a second, and the clock has hundredths: integers, bytes, words, processes.
WORKS = {
    "a shell's loop": "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done",
    "gzip": "$B head -c 64000000 /dev/zero | $B gzip -1 >/dev/null",
    "md5sum": "$B head -c 200000000 /dev/zero | $B md5sum >/dev/null",
    "awk": "$B awk 'BEGIN { for (i = 1; i < 3000000; i++) s += i / 3 * 1.5 }'",
    "processes": "i=0; while [ $i -lt 400 ]; do $B true; i=$((i+1)); done",
}


def script(busybox: str) -> str:
    """For `sh -c` of that busybox: a clock's seconds before the first work and after each."""
    clock = "read -r now rest </proc/uptime; echo $now"
    return "; ".join([f"B={busybox}", clock, *(f"{work}; {clock}" for work in WORKS.values())])


class Figures:
    """The quickest of all rounds, in seconds, by work."""

    def __init__(self) -> None:
        self.best = dict.fromkeys(WORKS, math.inf)

    def add(self, output: str) -> None:
        for name, (begun, ended) in zip(WORKS, itertools.pairwise(map(float, output.split())), strict=True):
            self.best[name] = min(self.best[name], ended - begun)

    def slower_than(self, other: Figures) -> dict[str, float]:
        return {name: self.best[name] / other.best[name] for name in WORKS}


def show(arch: str, ratios: dict[str, float]) -> None:
    mean = math.exp(sum(math.log(ratio) for ratio in ratios.values()) / len(ratios))
    print(f"{arch:10}", *(f"{ratio:15.1f}" for ratio in ratios.values()), f"{mean:15.1f}", flush=True)


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
        host, guests = Figures(), {arch: Figures() for arch in wanted}
        # One at a time: two emulated guests would share what is measured.
        for arch, figures in guests.items():
            init = ["init", "--arch", arch, "--image", "boot2podman", "--accel", "tcg", "--cpus", "2", "--now"]
            bench.machine(*init, arch)
            bench.machine("cp", "--quiet", str(static_busybox(arch, cache)), f"{arch}:/tmp/busybox")
            program = str(static_busybox(own, cache))
            for _ in range(ROUNDS):
                host.add(bench.run([program, "sh", "-c", script(program)]))
                figures.add(bench.machine("ssh", arch, f"/tmp/busybox sh -c {shlex.quote(script('/tmp/busybox'))}"))
            bench.machine("stop", arch)
        print("times slower than this host\n" + " " * 10, *(f"{name:>15}" for name in WORKS), f"{'mean':>15}")
        for arch, figures in guests.items():
            show(arch, figures.slower_than(host))
    finally:
        for name in bench.machine("ls", "-n", "-q").split():
            bench.machine("rm", "--force", name.rstrip("*"))
        shutil.rmtree(root)


if __name__ == "__main__":
    main()
