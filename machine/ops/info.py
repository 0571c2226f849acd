"""`machine info`: describe QEMU, its accelerator and the directories on this host."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from machine import __version__
from machine.errors import BadInputError, MachineError
from machine.model.arch import Arch
from machine.model.host import AcceleratorChoice, Host
from machine.model.settings import (
    PATIENCE_VARIABLE,
    EffectiveSetting,
    patience_from_environment,
    settings_of,
    value_text,
)
from machine.model.state import State
from machine.ops.list import Listing, list_machines
from machine.ops.shared.context import Context
from machine.ops.shared.defaults import effective
from machine.ops.shared.machine_events import events_directory
from machine.qemu.accelerator import CONFIGURE_ACCELERATOR, check_qemu, choose_accelerator
from machine.qemu.probe import find_qemu, probe_hardware, probe_qemu


def info(context: Context) -> dict[str, Any]:
    """Return a document with Podman's fields under Podman's names, and with our own fields under `Machine`.

    Raises:
        BadInputError: a file or an environment variable has an invalid value.
    """
    roots = context.roots
    wrong = invalid_patience(context.environment)
    settings = effective(_without(PATIENCE_VARIABLE, context) if wrong else context)
    return {
        "Host": host_document(context, list_machines(context)),
        "Version": version_document(context.host),
        "Machine": {
            "Accelerator": _accelerator(settings_of(settings).accel, context.host),
            "QEMU": _qemu(context.host),
            "Directories": {
                "Cache": str(roots.cache),
                "Config": str(roots.config),
                "Data": str(roots.data),
                "Runtime": str(roots.runtime),
            },
            "ConfigFile": str(roots.settings),
            "Defaults": _defaults(settings) | ({"patience": wrong} if wrong else {}),
        },
    }


def host_document(context: Context, listing: Listing) -> dict[str, Any]:
    """Return the value of Podman's field `Host`.

    The field's `CurrentMachine` names a running machine, or else a starting machine, or else the default machine.
    """
    machines = listing.machines
    default = next((listed for listed in machines if listed.default), None)
    preferred = sorted(machines, key=lambda listed: not listed.default)
    up = next((listed for listed in preferred if listed.state.state.is_up), None)
    starting = next((listed for listed in preferred if listed.state.state is State.STARTING), None)
    current = up or starting or default
    state = "Running" if up else "Starting" if starting else "Stopped" if default else ""
    return {
        "Arch": go_arch(context.host),
        "CurrentMachine": current.record.name if current else "",
        "DefaultMachine": default.record.name if default else "",
        "EventsDir": str(events_directory(context)),
        "MachineConfigDir": str(context.roots.machines),
        "MachineImageDir": str(context.roots.images),
        "MachineState": state,
        "NumberOfMachines": len(machines) + len(listing.broken),
        "OS": context.host.os,
        "VMType": "qemu",
    }


def version_document(host: Host) -> dict[str, Any]:
    """Return the value of Podman's field `Version`. The fields about Go are empty."""
    return {
        "APIVersion": __version__,
        "Version": __version__,
        "GoVersion": "",
        "GitCommit": "",
        "BuiltTime": "",
        "Built": 0,
        "OsArch": f"{host.os}/{go_arch(host)}",
        "Os": host.os,
    }


def go_arch(host: Host) -> str:
    """Return Go's name for the host's architecture."""
    try:
        return Arch.parse(host.machine).go
    except ValueError:
        return host.machine


def _defaults(settings: Mapping[str, EffectiveSetting]) -> dict[str, dict[str, str]]:
    """Return the default of each setting of new machines, and where the default comes from."""
    return {
        key: {"Value": value_text(setting.value, separator=" "), "Origin": setting.origin}
        for key, setting in settings.items()
    }


def invalid_patience(environment: Mapping[str, str]) -> dict[str, str] | None:
    """Return what is shown in place of a patience that no command with a deadline takes. None if it is valid."""
    try:
        patience_from_environment(environment)
    except BadInputError as error:
        return {"Value": environment[PATIENCE_VARIABLE], "Origin": f"environment, invalid: {error.message}"}
    return None


def _without(variable: str, context: Context) -> Context:
    return replace(context, environment={key: text for key, text in context.environment.items() if key != variable})


def _accelerator(choice: AcceleratorChoice, host: Host) -> dict[str, str]:
    """Return the accelerator of new machines of the host's architecture, and the notice that a start would print."""
    try:
        qemu = probe_qemu(find_qemu(_own_arch(host), host))
        support = probe_hardware(host, qemu)
        chosen = choose_accelerator(choice, _own_arch(host), host, support, qemu, otherwise=CONFIGURE_ACCELERATOR)
    except MachineError as error:
        return {"Name": "", "Notice": error.line}
    return {"Name": chosen.accelerator, "Notice": chosen.notice or ""}


def _qemu(host: Host) -> dict[str, str]:
    """Return the path and version of the QEMU for the host's architecture, and a notice if this QEMU cannot be used.

    If there is no such QEMU, the path and the version are empty.
    """
    try:
        qemu = probe_qemu(find_qemu(_own_arch(host), host))
    except MachineError as error:
        return {"Path": "", "Version": "", "Notice": error.line}
    document = {"Path": qemu.path, "Version": qemu.dotted}
    try:
        check_qemu(qemu, _own_arch(host), host)
    except MachineError as error:
        return {**document, "Notice": error.line}
    return {**document, "Notice": ""}


def _own_arch(host: Host) -> Arch:
    try:
        return Arch.parse(host.machine)
    except ValueError as error:
        raise MachineError(f"this host's architecture, {host.machine}, is not supported for guests") from error
