"""Which ports of the host containers may have at all."""

from __future__ import annotations

import pytest

from machine.model.ports import Forward, Origin, Protocol, parse_endpoint, parse_forward
from machine.ports.limits import DEFAULT_LIMITS, PublishLimits, refusal

LAN = PublishLimits(allow_wildcard=False)
ROOT = PublishLimits(allow_privileged=False)


def forward(local: str) -> Forward:
    return Forward(endpoint=parse_endpoint(local, Protocol.TCP), guest=80, origin=Origin.PUBLISHED)


@pytest.mark.parametrize(
    ("local", "limits"),
    [
        (":80", DEFAULT_LIMITS),
        ("0.0.0.0:8080", ROOT),
        ("127.0.0.1:1024", ROOT),
        ("127.0.0.1:80", LAN),
        ("[::1]:80", LAN),
        ("192.0.2.1:8080", LAN),
    ],
)
def test_what_containers_may_have(local: str, limits: PublishLimits) -> None:
    assert refusal(forward(local), limits, published=1023) is None


@pytest.mark.parametrize("local", [":8080", "0.0.0.0:8080", "[::]:8080", "[::ffff:0.0.0.0]:8080"])
def test_every_address_is_refused_where_the_setting_says_so(local: str) -> None:
    assert str(refusal(forward(local), LAN, published=0)).endswith(
        ":8080/tcp: containers may not publish on every address of this host; name an address, as in 127.0.0.1:8080, "
        "or allow it for later starts with: machine config set allow_wildcard true"
    )


def test_privileged_port_of_root_is_refused_without_the_setting() -> None:
    assert refusal(forward("127.0.0.1:80"), ROOT, published=0) == (
        "cannot publish 127.0.0.1:80/tcp: the machine runs as root, so containers may not publish ports below 1024; "
        "choose 1024 or higher, or allow it for later starts with: machine config set allow_privileged_ports true"
    )


@pytest.mark.parametrize(("limit", "published", "more"), [(1024, 1024, 2048), (0, 0, 2048), (3000, 3000, 6000)])
def test_number_of_ports_has_an_end(limit: int, published: int, more: int) -> None:
    assert refusal(forward("127.0.0.1:8080"), PublishLimits(max_ports=limit), published=published) == (
        f"cannot publish 127.0.0.1:8080/tcp: the containers of this machine already publish {published} ports; stop "
        f"some, or allow more for later starts with: machine config set max_published_ports {more}"
    )


def test_sockets_are_never_containers() -> None:
    assert refusal(parse_forward("/run/a.sock:80"), PublishLimits(max_ports=0), published=0) is None
