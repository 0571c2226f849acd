"""A machine in the objects of KubeVirt, and names and labels that Kubernetes accepts."""

from __future__ import annotations

from typing import Any

import pytest

from machine.errors import BadInputError
from machine.model.arch import Arch
from machine.model.config import Provisioning
from machine.model.kubevirt import (
    ClusterVm,
    ContainerDisk,
    Disk,
    ImportedDisk,
    check_arch,
    check_namespace,
    check_payload,
    check_storage_class,
    cluster_name,
    is_label,
    manifest,
)
from tests.support.builders import make_config

IMAGE = f"quay.io/fedora/fedora-coreos-kubevirt@sha256:{'ab' * 32}"


def objects(disk: Disk, **fields: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The Secret and the virtual machine."""
    namespace = fields.pop("namespace", None)
    vm = ClusterVm(config=make_config(**fields), payload="{}\n", disk=disk, namespace=namespace)
    secret, machine = manifest(vm)["items"]
    return secret, machine


def test_machine_has_its_resources_and_the_secret_for_its_first_boot() -> None:
    secret, machine = objects(ContainerDisk(image=IMAGE), cpus=3, memory_mib=700)
    spec = machine["spec"]["template"]["spec"]
    assert secret["stringData"] == {"userdata": "{}\n"}
    assert (spec["domain"]["cpu"], spec["domain"]["memory"]) == ({"cores": 3}, {"guest": "700Mi"})
    assert spec["volumes"] == [
        {"name": "root", "containerDisk": {"image": IMAGE}},
        {"name": "first-boot", "cloudInitConfigDrive": {"secretRef": {"name": secret["metadata"]["name"]}}},
    ]
    assert [disk["name"] for disk in spec["domain"]["devices"]["disks"]] == ["root", "first-boot"]
    assert "dataVolumeTemplates" not in machine["spec"]
    assert "namespace" not in machine["metadata"]


@pytest.mark.parametrize(("url", "kind"), [("https://x.example/a.qcow2", "http"), (f"docker://{IMAGE}", "registry")])
def test_disk_that_is_imported_is_a_volume_of_the_cluster(url: str, kind: str) -> None:
    disk = ImportedDisk(url=url, size_gib=9, storage_class="fast")
    _, machine = objects(disk, namespace="lab", provisioning=Provisioning.CLOUD_INIT)
    (template,) = machine["spec"]["dataVolumeTemplates"]
    assert template["spec"] == {
        "source": {kind: {"url": url}},
        "storage": {"resources": {"requests": {"storage": "9Gi"}}, "storageClassName": "fast"},
    }
    root, first_boot = machine["spec"]["template"]["spec"]["volumes"]
    assert root["dataVolume"] == {"name": template["metadata"]["name"]}
    assert "cloudInitNoCloud" in first_boot
    assert machine["metadata"]["namespace"] == "lab"


def test_only_labels_that_kubernetes_accepts_are_labels() -> None:
    labels = (("team", "a"), ("x.example/y", ""), ("bad key", "a"), ("long", "a" * 64), ("word", "a b"))
    secret, machine = objects(ContainerDisk(image=IMAGE), labels=labels)
    expected = {"app.kubernetes.io/managed-by": "boot2podman", "team": "a", "x.example/y": ""}
    assert secret["metadata"]["labels"] == machine["metadata"]["labels"] == expected
    vm = ClusterVm(config=make_config(labels=labels), payload="", disk=ContainerDisk(image=IMAGE))
    assert vm.lost_labels == ["bad key", "long", "word"]


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("a", "", True),
        ("a" * 63, "b" * 63, True),
        ("a" * 64, "", False),
        ("-a", "", False),
        ("a-", "", False),
        ("A_b.c", "D-e_f.g", True),
        ("example.org/a", "", True),
        ("Example.org/a", "", False),
        ("..org/a", "", False),
        ("a/b/c", "", False),
        ("a", "é", False),
        ("a", "b\n", False),
        ("", "", False),
    ],
)
def test_labels(key: str, value: str, expected: bool) -> None:
    assert is_label(key, value) is expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [("box", "box"), ("Box_2.a", "box-2-a"), ("a.", "a"), ("a-_", "a"), ("a" * 80, "a" * 63)],
)
def test_names(name: str, expected: str) -> None:
    assert cluster_name(name) == expected


def test_what_a_cluster_does_not_take_is_refused() -> None:
    for text in ("", "A", "a_b", "-a", "a.b", "a" * 64):
        with pytest.raises(BadInputError, match="cannot be a namespace"):
            check_namespace(text)
    for text in ("", "A", "a..b", "a b", "a" * 254):
        with pytest.raises(BadInputError, match="cannot be a storage class"):
            check_storage_class(text)
    with pytest.raises(BadInputError, match="KubeVirt has no guests of riscv64"):
        check_arch(Arch.RISCV64)
    with pytest.raises(BadInputError, match="has 1025 KiB, but a Secret holds at most 1024 KiB"):
        check_payload("é" * 512 * 1024 + "a")
    check_payload("a" * 1024 * 1024)
    assert check_namespace("lab-1") == "lab-1"
    assert check_storage_class("ssd.fast-1") == "ssd.fast-1"
    check_arch(Arch.AARCH64)
