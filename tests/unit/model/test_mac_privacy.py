"""Which permissions of macOS a service needs."""

from __future__ import annotations

from pathlib import PurePath
from typing import Any

import pytest

from machine.model.host import HostOS
from machine.model.mac_privacy import service_notices
from tests.support.builders import make_host

PYTHON = PurePath("/opt/homebrew/bin/python3.14")
NETWORK = (
    f"Containers reach computers of your local network only if {PYTHON} is allowed in "
    "System Settings > Privacy & Security > Local Network"
)


def files(paths: str) -> str:
    settings = "System Settings > Privacy & Security > Full Disk Access"
    return f"Containers can read {paths} only if {PYTHON} is allowed in {settings}"


HOME = "/Users/me/Desktop, /Users/me/Documents, /Users/me/Downloads and /Users/me/Library/Mobile Documents"


@pytest.mark.parametrize(
    ("sources", "host", "notices"),
    [
        (["/Users"], {}, [NETWORK, files(HOME)]),
        (["/Users/me/Documents/a", "/Volumes/disk"], {}, [NETWORK, files("/Users/me/Documents and /Volumes")]),
        (["/Users/me/Downloads"], {"kernel": (23, 6)}, [files("/Users/me/Downloads")]),
        (["/Users/me/src"], {}, [NETWORK]),
        (["/Users"], {"kernel": (18, 0)}, []),
        (["/Users"], {"os": HostOS.LINUX}, []),
    ],
)
def test_service_needs_permissions_for_the_network_and_for_protected_folders(
    sources: list[str], host: dict[str, Any], notices: list[str]
) -> None:
    made = make_host(**{"os": HostOS.MACOS, "machine": "arm64", **host})
    assert service_notices(made, sources, PurePath("/Users/me"), PYTHON) == notices
