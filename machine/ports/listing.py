"""Encode and decode the supervisor's answer to `machine port`, which lists all forwards with their status."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from machine.errors import reason_of
from machine.model.ports import Forward, PortState, PortStatus, forward_text, load_forward


@dataclass(frozen=True, kw_only=True)
class Listed:
    """All forwards with their status, and the status of the Podman API's sockets."""

    forwards: list[tuple[Forward, PortStatus]]
    api: PortStatus


def encode(forwards: Iterable[tuple[Forward, PortStatus]], api: PortStatus) -> dict[str, Any]:
    """Return the supervisor's answer to `machine port`, as values for JSON."""
    return {
        "forwards": [
            {"forward": forward_text(forward), "origin": forward.origin.value, **_encode_status(status)}
            for forward, status in forwards
        ],
        "api": _encode_status(api),
    }


def decode(answer: dict[str, Any]) -> Listed:
    """Read the supervisor's answer to `machine port`, as `encode` has returned it.

    Raises:
        ValueError: the answer is malformed.
    """
    try:
        return Listed(
            forwards=[
                (load_forward(entry["forward"], entry["origin"]), _decode_status(entry)) for entry in answer["forwards"]
            ],
            api=_decode_status(answer["api"]),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a list of ports: {reason_of(error)}") from error


def _encode_status(status: PortStatus) -> dict[str, Any]:
    return {"state": status.state.value, "reason": status.reason}


def _decode_status(document: dict[str, Any]) -> PortStatus:
    reason = document["reason"]
    return PortStatus(state=PortState(document["state"]), reason=None if reason is None else str(reason))
