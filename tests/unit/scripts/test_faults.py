"""Trials of faults on a machine that is made up, and the report about them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support.faults.fault import Ask, Cure, Fault, Shown, Verdict
from tests.support.faults.rig import Rig, Watched
from tests.support.faults.table import FAULTS, report
from tests.support.faults.trial import attempt
from tests.support.golden import Golden
from tests.support.world import Outcome, World

HEALTHY = ("running", "")
BROKEN = ("degraded", "its supervisor has ended")


@dataclass(kw_only=True)
class FakeRig(Rig):
    """A machine that is `broken` from a fault until its cure, and loses `lost` meanwhile."""

    broken: tuple[str, str] = HEALTHY
    lost: tuple[str, ...] = ()
    silent_s: float = 0.0
    lines: list[tuple[str, ...]] = field(default_factory=list)

    def restore(self) -> None: ...

    def note(self) -> None: ...

    def losses(self, **_: bool) -> list[str]:
        return list(self.lost)

    def state(self) -> tuple[str, str]:
        return self.broken

    def works(self, *_: str, **__: str) -> bool:
        return self.broken == HEALTHY

    def watch(self, words: Sequence[str], **_: object) -> Watched:
        self.lines.append(tuple(words))
        if words[0] == "start":
            self.broken = HEALTHY
            return Watched(
                outcome=Outcome(status=0, stdout="taken over\n", stderr=""), took_s=1, silent_s=self.silent_s
            )
        outcome = Outcome(status=125, stdout="", stderr="Error: it does not answer\n")
        return Watched(outcome=outcome, took_s=self.silent_s, silent_s=self.silent_s)


@pytest.fixture
def rig() -> FakeRig:
    return FakeRig(world=World(root=Path("/nosuch")), port=1, free_port=2)


@contextmanager
def broken(rig: Rig) -> Iterator[None]:
    assert isinstance(rig, FakeRig)
    rig.broken = BROKEN
    yield


def a_fault(**changes: object) -> Fault:
    fields = {
        "name": "supervisor killed",
        "provoke": broken,
        "shown": Shown(state="degraded", reason="supervisor has ended", within_s=0),
        "asks": (Ask(words=("ssh", "box"), says="does not answer"),),
        "cure": Cure(lines=(("start", "box"),), says="taken over"),
        "back_within_s": 0.0,
    }
    return Fault(**{**fields, **changes})  # type: ignore[arg-type]


def test_fault_holds_when_it_is_shown_and_cured_and_nothing_is_lost(rig: FakeRig) -> None:
    verdict = attempt(a_fault(), rig)
    assert verdict.holds
    assert (verdict.shown, verdict.cure) == ("degraded: its supervisor has ended", "machine start box")
    assert rig.lines == [("ssh", "box"), ("start", "box")]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"shown": Shown(state="paused", within_s=0)}, 'shown after 0 s: "degraded: its supervisor has ended"'),
        ({"shown": Shown(state="degraded", within_s=0)}, 'shown after 0 s: "degraded: its supervisor has ended"'),
        (
            {"asks": (Ask(words=("ssh", "box"), says="is paused"),)},
            "machine ssh box: ended with 125 and said: Error: it does not answer",
        ),
        ({"cure": Cure(lines=(("start", "box"),), says="magic")}, '"magic" is not in: taken over'),
        ({"cure": Cure()}, "not back after 0 s: degraded: its supervisor has ended"),
    ],
)
def test_fault_does_not_hold_when_anything_is_otherwise(rig: FakeRig, changes: dict[str, object], problem: str) -> None:
    assert attempt(a_fault(**changes), rig).problems == (problem,)


def test_silence_and_losses_are_found(rig: FakeRig) -> None:
    rig.silent_s, rig.lost = 20.0, ("a file",)
    verdict = attempt(a_fault(), rig)
    assert verdict.lost == ("a file",)
    assert verdict.problems == (
        "machine ssh box: took 20 s",
        "machine ssh box: silent for 20 s",
        "machine start box: silent for 20 s",
    )


def test_names_of_faults_are_distinct() -> None:
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)


def test_report_is_a_table_with_what_did_not_hold_below_it(golden: Golden) -> None:
    verdicts = [
        Verdict(name="QEMU killed", shown="stopped", shown_after_s=0.31, cure="machine start box", back_after_s=52.04),
        Verdict(
            name="power-loss", shown="", shown_after_s=None, cure="machine start box", back_after_s=None,
            lost=("a file",), problems=("not back after 600 s: stopped",),
        ),
    ]  # fmt: skip
    golden.matches("\n".join(report(verdicts)))
