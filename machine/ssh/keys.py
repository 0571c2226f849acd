"""Make SSH key pairs without ssh-keygen. It does not run for a user who has no entry in the passwd database."""

from __future__ import annotations

import os
from pathlib import Path

from machine.errors import MachineError
from machine.files import FILE_PRIVATE, FILE_PUBLIC, disk_errors, open_created


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
    _write_new(path, private, FILE_PRIVATE)
    _write_new(path.with_name(f"{path.name}.pub"), f"{line}\n".encode(), FILE_PUBLIC)
    return line


def _write_new(path: Path, content: bytes, mode: int) -> None:
    try:
        with disk_errors(path), open_created(path, "xb") as stream:
            os.fchmod(stream.fileno(), mode)
            stream.write(content)
    except FileExistsError as error:
        raise MachineError(f"{path} already exists") from error
