"""Benchmarks of listing, creating, starting and stopping machines, each beside a plain reference in the same run."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from machine import lock
from machine.model.network import NETDEV
from machine.qemu import memory, monitor
from machine.sockets import listener_pid, listens
from machine.store.ssh_ports import choose
from scripts.bench_chart import Chart, toml_option, write_chart

REPEAT = 7
MACHINE = os.fspath(Path(sys.executable).with_name("machine"))
SIZE = ["--disk-size", "12", "--memory", "2048", "--cpus", "2"]
INIT = ["init", "--image", "boot2podman", *SIZE]
BOOT_S = 900.0
FILE_INIT = 25.0
SLEEPS = 3
ASLEEP = 10
ASLEEP_S = 30
API = "curl --silent --fail --unix-socket /run/user/$(id -u)/podman/podman.sock http://d/_ping"
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "boot2podman-tests"


class Bench:
    """Directories of the program below `root`, with the local stream of `data` or else of the tests' cache."""

    def __init__(self, root: Path, data: Path | None = None) -> None:
        self.root = root
        self.home = root / "m"
        if data is None:
            subprocess.run([MACHINE, "image", "build"], env={**os.environ, "MACHINE_HOME": str(CACHE)}, check=True)
            data = CACHE / "data"
        (self.home / "data").mkdir(parents=True)
        for name in ("streams", "keys"):
            (self.home / "data" / name).symlink_to(data / name)
        (root / "home").mkdir()  # an ordinary user's Podman fails without it
        (root / "containers.conf").touch()
        (root / "docker").mkdir()
        (root / "docker" / "config.json").write_text("{}")  # podman 4.3 fails without it
        self.environment = {
            **os.environ,
            "MACHINE_HOME": str(self.home),
            "HOME": str(root / "home"),
            "CONTAINERS_CONF": str(root / "containers.conf"),
            "PODMAN_CONNECTIONS_CONF": str(root / "connections.json"),
            "DOCKER_CONFIG": str(root / "docker"),
        }
        # As installed: pip compiles a package, and so does the first run of a checkout.
        self.environment.pop("PYTHONDONTWRITEBYTECODE", None)

    def machine(self, *words: str) -> str:
        return self.run([MACHINE, *words])

    def podman(self, name: str, *words: str) -> str:
        """Run the host's podman as a remote client of a machine."""
        return self.run(["podman", "--remote", "--connection", name, *words])

    def run(self, argv: list[str], more: Mapping[str, str] | None = None) -> str:
        environment = {**self.environment, **(more or {})}
        return subprocess.run(argv, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout

    def clear(self) -> None:
        """Remove all machines and files."""
        for name in self.machine("ls", "-n", "-q").split():
            self.machine("rm", "--force", name.rstrip("*"))
        shutil.rmtree(self.root)

    def qemu_argv(self, name: str) -> list[str]:
        """Return the command line of a running machine's QEMU."""
        pid = listener_pid(self.runtime(name) / "qmp.sock")
        return Path(f"/proc/{pid}/cmdline").read_text().rstrip("\0").split("\0")

    def directory(self, name: str) -> Path:
        return self.home / "data" / "machines" / name

    def runtime(self, name: str) -> Path:
        return self.home / "run" / name


def seconds(action: Callable[[], object]) -> float:
    began = time.monotonic()
    action()
    return time.monotonic() - began


@dataclass(frozen=True)
class Result:
    """A ratio that was measured."""

    what: str
    ratio: float


def show(what: str, ratio: float, target: float, detail: str) -> Result:
    print(f"{what:34} {ratio:6.2f}   target {target:g}   ({detail})", flush=True)
    return Result(what, ratio)


def bench_ls(bench: Bench) -> Iterator[Result]:
    """Run the commands in turn and compare the best times, since noise only ever adds to them."""
    request = {"_MACHINE_COMPLETE": "bash_complete", "COMP_WORDS": "machine start b", "COMP_CWORD": "2"}
    bare, ls, completion = [], [], []
    for _ in range(REPEAT):
        bare.append(seconds(lambda: bench.run([sys.executable, "-c", "pass"])))
        ls.append(seconds(lambda: bench.machine("ls")))
        completion.append(seconds(lambda: bench.run([MACHINE], request)))
    for what, times, target in (("ls", ls, 5.0), ("completion of a name", completion, 8.0)):
        detail = f"{min(times) * 1000:.0f} ms / {min(bare) * 1000:.0f} ms"
        yield show(f"{what} / python -c pass", min(times) / min(bare), target, detail)


def bench_init(bench: Bench) -> Iterator[Result]:
    base = next((bench.home / "cache" / "images").glob("sha256-*/image.qcow2"))
    copies, inits = [], []
    for number in range(REPEAT):
        copy = bench.root / "copy.qcow2"
        # Synced to disk, as init's own files are.
        copies.append(seconds(lambda copy=copy: (shutil.copyfile(base, copy), bench.run(["sync", str(copy)]))))  # type: ignore[misc]
        copy.unlink()
        name = f"second{number}"
        inits.append(seconds(lambda name=name: bench.machine(*INIT, name)))  # type: ignore[misc]
        bench.machine("rm", "--force", name)
    detail = f"{min(inits):.2f} s / {min(copies):.2f} s"
    yield show("init of a cached image / a copy", min(inits) / min(copies), 0.5, detail)
    show("init of a cached image, seconds", min(inits), 0.6, "absolute")
    yield bench_init_of_a_file(bench, base)


def bench_init_of_a_file(bench: Bench, base: Path) -> Result:
    """Run init from a file that was read before, in turn with a bare Python; podman registers each machine."""
    file = bench.root / "file.qcow2"
    shutil.copyfile(base, file)
    words = ["init", "--image", str(file), *SIZE]
    bench.machine(*words, "file")
    bare, inits = [], []
    for number in range(REPEAT):
        bare.append(seconds(lambda: bench.run([sys.executable, "-c", "pass"])))
        inits.append(seconds(lambda name=f"file{number}": bench.machine(*words, name)))  # type: ignore[misc]
    detail = f"{min(inits):.2f} s / {min(bare) * 1000:.0f} ms"
    return show("init of an unchanged file / python -c pass", min(inits) / min(bare), FILE_INIT, detail)


def bare_boot(bench: Bench, name: str) -> tuple[float, float]:
    """Boot a new machine by a plain QEMU command; returns the seconds to an SSH login and to the API's first answer."""
    directory = bench.directory(name)
    port = json.loads(bench.machine("inspect", name))[0]["SSHConfig"]["Port"]
    qemu = [
        "qemu-system-x86_64", "-machine", "q35", "-accel", "tcg", "-cpu", "max", "-smp", "2", "-m", "2048",
        "-nographic", "-snapshot", "-drive", f"if=virtio,file={directory / 'disk.qcow2'}",
        "-fw_cfg", f"name=opt/com.coreos/config,file={directory / 'config.ign'}",
        "-nic", f"user,model=virtio,hostfwd=tcp:127.0.0.1:{port}-:22",
    ]  # fmt: skip
    began = time.monotonic()
    with subprocess.Popen(qemu, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        try:
            return answers(bench, name, port, "true", began), answers(bench, name, port, API, began)
        finally:
            process.kill()


def answers(bench: Bench, name: str, port: int, command: str, began: float) -> float:
    """Wait until a bare guest runs a command successfully; returns the seconds since `began`."""
    ssh = [
        "ssh", "-F", "/dev/null", "-i", str(bench.directory(name) / "id_ed25519"), "-p", str(port),
        "-o", "ConnectTimeout=5", "-o", "LogLevel=QUIET",
        "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
        "core@127.0.0.1",
    ]  # fmt: skip
    while subprocess.run([*ssh, command], stdout=subprocess.DEVNULL, check=False).returncode != 0:
        if time.monotonic() - began > BOOT_S:
            raise TimeoutError(f"the bare guest never answered {command}")
        time.sleep(0.2)
    return time.monotonic() - began


def bench_start(bench: Bench, rounds: int) -> None:
    """Start new machines in turn with bare guests, then measure the last one further, and start it a second time."""
    starts, logins, apis = [], [], []
    for number in range(rounds):
        name = f"boot{number}"
        bench.machine(*INIT, name)
        login, answer = bare_boot(bench, name)
        logins.append(login)
        apis.append(answer)
        starts.append(seconds(lambda name=name: bench.machine("start", "--quiet", name)))  # type: ignore[misc]
        if number < rounds - 1:
            bench.machine("rm", "--force", name)
        else:
            bench_memory(bench, name)
            bench_suspend(bench, name)
            bench_stop(bench, name)
            _, bare = bare_boot(bench, name)
            second = seconds(lambda name=name: bench.machine("start", "--quiet", name))  # type: ignore[misc]
            show("second start / bare boot", second / bare, 1.1, f"{second:.1f} s / {bare:.1f} s")
    detail = f"{min(starts):.1f} s / {min(apis):.1f} s; a bare SSH login takes {min(logins):.1f} s"
    show("start / bare boot, to the API", min(starts) / min(apis), 1.1, detail)


def bench_suspend(bench: Bench, name: str) -> None:
    """Suspend a machine, resume it by a start and by a client of its API."""
    bench.podman(name, "ps")  # its first answer takes seconds on an emulated guest
    suspends, resumes, wakes, loads = [], [], [], []
    for _ in range(SLEEPS):
        suspends.append(seconds(lambda: bench.machine("suspend", name)))
        resumes.append(seconds(lambda: bench.machine("start", "--quiet", name)))
        argv = bench.qemu_argv(name)
        bench.machine("suspend", name)
        loads.append(asyncio.run(bare_load(bench, name, argv)))
        wakes.append(seconds(lambda: bench.podman(name, "ps")))
        bench.machine("wait", "--for", "running", name)
    detail = f"{min(resumes):.1f} s / {min(loads):.1f} s"
    show("resume / bare load, to the API", min(resumes) / min(loads), 1.5, detail)
    show("our share of a resume, seconds", min(resumes) - min(loads), 0.5, "the difference of the two")
    for what, times, target in (("suspend", suspends, 3), ("resume to the API", resumes, 5), ("wake by ps", wakes, 6)):
        show(f"{what}, seconds", min(times), target, f"absolute, TCG, of {SLEEPS}")


async def bare_load(bench: Bench, name: str, argv: list[str]) -> float:
    """Load the memory of a suspended machine by QEMU's command line `argv`; returns the seconds until its API answers.

    The saved memory and the disk stay as they are.
    """
    qmp, port = bench.runtime(name) / "qmp.sock", choose(set())
    qmp.unlink(missing_ok=True)
    # The pipes of the serial console are the supervisor's.
    argv = ["null,id=serial" if word.startswith("pipe,id=serial,") else word for word in argv]
    began = time.monotonic()
    with subprocess.Popen([*argv, "-snapshot"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        try:
            while not listens(qmp):
                if process.poll() is not None:
                    raise ChildProcessError(f"QEMU exited with status {process.returncode}")
                await asyncio.sleep(0.01)
            async with monitor.connected(qmp, timeout_s=BOOT_S) as client:
                await memory.load(client, bench.directory(name) / "memory.state")
                await monitor.human_command(client, f"hostfwd_add {NETDEV} tcp:127.0.0.1:{port}-:22")
                await monitor.execute(client, "cont")
                answers(bench, name, port, API, began)
            return time.monotonic() - began
        finally:
            process.kill()


def bench_asleep(bench: Bench) -> None:
    """Measure the processes that wait for clients of machines that are asleep."""
    names = [f"asleep{number}" for number in range(ASLEEP)]
    for name in names:
        bench.machine(*INIT, name)
        bench.machine("start", "--on-demand", name)
    pids = [pid for name in names if (pid := lock.holder_pid(bench.directory(name) / "waiting.lock"))]
    processes = [psutil.Process(pid) for pid in pids]
    before = sum(sum(process.cpu_times()[:2]) for process in processes)
    time.sleep(ASLEEP_S)
    used = sum(sum(process.cpu_times()[:2]) for process in processes) - before
    sizes = [process.memory_full_info() for process in processes]
    detail = f"proportional; resident {sum(size.rss for size in sizes) / 10**6:.0f} MB"
    show(f"memory of {len(pids)} machines asleep, MB", sum(size.pss for size in sizes) / 10**6, 250, detail)
    show(f"processor of {len(pids)} machines asleep, %", 100 * used / ASLEEP_S, 0.5, f"of one CPU, {ASLEEP_S} s")
    for name in names:
        bench.machine("rm", "--force", name)


def bench_memory(bench: Bench, name: str) -> None:
    """Measure the resident memory of all processes but QEMU; the proportional size counts shared pages once."""
    supervisor = listener_pid(bench.runtime(name) / "control.sock")
    children = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()
    helpers = [pid for pid in children if "qemu-system" not in Path(f"/proc/{pid}/cmdline").read_text()]
    resident = {pid: memory_mb(pid, "Rss") for pid in [str(supervisor), *helpers]}
    proportional = sum(memory_mb(pid, "Pss") for pid in resident)
    detail = (
        f"resident {' + '.join(f'{size:.0f}' for size in resident.values())} MB, proportional {proportional:.0f} MB"
    )
    show("memory without QEMU, MB", sum(resident.values()), 30, detail)


def memory_mb(pid: str, field: str) -> float:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) / 1000


def import_busybox(bench: Bench, name: str, *applets: str) -> None:
    """Create the container image `busybox` in a machine."""
    root = bench.root / "container"
    (root / "bin").mkdir(parents=True)
    shutil.copy2("/bin/busybox", root / "bin" / "busybox")
    for applet in applets:
        (root / "bin" / applet).symlink_to("busybox")
    archive = bench.root / "busybox.tar"
    bench.run(["tar", "-C", str(root), "-cf", str(archive), "."])
    bench.podman(name, "import", "--quiet", str(archive), "busybox")


def bench_stop(bench: Bench, name: str) -> None:
    """Stop a machine with a container that ignores SIGTERM, as a shell or `sleep` does as process 1."""
    import_busybox(bench, name, "sleep")
    bench.podman(name, "run", "--detach", "busybox", "sleep", "100000")
    taken = seconds(lambda: bench.machine("stop", name))
    show("stop with a container, seconds", taken, 20, "absolute, TCG")


def commands_chart(results: Sequence[Result]) -> Chart:
    return Chart(
        name="commands",
        title="Time relative to the reference after the slash (less is better)",
        groups=[result.what for result in results],
        series={"now": [result.ratio for result in results]},
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="*", choices=["ls", "init", "start", []], help="what to measure (default: all)")
    parser.add_argument("--rounds", type=int, default=2, help="boots of each kind")
    toml_option(parser)
    arguments = parser.parse_args()
    wanted = arguments.what or ["ls", "init", "start"]
    root = Path(tempfile.mkdtemp(prefix="b2p-", dir="/tmp"))
    bench = Bench(root)
    try:
        bench.machine(*INIT, "first")
        found: list[Result] = []
        if "ls" in wanted:
            found += bench_ls(bench)
        if "init" in wanted:
            found += bench_init(bench)
        if found:
            write_chart(commands_chart(found), arguments.toml)
        if "start" in wanted:
            bench_asleep(bench)
            bench_start(bench, arguments.rounds)
    finally:
        bench.clear()


if __name__ == "__main__":
    main()
