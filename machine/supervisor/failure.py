"""Make the error of a failed start from the phase, the cause, and what the console or the guest says."""

from __future__ import annotations

from machine.errors import GuestError, Page
from machine.model.host import ACCEL_VARIABLE
from machine.model.record import MachineRecord
from machine.store.paths import MachinePaths
from machine.store.suspension import load_suspension
from machine.supervisor import evidence
from machine.supervisor.diagnosis import Diagnosis, podmans_words
from machine.supervisor.evidence import BootStage
from machine.supervisor.launch_resume import load_failure_hint
from machine.supervisor.phases import Phase
from machine.supervisor.vitals import Vitals

_PODMANS_LINES = 5


def start_error(
    record: MachineRecord, paths: MachinePaths, phase: Phase, cause: str, *, hypervisor: str | None = None
) -> GuestError:
    """Return the error of `machine start` for a guest that did not come up.

    `hypervisor` has the versions of QEMU and macOS if HVF accelerates the guest.
    """
    suspension = load_suspension(paths) if phase in (Phase.LAUNCH, Phase.RESUME) else None
    if phase is Phase.RESUME or suspension:  # a QEMU that lacks the machine type does not get as far as the memory
        return GuestError(
            f'unable to resume "{record.name}": {cause}',
            hint=load_failure_hint(record.name, suspension) if suspension else None,
            page=Page.RESUME,
        )
    tail = evidence.console_tail(paths.serial_log)
    console = ["the console's last lines:", *(f"  {line}" for line in tail)] if tail else []
    return GuestError(
        f'unable to start "{record.name}" in phase {phase}: {cause}',
        details=[*console, f"the whole console: {paths.serial_log}"],
        hint=_hvf_hint(record, paths, phase, hypervisor) or _hint(record, paths, phase),
        page=Page.STARTS,
    )


def damaged_base_error(record: MachineRecord, damage: str) -> GuestError:
    """Return the error of `machine start` for a guest that did not boot because its base image is damaged."""
    return GuestError(
        f'unable to start "{record.name}": {damage}',
        hint=f"fetch it again with: machine image pull {record.config.image.pinned}",
        page=Page.DAMAGED_IMAGE,
    )


def degraded_error(
    name: str, phase: Phase, cause: str, *, diagnosis: Diagnosis | None, vitals: Vitals | None
) -> GuestError:
    """Return the error of `machine start` for a guest that answers over SSH but whose start has failed."""
    remedy = diagnosis.remedy(name) if diagnosis else f"look for the cause with: machine ssh {name}"
    return GuestError(
        f'unable to start "{name}" in phase {phase}: {cause}',
        details=_guests_details(vitals) if vitals else (),
        hint=f"the guest keeps running, degraded; {remedy}",
        page=Page.RUNNING,
    )


def _guests_details(vitals: Vitals) -> list[str]:
    words = podmans_words(vitals.journal, count=_PODMANS_LINES)
    said = ["Podman's last lines in the guest:", *(f"  {line}" for line in words)] if words else []
    failed = [f"failed units in the guest: {', '.join(vitals.failed_units)}"] if vitals.failed_units else []
    return [*said, *failed]


def _hint(record: MachineRecord, paths: MachinePaths, phase: Phase) -> str | None:
    """Return a hint if the start may have failed through the image, the user's Ignition config or a clone's systemd."""
    if phase in (Phase.SSH, Phase.API) and not record.config.has_our_units and not record.guest.provisioned:
        return (
            f"{paths.ignition} is all that the guest gets, and it must let root log in with {paths.identity}.pub, give "
            f"the SSH server {paths.host_key} and enable podman.socket; the next start uses it as you have changed it"
        )
    if phase is Phase.SSH and record.pending.rekey:
        return "the guest of a clone can get new keys only if it has systemd 256 or later"
    is_first = phase is Phase.BOOT and not record.guest.provisioned
    if is_first and evidence.boot_stage(paths.serial_log) is BootStage.FIRMWARE:
        return f"the guest never reached its kernel; is this image for {record.config.arch}?"
    return None


def _hvf_hint(record: MachineRecord, paths: MachinePaths, phase: Phase, hypervisor: str | None) -> str | None:
    """Return a hint if the start may have failed through QEMU's HVF, with which guests of some versions stand still."""
    if hypervisor is None or phase not in (Phase.LAUNCH, Phase.BOOT):
        return None
    stage = evidence.boot_stage(paths.serial_log)
    if stage is BootStage.KERNEL:
        return None
    return (
        f"the guest came only as far as its {stage}; guests do so in some pairs of versions of QEMU and macOS, here "
        f"{hypervisor}: use another version of QEMU, or emulate the guest: {ACCEL_VARIABLE}=tcg machine start "
        f"{record.name}"
    )
