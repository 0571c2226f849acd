"""What has arrived of a file, in its folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from machine.image.runs import Runs, Version


def opened(folder: Path) -> Runs:
    runs = Runs(folder)
    runs.open()
    return runs


@pytest.mark.parametrize(
    ("version", "condition"),
    [
        (Version(etag='"1"', modified="Sun"), '"1"'),
        (Version(etag='W/"1"', modified="Sun"), "Sun"),
        (Version(etag='W/"1"'), None),
        (Version(size=3), None),
    ],
)
def test_only_a_strong_validator_may_join_two_halves(version: Version, condition: str | None) -> None:
    assert version.condition == condition


def test_what_has_arrived_is_there_after_any_end(tmp_path: Path) -> None:
    runs = opened(tmp_path)
    runs.record_version(Version(etag='"1"', size=10))
    run = runs.claim(None)
    assert run is not None
    runs.append(run, b"abcd")
    again = opened(tmp_path)  # without a close, as after a kill
    assert (again.version, again.size, again.received) == (Version(etag='"1"', size=10), 10, 4)
    assert again.read_at(1, 100) == b"bcd"
    assert again.read_at(4, 1) == b""


def test_source_that_an_older_version_wrote_is_understood(tmp_path: Path) -> None:
    (tmp_path / "source.json").write_text(json.dumps({"etag": '"1"', "modified": "", "size": 10}))
    assert opened(tmp_path).version == Version(etag='"1"', size=10)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"nosuch": 1}'])
def test_folder_without_a_usable_source_is_wiped(tmp_path: Path, text: str) -> None:
    (tmp_path / "source.json").write_text(text)
    (tmp_path / f"{0:016}.part").write_bytes(b"x")
    assert opened(tmp_path).received == 0
    assert not list(tmp_path.iterdir())


def test_gaps_are_claimed_in_their_order_and_by_one_worker_each(tmp_path: Path) -> None:
    (tmp_path / "source.json").write_text(json.dumps({"size": 30}))
    (tmp_path / f"{10:016}.part").write_bytes(b"0123456789")
    runs = opened(tmp_path)
    first, second, third = runs.claim(6), runs.claim(6), runs.claim(6)
    assert [(run.start, run.end, run.limit) for run in (first, second, third) if run] == [
        (0, 0, 6), (6, 6, 10), (10, 20, 26),
    ]  # fmt: skip
    assert first is not None
    runs.append(first, b"abcdefgh")
    assert (first.end, runs.read_at(0, 10)) == (6, b"abcdef")
    runs.release(first)
    assert runs.busy == [second, third]


def test_folder_into_which_nothing_came_goes(tmp_path: Path) -> None:
    folder = tmp_path / "d"
    runs = opened(folder)
    assert runs.claim(None)
    runs.close()
    assert not folder.exists()
