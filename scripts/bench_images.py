"""Measures `machine init` from a server of a given speed against curl, xz and qemu-img by hand, on the same image."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from scripts.bench import MACHINE, Bench, show
from tests.support.http_server import serving

MBITS = (50, 200, 1000)
MEMORY_MB = 120


@dataclass(frozen=True, kw_only=True)
class Taken:
    """Of one run: wall time, peak resident memory and what it wrote to the disk."""

    seconds: float
    memory_mb: float
    written: int


def serve(rate: float, files: dict[str, Path], told: Connection, end: threading.Event) -> None:
    with serving() as server:
        for path, file in files.items():
            server.add(path, file.read_bytes())
        server.rate = rate
        told.send(server.url)
        end.wait()


@contextlib.contextmanager
def mirror(mbits: float, files: dict[str, Path]) -> Iterator[str]:
    """A server of so many Mbit/s, in a process of its own: a large parent's memory would count as its children's."""
    context = multiprocessing.get_context("fork")
    end = context.Event()
    here, there = context.Pipe()
    process = context.Process(target=serve, args=(mbits * 1e6 / 8, files, there, end))
    process.start()
    try:
        yield here.recv()
    finally:
        end.set()
        process.join()


def measured(argv: list[str], environment: dict[str, str]) -> Taken:
    began = time.monotonic()
    with subprocess.Popen(argv, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{argv} failed")
    return Taken(
        seconds=time.monotonic() - began, memory_mb=usage.ru_maxrss * 1024 / 1e6, written=usage.ru_oublock * 512
    )


def by_hand(url: str, directory: Path) -> float:
    """Seconds for what one types without us, one step after the other."""
    directory.mkdir()
    packed, disk = directory / "disk.qcow2.xz", directory / "disk.qcow2"
    began = time.monotonic()
    subprocess.run(["curl", "--silent", "--fail", "--output", packed, url], check=True)
    subprocess.run(["xz", "--decompress", packed], check=True)
    words = ["create", "-q", "-f", "qcow2", "-F", "qcow2"]
    subprocess.run(["qemu-img", *words, "-b", disk, directory / "overlay", "12G"], check=True)
    taken = time.monotonic() - began
    shutil.rmtree(directory)
    return taken


def bench_images(bench: Bench) -> None:
    streams = bench.home / "data" / "streams"
    document = json.loads((streams / "boot2podman.json").read_text())
    disk = document["architectures"]["x86_64"]["artifacts"]["qemu"]["formats"]["qcow2.xz"]["disk"]
    files = {"/stable.json": streams / "boot2podman.json"}
    for name in (disk["location"], disk["signature"]):
        files[f"/{name}"] = streams / name
    packed = (streams / disk["location"]).stat().st_size
    for mbits in MBITS:
        with mirror(mbits, files) as url:
            hand = by_hand(f"{url}/{disk['location']}", bench.root / "hand")
            shutil.rmtree(bench.home / "cache", ignore_errors=True)
            words = ["init", "--stream-base-url", url, "--disk-size", "12", "--memory", "1024"]
            taken = measured([MACHINE, *words, "one"], bench.environment)
            second = measured([MACHINE, *words, "two"], bench.environment)
        base = next((bench.home / "cache" / "images").glob("sha256-*/image.qcow2"))
        needed = packed + base.stat().st_blocks * 512
        bench.machine("rm", "--force", "one")
        bench.machine("rm", "--force", "two")
        detail = f"{taken.seconds:.1f} s / {hand:.1f} s"
        show(f"init / by hand at {mbits} Mbit/s", taken.seconds / hand, 1.05, detail)
        show("  peak memory, MB", taken.memory_mb, MEMORY_MB, "resident")
        show("  second init, seconds", second.seconds, 1, "absolute, metadata asked for again")
        show("  written / packed + unpacked", taken.written / needed, 1.05, f"{taken.written / 1e6:.0f} MB")


def main() -> None:
    root = Path(tempfile.mkdtemp(prefix="b2p-", dir=os.environ.get("TMPDIR", "/tmp")))
    try:
        bench_images(Bench(root))
    finally:
        shutil.rmtree(root)


if __name__ == "__main__":
    main()
