"""Certificates for servers of tests."""

from __future__ import annotations

import subprocess
from pathlib import Path


def make_certificate(path: Path) -> Path:
    """Write a key and its self-signed certificate for 127.0.0.1 into one file, and return the file."""
    key, public = path.with_suffix(".key"), path.with_suffix(".crt")
    subprocess.run(
        [
            "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1",
            "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", public,
        ],
        check=True, capture_output=True,
    )  # fmt: skip
    path.write_bytes(key.read_bytes() + public.read_bytes())
    return path
