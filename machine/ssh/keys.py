"""Make key pairs with ssh-keygen, which comes with the OpenSSH client."""

from __future__ import annotations

from pathlib import Path

from machine import runner
from machine.errors import MachineError, ProgramError


def generate(path: Path, comment: str) -> str:
    """Make an Ed25519 key pair, PATH (mode 0600) and PATH.pub, and return the line of the public key.

    Raises:
        MachineError: ssh-keygen is not installed, or failed.
    """
    try:
        runner.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", path], timeout_s=30)
    except ProgramError:
        raise
    except MachineError as error:
        raise MachineError(error.message, hint="install it (Debian: apt install openssh-client)") from error
    return path.with_name(f"{path.name}.pub").read_text().strip()
