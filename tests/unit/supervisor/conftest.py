"""What the tests of a supervisor at work share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.fake_ssh import FakeSsh


@pytest.fixture
def ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSsh:
    """The `ssh` that everything finds."""
    fake = FakeSsh(tmp_path)
    monkeypatch.setenv("PATH", f"{fake.bin}{os.pathsep}{os.environ['PATH']}")
    return fake
