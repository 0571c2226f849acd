"""The user's own forwards, as a machine's configuration has them."""

from __future__ import annotations

import pytest

from machine.errors import BadInputError
from machine.model.ports import parse_forward
from tests.support.builders import make_config


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ("1:2", "1:2", "box already forwards 127.0.0.1:1/tcp"),
        ("1:2", "1:3", "box already forwards 127.0.0.1:1/tcp"),
        ("/a.sock:1", "/a.sock:2", "box already forwards /a.sock"),
        ("*:1:2", "0.0.0.0:1:2", "box already forwards *:1/tcp, which overlaps with 0.0.0.0:1/tcp"),
        ("[::]:1:2", "*:1:2", "box already forwards [::]:1/tcp, which overlaps with *:1/tcp"),
    ],
)
def test_forward_needs_a_place_of_its_own(first: str, second: str, message: str) -> None:
    config = make_config(name="box").with_forward(parse_forward(first))
    with pytest.raises(BadInputError) as caught:
        config.with_forward(parse_forward(second))
    assert (caught.value.message, caught.value.hint) == (message, "see: machine port ls box")


def test_forwards_are_added_and_removed() -> None:
    texts = ("1:2", "127.0.0.2:1:2", "1:2/udp", "[::1]:1:2", "*:2:2", "/a.sock:1")
    config = make_config()
    for forward in map(parse_forward, texts):
        config = config.with_forward(forward)
    assert config.forwards == tuple(map(parse_forward, texts))
    endpoint = parse_forward("1:2/udp").endpoint
    assert endpoint not in [forward.endpoint for forward in config.without_forward(endpoint).forwards]
    assert len(config.without_forward(endpoint).forwards) == len(texts) - 1
