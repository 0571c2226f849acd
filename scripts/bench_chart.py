"""Charts of benchmarks: what `scripts/bench … --toml` writes to docs/benchmarks.toml, which docs_pictures.py draws."""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import tomlkit

from machine import runner

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A bar chart: a group of bars for each name in `groups`, with a bar for each series. `name` is its picture's."""

    name: str
    title: str
    groups: Sequence[str]
    series: Mapping[str, Sequence[float]]


def toml_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--toml", type=Path, metavar="FILE", help="write the figures to FILE, as docs/benchmarks.toml")


def write_chart(chart: Chart, path: Path | None) -> None:
    """Replace the table of the chart in a TOML file, with what it was measured on. Do nothing if `path` is None."""
    if path is not None:
        path.write_text(with_chart(path.read_text() if path.exists() else "", chart, _conditions()))


def with_chart(text: str, chart: Chart, measured: str) -> str:
    """Return the text of a TOML file with the chart's table in it, in place of an earlier one (pure)."""
    document = tomlkit.parse(text)
    table = tomlkit.table()
    table.update({"title": chart.title, "measured": measured, "groups": list(chart.groups)})
    table.update({name: [float(f"{value:.2g}") for value in values] for name, values in chart.series.items()})
    table.add(tomlkit.nl())
    document[chart.name] = table
    return tomlkit.dumps(document).rstrip("\n") + "\n"


def _conditions() -> str:
    """Describe this run: the date, the revision, the host, and how busy the host has been for 15 minutes."""
    revision = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--exclude=*"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()
    qemu = runner.run([f"qemu-system-{platform.machine()}", "--version"], timeout_s=30).stdout.split()[3]
    load = f"a load of {os.getloadavg()[2]:.0f}"
    host = f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs with {load}, QEMU {qemu}"
    return f"{datetime.now(UTC):%Y-%m-%d}, revision {revision}, {host}"
