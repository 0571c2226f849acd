"""Part of `machine doctor`: check the settings of new machines, and the machines that exist."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import assert_never

import psutil

from machine.errors import MachineError, Page, reason_of
from machine.image.intact import has_changed
from machine.image.layout import base_image
from machine.model.config import Resources
from machine.model.doctor_check import Check, failure, failure_from, ok, warning
from machine.model.host import Host, HostOS
from machine.model.names import check_username
from machine.model.settings import BUILT_IN, EffectiveSetting
from machine.model.state import MachineState, State, SupervisorState
from machine.model.units import MIB
from machine.ops.list import ListedMachine, Listing, list_machines
from machine.ops.shared import login_service
from machine.ops.shared.catalogue import find_source
from machine.ops.shared.context import Context
from machine.ops.shared.defaults import effective, naming_source_of
from machine.ops.shared.resources import check_resources
from machine.ops.shared.timezone import resolve_timezone
from machine.this_host import lingers


def chosen_settings(context: Context) -> tuple[dict[str, EffectiveSetting], list[Check]]:
    """Return the settings of new machines, and a check of the settings. If a setting is invalid, return no settings."""
    try:
        chosen = effective(context)
        with naming_source_of(chosen["username"]):
            check_username(str(chosen["username"].value))
        with naming_source_of(chosen["timezone"]):
            resolve_timezone(str(chosen["timezone"].value), context.environment)
        with naming_source_of(chosen["image"]):
            find_source(str(chosen["image"].value), context)
    except MachineError as error:
        return {}, [failure_from("settings", error, "correct the setting with: machine config edit")]
    return chosen, [settings_check(chosen)]


def new_machine_resources_checks(chosen: dict[str, EffectiveSetting], host: Host) -> list[Check]:
    """Check whether this host has enough CPUs and memory for a new machine."""
    try:
        resources = check_resources(chosen, host)
    except MachineError as error:
        return [failure_from("resources", error, "change the default with: machine config set")]
    return [resources_check(resources, host, _available_memory_mib(host))]


def _available_memory_mib(host: Host) -> int | None:
    """Return the memory in MiB that is available now. On macOS, which frees memory only on demand, return None."""
    return psutil.virtual_memory().available // MIB if host.os is HostOS.LINUX else None


def settings_check(chosen: Mapping[str, EffectiveSetting]) -> Check:
    """Report which files and variables the settings of new machines come from."""
    sources = sorted({setting.origin for setting in chosen.values()} - {BUILT_IN})
    return ok("settings", f"from {', '.join(sources)}" if sources else "the built-in defaults; no file changes them")


def resources_check(resources: Resources, host: Host, available_mib: int | None) -> Check:
    """Judge whether the host has the resources of a new machine.

    `available_mib` is the memory that the host has available now, or None if that is unknown.
    """
    finding = (
        f"a new machine has {resources.cpus} of {host.cpus} CPUs and {resources.memory_mib} of {host.memory_mib} MiB"
    )
    if available_mib is not None and available_mib < resources.memory_mib:
        return warning(
            "resources",
            f"{finding}, but only {available_mib} MiB are available now",
            "close other programs, or give new machines less: machine config set memory MIB",
        )
    return ok("resources", finding)


def listed_machines(context: Context) -> tuple[Listing, list[Check]]:
    """Return all machines, and no checks. If the machines' directory cannot be read, return a failed check instead."""
    try:
        return list_machines(context), []
    except OSError as error:
        problem = f"{error.filename} cannot be read: {reason_of(error)}"
        return Listing(machines=[], broken=[]), [failure("machines", problem, "make it readable for this user")]


def existing_machines_checks(listing: Listing, context: Context) -> list[Check]:
    """Check the machines that exist."""
    machines = [_machine(listed, context) for listed in listing.machines]
    return machine_checks(machines, {broken.name: broken.error for broken in listing.broken})


def _machine(listed: ListedMachine, context: Context) -> MachineFacts:
    image = listed.record.config.image
    base = base_image(context.roots.images, image.digest) if image.digest else None
    return MachineFacts(
        name=listed.record.name,
        state=listed.state,
        log=listed.paths.supervisor_log,
        has_disk=bool(listed.record.config.remote or listed.record.fresh_disk_base) or listed.paths.disk.exists(),
        base=base if base and not base.exists() else None,
        has_changed_base=base is not None and has_changed(base),
        refetch=image.pinned,
    )


