"""The factor by which the deadlines of a start and a stop are longer than usual."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from machine.errors import BadInputError
from machine.ops.info import invalid_patience
from machine.ops.shared.context import Context
from machine.ops.shared.patience import kill_patience, start_patience, stop_patience
from machine.ops.shared.shutdown import stop_s
from tests.support.builders import make_host, make_roots

BOTH = pytest.mark.parametrize("find", [start_patience, stop_patience])


def make_context(directory: Path, settings: str, environment: dict[str, str]) -> Context:
    roots = make_roots(directory)
    roots.settings.parent.mkdir(parents=True)
    roots.settings.write_text(settings)
    return Context(host=make_host(), roots=roots, uid=1000, home=directory, environment=environment)


@BOTH
@pytest.mark.parametrize(
    ("settings", "environment", "patience"),
    [
        ("", {}, 1),
        ("patience = 3", {}, 3),
        ("patience = 3", {"MACHINE_PATIENCE": "7"}, 7),
        ("patience = 3", {"MACHINE_PATIENCE": ""}, 3),
        ("patience = 'damaged", {"MACHINE_PATIENCE": "7"}, 7),
    ],
)
def test_variable_prevails_over_the_setting(
    find: Callable[[Context], int], settings: str, environment: dict[str, str], patience: int, tmp_path: Path
) -> None:
    assert find(make_context(tmp_path, settings, environment)) == patience


def test_damaged_file_prevents_a_start_and_no_stop(tmp_path: Path) -> None:
    context = make_context(tmp_path, "patience = 0", {})
    with pytest.raises(BadInputError, match='"patience" must be a whole number from 1 to 100'):
        start_patience(context)
    assert stop_patience(context) == 1


@BOTH
def test_bad_variable_prevents_both(find: Callable[[Context], int], tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match='MACHINE_PATIENCE="0" is not'):
        find(make_context(tmp_path, "", {"MACHINE_PATIENCE": "0"}))


@pytest.mark.parametrize("word", ["-1", "0", "abc"])
def test_bad_variable_prevents_no_kill_and_is_shown(word: str, tmp_path: Path) -> None:
    context = make_context(tmp_path, "patience = 3", {"MACHINE_PATIENCE": word})
    assert kill_patience(context) == 1
    message = f'MACHINE_PATIENCE="{word}" is not a whole number from 1 to 100'
    assert invalid_patience(context.environment) == {"Value": word, "Origin": f"environment, invalid: {message}"}


def test_kill_is_as_patient_as_a_stop(tmp_path: Path) -> None:
    assert kill_patience(make_context(tmp_path, "patience = 3", {})) == 3
    assert invalid_patience({"MACHINE_PATIENCE": "3"}) is None


def test_whole_stop_takes_patience_times_as_long() -> None:
    assert [stop_s(patience) for patience in (1, 2, 10)] == [270, 540, 2700]
