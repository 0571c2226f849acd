"""Run scripts of ours in a running guest."""

from __future__ import annotations

from machine import runner
from machine.model.config import MachineConfig
from machine.ops.shared.context import Context
from machine.providers.login import login_of
from machine.ssh.command import ROOT, script_argv


def run_script(config: MachineConfig, script: str, context: Context, *, timeout_s: float) -> str:
    """Run a script as root in a running guest, and return its output. If the supervisor has an SSH master, it is used.

    Raises:
        MachineError: the guest does not answer, or the script fails or takes too long.
    """
    paths = context.roots.machine(config.name)
    argv = script_argv(login_of(config, paths, ROOT), (), control=paths.ssh_control)
    return runner.run(argv, timeout_s=timeout_s, stdin=script).stdout
