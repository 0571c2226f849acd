"""What the benchmark of our units reads of an Ignition config and of systemd."""

from __future__ import annotations

from scripts.bench_units import properties_of, row, units_of

SHOWN = """\
Id=one.service
InactiveExitTimestampMonotonic=2000000
ActiveEnterTimestampMonotonic=3500000
InactiveEnterTimestampMonotonic=0

Id=two.service
InactiveExitTimestampMonotonic=2000000
ActiveEnterTimestampMonotonic=0
InactiveEnterTimestampMonotonic=2500000

Id=three.service
InactiveExitTimestampMonotonic=0
ActiveEnterTimestampMonotonic=0
InactiveEnterTimestampMonotonic=0
"""


def test_only_units_that_are_switched_on_count() -> None:
    wants = ("system/multi-user.target.wants/b.service", "user/default.target.wants/c.service")
    config = {
        "systemd": {"units": [{"name": "a.service", "enabled": True}, {"name": "x.service", "enabled": False}]},
        "storage": {"links": [*({"path": f"/etc/systemd/{path}"} for path in wants), {"path": "/etc/localtime"}]},
    }
    assert units_of(config) == (["a.service", "b.service"], ["c.service"])


def test_unit_is_done_when_it_is_active_or_has_ended() -> None:
    rows = [row(unit).split() for unit in properties_of(SHOWN)]
    assert rows == [
        ["one.service", "2.0", "1.5", "3.5"],
        ["two.service", "2.0", "0.5", "2.5"],
        ["three.service", "this", "image", "needs", "none"],
    ]
