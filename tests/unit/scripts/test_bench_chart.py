"""How the figures of a benchmark get into the file of which the documentation's pictures are drawn."""

from __future__ import annotations

import tomllib

from scripts.bench_chart import Chart, with_chart

BEFORE = """\
# A comment.

[boot]
title = "old"
groups = ["first"]
before = [1]

[ports]
title = "kept"
"""


def test_chart_replaces_its_table_alone() -> None:
    chart = Chart(name="boot", title="new", groups=["first", "second"], series={"now": [0.5432, 12.34]})
    text = with_chart(BEFORE, chart, "today")
    assert text.startswith("# A comment.\n\n[boot]\n")
    assert tomllib.loads(text) == {
        "boot": {"title": "new", "measured": "today", "groups": ["first", "second"], "now": [0.54, 12.0]},
        "ports": {"title": "kept"},
    }


def test_chart_of_an_empty_file() -> None:
    chart = Chart(name="boot", title="new", groups=["first"], series={"now": [1]})
    assert tomllib.loads(with_chart("", chart, "today"))["boot"]["now"] == [1.0]
