"""Find out which machine the environment variables of Podman's and Docker's clients choose."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from machine.model.config import MachineConfig
from machine.model.dataclass import dataclass
from machine.ops.shared.context import Context
from machine.podman.connections import connection_uri

HOSTS = ("DOCKER_HOST", "CONTAINER_HOST")
"""The variables that name the URL of a service."""

CONNECTION = "CONTAINER_CONNECTION"
"""The variable that names a connection of Podman's."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A variable that is set, and the name of the machine to which it leads, or None if it leads to no machine."""

    variable: str
    value: str
    machine: str | None

    @property
    def problem(self) -> str:
        """The text for users that says where a variable leads that does not lead to a machine."""
        if self.variable == CONNECTION:
            return f"{self.variable} names {self.value}, which is not the connection of a machine"
        return f"{self.variable} points to {self.value}, which is not the socket of a machine"


def choices(context: Context, configs: Sequence[MachineConfig]) -> Iterator[Choice]:
    """Yield what each variable that is set chooses among the machines with these configs."""
    for variable in HOSTS:
        if url := context.environment.get(variable):
            found = (config.name for config in configs if url in _urls(config, context))
            yield Choice(variable=variable, value=url, machine=next(found, None))
    if name := context.environment.get(CONNECTION):
        found = (config.name for config in configs if name in config.connections)
        yield Choice(variable=CONNECTION, value=name, machine=next(found, None))


def _urls(config: MachineConfig, context: Context) -> list[str]:
    paths = context.roots.machine(config.name)
    kinds = (False, True) if config.has_root_socket else (False,)
    return [connection_uri(paths.api_socket(rootful=kind)) for kind in kinds]
