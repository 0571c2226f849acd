"""How many files a supervisor, and with it QEMU, may open."""

from __future__ import annotations

import resource

import pytest

from machine.supervisor.process import _allow_open_files

UNLIMITED = resource.RLIM_INFINITY


@pytest.mark.parametrize(
    ("soft", "hard", "most", "raised"),
    [
        (1024, 1048576, 1048576, 65536),
        (1024, 4096, 4096, 4096),
        (256, UNLIMITED, 10240, 10240),  # macOS, whose kernel grants less than the hard limit says
        (256, UNLIMITED, 61440, 24576),
        (256, UNLIMITED, 100, 256),
        (100000, 1048576, 1048576, 100000),
        (UNLIMITED, UNLIMITED, 10240, UNLIMITED),
    ],
)
def test_limit_is_raised_as_far_as_the_kernel_grants(
    soft: int, hard: int, most: int, raised: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = {resource.RLIMIT_NOFILE: (soft, hard)}

    def setrlimit(kind: int, wanted: tuple[int, int]) -> None:
        if wanted[0] > most:
            raise ValueError("current limit exceeds maximum limit")
        limits[kind] = wanted

    monkeypatch.setattr(resource, "getrlimit", limits.get)
    monkeypatch.setattr(resource, "setrlimit", setrlimit)
    _allow_open_files()
    assert limits[resource.RLIMIT_NOFILE] == (raised, hard)
