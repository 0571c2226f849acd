"""The process that waits for clients, as commands see it."""

from __future__ import annotations

from pathlib import Path

import pytest

from machine.errors import DeadlineError
from machine.ops.shared import waiting
from tests.support.builders import make_context


@pytest.mark.parametrize(("environment", "limit_s"), [({}, 0), ({"MACHINE_PATIENCE": "5"}, 1)])
def test_machine_whose_clients_nobody_waits_for_is_asleep_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], limit_s: int
) -> None:
    monkeypatch.setattr(waiting, "_LISTENS_S", 0.2)
    with pytest.raises(DeadlineError) as caught:
        waiting.await_waiting("box", make_context(tmp_path, **environment))
    assert caught.value.line == (
        f'"box" is asleep, but the process that waits for its clients has not answered for {limit_s} s; '
        "wake the machine with: machine start box"
    )
