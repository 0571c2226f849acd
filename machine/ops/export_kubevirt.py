"""`machine export --format kubevirt`: describe a machine as a virtual machine on a cluster."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from machine.errors import BadInputError, MachineError, reason_of
from machine.ignition import cloud_init
from machine.ignition.elsewhere import without_this_host
from machine.ignition.provision import PROVISION_UNIT, Keys, provision
from machine.image.catalogue import CatalogueImage, ImageSource, packages_of
from machine.image.reference import StreamReference, UrlReference
from machine.image.streams import find_container_disk
from machine.image.web import WebSettings
from machine.model.config import MachineConfig, Provisioning
from machine.model.image import ImageOptions
from machine.model.kubevirt import (
    ClusterVm,
    ContainerDisk,
    Disk,
    ImportedDisk,
    check_arch,
    check_namespace,
    check_payload,
    check_storage_class,
    manifest,
)
from machine.model.provider import Capability
from machine.ops.shared.capability import require
from machine.ops.shared.catalogue import find_source
from machine.ops.shared.context import Context
from machine.ops.shared.images import ImageRequest, default_base_url, metadata_cache
from machine.ops.shared.resources import checked_disk
from machine.providers.login import login_of
from machine.report import Reporter
from machine.ssh.command import SshTarget, proxied_config_block, without_comment
from machine.store import records
from machine.store.paths import MachinePaths


@dataclass(frozen=True, kw_only=True)
class ClusterOptions:
    """What the user says about the cluster. With a size or a storage class, the disk is a volume of the cluster."""

    namespace: str | None = None
    disk_gib: int | None = None
    storage_class: str | None = None

    @property
    def wants_volume(self) -> bool:
        return self.disk_gib is not None or self.storage_class is not None


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The objects for `kubectl apply`, and lines for people: how to use them, and what the cluster does not have."""

    objects: dict[str, Any]
    usage: tuple[str, ...]
    lost: tuple[str, ...]


def export_kubevirt(name: str, options: ClusterOptions, context: Context, report: Reporter) -> Manifest:
    """Describe a machine for a cluster. Its guest there is new, and has the keys of the machine.

    Raises:
        NotFoundError: there is no such machine.
        BadInputError: an option is invalid, or the machine's image or architecture cannot run on a cluster.
        MachineError: the machine's keys cannot be read, or the image's metadata cannot be fetched.
    """
    require(name, Capability.KUBEVIRT, context)
    config = records.load(context.roots, name).config
    source = find_source(config.image.pinned, context)
    image = ImageRequest(source=source, arch=config.arch, options=ImageOptions(verify_tls=config.verify_tls))
    disk = choose_disk(config, image, options, context, report)
    paths = context.roots.machine(name)
    return describe(config, image.source, disk, options, read_keys(paths), paths)


def describe(
    config: MachineConfig, source: ImageSource, disk: Disk, options: ClusterOptions, keys: Keys, paths: MachinePaths
) -> Manifest:
    """Describe a machine for a cluster, and how its guest there is reached with the keys at `paths` (pure).

    Raises:
        BadInputError: the guest's configuration is too large.
    """
    payload = first_boot_payload(config, keys, source)
    check_payload(payload)
    vm = ClusterVm(config=config, payload=payload, disk=disk, namespace=options.namespace)
    return Manifest(
        objects=manifest(vm),
        usage=tuple(usage(vm, login_of(config, paths, config.username), keys.host_public)),
        lost=tuple(lost_parts(vm)),
    )


def read_keys(paths: MachinePaths) -> Keys:
    """Read the machine's keys.

    Raises:
        MachineError: a file is missing or cannot be read.
    """
    files = (paths.public_identity, paths.host_key, paths.public_host_key)
    try:
        authorized, host_private, host_public = (path.read_text(encoding="utf-8") for path in files)
    except (OSError, UnicodeDecodeError) as error:
        raise MachineError(f"cannot read the keys in {paths.directory}: {reason_of(error)}") from error
    return Keys(authorized=authorized.strip(), host_private=host_private, host_public=host_public.strip())


