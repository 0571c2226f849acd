"""A guest with several drivers that forward its TCP ports to this host: ours, gvproxy and passt."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from machine.deadline import Deadline
from machine.model.network import GATEWAY, GUEST, NETDEV
from machine.model.ports import Endpoint, Protocol
from machine.ports.backlog import extend_backlog
from machine.qemu import monitor
from machine.sockets import listener_pid
from machine.ssh.command import SshTarget, base_options, host_key_alias
from machine.store.ssh_ports import choose
from scripts.bench import INIT, Bench

NAME = "ports"
SLOTS = 4
TOOLS = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "boot2podman-tests" / "ports-trixie"

# The server in the guest: `put N` receives N bytes and answers `done`, `get N` sends N bytes, all else is HTTP.
SERVER = r"""
use IO::Socket::INET;
$SIG{PIPE} = "IGNORE";
my $listener = IO::Socket::INET->new(LocalPort => 7000, Listen => 1024, ReuseAddr => 1) or die;
my $block = "x" x 262144;
for (1 .. 7) { fork or last }
while (my $peer = $listener->accept) {
    sysread($peer, my $head, 65536);
    my ($verb, $left) = $head =~ /^(put|get) (\d+)\n/;
    if ($verb eq "put") {
        $left -= length($head) - $+[0];
        while ($left > 0) { $left -= sysread($peer, my $data, 262144) || last }
        syswrite($peer, "done") if $left == 0;
    } elsif ($verb eq "get") {
        while ($left > 0) { $left -= syswrite($peer, $block, $left) || last }
    } else {
        syswrite($peer, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n");
    }
    close $peer;
}
"""


def fetch_tools() -> None:
    """Unpack Debian 13's gvproxy and passt into the cache, unless they are there already."""
    if not TOOLS.exists():
        unpacked = Path(tempfile.mkdtemp(prefix=".new-", dir=TOOLS.parent)) / "root"
        command = ["mmdebstrap", "--quiet", "--variant=extract", "--include=gvproxy,passt", "trixie", str(unpacked)]
        subprocess.run(command, check=True, timeout=600)
        unpacked.rename(TOOLS)
        unpacked.parent.rmdir()


@dataclass(frozen=True, kw_only=True)
class Driver:
    """A port of 127.0.0.1 that is forwarded to the guest's server, and the process that forwards it."""

    name: str
    port: int
    pid: int


class Guest:
    """A machine with slots for more NICs, each of which gets its own network namespace and server in the guest."""

    def __init__(self, bench: Bench, processes: contextlib.ExitStack) -> None:
        self._bench = bench
        self._processes = processes
        # A wrapper on PATH adds the slots, which must exist when QEMU starts; NICs are plugged in later.
        wrapper = bench.root / "bin" / "qemu-system-x86_64"
        wrapper.parent.mkdir()
        slots = " ".join(f"-device pcie-root-port,id=slot{slot},chassis={slot + 1}" for slot in range(SLOTS))
        wrapper.write_text(f'#!/bin/sh\nexec {shutil.which(wrapper.name)} "$@" {slots}\n')
        wrapper.chmod(0o755)
        bench.environment["PATH"] = f"{wrapper.parent}:{os.environ['PATH']}"
        bench.machine(*INIT, NAME)
        bench.machine("start", "--quiet", NAME)
        self._macs = [f"52:54:00:b2:b0:{slot:02x}" for slot in range(SLOTS)]
        unmanaged = f"[Match]\nMACAddress={' '.join(self._macs)}\n[Link]\nUnmanaged=yes\n"
        self.sh(f"mkdir -p /run/systemd/network; echo '{unmanaged}' >/run/systemd/network/10-bench.network")
        self.sh(
            f"cat >/run/server.pl <<'END'\n{SERVER}\nEND\nnetworkctl reload; systemd-run --quiet perl /run/server.pl"
        )
        self.qemu = self._listener("qmp-tools.sock")
        self.master = self._listener("ssh.ctl")

    def _listener(self, name: str) -> int:
        pid = listener_pid(self._bench.runtime(NAME) / name)
        if pid is None:
            raise OSError(f"no process listens on {name}")
        return pid

    def sh(self, script: str) -> None:
        self._bench.machine("ssh", "--username", "root", NAME, script)

    def qmp(self, command: str, **arguments: object) -> object:
        async def run() -> object:
            socket_ = self._bench.runtime(NAME) / "qmp-tools.sock"
            async with monitor.connected(socket_, timeout_s=10) as client:
                return await monitor.execute(client, command, arguments)

        return asyncio.run(run())

    def slirp(self, name: str, *, net: str = NETDEV, address: str = GUEST, guest_port: int = 7000) -> Driver:
        driver = Driver(name=name, port=choose(set()), pid=self.qemu)
        rule = f"hostfwd_add {net} tcp:127.0.0.1:{driver.port}-{address}:{guest_port}"
        if output := self.qmp("human-monitor-command", **{"command-line": rule}):
            raise OSError(f"{rule}: {output}")
        extend_backlog(self.qemu, Endpoint(protocol=Protocol.TCP, address="127.0.0.1", port=driver.port))
        return driver

    def master_forward(self) -> Driver:
        """Add a user's forward, which the SSH master serves by `ssh -O forward`."""
        driver = Driver(name="ssh -O forward", port=choose(set()), pid=self.master)
        self._bench.machine("port", "add", NAME, f"{driver.port}:7000")
        return driver

    def plain_ssh(self, name: str, *options: str, ssh_port: int | None = None) -> Driver:
        directory, port = self._bench.directory(NAME), choose(set())
        target = SshTarget(
            alias=host_key_alias(NAME),
            port=ssh_port or json.loads(self._bench.machine("inspect", NAME))[0]["SSHConfig"]["Port"],
            username="root",
            identity=directory / "id_ed25519",
            known_hosts=directory / "known_hosts",
        )
        words = (*base_options(target), *options, "-nNT", "-L", f"127.0.0.1:{port}:127.0.0.1:7000", "root@127.0.0.1")
        return Driver(name=name, port=port, pid=self._spawn("ssh", *words))

    def gvproxy(self) -> Driver:
        port, api, net = choose(set()), self._bench.root / "gvproxy.api", self._bench.root / "gvproxy.net"
        words = ("-listen", f"unix://{api}", "-listen-qemu", f"unix://{net}", "-ssh-port", str(choose(set())))
        pid = self._spawn(TOOLS / "usr" / "bin" / "gvproxy", *words)
        self._plug_stream("gvproxy", net, GUEST, GATEWAY, 1500)
        forward = json.dumps({"local": f"127.0.0.1:{port}", "remote": f"{GUEST}:7000"})
        url = "http://gvproxy/services/forwarder/expose"
        self._bench.run(["curl", "--silent", "--fail", "--unix-socket", str(api), "--data", forward, url])
        return Driver(name="gvproxy", port=port, pid=pid)

    def passt(self) -> Driver:
        port, net, libraries = choose(set()), self._bench.root / "passt.net", TOOLS / "usr" / "lib" / "x86_64-linux-gnu"
        pid = self._spawn(
            libraries / "ld-linux-x86-64.so.2", "--library-path", libraries, TOOLS / "usr" / "bin" / "passt",
            "--foreground", "--ipv4-only", "--socket", net, *(["--runas", "0"] if os.getuid() == 0 else []),
            "--address", "10.9.0.2", "--netmask", "24", "--gateway", "10.9.0.1",
            "--tcp-ports", f"127.0.0.1/{port}:7000",
        )  # fmt: skip
        self._plug_stream("passt", net, "10.9.0.2", "10.9.0.1", 65520)
        return Driver(name="passt", port=port, pid=pid)

    def _plug_stream(self, name: str, path: Path, address: str, peer: str, mtu: int) -> None:
        Deadline.after(20, name).wait_until(path.exists)
        net = {"type": "stream", "server": False, "addr": {"type": "unix", "path": str(path)}}
        self._plug(name, address, peer, mtu, net)

    def another_slirp(self, name: str, net: str, number: int, mtu: int = 1500, **nic: object) -> Driver:
        """Add another user network, whose NIC has other properties than the machine's."""
        subnet = f"10.9.{number}"
        self._plug(net, f"{subnet}.15", f"{subnet}.2", mtu, {"type": "user", "net": f"{subnet}.0/24"}, **nic)
        return self.slirp(name, net=net, address=f"{subnet}.15")

    def _spawn(self, *argv: str | Path) -> int:
        """Start a program that ends with the benchmark."""
        with (self._bench.root / "drivers.log").open("a") as log:
            process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self._processes.callback(process.wait)
        self._processes.callback(process.kill)
        return process.pid

    def _plug(self, name: str, address: str, peer: str, mtu: int, net: dict[str, object], **nic: object) -> None:
        """Add a NIC in its own network namespace with a server; `net` and `nic` are QEMU's properties."""
        slot = next(slot for slot, mac in enumerate(self._macs) if mac)
        mac, self._macs[slot] = self._macs[slot], ""
        self.qmp("netdev_add", id=name, **net)
        self.qmp("device_add", driver="virtio-net-pci", netdev=name, mac=mac, bus=f"slot{slot}", romfile="", **nic)
        self.sh(
            f"set -e; until found=$(grep -l {mac} /sys/class/net/*/address); do sleep 0.2; done; udevadm settle;"
            f"dev=$(basename $(dirname $(grep -l {mac} /sys/class/net/*/address)));"
            f"ip netns add {name}; ip link set $dev netns {name}; ip -n {name} link set $dev name eth0 mtu {mtu} up;"
            f"ip -n {name} addr add {address}/24 dev eth0; ip -n {name} link set lo up;"
            f"systemd-run --quiet -p NetworkNamespacePath=/run/netns/{name} perl /run/server.pl;"
            # Tells the peer the NIC's MAC address.
            f"ip netns exec {name} ping -q -c 1 -W 2 {peer} >/dev/null || true"
        )
