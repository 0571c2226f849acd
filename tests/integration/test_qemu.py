"""Every golden command line of this host's architecture, under the real QEMU; nothing boots: `-S`."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from pathlib import Path

import pytest

from machine.ignition.provision import provision
from machine.model.host import Accelerator
from machine.qemu.firmware import Firmware
from machine.qemu.img import QemuImg
from machine.qemu.plan import LaunchFiles, plan_launch
from machine.supervisor.launch import make_console
from tests.builders import KEYS, RELAY, make_config, make_launch_files, make_paths
from tests.integration.conftest import Images

WAIT_S = 20
UEFI = Path("/usr/share/OVMF/OVMF_CODE_4M.fd")


def prepared(base: Path, images: Images) -> LaunchFiles:
    """Real files where a machine's would be."""
    files = make_launch_files(base)
    for path in (files.disk, files.qmp_socket):
        path.parent.mkdir(parents=True, exist_ok=True)
    QemuImg().create_overlay(files.disk, images.qcow2, 1)
    files.ignition.write_text(provision(make_config(), KEYS).to_json())
    make_console(make_paths(base))
    return files


def converse(path: Path, process: subprocess.Popen[bytes]) -> list[dict[str, object]]:
    """The greeting on a QMP socket and the answers to a handshake, a look at the ports and `quit`."""
    until = time.monotonic() + WAIT_S
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(WAIT_S)
        while process.poll() is None and time.monotonic() < until:
            try:
                connection.connect(os.fspath(path))
                break
            except OSError:
                time.sleep(0.02)
        lines = connection.makefile("rb")
        answers = [json.loads(lines.readline())]
        for command in ("qmp_capabilities", "query-chardev", "quit"):
            connection.sendall(json.dumps({"execute": command}).encode())
            answers.append(json.loads(lines.readline()))
        return answers


@pytest.mark.parametrize("provisioned", [False, True], ids=["first-boot", "provisioned"])
@pytest.mark.parametrize("folder", ["plain", "my machines, all of them"])
@pytest.mark.parametrize("firmware", [False, True], ids=["bios", "uefi"])
def test_qemu_accepts_the_command_line(
    provisioned: bool, folder: str, firmware: bool, short_path: Path, images: Images
) -> None:
    if firmware and not UEFI.exists():
        pytest.skip(f"{UEFI} is not installed")
    files = prepared(short_path / folder, images)
    uefi = Firmware(code=UEFI, variables=UEFI.with_name("OVMF_VARS_4M.fd")) if firmware else None
    if uefi:
        files.efi_vars.write_bytes(uefi.variables.read_bytes())
    plan = plan_launch(
        make_config(provisioned=provisioned, memory_mib=512, ssh_port=0, usbs=("vendor=ffff,product=ffff",)),
        binary="qemu-system-x86_64",
        accelerator=Accelerator.TCG,
        relay=RELAY,
        firmware=uefi,
        files=files,
    )
    with subprocess.Popen([*plan.argv, "-S"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        assert process.stdout is not None
        try:
            greeting, capable, ports, _ = converse(files.qmp_socket, process)
            assert process.wait(WAIT_S) == 0
        except (ValueError, OSError):
            process.kill()
            pytest.fail(process.stdout.read().decode())
        assert process.stdout.read() == b""
    assert "QMP" in greeting
    assert capable == {"return": {}}
    chardevs = ports["return"]
    assert isinstance(chardevs, list)
    assert {"serial", "ready", "journal", "qmp", "qmp-tools"} <= {chardev["label"] for chardev in chardevs}
    assert make_paths(short_path / folder).serial_log.exists()
    assert files.ignition_journal.exists()