def first_boot_payload(config: MachineConfig, keys: Keys, source: ImageSource) -> str:
    """Return what the guest reads at its first boot: an Ignition config, or cloud-init's user data (pure)."""
    theirs = config.first_boot.ignition
    if theirs and theirs.replaces:
        return theirs.text
    document = without_this_host(provision(replace(config, folders=()), keys))
    if config.provisioning is Provisioning.IGNITION:
        return document.to_json()
    return cloud_init.render(document, config, packages_of(source)).user_data


def choose_disk(
    config: MachineConfig, image: ImageRequest, options: ClusterOptions, context: Context, report: Reporter
) -> Disk:
    """Check the options, and return the disk that the machine has on a cluster.

    Raises:
        BadInputError: an option is invalid, or the machine's image or architecture cannot run on a cluster.
        MachineError: the image's metadata cannot be fetched.
    """
    if options.namespace is not None:
        check_namespace(options.namespace)
    if options.storage_class is not None:
        check_storage_class(options.storage_class)
    if options.disk_gib is not None:
        checked_disk(options.disk_gib)
    check_arch(config.arch)
    match image.source:
        case StreamReference(local=False) as stream:
            metadata = metadata_cache(WebSettings(verify_tls=config.verify_tls), context, report)
            base_url = image.options.stream_base_url or default_base_url(context)
            container = find_container_disk(stream, config.arch, metadata, base_url=base_url)
            if not options.wants_volume:
                return ContainerDisk(image=container)
            url = f"docker://{container}"
        case CatalogueImage() as listed:
            url = listed.location(config.arch)
        case UrlReference(url=location):
            url = location
        case _:
            url = ""
    if not url.startswith(("http://", "https://", "docker://")):
        raise BadInputError(
            f"a cluster cannot fetch the image {config.image.reference}",
            hint="only images of fcos:, of the catalogue, and from http(s) URLs can be exported",
        )
    size_gib = options.disk_gib or config.resources.disk_gib
    return ImportedDisk(url=url, size_gib=size_gib, storage_class=options.storage_class)


def usage(vm: ClusterVm, target: SshTarget, host_key: str) -> Iterator[str]:
    """Yield lines that say how to make the virtual machine, and how to reach its guest from this host (pure)."""
    space = f" --namespace {vm.namespace}" if vm.namespace else ""
    place = f"vm/{vm.name}/{vm.namespace}" if vm.namespace else f"vm/{vm.name}"
    host = f"{target.alias}-cluster"
    yield f"Make it:     kubectl apply{space} -f FILE"
    yield f"Console:     virtctl console{space} {vm.name}"
    yield f"SSH:         ssh {host}, with these lines in ~/.ssh/config:"
    tunnel = f"virtctl port-forward --stdio=true {place} 22"
    yield from (f"  {line}" for line in proxied_config_block(host, target, tunnel).splitlines())
    config = vm.config
    options = {
        "--host": f"{target.username}@{vm.name}",
        "--identity": str(target.identity),
        "--proxy-command": tunnel,
        "--host-key": without_comment(host_key),
    }
    words = " ".join(f"{name} {shlex.quote(value)}" for name, value in options.items())
    yield f"As a machine, with sockets and ports here: machine init --provider ssh {words} {config.name}-cluster"
    theirs = config.first_boot.ignition
    if theirs and theirs.replaces:
        yield (
            f"The guest gets only {theirs.name}, so SSH works only if {target.username} accepts the key "
            f"{target.identity}.pub, and the SSH server's key is the one in {target.known_hosts}"
        )
    if config.first_boot.scripts or config.first_boot.playbook:
        yield f"Run its scripts, which do not run by themselves there: ssh {host} sudo systemctl start {PROVISION_UNIT}"


def lost_parts(vm: ClusterVm) -> Iterator[str]:
    """Yield a line for each part of the machine that the cluster does not have (pure)."""
    config = vm.config
    for folder in config.folders:
        yield f"the folder {folder}"
    for forward in config.forwards:
        yield f"the forward from {forward.endpoint}; containers publish their ports in the guest itself"
    for usb in config.usbs:
        yield f"the USB device {usb}"
    for label in vm.lost_labels:
        yield f"the label {label}, which Kubernetes would not accept"
    if isinstance(vm.disk, ContainerDisk):
        yield "a disk that keeps what the guest writes when it stops; for such a disk, use --disk-size"
