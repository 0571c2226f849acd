"""Describe a service that runs while a user is logged in, for systemd and launchd (pure)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePath

from machine.errors import BadInputError
from machine.model.host import ACCEL_VARIABLE
from machine.model.proxies import NAMES
from machine.model.settings import PATIENCE_VARIABLE

_UNRUNNABLE = frozenset("\"'\\")
# Control characters, and the surrogates of bytes that are not UTF-8. Units and property lists may contain neither.
_NO_TEXT = re.compile(r"[\0-\x08\x0b-\x1f\x7f\ud800-\udfff]")

# Variables that a service needs, because they name directories, change how a machine starts, or are passed on to the
# guest, which would lose its proxies if the service had none.
_PATHS = (
    "MACHINE_HOME", "CONTAINERS_CONF", "CONTAINERS_CONF_OVERRIDE", "CONTAINERS_HELPER_BINARY_DIR", "DOCKER_CONFIG",
    "PODMAN_CONNECTIONS_CONF", "SSL_CERT_FILE",
)  # fmt: skip
_OTHERS = (
    "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME", "SSL_CERT_DIR", "TZ", ACCEL_VARIABLE, PATIENCE_VARIABLE,
    *(spelled for name in NAMES for spelled in (name, name.upper())),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Service:
    """A service of a user. After SIGTERM, it may take `stop_s` seconds to end. launchd writes its output to `log`."""

    label: str
    description: str
    argv: tuple[str, ...]
    environment: Mapping[str, str]
    stop_s: int
    log: str


def service_environment(
    environment: Mapping[str, str], service_path: Iterable[str], directory: PurePath
) -> dict[str, str]:
    """Return the variables that a service needs. Make relative paths in them absolute, starting at `directory`."""
    entries = environment.get("PATH", "").split(":")
    own = [entry for entry in entries if entry.startswith("/") and not _NO_TEXT.search(entry)]
    return {
        "PATH": ":".join(dict.fromkeys([*own, *service_path])),
        **{name: str(directory / environment[name]) for name in _PATHS if environment.get(name)},
        **{name: environment[name] for name in _OTHERS if environment.get(name)},
    }


def systemd_unit(service: Service) -> str:
    """Return a unit for the user's systemd.

    Raises:
        BadInputError: systemd cannot run a program with this path, or the service has text that is not printable.
    """
    _check_text(service)
    if not _UNRUNNABLE.isdisjoint(service.argv[0]):
        raise BadInputError(f"systemd cannot run a program with quotes or backslashes in its path: {service.argv[0]}")
    environment = [f"Environment={_quoted(f'{name}={value}')}" for name, value in service.environment.items()]
    program, *arguments = service.argv
    # systemd expands variables only in arguments.
    words = " ".join([_quoted(program), *(_quoted(word).replace("$", "$$") for word in arguments)])
    return "\n".join(
        [
            "[Unit]",
            f"Description={service.description}",
            "",
            "[Service]",
            "Type=exec",
            f"ExecStart={words}",
            *environment,
            "# The program ends its children in the right order.",
            "KillMode=mixed",
            f"TimeoutStopSec={service.stop_s}",
            "# The exit status of an interrupted start.",
            "SuccessExitStatus=130",
            "",
            "[Install]",
            "WantedBy=default.target",
            "",
        ]
    )


def _check_text(service: Service) -> None:
    words = [*service.argv, *(f"{name}={value}" for name, value in service.environment.items()), service.log]
    for word in words:
        if _NO_TEXT.search(word):
            raise BadInputError(f"{word!a} cannot be part of a service, because it is not printable UTF-8")


def _quoted(text: str) -> str:
    """Quote a word for a unit file (systemd.syntax(7)) and double its percent signs (systemd.unit(5))."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("%", "%%")
    return f'"{escaped}"'


def unit_program(unit: str) -> str | None:
    """Return the program that a unit written by `systemd_unit` runs. If the unit names no program, return None."""
    found = re.search(r'^ExecStart="([^"]+)"', unit, re.MULTILINE)
    return found[1].replace("%%", "%") if found else None


def launch_agent(service: Service) -> bytes:
    """Return a property list for launchd (launchd.plist(5)).

    Raises:
        BadInputError: the service has text that is not printable.
    """
    import plistlib

    _check_text(service)
    return plistlib.dumps(
        {
            "Label": service.label,
            "ProgramArguments": list(service.argv),
            "EnvironmentVariables": dict(service.environment),
            "RunAtLoad": True,
            "ExitTimeOut": service.stop_s,
            # launchd would throttle a background process, but users wait for this one.
            "ProcessType": "Interactive",
            "StandardOutPath": service.log,
            "StandardErrorPath": service.log,
        }
    )


def agent_program(agent: bytes) -> str | None:
    """Return the program that a property list by `launch_agent` runs. If the list names no program, return None."""
    import plistlib
    from xml.parsers.expat import ExpatError

    try:
        return str(plistlib.loads(agent)["ProgramArguments"][0])
    except (ExpatError, ValueError, LookupError, TypeError):
        return None
