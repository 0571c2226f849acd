from __future__ import annotations

import copy
import dataclasses
import pickle

import pytest

from machine.model.dataclass import dataclass


@dataclass(frozen=True, kw_only=True)
class Place:
    name: str
    tags: list[str] = dataclasses.field(default_factory=list)
    secret: str = dataclasses.field(default="hidden", repr=False, compare=False)


@dataclass(frozen=True, kw_only=True)
class Point:
    x: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Standard:
    name: str
    tags: list[str] = dataclasses.field(default_factory=list)
    secret: str = dataclasses.field(default="hidden", repr=False, compare=False)


def test_values_are_made_compared_and_shown_as_those_of_the_standard_library() -> None:
    ours, theirs = Place(name="box"), Standard(name="box")
    assert dataclasses.asdict(ours) == dataclasses.asdict(theirs)
    assert repr(ours) == repr(theirs).replace("Standard", "Place")
    assert Place(name="box").tags is not ours.tags
    other = dataclasses.replace(ours, secret="seen")
    assert (other, other.secret, dataclasses.replace(ours, name="crate") == ours) == (ours, "seen", False)
    assert ours.__eq__(theirs) is NotImplemented
    assert len({Point(x=1), Point(x=1), Point(x=2)}) == 2
    assert copy.deepcopy(ours) == ours == pickle.loads(pickle.dumps(ours))


def test_wrong_keywords_and_changes_are_errors() -> None:
    with pytest.raises(TypeError, match="Place needs the keyword name"):
        Place()  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="Place has no size, place"):
        Place(name="box", size=1, place=2)  # type: ignore[call-arg]
    place = Place(name="box")
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot change name of Place"):
        place.name = "crate"  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        del place.name
