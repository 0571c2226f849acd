"""Benchmark of forwarding a guest's TCP ports to this host: our drivers beside gvproxy and passt, on one guest.

Each round measures all drivers in turn, so that other load affects all of them; the figures are medians. All load is
bounded and stays on 127.0.0.1.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import os
import socket
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles

from machine.deadline import Deadline
from machine.store.ssh_ports import choose
from scripts.bench import Bench, import_busybox, memory_mb, seconds, show
from scripts.bench_chart import Chart, toml_option, write_chart
from scripts.bench_port_drivers import NAME, Driver, Guest, fetch_tools

ROUNDS, BYTES, REQUESTS = 5, 24_000_000, 80
SHORT, AT_ONCE = 2000, 20
IDLE_S = 20.0
SERVED_S = 60.0

# QEMU's network offers segments of 1460 bytes but accepts larger ones; nft's `tcp option maxseg` can only lower them.
LARGE_MTU = 16000
LARGE_SEGMENTS = f"""
table ip t {{
  chain c {{
    type filter hook prerouting priority mangle
    tcp flags syn @th,160,32 0x020405b4 @th,176,16 set {LARGE_MTU - 40}
  }}
}}
"""
NO_OFFLOADS = dict.fromkeys(("csum", "guest_csum", "gso", "host_tso4", "guest_tso4"), False)


@dataclass(kw_only=True)
class Figures:
    """One driver's figures of all rounds: MB/s out of the guest and into it, seconds of each request."""

    driver: Driver
    cpus: int = 2
    outward: list[float] = field(default_factory=list)
    inward: list[float] = field(default_factory=list)
    requests: list[float] = field(default_factory=list)

    def add_round(self) -> None:
        self.outward.append(BYTES / 1e6 / seconds(lambda: get(self.driver.port)))
        self.inward.append(BYTES / 1e6 / seconds(lambda: put(self.driver.port)))
        self.requests += [seconds(lambda: request(self.driver.port)) for _ in range(REQUESTS)]

    @property
    def row(self) -> tuple[float, ...]:
        percentiles = quantiles(self.requests, n=100)
        return (median(self.outward), median(self.inward), percentiles[49] * 1000, percentiles[98] * 1000)


def get(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=300) as peer:
        peer.sendall(b"get %d\n" % BYTES)
        left = BYTES
        while left:
            got = len(peer.recv(1 << 20))
            if not got:
                raise EOFError(f"{left} bytes are missing")
            left -= got


def put(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=300) as peer:
        peer.sendall(b"put %d\n" % BYTES + bytes(BYTES))
        if peer.recv(4) != b"done":
            raise EOFError("the guest has not received everything")


