"""The script that has a guest ask this host for names, in a network of its own with the real nft and libslirp."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence

import pytest

from machine.ignition import assets
from machine.model import network
from machine.resolver.server import ResolverServer

# Answers over UDP and TCP at a port of GUEST what is asked of port 53 of DNS. Prints what each is answered.
CLIENT = """
import contextlib, socket, subprocess, sys, threading
script, dns, guest = sys.argv[1:]

def serve(kind, port):
    server = socket.socket(socket.AF_INET, kind)
    server.bind((guest, port))
    if kind == socket.SOCK_STREAM:
        server.listen()
        answering = lambda: server.accept()[0].sendall(b"%d" % port)
    else:
        answering = lambda: server.sendto(b"%d" % port, server.recvfrom(9)[1])
    def run():
        while True:
            answering()
    threading.Thread(target=run, daemon=True).start()

def ask(kind):
    with socket.socket(socket.AF_INET, kind) as client, contextlib.suppress(OSError):
        client.settimeout(1)
        client.connect((dns, 53))
        client.send(b"q")
        return client.recv(9).decode()
    return "nobody"

kinds = (socket.SOCK_DGRAM, socket.SOCK_STREAM)
for port in (5301, 5302):
    for kind in kinds:
        serve(kind, port)
for words in (["5301"], ["5302"], []):
    subprocess.run(["sh", "-s", dns, guest, *words], input=script.encode(), check=True)
    print(*(ask(kind) for kind in kinds))
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root has a network of its own")
def test_questions_go_to_the_port_that_the_guest_was_told_last() -> None:
    prepare = f'ip link set lo up && ip address add {network.GUEST}/24 dev lo && exec "$@"'
    done = subprocess.run(
        ["unshare", "--net", "sh", "-c", prepare, "sh", sys.executable, "-c", CLIENT,
         assets.load("files/host-names.sh"), network.DNS, network.GUEST],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("5301 5301\n5302 5302\nnobody nobody\n", "")


# What libslirp, which is QEMU's network too, has in slirp4netns: its own server for names, and this host's loopback.
SLIRP_NET, SLIRP_DNS, SLIRP_HOST = "192.168.127.0/24", "192.168.127.3", "192.168.127.2"
ASK = """
import dns.message, dns.query, sys
question = dns.message.make_query("only.host.example", "A")
for ask in (dns.query.udp, dns.query.tcp):
    print(ask(question, sys.argv[1], timeout=20).answer[0][0])
"""


@contextlib.contextmanager
def network_of_its_own() -> Iterator[list[str]]:
    """Yield the beginning of a command that runs in a network with libslirp between it and this host."""
    reading, writing = os.pipe()
    with subprocess.Popen(["unshare", "--net", "sh", "-c", "echo; exec sleep 600"], stdout=subprocess.PIPE) as inside:
        assert inside.stdout is not None
        inside.stdout.readline()
        words = ["--configure", f"--cidr={SLIRP_NET}", f"--ready-fd={writing}", str(inside.pid), "tap0"]
        with subprocess.Popen(["slirp4netns", *words], pass_fds=[writing], stderr=subprocess.DEVNULL) as network:
            os.close(writing)
            with os.fdopen(reading) as ready:
                assert ready.read(1) == "1"
            yield ["nsenter", f"--net=/proc/{inside.pid}/ns/net"]
            network.kill()
        inside.kill()


@pytest.mark.skipif(os.getuid() != 0, reason="only root has a network of its own")
def test_guest_behind_qemus_network_learns_what_the_host_knows() -> None:
    async def look_up(name: str) -> Sequence[str]:
        return ["192.0.2.7"] if name == "only.host.example" else []

    async def talk() -> bytes:
        server = ResolverServer(look_up)
        port = await server.open()
        try:
            with network_of_its_own() as enter:
                words = [*enter, "sh", "-s", SLIRP_DNS, SLIRP_HOST, str(port)]
                subprocess.run(words, input=assets.load("files/host-names.sh"), text=True, check=True)
                asking = await asyncio.create_subprocess_exec(
                    *enter, sys.executable, "-c", ASK, SLIRP_DNS, stdout=subprocess.PIPE
                )
                answers, _ = await asking.communicate()
                return answers
        finally:
            server.close()

    assert asyncio.run(talk()) == b"192.0.2.7\n192.0.2.7\n"
