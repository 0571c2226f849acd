"""The command line of every guest architecture, under the real QEMU; nothing boots: `-S`."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest

from machine.errors import DeadlineError, MachineError
from machine.folders.probe import find_virtiofsd, make_listener, probe_owners, usable_command, with_listener
from machine.folders.virtiofsd import Virtiofsd, virtiofsd_commands
from machine.ignition.provision import provision
from machine.image.layout import base_image
from machine.model.arch import Arch
from machine.model.config import MachineConfig, Provisioning
from machine.model.doctor_check import Status
from machine.model.folders import Folder, Share
from machine.model.host import Accelerator, AcceleratorChoice, HostOS
from machine.model.obstacle import Obstacle
from machine.model.record import GuestFacts
from machine.model.settings import built_in
from machine.model.transport import Transport
from machine.ops.doctor_programs import qemu_checks
from machine.ops.init_checks import check_host
from machine.qemu import img, probe
from machine.qemu.accelerator import HardwareSupport, check_qemu, choose_accelerator
from machine.qemu.boards import BOARDS, ConfigSource
from machine.qemu.firmware import FirmwareFiles, ensure_variables, find_firmware
from machine.qemu.img import QemuImg
from machine.qemu.plan import LaunchFiles, plan_launch
from machine.qemu.probe import find_qemu, folder_devices, probe_hardware, probe_qemu
from machine.report import SilentReporter
from machine.supervisor import launch
from machine.supervisor.launch import make_console, new_hardware
from machine.this_host import current_host
from tests.support.builders import (
    KEYS,
    RELAY,
    make_context,
    make_host,
    make_launch_files,
    make_paths,
    make_qemu,
    make_record,
    make_roots,
    save_machine,
)
from tests.support.disk_images import Images, qemu_img
from tests.support.waiting import WAIT_S

RISCV_FLASH_BYTES = 32 * 1024**2


def prepared(config: MachineConfig, base: Path, images: Images) -> LaunchFiles:
    """Real files where a machine's would be."""
    files = make_launch_files(base)
    for path in (files.disk, files.qmp_socket):
        path.parent.mkdir(parents=True, exist_ok=True)
    QemuImg().create_overlay(files.disk, images.qcow2, 1)
    files.ignition.write_text(provision(config, KEYS).to_json())
    files.seed.write_bytes(bytes(512))
    make_console(make_paths(base))
    return files


def real_firmware(arch: Arch, binary: str, base: Path) -> FirmwareFiles | None:
    """This host's, found as a machine finds it; Debian has none for riscv64 before 13, and nothing boots here."""
    try:
        return find_firmware(arch, current_host(), binary=binary, config_home=base / "config")
    except MachineError:
        if arch is not Arch.RISCV64:
            raise
    made_up = FirmwareFiles(code=base / "code.fd", variables=base / "vars.fd")
    for path in (made_up.code, made_up.variables):
        with path.open("wb") as stream:
            stream.truncate(RISCV_FLASH_BYTES)
    return made_up


def converse(path: Path, process: subprocess.Popen[bytes]) -> list[dict[str, object]]:
    """The greeting on a QMP socket and the answers to a handshake, a look at ports and disks and `quit`."""
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
        for command in ("qmp_capabilities", "query-chardev", "query-block", "quit"):
            connection.sendall(json.dumps({"execute": command}).encode())
            answers.append(json.loads(lines.readline()))
        return answers


def two_shares(base: Path, transport: Transport) -> list[Share]:
    """Real directories, one of them read-only."""
    made = []
    for number, name in enumerate(("my folder, and é", "other")):
        (base / name).mkdir()
        folder = Folder(source=os.fspath(base / name), target=f"/mnt/{name}", read_only=number > 0)
        made.append(Share(folder=folder, transport=transport, socket=PurePosixPath(base / f"folder{number}.sock")))
    return made


@contextlib.contextmanager
def folders_served(shares: Sequence[Share]) -> Iterator[None]:
    """By virtiofsd, for those that want it."""
    daemon = find_virtiofsd(current_host())
    assert isinstance(daemon, Virtiofsd)
    with contextlib.ExitStack() as daemons:
        for share in shares:
            if share.transport is Transport.VIRTIOFS:
                command = usable_command(virtiofsd_commands(daemon, probe_owners(1000), share.folder))
                assert not isinstance(command, Obstacle), command
                listener = daemons.enter_context(make_listener(str(share.socket)))
                process = daemons.enter_context(
                    subprocess.Popen(with_listener(command, listener), pass_fds=(listener.fileno(),))
                )
                daemons.callback(process.kill)
        yield