def request(port: int) -> None:
    """Send one small HTTP request on a new connection."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        connection.request("GET", "/")
        connection.getresponse().read()


def is_served(port: int) -> bool:
    try:
        request(port)
    except (OSError, http.client.HTTPException):
        return False
    return True


def wait_for(port: int, interval_s: float = 0.2) -> None:
    Deadline.after(SERVED_S, f"the server behind port {port}").wait_until(
        lambda: is_served(port), interval_s=interval_s
    )


def burst(driver: Driver, count: int) -> tuple[int, float]:
    """Return how many of `count` short connections were served, and how many per second."""
    began = time.monotonic()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        served = sum(pool.map(is_served, [driver.port] * count))
    return served, served / (time.monotonic() - began)


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def idle_percent(pids: set[int]) -> dict[int, float]:
    before = {pid: cpu_s(pid) for pid in pids}
    time.sleep(IDLE_S)
    return {pid: (cpu_s(pid) - before[pid]) / IDLE_S * 100 for pid in pids}


def rounds(guest: Guest, all_figures: Sequence[Figures], count: int) -> None:
    for figures in all_figures:
        wait_for(figures.driver.port)
    for _ in range(count):
        for figures in all_figures:
            if figures.cpus == 1:
                guest.sh("echo 0 >/sys/devices/system/cpu/cpu1/online")
            figures.add_round()
            if figures.cpus == 1:
                guest.sh("echo 1 >/sys/devices/system/cpu/cpu1/online")


def show_figures(all_figures: Sequence[Figures], reference: Figures) -> dict[str, list[float]]:
    """Print medians and their ratios to `reference`: above 1 is better, for latency below 1.

    Return the ratios of the throughput out of the guest and into it, for each driver but the reference.
    """
    series: dict[str, list[float]] = {}
    print(f"{'driver':36} {'out MB/s':>8} {'in MB/s':>8} {'p50 ms':>7} {'p99 ms':>7}   x {reference.driver.name}")
    for figures in all_figures:
        out = median(own / other for own, other in zip(figures.outward, reference.outward, strict=True))
        into = median(own / other for own, other in zip(figures.inward, reference.inward, strict=True))
        if figures is not reference:
            series[figures.driver.name] = [out, into]
        row = figures.row
        ratios = (
            f"out {out:.2f}  in {into:.2f}  p50 {row[2] / reference.row[2]:.2f}  p99 {row[3] / reference.row[3]:.2f}"
        )
        print(
            f"{figures.driver.name:36} {row[0]:8.1f} {row[1]:8.1f} {row[2]:7.1f} {row[3]:7.1f}   {ratios}", flush=True
        )
    return series


def bench_ports(bench: Bench, guest: Guest, count: int) -> Chart:
    slirp = guest.slirp("slirp")
    drivers = [slirp, guest.master_forward(), guest.plain_ssh("ssh -L"), guest.gvproxy(), guest.passt()]
    all_figures = [Figures(driver=driver) for driver in drivers]
    rounds(guest, all_figures, count)
    series = show_figures(all_figures, all_figures[3])
    print(f"\n{SHORT // count * count} short connections, {AT_ONCE} at once; memory and idle CPU of their forwarders")
    bursts = [[burst(driver, SHORT // count) for driver in drivers] for _ in range(count)]
    idle = idle_percent({driver.pid for driver in drivers})
    for number, driver in enumerate(drivers):
        served = sum(each[number][0] for each in bursts)
        speed = median(each[number][1] for each in bursts)
        ratio = median(each[number][1] / each[3][1] for each in bursts)
        inside = " (all of QEMU, which contains slirp)" if driver is slirp else ""
        process = f"{memory_mb(str(driver.pid), 'Rss'):.0f} MB, {idle[driver.pid]:.1f} % of a CPU{inside}"
        print(f"{driver.name:36} {served} served, {speed:.0f}/s ({ratio:.2f} x gvproxy); {process}")
    print()
    bench_published(bench, count)
    title = "Throughput relative to gvproxy (more is better)"
    return Chart(name="ports", title=title, groups=["out of the guest", "into the guest"], series=series)


def bench_published(bench: Bench, count: int) -> None:
    """Measure the time from the return of `podman run -d -p` to a served request."""
    import_busybox(bench, NAME, "httpd")
    taken = []
    for _ in range(count):
        port = choose(set())
        publish = ("--publish", f"127.0.0.1:{port}:80")
        bench.podman(NAME, "run", "--detach", "--name", "web", *publish, "busybox", "httpd", "-f", "-h", "/bin")
        taken.append(seconds(lambda port=port: wait_for(port, interval_s=0.002)))  # type: ignore[misc]
        bench.podman(NAME, "rm", "--force", "--time", "0", "web")
    detail = "absolute, median of " + ", ".join(f"{each * 1000:.0f}" for each in taken)
    show("podman run -p to a request, ms", median(taken) * 1000, 50, detail)


def bench_trials(guest: Guest, count: int) -> None:
    """Measure variants of our own drivers that might be faster."""
    base = guest.slirp("slirp")
    aes = guest.plain_ssh("ssh, aes128-gcm", "-c", "aes128-gcm@openssh.com")
    large = guest.another_slirp("slirp, segments of 16 KB", "large", 3, LARGE_MTU, host_mtu=LARGE_MTU)
    guest.sh(f"ip netns exec large nft -f - <<'END'\n{LARGE_SEGMENTS}\nEND")
    guest.sh("systemd-run --quiet -p NetworkNamespacePath=/run/netns/large /usr/sbin/sshd -D")
    large_ssh = guest.slirp("", net="large", address="10.9.3.15", guest_port=22).port
    windows = guest.another_slirp("slirp, windows up to 16 MB", "windows", 4)
    guest.sh(
        "ip netns exec windows sysctl -qw net.ipv4.tcp_rmem='4096 4194304 16777216' "
        "net.ipv4.tcp_wmem='4096 4194304 16777216'"
    )
    drivers = [
        base,
        guest.another_slirp("slirp, csum, gso, tso off", "plain", 1, **NO_OFFLOADS),
        guest.another_slirp("slirp, mrg_rxbuf off", "unmerged", 2, mrg_rxbuf=False),
        windows,
        large,
        guest.plain_ssh("ssh, its own choice"),
        aes,
        guest.plain_ssh("ssh, aes128-ctr", "-c", "aes128-ctr"),
        guest.plain_ssh("ssh, chacha20-poly1305", "-c", "chacha20-poly1305@openssh.com"),
        guest.plain_ssh("ssh, aes128-gcm, segments of 16 KB", "-c", "aes128-gcm@openssh.com", ssh_port=large_ssh),
    ]
    all_figures = [Figures(driver=driver) for driver in drivers]
    for driver in (base, aes):
        one = Driver(name=f"{driver.name}, one vCPU", port=driver.port, pid=driver.pid)
        all_figures.append(Figures(driver=one, cpus=1))
    rounds(guest, all_figures, count)
    show_figures(all_figures, all_figures[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", action="store_true", help="measure variants of our own drivers instead")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    toml_option(parser)
    arguments = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="b2p-", dir="/tmp"))
    bench = Bench(root)
    fetch_tools()
    try:
        with contextlib.ExitStack() as processes:
            guest = Guest(bench, processes)
            if arguments.trials:
                bench_trials(guest, arguments.rounds)
            else:
                write_chart(bench_ports(bench, guest, arguments.rounds), arguments.toml)
    finally:
        bench.clear()


if __name__ == "__main__":
    main()
