"""A program that runs while a user is logged in, as systemd and launchd want to be told of it (pure)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePath

from machine.errors import BadInputError
from machine.model.host import ACCEL_VARIABLE
from machine.model.proxies import NAMES

_UNRUNNABLE = frozenset("\"'\\")
# Control characters, and how Python spells bytes that are not UTF-8: unit files and property lists have neither.
_NO_TEXT = re.compile(r"[\0-\x08\x0b-\x1f\x7f\ud800-\udfff]")

# Where our files and those of clients are, and what a start depends on or tells the guest: a service that lacked the
# proxies would take them from a guest that has them.
_PATHS = (
    "MACHINE_HOME", "CONTAINERS_CONF", "CONTAINERS_CONF_OVERRIDE", "CONTAINERS_HELPER_BINARY_DIR", "DOCKER_CONFIG",
    "PODMAN_CONNECTIONS_CONF", "SSL_CERT_FILE",
)  # fmt: skip
_OTHERS = (
    "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME", "SSL_CERT_DIR", "TZ", ACCEL_VARIABLE,
    *(spelled for name in NAMES for spelled in (name, name.upper())),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Service:
    """`stop_s` is what it needs in seconds to end after SIGTERM; `log` is for hosts whose services keep none."""

    label: str
    description: str
    argv: tuple[str, ...]
    environment: Mapping[str, str]
    stop_s: int
    log: str


def service_environment(
    environment: Mapping[str, str], service_path: Iterable[str], directory: PurePath
) -> dict[str, str]:
    """What a service needs of the environment of whoever makes it in `directory`, which is not where it runs."""
    entries = environment.get("PATH", "").split(":")
    own = [entry for entry in entries if entry.startswith("/") and not _NO_TEXT.search(entry)]
    return {
        "PATH": ":".join(dict.fromkeys([*own, *service_path])),
        **{name: str(directory / environment[name]) for name in _PATHS if environment.get(name)},
        **{name: environment[name] for name in _OTHERS if environment.get(name)},
    }


def systemd_unit(service: Service) -> str:
    """A unit of the user's own systemd.

    Raises:
        BadInputError: systemd runs no program of that name, however it is quoted, or it is told what is no text.
    """
    _check_text(service)
    if not _UNRUNNABLE.isdisjoint(service.argv[0]):
        raise BadInputError(f"systemd runs no program with quotes or backslashes in its path: {service.argv[0]}")
    environment = [f"Environment={_quoted(f'{name}={value}')}" for name, value in service.environment.items()]
    program, *arguments = service.argv
    # Variables are looked for in arguments alone.
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
            "# It ends its own children, and knows best how.",
            "KillMode=mixed",
            f"TimeoutStopSec={service.stop_s}",
            "# Its status where it is stopped before it has started.",
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
            raise BadInputError(f"a service cannot be told of {word!a}: it is no text in UTF-8")


def _quoted(text: str) -> str:
    """A word in a unit file (systemd.syntax(7), systemd.unit(5)): quoted, with its percent signs doubled."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("%", "%%")
    return f'"{escaped}"'


def unit_program(unit: str) -> str:
    """The program that a unit of ours runs; empty where there is none to be read."""
    found = re.search(r'^ExecStart="([^"]+)"', unit, re.MULTILINE)
    return found[1].replace("%%", "%") if found else ""


def launch_agent(service: Service) -> bytes:
    """A property list for launchd (launchd.plist(5)).

    Raises:
        BadInputError: launchd is told what is no text.
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
            # Background work would be slowed down, and this is somebody's computer.
            "ProcessType": "Interactive",
            "StandardOutPath": service.log,
            "StandardErrorPath": service.log,
        }
    )


def agent_program(agent: bytes) -> str:
    """The program that a property list of ours runs; empty where there is none to be read."""
    import plistlib
    from xml.parsers.expat import ExpatError

    try:
        return str(plistlib.loads(agent)["ProgramArguments"][0])
    except (ExpatError, ValueError, LookupError, TypeError):
        return ""
