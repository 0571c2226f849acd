"""Benchmark of our commands beside those of `podman machine`, where that is installed and QEMU is its provider.

Both make a machine from the same image, with the same sizes, accelerator and CPU and without folders, and do the same
with it, in turn. A start counts until the first `podman --remote ps` has answered, a stop until QEMU has ended.
`podman machine` refuses root, so an ordinary user runs this. It needs gvproxy.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from machine.deadline import Deadline
from scripts.bench import INIT, SIZE, Bench, seconds, show
from scripts.bench_chart import Chart, toml_option, write_chart
from scripts.bench_port_drivers import TOOLS

NAME = "peer"
_START_S = 900.0
# `podman machine` looks for its helper in these, and not in PATH.
_HELPERS = (Path("/usr/libexec/podman"), Path("/usr/lib/podman"), TOOLS / "usr" / "bin")
# podman machine knows KVM only, whether or not it works on this host.
_QEMU = """#!/usr/bin/env bash
arguments=() before=
for word; do
    case $before in -accel) word={accelerator} ;; -cpu) word={cpu} ;; esac
    arguments+=("$word") before=$word
done
exec {qemu} "${{arguments[@]}}"
"""


def obstacle() -> str | None:
    """Return why `podman machine` cannot be measured here, or None if it can."""
    if os.getuid() == 0:
        return "podman machine refuses root"
    if shutil.which("podman") is None or _run(["podman", "machine", "info"], os.environ).returncode != 0:
        return "podman machine is not installed"
    return (
        None if _helpers() else "podman machine needs gvproxy, which is not installed; scripts/bench ports fetches it"
    )


class Peer:
    """A machine of `podman machine`, whose files are below `root`, a directory with a short path."""

    def __init__(self, root: Path, argv: Sequence[str]) -> None:
        """Prepare to run QEMU with the accelerator and the CPU of `argv`, the command line of a machine of ours."""
        self.runtime = root / "run"
        tools, home = root / "bin", root / "home"
        for directory in (self.runtime, tools, home):
            directory.mkdir(parents=True)
        accelerator, cpu = (argv[argv.index(option) + 1].split(",")[0] for option in ("-accel", "-cpu"))
        qemu = tools / Path(argv[0]).name
        qemu.write_text(_QEMU.format(accelerator=accelerator, cpu=cpu, qemu=argv[0]))
        qemu.chmod(0o755)
        configuration = root / "containers.conf"
        configuration.write_text(f'[engine]\nhelper_binaries_dir = ["{_helpers()}"]\n[machine]\nvolumes = []\n')
        self.environment = {
            **os.environ,
            "HOME": str(home),
            "XDG_RUNTIME_DIR": str(self.runtime),
            "CONTAINERS_CONF": str(configuration),
            "PATH": f"{tools}:{os.environ['PATH']}",
        }

    def machine(self, *words: str) -> str:
        done = _run(["podman", "machine", *words], self.environment)
        if done.returncode != 0:
            raise ChildProcessError(f"podman machine {words[0]}: {done.stderr}")
        return done.stdout

    def init(self, image: Path) -> None:
        option = "--image-path" if "--image-path" in self.machine("init", "--help") else "--image"
        self.machine("init", *SIZE, "--timezone", "UTC", option, str(image), NAME)

    def start(self) -> None:
        """Start the machine, and wait until its API answers: `podman machine start` does not always."""
        deadline = Deadline.after(_START_S, "the API of podman machine's guest")
        self.machine("start", NAME)
        ps = ["podman", "--remote", "--connection", NAME, "ps"]
        deadline.wait_until(lambda: _run(ps, self.environment).returncode == 0, interval_s=0.2)

    def stop(self) -> None:
        """Stop the machine, and wait until QEMU has ended: `podman machine stop` does not."""
        pid = self.qemu()
        self.machine("stop", NAME)
        _await_end(pid)

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        pid = self.qemu()
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            _await_end(pid)  # `rm` would ask it to end, and fail
        self.machine("rm", "--force", NAME)

    def qemu(self) -> int | None:
        try:
            return int(next(self.runtime.glob("**/*_vm.pid")).read_text())
        except (StopIteration, FileNotFoundError):
            return None


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench peer", description=__doc__)
    parser.add_argument("--rounds", type=int, default=2, help="machines of each kind")
    toml_option(parser)
    arguments = parser.parse_args()
    if reason := obstacle():
        sys.exit(f"Error: cannot measure: {reason}")
    root = Path(tempfile.mkdtemp(prefix="b2p-", dir="/tmp"))
    bench = Bench(root)
    ours: dict[str, list[float]] = {}
    theirs: dict[str, list[float]] = {}
    try:
        bench.machine(*INIT, "first")
        image = next((bench.home / "cache" / "images").glob("sha256-*/image.qcow2"))
        for number in range(arguments.rounds):
            argv = measure_ours(bench, ours)
            measure_theirs(root / f"peer{number}", argv, image, theirs)
    finally:
        bench.clear()
    medians = {what: (statistics.median(ours[what]), statistics.median(theirs[what])) for what in ours}
    for what, (here, there) in medians.items():
        show(f"{what} / podman machine's", here / there, 1.0, f"{here:.2f} s / {there:.2f} s")
    chart = Chart(
        name="peer",
        title="Time relative to podman machine's (less is better)",
        groups=list(medians),
        series={"machine": [here / there for here, there in medians.values()]},
    )
    write_chart(chart, arguments.toml)


def measure_ours(bench: Bench, found: dict[str, list[float]]) -> list[str]:
    """Measure a machine of ours; returns the command line of its QEMU."""

    def start() -> None:
        bench.machine("start", "--quiet", NAME)
        bench.podman(NAME, "ps")

    _note(found, "init", lambda: bench.machine(*INIT, "--volume", "", NAME))
    _note(found, "ls", lambda: bench.machine("ls"))
    _note(found, "first start", start)
    argv = bench.qemu_argv(NAME)
    _note(found, "stop", lambda: bench.machine("stop", NAME))
    _note(found, "second start", start)
    bench.machine("rm", "--force", NAME)
    return argv


def measure_theirs(root: Path, argv: Sequence[str], image: Path, found: dict[str, list[float]]) -> None:
    with Peer(root, argv) as made:
        _note(found, "init", lambda: made.init(image))
        _note(found, "ls", lambda: made.machine("ls"))
        _note(found, "first start", made.start)
        _note(found, "stop", made.stop)
        _note(found, "second start", made.start)


def _note(found: dict[str, list[float]], what: str, action: Callable[[], object]) -> None:
    found.setdefault(what, []).append(seconds(action))


def _await_end(pid: int | None) -> None:
    if pid is not None:
        deadline = Deadline.after(_START_S, "podman machine's QEMU to end")
        deadline.wait_until(lambda: not Path(f"/proc/{pid}").exists(), interval_s=0.1)


def _helpers() -> Path | None:
    return next((directory for directory in _HELPERS if (directory / "gvproxy").is_file()), None)


def _run(argv: list[str], environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, env=environment, check=False, capture_output=True, text=True, timeout=_START_S)


if __name__ == "__main__":
    main()
