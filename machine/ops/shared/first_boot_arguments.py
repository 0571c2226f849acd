"""Give a guest that has not booted yet the kernel arguments that a change of its folders calls for."""

from __future__ import annotations

from machine.errors import MachineError, reason_of
from machine.files import write_atomic
from machine.ignition.coreos import kernel_arguments
from machine.ignition.document import with_arguments
from machine.model.config import MachineConfig, Provisioning
from machine.model.record import MachineRecord
from machine.store.paths import MachinePaths


def update_first_boot(record: MachineRecord, changed: MachineConfig, paths: MachinePaths) -> None:
    """Change the kernel arguments in a machine's Ignition config to those that the `changed` config needs.

    What the user has changed in the file is kept. A guest that has booted reads the file no more.

    Raises:
        MachineError: the file cannot be read or written, or is damaged.
    """
    theirs = record.config.first_boot.ignition
    is_read = not record.guest.provisioned and record.config.provisioning is Provisioning.IGNITION
    before, after = kernel_arguments(record.config), kernel_arguments(changed)
    if before == after or not is_read or (theirs and theirs.replaces):
        return
    try:
        text = with_arguments(paths.ignition.read_text(encoding="utf-8"), before, after)
    except OSError as error:
        raise MachineError(f"cannot read {paths.ignition}: {reason_of(error)}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise MachineError(
            f"{paths.ignition} is not an Ignition config",
            hint="correct it, because the guest reads it at its first boot",
        ) from error
    write_atomic(paths.ignition, text)
