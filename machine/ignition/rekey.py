"""Rekey a clone's guest with systemd credentials, which give the guest its own keys, machine ID and host name.

systemd accepts units from credentials since version 256. Ignition cannot rekey, because it only runs at the first boot.
(Pure, except that our own assets are read.)
"""

from __future__ import annotations

from dataclasses import dataclass

from machine.ignition import assets
from machine.ignition.provision import Keys

_SCRIPT = "boot2podman.identity"

# Each unit, and the target that starts this unit.
_UNITS = {"boot2podman-identity-initrd.service": "initrd.target", "boot2podman-identity.service": "sysinit.target"}


@dataclass(frozen=True, kw_only=True)
class Rekey:
    """The values that the guest of a clone gets in place of the values of the original's guest."""

    hostname: str
    machine_id: str
    keys: Keys
    old_key: str
    """The public key, as one line, with which users log in to the original."""


def credentials(rekey: Rekey) -> dict[str, str]:
    """Return the text of each systemd credential, by the credential's name."""
    script = assets.load(
        "files/identity.sh",
        machine_id=rekey.machine_id,
        hostname=rekey.hostname,
        host_private=rekey.keys.host_private.rstrip("\n"),
        host_public=rekey.keys.host_public,
        old_key=_material(rekey.old_key),
        new_key=rekey.keys.authorized.split(maxsplit=1)[1],
    )
    units = {f"systemd.extra-unit.{unit}": assets.load(f"units/{unit}") for unit in _UNITS}
    wants = {f"systemd.unit-dropin.{target}~boot2podman": f"[Unit]\nWants={unit}\n" for unit, target in _UNITS.items()}
    return {_SCRIPT: script, **units, **wants}


def _material(public_key: str) -> str:
    """Return the base64 part of a public key's line."""
    return public_key.split()[1]
