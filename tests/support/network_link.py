"""A network between this computer and a host of its own network on it, which can lose all packets. It needs root."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address

from tests.support.processes import descendants
from tests.support.remote_host import RemoteHost
from tests.support.waiting import WAIT_S, wait_until

_NOBODY = "02:00:00:00:00:01"
"""A hardware address that neither end has. Both drop what is sent to it, and say nothing."""


@dataclass(frozen=True, kw_only=True)
class Link:
    """The two ends of a network. `near` and `far` are their addresses, `device` is the near one's interface."""

    host: RemoteHost
    device: str
    near: str
    far: str

    def lose_packets(self) -> None:
        """Lose everything that either end sends, from now on. The ends notice nothing but the silence."""
        self._neighbours("replace", "lladdr", _NOBODY, "nud", "permanent")

    def carry_packets(self) -> None:
        self._neighbours("delete")

    def _neighbours(self, verb: str, *words: str) -> None:
        subprocess.run(["ip", "neighbour", verb, self.far, *words, "dev", self.device], check=True)
        assert self.host.run("/usr/sbin/ip", "neighbour", verb, self.near, *words, "dev", "eth0") == 0


@contextlib.contextmanager
def linked(host: RemoteHost) -> Iterator[Link]:
    """Connect the host to this computer during the block. Its SSH server is then also at port 22 of `far`."""
    # RFC 2544 has set the network 198.18.0.0/15 aside for tests of devices.
    subnet = (198 << 24 | 18 << 16) + os.getpid() % 2**15 * 4
    near, far = (str(IPv4Address(subnet + end)) for end in (1, 2))
    link = Link(host=host, device=f"b2p-{os.getpid()}", near=near, far=far)
    peer = ("type", "veth", "peer", "name", "eth0", "netns", str(host.pid))
    subprocess.run(["ip", "link", "add", link.device, *peer], check=True)
    try:
        for words in (("address", "add", f"{near}/30", "dev", link.device), ("link", "set", link.device, "up")):
            subprocess.run(["ip", *words], check=True)
        for words in (("address", "add", f"{far}/30", "dev", "eth0"), ("link", "set", "eth0", "up")):
            assert host.run("/usr/sbin/ip", *words) == 0
        with _ssh_server(host, far):
            yield link
    finally:
        subprocess.run(["ip", "link", "delete", link.device], check=True)


@contextlib.contextmanager
def _ssh_server(host: RemoteHost, address: str) -> Iterator[None]:
    config = str(host.directory / "sshd_config")
    with (host.directory / "sshd.log").open("ab") as log:
        server = host.popen(
            ["/usr/sbin/sshd", "-D", "-e", "-f", config, "-p", "22", "-o", f"ListenAddress={address}"], stderr=log
        )
    try:
        wait_until(lambda: b"Server listening" in (host.directory / "sshd.log").read_bytes(), "the SSH server")
        yield
    finally:
        for pid in (*descendants(server.pid), server.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        server.wait(WAIT_S)
