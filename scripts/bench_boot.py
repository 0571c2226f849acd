"""Benchmark of the boots of a guest image, against the image that another revision of this project builds.

    scripts/bench boot [--against REVISION] [--rounds N]

Each revision builds its image, which the tests' cache keeps, and starts machines from it. In each round, a machine of
either starts for the first time and, after a stop, again, in turn. Wall-clock time counts until `machine start` ends,
and so until the API has answered. The processor time of QEMU in that time depends less on what else the host does.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from machine.sockets import listener_pid
from scripts.bench import CACHE, INIT, Bench, seconds, show
from scripts.bench_chart import Chart, toml_option, write_chart

# The last revision before the guest's boot was cut.
BEFORE = "f10c319"
TARGETS = {"first": 0.6, "second": 0.5}


@dataclass
class Image:
    """The image of a revision, in a home of its own, with the times of its boots in seconds."""

    bench: Bench
    wall_s: dict[str, list[float]] = field(default_factory=lambda: {"first": [], "second": []})
    qemu_s: dict[str, list[float]] = field(default_factory=lambda: {"first": [], "second": []})

    def boot(self, name: str, which: str) -> None:
        self.wall_s[which].append(seconds(lambda: self.bench.machine("start", name)))
        pid = listener_pid(self.bench.runtime(name) / "qmp.sock")
        assert pid is not None
        user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
        self.qemu_s[which].append((int(user) + int(system)) / os.sysconf("SC_CLK_TCK"))

    def boot_twice(self, name: str) -> None:
        self.bench.machine(*INIT, name)
        self.boot(name, "first")
        self.bench.machine("stop", name)
        self.boot(name, "second")
        self.bench.machine("rm", "--force", name)


def build(tree: Path, root: Path) -> Path:
    """Build the image of the project in `tree`, unless the cache `root` has it, and return its directory of data."""
    root.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "PYTHONPATH": str(tree), "MACHINE_HOME": str(root)}
    program = "import sys; from machine.cli.entry import main; sys.exit(main())"
    subprocess.run([sys.executable, "-P", "-c", program, "image", "build"], env=environment, check=True)
    return root / "data"


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench boot")
    parser.add_argument("--against", default=BEFORE, help="the revision that builds the other image")
    parser.add_argument("--rounds", type=int, default=3)
    toml_option(parser)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="boot") as directory:
        root = Path(directory)
        tree = root / "tree"
        subprocess.run(["git", "worktree", "add", "--detach", tree, arguments.against], check=True)
        try:
            old_data = build(tree, CACHE / "revisions" / arguments.against)
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", tree], check=True)
        (root / "old").mkdir()
        (root / "new").mkdir()
        old, new = Image(Bench(root / "old", old_data)), Image(Bench(root / "new"))
        for number in range(arguments.rounds):
            for image in (old, new):
                image.boot_twice(f"box{number}")
    for which, target in TARGETS.items():
        for what, ours, theirs in (
            ("start", new.wall_s[which], old.wall_s[which]),
            ("start, CPU of QEMU", new.qemu_s[which], old.qemu_s[which]),
        ):
            medians = statistics.median(ours), statistics.median(theirs)
            show(f"{which} {what}", medians[0] / medians[1], target, f"{medians[0]:.1f} s / {medians[1]:.1f} s")
    ratios = [statistics.median(new.qemu_s[which]) / statistics.median(old.qemu_s[which]) for which in TARGETS]
    chart = Chart(
        name="boot",
        title="QEMU's processor time (less is better)",
        groups=[f"{which} start" for which in TARGETS],
        series={"before": [1.0] * len(ratios), "now": ratios},
    )
    write_chart(chart, arguments.toml)


if __name__ == "__main__":
    main()
