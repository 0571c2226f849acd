"""List the ways in which a folder of the host can reach a guest."""

from __future__ import annotations

from enum import StrEnum

from machine.errors import BadInputError


class Transport(StrEnum):
    """How a folder of the host reaches a guest, the fastest first."""

    VIRTIOFS = "virtiofs"
    NINEP = "9p"
    SSHFS = "sshfs"

    @property
    def is_device(self) -> bool:
        """Whether the transport needs a device, which QEMU cannot add to a running guest."""
        return self is not Transport.SSHFS


class TransportChoice(StrEnum):
    """The transport that a user asks for. With `auto`, the best transport that works is used."""

    AUTO = "auto"
    VIRTIOFS = "virtiofs"
    NINEP = "9p"
    SSHFS = "sshfs"

    @classmethod
    def parse(cls, text: str) -> TransportChoice:
        """Return the choice that `text` names, in a flag or a file.

        Raises:
            BadInputError: there is no transport of that name.
        """
        try:
            return cls({"virtfs": "9p"}.get(text, text))  # podman's name for 9p, up to version 4
        except ValueError as error:
            hint = f"choose one of: {', '.join(cls)}"
            raise BadInputError(f'unknown volume driver "{text}"', hint=hint) from error