@dataclass(frozen=True, kw_only=True)
class MachineFacts:
    """The facts that tell whether a machine can start."""

    name: str
    state: MachineState
    log: Path
    """The log of the machine's supervisor."""

    has_disk: bool
    base: Path | None
    """The base image of the machine's disk if that image is missing, else None."""

    has_changed_base: bool
    """Whether the base image has changed since it was fetched."""

    refetch: str
    """The reference with which the base image can be fetched again."""


def machine_checks(machines: Sequence[MachineFacts], broken: Mapping[str, MachineError]) -> list[Check]:
    """Return a check for each machine that has a problem. If no machine has a problem, return one check saying so."""
    found = [warning(f"machine {name}", error.message, error.hint) for name, error in broken.items()]
    found += [check for machine in machines if (check := _machine_check(machine))]
    if found:
        return found
    count = {0: "there are no machines yet", 1: "1 machine, without problems"}
    return [ok("machines", count.get(len(machines), f"{len(machines)} machines, without problems"))]


def _machine_check(machine: MachineFacts) -> Check | None:
    name, state = f"machine {machine.name}", machine.state
    if state.state is State.DEGRADED:
        return warning(name, f"it is degraded: {state.reason}", _degraded_remedy(machine))
    if state.state is State.PAUSED:
        remedy = _documented(state.remedy, Page.PAUSED)
        return warning(name, f"it is paused: {state.reason}" if state.reason else "it is paused", remedy)
    if machine.base is not None:
        return warning(name, f"its base image {machine.base} is missing", f"machine image pull {machine.refetch}")
    if machine.has_changed_base:
        remedy = f"machine image verify, and if it is damaged: machine image pull {machine.refetch}"
        return warning(name, "its base image has changed since it was fetched", remedy)
    if not machine.has_disk:
        remedy = f"restore the disk, or remove the machine: machine rm --force {machine.name}"
        return warning(name, "its disk is missing", remedy)
    return None


def _degraded_remedy(machine: MachineFacts) -> str:
    match machine.state.supervisor:
        case SupervisorState.SILENT:
            return f"machine stop {machine.name}"
        case SupervisorState.GONE:
            return f"machine start {machine.name}"
        case SupervisorState.WORKING:
            # The supervisor of an older version knows no remedies.
            return machine.state.remedy or f"{_documented(None, Page.RUNNING)}; the log is {machine.log}"
    assert_never(machine.state.supervisor)


def _documented(remedy: str | None, page: Page) -> str:
    """Return a remedy, if there is one, and the entry of the documentation that explains more."""
    return f"{remedy}; {page.reference}" if remedy else page.reference


def login_services_check(context: Context) -> Check:
    """Check the services that start machines at login."""
    try:
        services = login_service.installed(context)
    except OSError as error:
        problem = f"{error.filename} cannot be read: {reason_of(error)}"
        return warning("autostart", problem, "make it readable for this user")
    missing = {program for program in services.values() if program is None or not os.access(program, os.X_OK)}
    return autostart_check(services, missing, lingers=lingers(context.user))


def autostart_check(services: Mapping[str, str | None], missing: Collection[str | None], *, lingers: bool) -> Check:
    """Judge the services that start machines at login.

    `services` maps the name of each machine to the program that the machine's service runs, or to None if the service
    names no program. `missing` holds the programs that do not exist, and None if a service names no program.
    """
    if missing:
        name = min(name for name, program in services.items() if program in missing)
        fault = f"runs {services[name]}, which does not exist" if services[name] else "does not name a program"
        finding = f"{name} will not start when you log in, because its service {fault}"
        return warning("autostart", finding, f"machine autostart enable {name}")
    if not services:
        return ok("autostart", "no machine starts when you log in")
    when = "when the host boots" if lingers else "when you log in"
    return ok("autostart", f"{', '.join(sorted(services))} {'starts' if len(services) == 1 else 'start'} {when}")


def permissions_checks(listing: Listing, context: Context) -> list[Check]:
    """Tell which permissions of macOS the login services need. Whether they have them cannot be found out."""
    services = [
        listed.record for listed in listing.machines if login_service.service_file(listed.record.name, context).exists()
    ]
    texts = dict.fromkeys(text for record in services for text in login_service.permissions(record, context))
    return [ok("permissions", text) for text in texts]


def drafts_check(leftovers: Collection[Path]) -> Check:
    """Judge the directories of incomplete machines. Commands that were killed have left them behind."""
    if leftovers:
        names = ", ".join(path.name for path in leftovers)
        return warning("drafts", f"an interrupted init or rm left {names} behind", "the next machine init cleans up")
    return ok("drafts", "no incomplete machines")
