"""What doctor says of the clients that machines are registered with, on made-up hosts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from machine.model.units import GIB
from machine.ops import doctor_clients as checks
from machine.ops.shared.client_variables import Choice
from machine.podman import legacy_connections
from machine.podman.connections import Connection, connection_uri
from machine.store.filesystem import DirectoryFacts
from tests.support.builders import make_host, make_roots
from tests.support.checks import text_of
from tests.support.golden import Golden

PODMANS = {
    "none": None,
    "4.3": legacy_connections.Client(program="podman", path="/b/podman", version=(4, 3)),
    "5.4": legacy_connections.Client(program="podman", path="/b/podman", version=(5, 4)),
    "unknown version": legacy_connections.Client(program="podman", path="/b/podman", version=None),
}


@pytest.mark.parametrize("client", PODMANS.values(), ids=PODMANS)
def test_podman(client: legacy_connections.Client | None, golden: Golden) -> None:
    golden.matches(text_of(checks.podman_check(client, make_host(), Path("/c/connections.json"))))


BOX = make_roots(Path("/m")).machine("box")
GONE = connection_uri(Path("/tmp/gone/old/podman.sock"))
DEFAULTS: dict[str, tuple[Connection | None, bool]] = {
    "none": (None, False),
    "a machine that is stopped": (Connection(name="box", uri=connection_uri(BOX.podman_socket)), True),
    "a machine's root": (Connection(name="box-root", uri=connection_uri(BOX.podman_root_socket)), False),
    "another host": (Connection(name="far", uri="ssh://core@far/run/podman.sock"), False),
    "a service on this host": (Connection(name="own", uri="unix:///run/podman/podman.sock"), False),
    "a machine that is gone": (Connection(name="old", uri=GONE), True),
    "of the name of a machine": (Connection(name="box", uri=GONE), True),
}


@pytest.mark.parametrize(("default", "is_missing"), DEFAULTS.values(), ids=DEFAULTS)
def test_default_connection(default: Connection | None, is_missing: bool, golden: Golden) -> None:
    golden.matches(text_of(checks.default_connection_check(default, {"box": BOX}, is_missing=is_missing)))


def test_default_connection_that_is_gone_where_there_are_no_machines(golden: Golden) -> None:
    default = Connection(name="old", uri=GONE)
    golden.matches(text_of(checks.default_connection_check(default, {}, is_missing=True)))


def test_variables_that_choose_a_service(golden: Golden) -> None:
    chosen = [
        Choice(variable="DOCKER_HOST", value=connection_uri(BOX.podman_socket), machine="box"),
        Choice(variable="CONTAINER_HOST", value="unix:///tmp/none.sock", machine=None),
        Choice(variable="CONTAINER_CONNECTION", value="far", machine=None),
    ]
    golden.matches(text_of(*checks.variables_checks(chosen)))


DATA = Path("/home/me/data")


GOOD = DirectoryFacts(
    path=DATA, nearest=DATA, is_directory=True, writable=True, owner=1000, free_bytes=80 * GIB, file_system="ext4"
)


def test_clients_directory(golden: Golden) -> None:
    check = checks.client_files_check("docker contexts", replace(GOOD, writable=False), "contexts")
    golden.matches(text_of(check), "not writable")
    golden.matches(text_of(checks.client_files_check("docker contexts", GOOD, "contexts")), "good")
