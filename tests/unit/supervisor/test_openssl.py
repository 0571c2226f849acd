"""A supervisor without OpenSSL."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

# Prints the modules of OpenSSL that are loaded, and what works without them.
WITHOUT = """
import json, sys
from machine.supervisor.openssl import load_without_openssl
load_without_openssl()
import machine.supervisor.process
from machine.supervisor.preload import preload
preload()
loaded = sorted({"ssl", "_ssl", "_hashlib"} & sys.modules.keys())
import hashlib, ssl
print(json.dumps([loaded, hashlib.sha256(b"machine").hexdigest()[:8], ssl.create_default_context().check_hostname]))
"""


@pytest.mark.linux("what imitates a Mac loads OpenSSL in each Python")
def test_supervisor_loads_no_openssl_but_hashes_and_could_still_speak_tls() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, check=True, timeout=60, text=True)
    assert json.loads(done.stdout) == [[], "bc020a35", True]
    assert not done.stderr
