"""Check that a guest has the swap device in compressed memory that `machine init --swap` promised."""

from __future__ import annotations

import logging

from machine.errors import MachineError
from machine.model.config import MachineConfig
from machine.ops.shared.context import Context
from machine.ops.shared.guest_script import run_script
from machine.ops.shared.patience import start_patience
from machine.report import Reporter

log = logging.getLogger(__name__)

_SCRIPT_S = 60.0

GENERATOR = "/usr/lib/systemd/system-generators/zram-generator"
_SCRIPT = f"cat /proc/swaps; test ! -e {GENERATOR} || echo {GENERATOR}\n"


def check_swap_device(config: MachineConfig, context: Context, report: Reporter) -> None:
    """If the machine is to have swap, ask the guest for its swap devices, and report if the guest has none."""
    if not config.swap_mib:
        return
    try:
        output = run_script(config, _SCRIPT, context, timeout_s=_SCRIPT_S * start_patience(context))
    except MachineError as error:
        log.info("it is not known whether the guest has swap: %s", error.line)
        return
    if notice := swap_notice(config.name, output):
        report.notice(notice)


def swap_notice(name: str, output: str) -> str | None:
    """Return a notice if the guest has no swap device in compressed memory.

    `output` has the guest's /proc/swaps, and the path of the zram generator if the guest has one.
    """
    lines = output.splitlines()
    if any(line.startswith("/dev/zram") for line in lines):
        return None
    if GENERATOR in lines:
        return (
            f"The guest has no swap: its zram generator failed. To see why, use: machine ssh {name} systemctl status "
            "systemd-zram-setup@zram0"
        )
    return (
        "The guest has no swap: it lacks the zram generator that --swap needs. Install the package zram-generator "
        f"(Fedora) or systemd-zram-generator (Debian, Ubuntu) in it, then use: machine restart {name}"
    )
