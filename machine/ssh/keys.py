"""Make SSH key pairs without ssh-keygen. It does not run for a user who has no entry in the passwd database."""

from __future__ import annotations

import os
from pathlib import Path

from machine.errors import MachineError
from machine.files import FILE_PRIVATE, disk_errors

_MODE_PUBLIC = 0o644


def generate(path: Path, comment: str) -> str:
    """Make an Ed25519 key pair, PATH (mode 0600) and PATH.pub, and return the line of the public key.

    Raises:
        MachineError: PATH exists already, or one of the files cannot be written.
    """
    from cryptography.hazmat.primitives import serialization as form  # slow to import
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.OpenSSH, form.NoEncryption())
    public = key.public_key().public_bytes(form.Encoding.OpenSSH, form.PublicFormat.OpenSSH)
    line = f"{public.decode()} {comment}"
    _write_new(path, private.decode(), FILE_PRIVATE)
    _write_new(path.with_name(f"{path.name}.pub"), f"{line}\n", _MODE_PUBLIC)
    return line


def _write_new(path: Path, text: str, mode: int) -> None:
    try:
        with disk_errors(path):
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_PRIVATE)
    except FileExistsError as error:
        raise MachineError(f"{path} already exists") from error
    with disk_errors(path), os.fdopen(descriptor, "w") as stream:
        os.fchmod(descriptor, mode)
        stream.write(text)
