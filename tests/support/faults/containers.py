"""Faults that a hostile container brings about by the port API, which every container can reach."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager

from machine.model.ports import DEFAULT_MAX_PUBLISHED_PORTS
from tests.support.faults.fault import Fault
from tests.support.faults.rig import NAME, Rig
from tests.support.guest_network import reachable

_API = "http://gateway.containers.internal/services/forwarder"
_TAKEN_BACK_S = 60.0
_FIRST = 20000
_MANY = 1500
_KEPT = 2  # that are the container's of the rig


@contextmanager
def port_asked_for(rig: Rig) -> Iterator[None]:
    """Have a container ask for the guest's SSH port on all addresses of the host."""
    _from_container(rig, "expose", {"local": f"0.0.0.0:{rig.free_port}", "remote": ":22", "protocol": "tcp"})
    yield


def port_is_taken_back(rig: Rig) -> Iterator[str]:
    until = time.monotonic() + _TAKEN_BACK_S
    while reachable("127.0.0.1", rig.free_port):
        if time.monotonic() > until:
            yield f"port {rig.free_port} is open, although Podman does not publish it"
            return
        time.sleep(0.5)


@contextmanager
def port_of_another_taken(rig: Rig) -> Iterator[None]:
    """Have a container close the port of another one."""
    _from_container(rig, "unexpose", {"local": f"127.0.0.1:{rig.port}", "protocol": "tcp"})
    yield


@contextmanager
def many_ports_asked_for(rig: Rig) -> Iterator[None]:
    """Ask for more ports than all containers together may have; from the guest, whose curl is quick."""
    rig.core(
        f"for port in $(seq {_FIRST} {_FIRST + _MANY - 1}); do "
        f'echo url = {_API}/expose; echo "data = {{\\"local\\":\\"127.0.0.1:$port\\",\\"remote\\":\\":22\\"}}"; '
        "echo output = /dev/null; echo next; done >many; "
        "curl --silent --parallel --parallel-max 20 --config many || true; rm many"
    )
    yield


def ports_are_few(rig: Rig) -> Iterator[str]:
    until = time.monotonic() + _TAKEN_BACK_S
    while (count := sum(port["origin"] == "published" for port in rig.ports())) > _KEPT:
        if count > DEFAULT_MAX_PUBLISHED_PORTS:
            yield f"{count} ports were opened"
        if time.monotonic() > until:
            yield f"{count} ports are open"
            return
        time.sleep(0.5)


def _from_container(rig: Rig, verb: str, fields: dict[str, str]) -> None:
    script = f"wget -q -O - --post-data '{json.dumps(fields)}' {_API}/{verb}"
    rig.world.remote(NAME, "run", "--rm", "busybox", "sh", "-c", script)


CONTAINERS = (
    Fault(name="container asks for a port", provoke=port_asked_for, check=port_is_taken_back),
    Fault(name="container takes the port of another", provoke=port_of_another_taken),
    Fault(name="guest asks for 1,500 ports", provoke=many_ports_asked_for, check=ports_are_few, is_long=True),
)
