"""What a supervisor tells `machine port ls`."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from machine.model.ports import Origin, PortState, PortStatus, parse_forward
from machine.ports.listing import Listed, decode, encode

OPEN = PortStatus(state=PortState.OPEN)
FAILED = PortStatus(state=PortState.FAILED, reason="the port is taken")


def test_answer_is_read_as_it_was_written() -> None:
    forwards = [
        (parse_forward("8080:80"), OPEN),
        (replace(parse_forward("*:53:53/udp"), origin=Origin.PUBLISHED), FAILED),
    ]
    answer = encode(forwards, OPEN)
    assert answer == {
        "forwards": [
            {"forward": "127.0.0.1:8080:80/tcp", "origin": "user", "state": "open", "reason": None},
            {"forward": "*:53:53/udp", "origin": "published", "state": "failed", "reason": "the port is taken"},
        ],
        "api": {"state": "open", "reason": None},
    }
    assert decode(json.loads(json.dumps(answer))) == Listed(forwards=forwards, api=OPEN)


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"forwards": [["127.0.0.1:1:1/tcp", "user", "open"]], "api": "open"},
        {"forwards": [], "api": "open"},
        {"forwards": [], "api": {"state": "new", "reason": None}},
    ],
)
def test_answer_of_another_version_is_refused(answer: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r".*"):
        decode(answer)
