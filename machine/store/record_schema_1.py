"""Migrate records of schema 1, where configuration, pending work and facts about the guest are in one object."""

from __future__ import annotations

from collections.abc import Mapping

# Keys that early versions did not write, with the values to assume for missing keys.
_CONFIG_DEFAULTS: Mapping[str, object] = {
    "forwards": [],
    "protected": False,
    "swap_mib": 0,
    "usbs": [],
    "folders": [],
    "volume_driver": "auto",
    "mount_inotify": False,
    "timezone_local": False,
    "native_ca": False,
    "labels": {},
    "provisioning": "ignition",
}
_IMAGE_DEFAULTS: Mapping[str, object] = {"verified": "nothing", "signer": "", "promised": ""}
_FIRST_BOOT_DEFAULTS: Mapping[str, object] = {
    "ignition": None,
    "scripts": [],
    "playbook": None,
    "environment": {},
    "ssh_keys": [],
    "hostname": "",
}

# Keys for which an empty string meant None.
_OPTIONAL_OF_IMAGE = ("digest", "stream", "release", "location", "signer", "promised")

# New key → old key and default.
_PENDING: Mapping[str, tuple[str, object]] = {
    "renamed_from": ("renamed_from", None),
    "rekey": ("identity_pending", False),
    "scripts": ("provision_pending", False),
    "guest_outdated": ("guest_outdated", False),
}
_GUEST: Mapping[str, tuple[str, object]] = {
    "transports": ("guest_transports", None),
    "followed": ("followed", None),
}
_REQUIRED_OF_GUEST = ("provisioned", "last_up")


def to_schema_2(old: Mapping[str, object]) -> dict[str, object]:
    """Convert a document of schema 1 to schema 2.

    Missing or invalid values stay as they are, because the parser reports them.
    """
    moved = {"schema", *_REQUIRED_OF_GUEST, *(key for key, _ in (*_PENDING.values(), *_GUEST.values()))}
    config = {**_CONFIG_DEFAULTS, **{key: value for key, value in old.items() if key not in moved}}
    if isinstance(image := config.get("image"), dict):
        config["image"] = _without_empty({**_IMAGE_DEFAULTS, **image}, _OPTIONAL_OF_IMAGE)
    first_boot = config.get("first_boot", {})
    if isinstance(first_boot, dict):
        config["first_boot"] = _without_empty({**_FIRST_BOOT_DEFAULTS, **first_boot}, ("hostname",))
    pending = {key: old.get(old_key, default) for key, (old_key, default) in _PENDING.items()}
    guest = {key: old.get(old_key, default) for key, (old_key, default) in _GUEST.items()}
    return {
        "schema": 2,
        "config": config,
        "pending": _without_empty(pending, ("renamed_from",)),
        "guest": {
            **{key: old[key] for key in _REQUIRED_OF_GUEST if key in old},
            **_without_empty(guest, ("followed",)),
        },
    }


def _without_empty(values: Mapping[str, object], keys: tuple[str, ...]) -> dict[str, object]:
    """Replace empty strings at `keys` with None."""
    return {key: None if key in keys and value == "" else value for key, value in values.items()}