@pytest.mark.linux("virtiofsd is Linux's")
@pytest.mark.parametrize("transport", [transport for transport in Transport if transport.is_device])
@pytest.mark.parametrize("arch", Arch)
@pytest.mark.parametrize(
    ("provisioned", "provisioning"),
    [(False, Provisioning.IGNITION), (False, Provisioning.CLOUD_INIT), (True, Provisioning.IGNITION)],
    ids=["first-boot", "first-boot-with-seed", "provisioned"],
)
@pytest.mark.parametrize("folder", ["my machines, all of them"])
def test_qemu_accepts_the_command_line(  # noqa: PLR0915  (one boot of a QEMU)
    arch: Arch,
    provisioned: bool,
    provisioning: Provisioning,
    folder: str,
    transport: Transport,
    short_path: Path,
    images: Images,
) -> None:
    host = current_host()
    qemu = probe_qemu(find_qemu(arch, host))
    usbs = ("vendor=ffff,product=ffff",) if BOARDS[arch].has_usb else ()
    record = make_record(
        guest=GuestFacts(provisioned=provisioned),
        arch=arch,
        provisioning=provisioning,
        memory_mib=512,
        ssh_port=0,
        usbs=usbs,
    )
    files = prepared(record.config, short_path / folder, images)
    shares = two_shares(short_path, transport)
    assert transport in folder_devices(qemu, arch)
    firmware = real_firmware(arch, qemu.path, short_path)
    if firmware:
        ensure_variables(firmware, files.efi_vars)
    hardware = HardwareSupport(accelerator=Accelerator.KVM, obstacle=None)
    acceleration = choose_accelerator(AcceleratorChoice.TCG, arch, host, hardware, qemu)
    plan = plan_launch(
        record,
        binary=qemu.path,
        hardware=new_hardware(record, acceleration, shares),
        relay=RELAY,
        firmware=firmware,
        files=files,
        shares=shares,
    )
    argv = list(plan.argv)
    if qemu.version < BOARDS[arch].min_qemu:
        # One that a start would refuse: all but what it is refused for still has to be right.
        with pytest.raises(MachineError, match=f"is QEMU {qemu.dotted}, but {arch} guests need"):
            check_qemu(qemu, arch, host)
        assert arch is Arch.RISCV64
        argv[argv.index("-machine") + 1] = "virt"
        argv = [word for word in argv if word != "-fw_cfg" and "name=opt/com.coreos/config" not in word]
    else:
        check_qemu(qemu, arch, host)
    with (
        folders_served(shares),
        subprocess.Popen([*argv, "-S"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process,
    ):
        assert process.stdout is not None
        try:
            greeting, capable, ports, disks, _ = converse(files.qmp_socket, process)
            assert process.wait(WAIT_S) == 0
        except (ValueError, OSError):
            process.kill()
            pytest.fail(process.stdout.read().decode())
        said = process.stdout.read().decode().splitlines()
    # An emulated Power tells of every flaw of real ones that it lacks.
    assert [line for line in said if "TCG doesn't support requested feature" not in line] == []
    assert "QMP" in greeting
    assert capable == {"return": {}}
    chardevs = ports["return"]
    assert isinstance(chardevs, list)
    assert {"serial", "ready", "journal", "qmp", "qmp-tools"} <= {chardev["label"] for chardev in chardevs}
    devices = disks["return"]
    assert isinstance(devices, list)
    by_name = {disk["device"]: disk["inserted"] for disk in devices if "inserted" in disk}
    assert by_name["disk"]["file"] == os.fspath(files.disk)
    by_seed = provisioning is Provisioning.CLOUD_INIT
    by_disk = BOARDS[arch].config_source is ConfigSource.DISK and not provisioned and not by_seed
    assert ("ignition" in by_name) == by_disk
    assert ("seed" in by_name) == by_seed
    if by_seed:
        assert by_name["seed"]["ro"]
    if by_disk:
        assert by_name["ignition"]["ro"]
    if firmware:
        assert (by_name["pflash0"]["ro"], by_name["pflash1"]["ro"]) == (True, False)
    assert make_paths(short_path / folder).serial_log.exists()
    assert files.ignition_journal.exists()


@pytest.mark.parametrize("arch", Arch)
def test_qemu_tells_what_it_is(arch: Arch) -> None:
    qemu = probe_qemu(find_qemu(arch, current_host()))
    assert qemu.version >= (6, 2)
    assert "tcg" in qemu.accelerators
    assert "user" in qemu.networks


MAC_TOOLS = {
    "sysctl": "case $2 in kern.hv_support) echo 1;; "
    'machdep.cpu.brand_string) echo Apple M9;; *) echo "unknown oid $2" >&2; exit 1;; esac',
    "codesign": 'echo "$@" >"$0.asked"; echo "$5: code object is not signed at all" >&2; exit 1',
}


def test_macs_tools_are_asked_about_the_qemu_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scripts speak for them; a link, as Homebrew makes one, has no signature of its own."""
    for name, script in MAC_TOOLS.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "cellar").touch()
    link = tmp_path / "qemu-system-aarch64"
    link.symlink_to("cellar")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    mac = make_host(HostOS.MACOS, "arm64")
    found = probe_hardware(mac, make_qemu(os.fspath(link)))
    assert found.accelerator is Accelerator.HVF
    assert found.obstacle is not None
    assert found.obstacle.reason == f"{link} is not signed with the entitlement com.apple.security.hypervisor"
    assert found.cpu_name == "Apple M9"
    assert (tmp_path / "codesign.asked").read_text() == f"--display --entitlements - --xml {tmp_path / 'cellar'}\n"
    (tmp_path / "codesign").unlink()
    assert probe_hardware(mac, make_qemu(os.fspath(link))).obstacle is None
    (tmp_path / "sysctl").write_text("#!/bin/sh\necho 0\n")
    assert "kern.hv_support" in str(probe_hardware(mac, make_qemu(os.fspath(link))).obstacle)


def test_variables_of_qcow2_firmware_become_raw_and_sparse(tmp_path: Path) -> None:
    template = tmp_path / "vars.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", template, "64M")
    target = tmp_path / "efivars.fd"
    files = FirmwareFiles(code=template, variables=template, code_format="qcow2", variables_format="qcow2")
    ensure_variables(files, target)
    assert target.read_bytes()[:4] == bytes(4)
    assert target.stat().st_size == 64 * 1024**2
    assert target.stat().st_blocks * 512 < 64 * 1024
    assert target.stat().st_mode & 0o777 == 0o600
    target.write_bytes(b"written by a guest")
    ensure_variables(files, target)
    assert target.read_bytes() == b"written by a guest"
    assert not list(tmp_path.glob(".efivars*"))


def test_slow_qemu_is_asked_with_more_patience(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = tmp_path / "qemu"
    slow.write_text("#!/bin/sh\nsleep 1\necho QEMU emulator version 10.0.2\n")
    slow.chmod(0o755)
    monkeypatch.setattr(probe, "_PROBE_TIMEOUT_S", 0.5)
    with pytest.raises(DeadlineError):
        probe_qemu(str(slow))
    assert probe_qemu(str(slow), patience=60).version == (10, 0, 2)


def test_slow_qemu_is_found_by_doctor_and_init_with_more_patience(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = current_host()
    real = find_qemu(Arch.parse(host.machine), host)
    slow = tmp_path / "bin" / Path(real).name
    slow.parent.mkdir()
    slow.write_text(f'#!/bin/sh\nsleep 1\nexec {real} "$@"\n')
    slow.chmod(0o755)
    monkeypatch.setattr(probe, "_PROBE_TIMEOUT_S", 0.5)
    monkeypatch.setenv("PATH", f"{slow.parent}:{os.environ['PATH']}")
    context = replace(make_context(tmp_path, MACHINE_PATIENCE="60"), host=host)
    settings = replace(built_in(host), patience=60)
    checks = {check.name: check for check in qemu_checks(context, settings)}
    assert checks["qemu"].status is Status.OK, checks["qemu"]
    assert "did not end" not in checks["folders"].finding
    check_host(Arch.parse(host.machine), AcceleratorChoice.AUTO, context, SilentReporter())


def test_slow_disk_has_more_time_for_a_new_overlay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = tmp_path / "bin" / "qemu-img"
    slow.parent.mkdir()
    slow.write_text(f'#!/bin/sh\nsleep 1\nexec {shutil.which("qemu-img")} "$@"\n')
    slow.chmod(0o755)
    roots, record = make_roots(tmp_path), make_record()
    paths = save_machine(roots, record)
    assert record.config.image.digest
    base = base_image(roots.images, record.config.image.digest)
    base.parent.mkdir(parents=True)
    QemuImg().create_empty(base, 1)
    monkeypatch.setattr(img, "_QUICK_S", 0.5)
    monkeypatch.setenv("PATH", f"{slow.parent}:{os.environ['PATH']}")
    with pytest.raises(DeadlineError):
        launch._prepare_disk(record, paths, roots, patience=1)
    assert launch._prepare_disk(record, paths, roots, patience=60) == base
    assert paths.disk.exists()
