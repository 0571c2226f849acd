"""Benchmark of fetching and unpacking images, from a server on this host with limited speed.

It compares `machine init` with curl, xz and qemu-img one after the other, and several connections with a single one,
with a limit on each of them, as distant mirrors have it, and with a limit on all together.
"""

from __future__ import annotations

import contextlib
import io
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

from machine.image.download import Download
from machine.image.pace import MAX_WORKERS
from machine.image.unpack import unpack
from machine.image.web import WebSettings
from scripts.bench import MACHINE, Bench, show
from tests.support.http_server import serving

MBITS = (50, 200, 1000)
CONNECTION_MBITS = (20, 50)
SHARED_MBITS = 50
MEMORY_MB = 120


@dataclass(frozen=True, kw_only=True)
class Usage:
    """The wall time, peak resident memory and bytes written to disk of one command."""

    seconds: float
    memory_mb: float
    written: int


@dataclass(frozen=True, kw_only=True)
class Speed:
    """A server's limits in Mbit/s, for each connection or all together; None is unlimited."""

    each: float | None = None
    together: float | None = None


def serve(speed: Speed, files: dict[str, Path], parent: Connection, end: threading.Event) -> None:
    with serving() as server:
        for path, file in files.items():
            server.add(path, file.read_bytes(), rate=(speed.each or 0) * 1e6 / 8)
        server.rate = (speed.together or 0) * 1e6 / 8
        parent.send(server.url)
        end.wait()


@contextlib.contextmanager
def mirror(speed: Speed, files: dict[str, Path]) -> Iterator[str]:
    """Run a server in its own process, so that its memory is not counted as that of measured commands."""
    context = multiprocessing.get_context("fork")
    end = context.Event()
    receiver, sender = context.Pipe()
    process = context.Process(target=serve, args=(speed, files, sender, end))
    process.start()
    try:
        yield receiver.recv()
    finally:
        end.set()
        process.join()


def measure(argv: list[str], environment: dict[str, str]) -> Usage:
    began = time.monotonic()
    with subprocess.Popen(argv, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{argv} failed")
    return Usage(
        seconds=time.monotonic() - began, memory_mb=usage.ru_maxrss * 1024 / 1e6, written=usage.ru_oublock * 512
    )


def by_hand(url: str, directory: Path) -> float:
    """Return the seconds that curl, xz and qemu-img take one after the other."""
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


def published(bench: Bench) -> tuple[Path, dict[str, str]]:
    """Return the local stream's folder, and its image's entry in the metadata."""
    streams = bench.home / "data" / "streams"
    document = json.loads((streams / "boot2podman.json").read_text())
    disk: dict[str, str] = document["architectures"]["x86_64"]["artifacts"]["qemu"]["formats"]["qcow2.xz"]["disk"]
    return streams, disk


def fetch_seconds(url: str, directory: Path, max_workers: int) -> float:
    """Return the seconds to fetch and unpack a file on at most `max_workers` connections."""
    began = time.monotonic()
    with Download(url, directory / "download", WebSettings(), max_workers=max_workers) as download:
        unpack(io.BufferedReader(download.reader()), directory / "image", url)
    taken = time.monotonic() - began
    shutil.rmtree(directory)
    return taken


def bench_connections(bench: Bench) -> None:
    """Compare several connections with one; on a shared line they bring nothing, and may cost at most 15 %."""
    streams, disk = published(bench)
    cases = [(f"at {mbits} Mbit/s each", Speed(each=mbits), 0.7) for mbits in CONNECTION_MBITS]
    cases.append((f"at {SHARED_MBITS} Mbit/s together", Speed(together=SHARED_MBITS), 1.15))
    for name, speed, target in cases:
        with mirror(speed, {"/image": streams / disk["location"]}) as url:
            one, several = (fetch_seconds(f"{url}/image", bench.root / "fetched", count) for count in (1, MAX_WORKERS))
        show(f"connections {name}", several / one, target, f"up to {MAX_WORKERS}: {several:.1f} s / one: {one:.1f} s")


def bench_init(bench: Bench) -> None:
    streams, disk = published(bench)
    files = {"/stable.json": streams / "boot2podman.json"}
    for name in (disk["location"], disk["signature"]):
        files[f"/{name}"] = streams / name
    packed = (streams / disk["location"]).stat().st_size
    for mbits in MBITS:
        with mirror(Speed(together=mbits), files) as url:
            hand = by_hand(f"{url}/{disk['location']}", bench.root / "hand")
            shutil.rmtree(bench.home / "cache", ignore_errors=True)
            words = ["init", "--stream-base-url", url, "--disk-size", "12", "--memory", "1024"]
            taken = measure([MACHINE, *words, "one"], bench.environment)
            second = measure([MACHINE, *words, "two"], bench.environment)
        base = next((bench.home / "cache" / "images").glob("sha256-*/image.qcow2"))
        needed = packed + base.stat().st_blocks * 512
        bench.machine("rm", "--force", "one")
        bench.machine("rm", "--force", "two")
        detail = f"{taken.seconds:.1f} s / {hand:.1f} s"
        show(f"init / by hand at {mbits} Mbit/s", taken.seconds / hand, 1.05, detail)
        show("  peak memory, MB", taken.memory_mb, MEMORY_MB, "resident")
        show("  second init, seconds", second.seconds, 1, "absolute, with a new request for metadata")
        show("  written / packed + unpacked", taken.written / needed, 1.05, f"{taken.written / 1e6:.0f} MB")


def main() -> None:
    root = Path(tempfile.mkdtemp(prefix="b2p-", dir=os.environ.get("TMPDIR", "/tmp")))
    try:
        bench = Bench(root)
        bench_init(bench)
        bench_connections(bench)
    finally:
        shutil.rmtree(root)


if __name__ == "__main__":
    main()
