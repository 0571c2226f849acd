"""Making key pairs, without ssh-keygen: it refuses to run for a user ID without an entry in the passwd database."""

from __future__ import annotations

import base64
import os
import struct
import textwrap
from pathlib import Path

from machine.errors import MachineError
from machine.files import FILE_PRIVATE, disk_errors

_TYPE = b"ssh-ed25519"
_MODE_PUBLIC = 0o644

# The format of private keys: openssh-portable, PROTOCOL.key.
_MAGIC = b"openssh-key-v1\0"
_UNENCRYPTED = b"none"
_BLOCK_BYTES = 8
_LINE = 70


def generate(path: Path, comment: str) -> str:
    """Make an Ed25519 key pair, PATH (mode 0600) and PATH.pub, and return the line of the public key.

    Raises:
        MachineError: PATH exists, or a file cannot be written.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # slow to import

    key = Ed25519PrivateKey.generate()
    seed, public = key.private_bytes_raw(), key.public_key().public_bytes_raw()
    line = public_line(public, comment)
    _write_new(path, private_text(seed, public, comment, check=os.urandom(4)), FILE_PRIVATE)
    _write_new(path.with_name(f"{path.name}.pub"), f"{line}\n", _MODE_PUBLIC)
    return line


def public_line(public: bytes, comment: str) -> str:
    """Return the line of a public key, as in authorized_keys."""
    return f"{_TYPE.decode()} {base64.b64encode(_public_blob(public)).decode()} {comment}"


def private_text(seed: bytes, public: bytes, comment: str, *, check: bytes) -> str:
    """Return the private key's file, which is not encrypted; `check` are four random bytes.

    The `cryptography` package writes this format, too, but without a comment.
    """
    secret = b"".join(
        (check, check, _string(_TYPE), _string(public), _string(seed + public), _string(comment.encode()))
    )
    secret += bytes(range(1, 1 + -len(secret) % _BLOCK_BYTES))
    # Cipher, key derivation and its options, and the number of keys.
    header = _MAGIC + _string(_UNENCRYPTED) + _string(_UNENCRYPTED) + _string(b"") + struct.pack(">I", 1)
    body = base64.b64encode(header + _string(_public_blob(public)) + _string(secret)).decode()
    return "\n".join(
        ["-----BEGIN OPENSSH PRIVATE KEY-----", *textwrap.wrap(body, _LINE), "-----END OPENSSH PRIVATE KEY-----", ""]
    )


def _public_blob(public: bytes) -> bytes:
    return _string(_TYPE) + _string(public)


def _string(value: bytes) -> bytes:
    return struct.pack(">I", len(value)) + value


def _write_new(path: Path, text: str, mode: int) -> None:
    try:
        with disk_errors(path):
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_PRIVATE)
    except FileExistsError as error:
        raise MachineError(f"{path} already exists") from error
    with disk_errors(path), os.fdopen(descriptor, "w") as stream:
        os.fchmod(descriptor, mode)
        stream.write(text)
