"""A program that runs while a user is logged in, as systemd and launchd want to be told of it (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from machine.errors import BadInputError

_UNRUNNABLE = frozenset("\"'\\")


@dataclass(frozen=True, kw_only=True)
class Service:
    """`stop_s` is what it needs in seconds to end after SIGTERM; `log` is for hosts whose services keep none."""

    label: str
    description: str
    argv: tuple[str, ...]
    environment: Mapping[str, str]
    stop_s: int
    log: str


def service_environment(environment: Mapping[str, str], service_path: Iterable[str]) -> dict[str, str]:
    """What a service needs of the environment of whoever makes it: where programs are, and where our files are."""
    wanted = ("MACHINE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME", "CONTAINERS_CONF",
              "CONTAINERS_CONF_OVERRIDE", "CONTAINERS_HELPER_BINARY_DIR", "DOCKER_CONFIG",
              "PODMAN_CONNECTIONS_CONF")  # fmt: skip
    own = [entry for entry in environment.get("PATH", "").split(":") if entry.startswith("/")]
    return {
        "PATH": ":".join(dict.fromkeys([*own, *service_path])),
        **{name: environment[name] for name in wanted if environment.get(name)},
    }


def systemd_unit(service: Service) -> str:
    """A unit of the user's own systemd.

    Raises:
        BadInputError: systemd runs no program of that name, however it is quoted.
    """
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


def _quoted(text: str) -> str:
    """A word in a unit file (systemd.syntax(7), systemd.unit(5)): quoted, with its percent signs doubled."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("%", "%%")
    return f'"{escaped}"'


def launch_agent(service: Service) -> bytes:
    """A property list for launchd (launchd.plist(5))."""
    import plistlib

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
