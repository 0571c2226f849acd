"""Records of schema 1, which mixed configuration, pending work and facts about the guest in one object."""

from __future__ import annotations

from collections.abc import Mapping

# What the first programs did not write yet, with what its absence meant.
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

# An empty string was how these said that there is none.
_OPTIONAL_OF_IMAGE = ("digest", "stream", "release", "location", "signer", "promised")

# By the name that each has now.
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
    """The document of schema 2 that says what `old` says.

    What is missing or damaged in `old` is so in the result, for its parser to find.
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
    """`values` with None in place of an empty string at any of `keys`."""
    return {key: None if key in keys and value == "" else value for key, value in values.items()}
