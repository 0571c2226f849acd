"""Benchmark of what our Ignition config adds to a guest's boot: how long each of its units takes to start.

    scripts/bench units

A machine of our own image is started twice. The times are systemd's. A unit holds up the boot for less than its own
time, because others start meanwhile.
"""

from __future__ import annotations

import json
import shlex
import tempfile
from pathlib import Path, PurePosixPath
from typing import Any

from scripts.bench import INIT, Bench

NAME = "units"
_TIMES = tuple(f"{event}TimestampMonotonic" for event in ("InactiveExit", "ActiveEnter", "InactiveEnter"))
_USERS_UNITS = PurePosixPath("/etc/systemd/user")


def units_of(config: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Return the names of the system's and of the user's units that an Ignition config switches on (pure)."""
    system = [unit["name"] for unit in config["systemd"]["units"] if unit.get("enabled")]
    user: list[str] = []
    for path in (PurePosixPath(link["path"]) for link in config["storage"]["links"]):
        if path.parent.suffix == ".wants":
            (user if path.is_relative_to(_USERS_UNITS) else system).append(path.name)
    return system, user


def properties_of(text: str) -> list[dict[str, str]]:
    """Return the properties of each unit in what `systemctl show` has written (pure)."""
    return [dict(line.split("=", 1) for line in block.splitlines()) for block in text.strip().split("\n\n")]


def main() -> None:
    root = Path(tempfile.mkdtemp(prefix="b2p-", dir="/tmp"))
    bench = Bench(root)
    try:
        bench.machine(*INIT, NAME)
        system, user = units_of(json.loads((bench.directory(NAME) / "config.ign").read_bytes()))
        for boot in ("first", "second"):
            bench.machine("start", "--quiet", NAME)
            print(f"{boot} boot, seconds after the kernel began: begins, takes, and ends")
            for manager, units in (("systemctl", [*system, "multi-user.target"]), ("systemctl --user", user)):
                for unit in shown(bench, manager, units):
                    print(row(unit), flush=True)
            bench.machine("stop", NAME)
    finally:
        bench.clear()


def shown(bench: Bench, manager: str, units: list[str]) -> list[dict[str, str]]:
    """Ask the guest for the times of its units, once all of them have started."""
    show = [*manager.split(), "show", "-p", ",".join(("Id", *_TIMES)), *units]
    return properties_of(
        bench.machine("ssh", NAME, f"{manager} is-system-running --wait >/dev/null; {shlex.join(show)}")
    )


def row(unit: dict[str, str]) -> str:
    """Describe the start of a unit in one line (pure). A unit that does not remain active is done when it ends."""
    begin, active, ended = (int(unit[name]) / 1e6 for name in _TIMES)
    if not begin:
        return f"  {unit['Id']:40} this image needs none"
    done = active or ended
    return f"  {unit['Id']:40} {begin:8.1f} {done - begin:8.1f} {done:8.1f}"


if __name__ == "__main__":
    main()
