"""The script that has a guest ask this host for names, in a network of its own with the real nft."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from machine.ignition import assets
from machine.model import network

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
