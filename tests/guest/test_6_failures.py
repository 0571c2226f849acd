"""Starts that fail."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
from pathlib import Path

from machine.image.layout import base_image
from machine.qemu.firmware import FirmwareFiles
from tests.support.guests import BOOT_S
from tests.support.processes import processes_of
from tests.support.waiting import wait_until
from tests.support.world import World, machine_program


def test_a_broken_ignition_config_fails_the_start_with_ignitions_own_error(world: World) -> None:
    world.must("init", "--image", "boot2podman", "--disk-size", "12", "--memory", "1024", "broken")
    config = world.machines / "broken" / "config.ign"
    document = json.loads(config.read_text())
    # It passes validation; at run time the content is not what its hash says.
    bad = {"source": "data:,hello", "verification": {"hash": "sha256-" + "0" * 64}}
    document["storage"]["files"].append({"path": "/etc/broken", "contents": bad})
    config.write_text(json.dumps(document))
    failed = world.machine("start", "broken")
    assert failed.status == 125
    first, *details = failed.stderr[failed.stderr.index("Error: ") :].splitlines()
    assert first.startswith('Error: unable to start "broken" in phase boot: Ignition failed')
    assert "hash" in first
    assert any("serial.log" in line for line in details)
    assert world.state("broken") == ("stopped", "")
    assert not processes_of(world.runtime("broken"))
    world.must("rm", "--force", "broken")


def test_the_image_boots_under_uefi_too(world: World, streams: Path, tmp_path: Path) -> None:
    """x86_64 machines start with SeaBIOS; who takes the image elsewhere may not."""
    published = json.loads((streams / "boot2podman.json").read_text())
    disk = published["architectures"]["x86_64"]["artifacts"]["qemu"]["formats"]["qcow2.xz"]["disk"]
    world.must("image", "pull", "boot2podman")
    base = base_image(world.root / "m" / "cache" / "images", disk["uncompressed-sha256"])
    firmware = FirmwareFiles(
        code=Path("/usr/share/OVMF/OVMF_CODE_4M.fd"), variables=Path("/usr/share/OVMF/OVMF_VARS_4M.fd")
    )
    variables, serial = tmp_path / "vars.fd", tmp_path / "serial.log"
    shutil.copyfile(firmware.variables, variables)
    qemu = [
        "qemu-system-x86_64", "-machine", "q35", "-m", "1024", "-display", "none", "-net", "none", "-snapshot",
        "-drive", f"if=pflash,format=raw,readonly=on,file={firmware.code}",
        "-drive", f"if=pflash,format=raw,file={variables}",
        "-drive", f"if=virtio,format=qcow2,file={base}",
        "-serial", f"file:{serial}",
    ]  # fmt: skip
    with subprocess.Popen(qemu, stdin=subprocess.DEVNULL) as process:
        try:
            wait_until(
                lambda: serial.exists() and b"Welcome to " in serial.read_bytes(),
                timeout_s=BOOT_S,
                what="systemd on the root file system",
            )
        finally:
            process.kill()


def test_an_interrupted_start_leaves_no_process_and_the_next_one_boots_afresh(world: World) -> None:
    world.must("init", "--image", "boot2podman", "--disk-size", "12", "--memory", "1024", "halted")
    process = world.spawn(machine_program(), "start", "halted")
    wait_until(lambda: world.state("halted")[0] == "starting", timeout_s=30, what="the start to begin")
    serial = world.machines / "halted" / "serial.log"
    wait_until(lambda: serial.exists() and serial.stat().st_size > 2000, timeout_s=BOOT_S, what="the kernel to speak")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert world.state("halted") == ("stopped", "")
    assert not processes_of(world.runtime("halted"))
    world.must("rm", "--force", "halted")
