"""Write the files that a new guest reads at its first boot. They are in the machine's directory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

from machine.files import atomic_writer, write_atomic
from machine.ignition import cloud_init
from machine.ignition.document import find_overridden
from machine.ignition.fat import fat_image, fat_size
from machine.ignition.provision import Keys, ignition_text, provision
from machine.model.config import MachineConfig, Provisioning
from machine.report import Reporter
from machine.store.paths import MachinePaths


def write_provisioning(config: MachineConfig, keys: Keys, packages: Sequence[str], paths: MachinePaths) -> None:
    """Write the files that the guest reads at its first boot. cloud-init has to install `packages`.

    Raises:
        DiskError: the file for cloud-init cannot be written.
    """
    match config.provisioning:
        case Provisioning.IGNITION:
            write_atomic(paths.ignition, ignition_text(config, keys))
        case Provisioning.CLOUD_INIT:
            seed = cloud_init.render(provision(config, keys), config, packages)
            with atomic_writer(paths.seed) as stream:
                stream.write(fat_image(cloud_init.LABEL, seed.files()))
                stream.truncate(fat_size())
        case _:
            assert_never(config.provisioning)


def report_replaced_parts(config: MachineConfig, keys: Keys, paths: MachinePaths, report: Reporter) -> None:
    """Report which parts of the machine's own Ignition config are replaced by parts of the user's Ignition config."""
    user_config = config.first_boot.ignition
    if user_config is None:
        return
    if user_config.replaces:
        report.notice(
            f"The guest gets only {user_config.name}, so machine start succeeds only if root accepts the key "
            f"{paths.identity}.pub, the SSH server uses {paths.host_key}, and podman.socket is enabled for root and "
            f"for {config.username}. You can change {paths.ignition} until the first start."
        )
    elif parts := find_overridden(provision(config, keys), user_config.text):
        report.notice(f"{user_config.name} replaces parts of the machine's own config: {', '.join(parts)}")
