"""Make the commands that query a guest's operating system and its upgrades, and parse their output (pure)."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from machine.errors import BadInputError, GuestError
from machine.model.arch import Arch

ASK_FAMILY = "test ! -e /run/ostree-booted || echo ostree; cat /etc/os-release"
"""The command for the guest's shell whose output `parse_guest_os` parses."""

NO_COMPOSEFS = "ostree.prepare-root.composefs=0"
"""The kernel argument by which directories can be created in the root directory of a guest such as Fedora CoreOS.

By default, that directory is a read-only composefs. With the argument it is immutable by a file attribute, which
folders.sh takes off.
"""

_IMAGE_NAME = re.compile(r"[A-Za-z0-9@%+=:,./_-]+")
_DEFAULT_TRANSPORT = "registry"


class Family(StrEnum):
    """How an OS is upgraded. Each family except OTHER has a script, images/ignition/files/upgrade-FAMILY.sh."""

    OSTREE = "ostree"
    APT = "apt"
    OTHER = "other"


@dataclass(frozen=True, kw_only=True)
class GuestOS:
    family: Family
    name: str


@dataclass(frozen=True, kw_only=True)
class OSImage:
    """An OS image. `transport` says where the guest finds the image `name`, in the words of bootc."""

    transport: str
    name: str


@dataclass(frozen=True, kw_only=True)
class UpgradeCheck:
    """Whether there is a newer OS image. If there is none, `new_hash` equals `current_hash`."""

    version: str
    current_hash: str
    new_hash: str
    available: bool


def parse_guest_os(output: str) -> GuestOS:
    """Parse the output of ASK_FAMILY."""
    first, _, rest = output.partition("\n")
    ostree = first == "ostree"
    facts = _assignments(rest if ostree else output)
    names = {facts.get("ID", ""), *facts.get("ID_LIKE", "").split()}
    family = Family.OSTREE if ostree else Family.APT if "debian" in names else Family.OTHER
    return GuestOS(family=family, name=facts.get("PRETTY_NAME") or facts.get("ID") or "an unknown OS")


def _assignments(text: str) -> dict[str, str]:
    """Parse os-release(5), which consists of shell assignments."""
    found = {}
    for line in text.splitlines():
        key, equals, value = line.partition("=")
        if equals:
            try:
                found[key] = "".join(shlex.split(value))
            except ValueError:  # an unclosed quotation mark
                continue
    return found


def parse_os_image(text: str) -> OSImage:
    """Parse the argument of `os apply`, which is an image in a registry, or TRANSPORT:NAME.

    Raises:
        BadInputError: the text is not an image reference, or TRANSPORT is unknown.
    """
    transport, colon, name = text.partition(":")
    if name.startswith("//"):
        if transport not in ("docker", "registry"):
            raise BadInputError(
                f'unknown transport "{transport}" given',
                hint="choose docker://IMAGE, registry:IMAGE, oci:PATH, oci-archive:PATH or containers-storage:IMAGE",
            )
        transport, name = _DEFAULT_TRANSPORT, name[2:]
    elif not colon or transport not in (_DEFAULT_TRANSPORT, "oci", "oci-archive", "containers-storage"):
        transport, name = _DEFAULT_TRANSPORT, text
    if not _IMAGE_NAME.fullmatch(name) or name.startswith("-"):
        raise BadInputError(
            f'"{text}" is not an image reference', hint="write a reference such as quay.io/fedora/fedora-coreos:stable"
        )
    return OSImage(transport=transport, name=name)


def parse_check(output: str) -> UpgradeCheck:
    """Parse the output of `upgrade-ostree.sh check`.

    This is bootc's status, or rpm-ostree's status and then rpm-ostree's check or the manifests of a registry.

    Raises:
        GuestError: the output is neither bootc's nor rpm-ostree's.
    """
    try:
        status, end = json.JSONDecoder().raw_decode(output.lstrip())
        if "deployments" in status:
            return _rpm_ostree_check(status, output.lstrip()[end:])
        booted = status["status"]["booted"]
        image, update = booted["image"], booted.get("cachedUpdate") or {}
        current = str(image["imageDigest"])
        new = str(update.get("imageDigest") or current)
        return UpgradeCheck(
            version=str(image.get("version") or ""), current_hash=current, new_hash=new, available=new != current
        )
    except (ValueError, KeyError, TypeError, StopIteration) as error:
        raise GuestError(
            "cannot find out which OS image the guest has booted", details=output.splitlines()[-5:]
        ) from error


@dataclass(frozen=True, kw_only=True)
class _RegistryImage:
    """The digest by which rpm-ostree knows an image of a registry, and all digests that mean this image."""

    digest: str
    digests: frozenset[str]


def _parse_manifests(output: str) -> dict[str, _RegistryImage]:
    """Parse the manifests that `upgrade-ostree.sh check` prints, by the reference of the image.

    A manifest may be a list with a manifest for each architecture. rpm-ostree knows the one of the guest's.
    """
    found = {}
    for header in re.finditer(r"^image (\S+) (sha256:\w+) (\w+)\n", output, re.MULTILINE):
        reference, digest, machine = header.groups()
        manifest, _ = json.JSONDecoder().raw_decode(output, header.end())
        by_arch = {entry["platform"]["architecture"]: entry["digest"] for entry in manifest.get("manifests", ())}
        own = str(by_arch.get(Arch(machine).go, digest))
        found[reference] = _RegistryImage(digest=own, digests=frozenset({digest, own}))
    return found


def _rpm_ostree_check(status: Mapping[str, list[dict[str, object]]], output: str) -> UpgradeCheck:
    booted = next(deployment for deployment in status["deployments"] if deployment["booted"])
    current = str(booted.get("container-image-reference-digest") or booted["checksum"])
    if reference := booted.get("container-image-reference"):
        newest = _parse_manifests(output)[str(reference)]
        return UpgradeCheck(
            version=str(booted.get("version") or ""),
            current_hash=current,
            new_hash=current if current in newest.digests else newest.digest,
            available=current not in newest.digests,
        )
    facts = dict(re.findall(r"^\s*(Commit|Digest): (\S+)", output, re.MULTILINE))
    return UpgradeCheck(
        version=str(booted.get("version") or ""),
        current_hash=current,
        new_hash=facts.get("Digest") or facts.get("Commit") or current,
        available="AvailableUpdate:" in output,
    )
