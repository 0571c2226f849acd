"""What doctor says of the clients that machines are registered with, on made-up hosts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from machine.model.units import GIB
from machine.ops import doctor_clients as checks
from machine.podman import legacy_connections
from machine.store.filesystem import DirectoryFacts
from tests.support.builders import make_host
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


DATA = Path("/home/me/data")


GOOD = DirectoryFacts(
    path=DATA, nearest=DATA, is_directory=True, writable=True, owner=1000, free_bytes=80 * GIB, file_system="ext4"
)


def test_clients_directory(golden: Golden) -> None:
    check = checks.client_files_check("docker contexts", replace(GOOD, writable=False), "contexts")
    golden.matches(text_of(check), "not writable")
    golden.matches(text_of(checks.client_files_check("docker contexts", GOOD, "contexts")), "good")
