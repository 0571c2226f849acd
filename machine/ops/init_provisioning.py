"""What a new guest reads at its first boot, written into the machine's directory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

from machine.files import atomic_writer, write_atomic
from machine.ignition import cloud_config
from machine.ignition.document import replaced
from machine.ignition.provision import Keys, ignition_text, provision
from machine.ignition.seed import fat_image, fat_size
from machine.model.config import MachineConfig, Provisioning
from machine.report import Reporter
from machine.store.paths import MachinePaths


def write_provisioning(config: MachineConfig, keys: Keys, packages: Sequence[str], paths: MachinePaths) -> None:
    """Write what the guest reads at its first boot; `packages` are those that cloud-init has to install.

    Raises:
        DiskError: it cannot be written.
    """
    match config.provisioning:
        case Provisioning.IGNITION:
            write_atomic(paths.ignition, ignition_text(config, keys))
        case Provisioning.CLOUD_INIT:
            seed = cloud_config.render(provision(config, keys), config, packages)
            with atomic_writer(paths.seed) as stream:
                stream.write(fat_image(cloud_config.LABEL, seed.files()))
                stream.truncate(fat_size())
        case _:
            assert_never(config.provisioning)


def report_replaced_parts(config: MachineConfig, keys: Keys, paths: MachinePaths, report: Reporter) -> None:
    """Tell what the user's own Ignition config replaces in the machine's."""
    theirs = config.first_boot.ignition
    if theirs is None:
        return
    if theirs.replaces:
        report.notice(
            f"The guest gets only {theirs.name}: machine start can reach it only if root accepts {paths.identity}"
            f".pub and its SSH server has {paths.host_key}. You can change {paths.ignition} until the first start."
        )
    elif lost := replaced(provision(config, keys), theirs.text):
        report.notice(f"{theirs.name} replaces parts of the machine's own config: {', '.join(lost)}")
