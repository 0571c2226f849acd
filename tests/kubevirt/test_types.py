"""The manifests of `machine export --format kubevirt` against KubeVirt's published types, by TypeScript's compiler.

The types are those of the npm package @kubevirt-ui-ext/kubevirt-api. The lock file has its hash and the compiler's.
Both are installed into a temporary directory.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from machine.model.config import Provisioning
from machine.model.kubevirt import ClusterVm, ContainerDisk, Disk, ImportedDisk, manifest
from machine.ops.export_kubevirt import ClusterOptions
from machine.ops.export_kubevirt_file import export_file
from machine.report import SilentReporter
from tests.support.builders import make_context, make_full_config

HERE = Path(__file__).parent
INSTALL_S, COMPILE_S = 300, 300
IMAGE = f"quay.io/fedora/fedora-coreos-kubevirt@sha256:{'ab' * 32}"
DISKS: dict[str, Disk] = {
    "container": ContainerDisk(image=IMAGE),
    "http": ImportedDisk(url="https://x.example/a.qcow2", size_gib=9, storage_class="fast"),
    "registry": ImportedDisk(url=f"docker://{IMAGE}", size_gib=9),
}


@pytest.fixture(scope="module")
def compiler(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the types and the compiler."""
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed, so KubeVirt's types cannot be fetched")
    directory = tmp_path_factory.mktemp("types")
    for name in ("package.json", "package-lock.json"):
        shutil.copy(HERE / name, directory)
    install = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    subprocess.run(install, cwd=directory, check=True, timeout=INSTALL_S)
    return directory


def errors_of(machine: dict[str, Any], directory: Path) -> str:
    """Return what the compiler says of a virtual machine. As a literal, it may have no field that the type lacks."""
    source = directory / "machine.ts"
    source.write_text(
        'import type { V1VirtualMachine } from "@kubevirt-ui-ext/kubevirt-api/kubevirt";\n'
        f"export const machine: V1VirtualMachine = {json.dumps(machine)};\n"
    )
    options = ["--strict", "--noEmit", "--skipLibCheck", "--module", "nodenext", "--moduleResolution", "nodenext"]
    done = subprocess.run(
        [directory / "node_modules" / ".bin" / "tsc", *options, source],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=COMPILE_S,
        check=False,
    )
    assert bool(done.stdout) == bool(done.returncode), done
    return done.stdout


def machine_of(disk: Disk, namespace: str | None = None, **fields: Any) -> dict[str, Any]:
    vm = ClusterVm(config=make_full_config(**fields), payload="{}\n", disk=disk, namespace=namespace)
    found: dict[str, Any] = manifest(vm)["items"][1]
    return found


@pytest.mark.parametrize("provisioning", Provisioning)
@pytest.mark.parametrize("disk", DISKS)
def test_virtual_machine_has_kubevirts_type(disk: str, provisioning: Provisioning, compiler: Path) -> None:
    assert not errors_of(machine_of(DISKS[disk], "lab", provisioning=provisioning), compiler)


def test_machine_of_a_file_has_kubevirts_type(tmp_path: Path, compiler: Path) -> None:
    file = tmp_path / "box.toml"
    file.write_text('image = "debian:13"\ncpus = 64\nmemory = 100000\nvolume = [""]\nlabel = {team = "a"}\n')
    options = ClusterOptions(namespace="lab", storage_class="fast")
    _, found = export_file(str(file), "box", options, make_context(tmp_path), SilentReporter())
    assert not errors_of(found.objects["items"][1], compiler)


def test_compiler_refuses_fields_that_kubevirt_does_not_know(compiler: Path) -> None:
    machine = machine_of(DISKS["container"])
    machine["spec"]["template"]["spec"]["domain"]["cpus"] = 2
    assert "'\"cpus\"' does not exist in type" in errors_of(machine, compiler)


def test_compiler_refuses_values_of_a_wrong_type(compiler: Path) -> None:
    machine = machine_of(DISKS["container"])
    machine["spec"]["template"]["spec"]["domain"]["cpu"]["cores"] = "2"
    assert "Type 'string' is not assignable to type 'number'" in errors_of(machine, compiler)
