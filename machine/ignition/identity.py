"""What gives a clone's guest an identity of its own: credentials for systemd (pure but for reading our own assets).

systemd takes units from credentials since 256. Ignition cannot do it: it provisions a guest once, at its first boot.
"""

from __future__ import annotations

from dataclasses import dataclass

from machine.ignition import assets
from machine.ignition.provision import Keys

_SCRIPT = "boot2podman.identity"

# Each unit with the target that wants it.
_UNITS = {"boot2podman-identity-initrd.service": "initrd.target", "boot2podman-identity.service": "sysinit.target"}


@dataclass(frozen=True, kw_only=True)
class Identity:
    """`old_key` is the public key that opens the machine which the clone was made from, one line of text."""

    hostname: str
    machine_id: str
    keys: Keys
    old_key: str


def credentials(identity: Identity) -> dict[str, str]:
    """systemd's credentials, by their names."""
    script = assets.load(
        "files/identity.sh",
        machine_id=identity.machine_id,
        hostname=identity.hostname,
        host_private=identity.keys.host_private.rstrip("\n"),
        host_public=identity.keys.host_public,
        old_key=_material(identity.old_key),
        new_key=identity.keys.authorized.split(maxsplit=1)[1],
    )
    units = {f"systemd.extra-unit.{unit}": assets.load(f"units/{unit}") for unit in _UNITS}
    wants = {f"systemd.unit-dropin.{target}~boot2podman": f"[Unit]\nWants={unit}\n" for unit, target in _UNITS.items()}
    return {_SCRIPT: script, **units, **wants}


def _material(public_key: str) -> str:
    """The key itself, without its kind and its comment."""
    return public_key.split()[1]
