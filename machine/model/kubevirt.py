"""Describe a machine as a virtual machine for KubeVirt, in the objects that `kubectl apply` takes (pure).

Sources: kubevirt.io/api-reference (kubevirt.io/v1), containerized-data-importer (cdi.kubevirt.io/v1beta1), and Fedora
CoreOS's documentation, Provisioning on KubeVirt.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from machine.errors import BadInputError
from machine.model.arch import Arch
from machine.model.config import MachineConfig, Provisioning

_ARCHES = {Arch.X86_64: "amd64", Arch.AARCH64: "arm64", Arch.S390X: "s390x"}
"""KubeVirt's words for the architectures of its guests."""

_KIB = 1024
_MAX_SECRET_KIB = 1024
_MAX_NAME = 63
_DNS_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_DNS_SUBDOMAIN = re.compile(r"(?=.{1,253}$)[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*")
_WORD = r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?"
_LABEL_KEY = re.compile(rf"(?:(?P<prefix>[a-z0-9.-]+)/)?{_WORD}")
_LABEL_VALUE = re.compile(rf"(?:{_WORD})?")

Object = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class ContainerDisk:
    """A disk image in a container image. What a guest writes to such a disk is lost when the guest stops."""

    image: str


@dataclass(frozen=True, kw_only=True)
class ImportedDisk:
    """A volume of the cluster, into which an image is imported from an http(s) or docker URL."""

    url: str
    size_gib: int
    storage_class: str | None = None


Disk = ContainerDisk | ImportedDisk


@dataclass(frozen=True, kw_only=True)
class ClusterVm:
    """A virtual machine on a cluster. `payload` is what its guest reads at its first boot."""

    config: MachineConfig
    payload: str
    disk: Disk
    namespace: str | None = None

    @property
    def name(self) -> str:
        return cluster_name(self.config.name)

    @property
    def lost_labels(self) -> list[str]:
        """The machine's labels that are not labels in Kubernetes."""
        return [key for key, value in self.config.labels if not is_label(key, value)]


def cluster_name(name: str) -> str:
    """Return a machine's name in the form that names in Kubernetes have."""
    return re.sub(r"[^a-z0-9-]", "-", name.lower()).strip("-")[:_MAX_NAME].rstrip("-")


def check_namespace(text: str) -> str:
    """Check that a namespace can have this name, and return the name.

    Raises:
        BadInputError: the name has a form that namespaces cannot have.
    """
    if not _DNS_LABEL.fullmatch(text):
        raise BadInputError(f'"{text}" cannot be a namespace', hint="use small letters, digits and hyphens")
    return text


def check_storage_class(text: str) -> str:
    """Check that a storage class can have this name, and return the name.

    Raises:
        BadInputError: the name has a form that storage classes cannot have.
    """
    if not _DNS_SUBDOMAIN.fullmatch(text):
        raise BadInputError(f'"{text}" cannot be a storage class', hint="use small letters, digits, hyphens and dots")
    return text


def is_label(key: str, value: str) -> bool:
    """Return whether Kubernetes accepts this label."""
    matched = _LABEL_KEY.fullmatch(key)
    prefix = matched and matched["prefix"]
    return bool(matched and (prefix is None or _DNS_SUBDOMAIN.fullmatch(prefix)) and _LABEL_VALUE.fullmatch(value))


def check_arch(arch: Arch) -> None:
    """Check that KubeVirt runs guests of this architecture.

    Raises:
        BadInputError: it does not.
    """
    if arch not in _ARCHES:
        raise BadInputError(f"KubeVirt has no guests of {arch}", hint=f"it has: {', '.join(_ARCHES)}")


def check_payload(payload: str) -> None:
    """Check that a Secret can hold what the guest reads at its first boot.

    Raises:
        BadInputError: it is too large.
    """
    size_kib = -(-len(payload.encode()) // _KIB)
    if size_kib > _MAX_SECRET_KIB:
        raise BadInputError(
            f"the guest's configuration has {size_kib} KiB, but a Secret holds at most {_MAX_SECRET_KIB} KiB",
            hint="make the scripts and the Ignition config smaller",
        )


def manifest(vm: ClusterVm) -> Object:
    """Return the list of objects that make the virtual machine: a Secret for its first boot, and the machine."""
    return {"apiVersion": "v1", "kind": "List", "items": [_secret(vm), _machine(vm)]}


def _metadata(vm: ClusterVm, name: str) -> Object:
    labels = {key: value for key, value in vm.config.labels if is_label(key, value)}
    return {
        "name": name,
        **({"namespace": vm.namespace} if vm.namespace else {}),
        "labels": {"app.kubernetes.io/managed-by": "boot2podman", **labels},
    }


def _secret_name(vm: ClusterVm) -> str:
    return f"{vm.name}-first-boot"


def _secret(vm: ClusterVm) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": _metadata(vm, _secret_name(vm)),
        "type": "Opaque",
        # KubeVirt reads this key of the Secret that a volume for cloud-init names.
        "stringData": {"userdata": vm.payload},
    }


def _machine(vm: ClusterVm) -> Object:
    templates = [_data_volume(vm, vm.disk)] if isinstance(vm.disk, ImportedDisk) else []
    return {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachine",
        "metadata": _metadata(vm, vm.name),
        "spec": {
            "runStrategy": "Always",
            **({"dataVolumeTemplates": templates} if templates else {}),
            "template": {
                "metadata": {"labels": {"kubevirt.io/domain": vm.name}},
                "spec": _guest(vm),
            },
        },
    }


def _guest(vm: ClusterVm) -> Object:
    config = vm.config
    return {
        "architecture": _ARCHES[config.arch],
        "domain": {
            "cpu": {"cores": config.resources.cpus},
            "memory": {"guest": f"{config.resources.memory_mib}Mi"},
            "devices": {
                "disks": [_virtio_disk("root"), _virtio_disk("first-boot")],
                "interfaces": [{"name": "default", "masquerade": {}}],
                "rng": {},
            },
        },
        "networks": [{"name": "default", "pod": {}}],
        "volumes": [{"name": "root", **_root_volume(vm)}, {"name": "first-boot", **_first_boot_volume(vm)}],
    }


def _virtio_disk(name: str) -> Object:
    return {"name": name, "disk": {"bus": "virtio"}}


def _root_volume(vm: ClusterVm) -> Object:
    match vm.disk:
        case ContainerDisk(image=image):
            return {"containerDisk": {"image": image}}
        case ImportedDisk():
            return {"dataVolume": {"name": f"{vm.name}-root"}}


def _first_boot_volume(vm: ClusterVm) -> Object:
    # Ignition reads a config drive on KubeVirt. cloud-init's images look for the data source NoCloud first.
    kind = "cloudInitConfigDrive" if vm.config.provisioning is Provisioning.IGNITION else "cloudInitNoCloud"
    return {kind: {"secretRef": {"name": _secret_name(vm)}}}


def _data_volume(vm: ClusterVm, disk: ImportedDisk) -> Object:
    kind = "registry" if disk.url.startswith("docker://") else "http"
    return {
        "metadata": {"name": f"{vm.name}-root"},
        "spec": {
            "source": {kind: {"url": disk.url}},
            "storage": {
                "resources": {"requests": {"storage": f"{disk.size_gib}Gi"}},
                **({"storageClassName": disk.storage_class} if disk.storage_class else {}),
            },
        },
    }
