"""`machine clone`: copy a stopped machine. The copy has its own disk, keys and name.

The clone's disk is a copy of the source's disk. Both disks are overlays on the same base image. An overlay on the
source's disk would be quicker to make, but the clone would break as soon as the source is removed.
"""

from __future__ import annotations

import contextlib
import shlex
import shutil
import uuid
from dataclasses import replace
from datetime import UTC, datetime

from machine import lock
from machine.errors import BadInputError, MachineError
from machine.files import FILE_PRIVATE, disk_errors, write_atomic
from machine.ignition.provision import Keys, hostname, ignition_text
from machine.ignition.rekey import Rekey, credentials
from machine.image.layout import base_image
from machine.model.config import MachineConfig, Provisioning
from machine.model.names import check_machine_name
from machine.model.provider import Capability
from machine.model.record import MachineRecord
from machine.model.snapshot import Snapshot, as_of
from machine.model.state import State
from machine.ops.shared.capability import require
from machine.ops.shared.client_registration import ClientRegistration
from machine.ops.shared.context import Context
from machine.ops.shared.creation import fresh_mac, make_keys, publish
from machine.ops.shared.restoring import finish_interrupted, load_complete
from machine.qemu.boards import BOARDS
from machine.qemu.img import QemuImg
from machine.qemu.smbios import credentials_table
from machine.report import Reporter
from machine.store import drafts, records, snapshots
from machine.store.paths import MachinePaths, Roots, is_suspended

_LOCK_S = 1.0


def clone(source: str, name: str, context: Context, report: Reporter, *, snapshot: str | None = None) -> MachineConfig:
    """Clone the stopped machine `source` as it is, or as it was at the `snapshot`.

    If the clone cannot be completed, nothing is left of it.

    Raises:
        NotFoundError: there is no machine `source`, or it has no such snapshot.
        BadInputError: the new name is invalid or taken.
        MachineError: `source` is running or cannot be cloned, or the disk is full.
    """
    require(source, Capability.CLONE, context)
    finish_interrupted(source, context, report)
    check_machine_name(name)
    roots = context.roots
    origin = roots.machine(source)
    if roots.machine(name).directory.exists():
        raise BadInputError(f'machine "{name}" already exists')
    registration = ClientRegistration(context)
    registration.check_free(name)
    with lock.held(origin.lock, timeout_s=_LOCK_S) as free:
        if not free:
            raise MachineError(
                f'unable to clone "{source}": it is running', hint=f"stop it first: machine stop {source}"
            )
        original = records.load(roots, source)
        chosen = None if snapshot is None else load_complete(source, snapshot, origin)
        if chosen:
            original = as_of(chosen.record, original)
        check_clonable(original)
        record = _cloned(original, name)
        config = record.config
        with drafts.draft(roots, name) as paths:
            keys = make_keys(name, paths)
            write_atomic(paths.ignition, ignition_text(config, keys))
            report.step(f'Copying the disk of "{source}"')
            _copy_disk(record, chosen, origin, paths, roots)
            if record.pending.rekey:
                _write_rekey(config, keys, origin, paths)
            config = publish(record, paths, registration, context, report)
    if chosen and chosen.state is State.SUSPENDED:
        report.notice(f'"{name}" begins with the disk of "{snapshot}" alone, without its memory, as after a power cut')
    elif not chosen and is_suspended(origin):
        report.notice(f'"{source}" is suspended, and "{name}" begins with its disk alone, as after a power cut')
    if original.config.forwards or original.config.usbs:
        report.notice(f'The manually added ports and USB devices of "{source}" are not copied to "{name}"')
    return config


def _cloned(original: MachineRecord, name: str) -> MachineRecord:
    """Return the record of a clone called `name`, made from the record of the `original`."""
    config = replace(
        original.config,
        name=name,
        created=datetime.now(UTC),
        mac=fresh_mac(),
        # A port or a device of the host can belong to one machine only, so the original keeps its own.
        forwards=(),
        usbs=(),
        protected=False,
        # The clone is the user's own, and the file does not know it.
        machines_file=None,
        first_boot=replace(original.config.first_boot, hostname=None),
    )
    return replace(
        original,
        config=config,
        pending=replace(original.pending, rekey=original.guest.provisioned),
        guest=replace(original.guest, last_up=None),
    )


def check_clonable(original: MachineRecord) -> None:
    """Check that a clone of the machine can be given its own keys and name.

    Raises:
        MachineError: the machine has to be started once before it can be cloned. Or the guest has had its first boot,
            after which guests of its architecture cannot get new keys.
    """
    name, config, provisioned = original.name, original.config, original.guest.provisioned
    if not provisioned and config.provisioning is not Provisioning.IGNITION:
        raise MachineError(
            f'unable to clone "{name}": its guest has not been provisioned by {config.provisioning} yet',
            hint=f"start it once: machine start {name}",
        )
    if original.pending.rekey:
        raise MachineError(
            f'unable to clone "{name}": it is a clone that has never been started',
            hint=f"start it once: machine start {name}",
        )
    if provisioned and not BOARDS[config.arch].has_smbios:
        supported = ", ".join(arch for arch, board in BOARDS.items() if board.has_smbios)
        raise MachineError(
            f'unable to clone "{name}": guests of {config.arch} cannot be given new keys after their first boot',
            hint=f"only machines of {supported} can be cloned after their first boot",
        )


def _copy_disk(
    record: MachineRecord, snapshot: Snapshot | None, origin: MachinePaths, paths: MachinePaths, roots: Roots
) -> None:
    if snapshot:
        QemuImg().copy_snapshot(origin.disk, snapshot.tag, paths.disk, record.config.resources.disk_gib)
        origin = snapshots.folder(origin, snapshot.name)
    elif base := record.fresh_disk_base:
        # The disk has not been used yet, and the next start would create it again anyway.
        QemuImg().create_overlay(paths.disk, base_image(roots.images, base), record.config.resources.disk_gib)
    else:
        QemuImg().copy(origin.disk, paths.disk)
    if origin.efi_vars.exists():
        with disk_errors(paths.efi_vars):
            shutil.copyfile(origin.efi_vars, paths.efi_vars)
            paths.efi_vars.chmod(FILE_PRIVATE)


def _write_rekey(config: MachineConfig, keys: Keys, origin: MachinePaths, paths: MachinePaths) -> None:
    rekey = Rekey(hostname=hostname(config), machine_id=uuid.uuid4().hex, keys=keys, old_key=_public_key(origin))
    write_atomic(paths.rekey_table, credentials_table(credentials(rekey)))


def _public_key(origin: MachinePaths) -> str:
    """Return the key by which the guest of a clone lets in the users of the original, until the clone is rekeyed.

    Raises:
        MachineError: its file is missing or damaged.
    """
    path = origin.public_identity
    with contextlib.suppress(OSError, UnicodeDecodeError):
        text = path.read_text()
        if len(text.split()) > 1:
            return text
    remedy = shlex.join(["ssh-keygen", "-y", "-f", str(origin.identity)])
    raise MachineError(
        f"the public SSH key {path} is missing or damaged", hint=f"make it anew: {remedy} >{shlex.quote(str(path))}"
    )
