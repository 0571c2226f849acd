"""What doctor makes of hosts that are made up: each with one thing that is not as it should be."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from machine.errors import MachineError
from machine.model.arch import Arch
from machine.model.check import Check, Status, is_ready
from machine.model.config import Resources
from machine.model.folders import HostCarriers
from machine.model.host import Accelerator, AcceleratorChoice, Host, HostOS
from machine.model.settings import BUILT_IN, EffectiveSetting
from machine.model.state import STOPPED, MachineState, State
from machine.model.transport import Transport
from machine.model.units import GIB, MIB
from machine.ops import doctor_checks as checks
from machine.ops.doctor_checks import MachineFacts, SessionFacts
from machine.ops.shared.state import SUPERVISOR_LOST, SUPERVISOR_SILENT
from machine.podman import legacy
from machine.qemu.acceleration import HardwareHelp
from machine.qemu.firmware import FirmwareFiles
from machine.ssh.client import Client
from machine.store.filesystem import DirectoryFacts
from tests.support.builders import make_host, make_qemu

LINUX, MAC = HostOS.LINUX, HostOS.MACOS

QEMU = make_qemu("/usr/bin/qemu-system-x86_64")
KVM = HardwareHelp(accelerator=Accelerator.KVM, obstacle="")
NO_KVM = HardwareHelp(accelerator=Accelerator.KVM, obstacle="the CPU shows neither vmx nor svm", remedy="enable it")
SSH = Client(path="/usr/bin/ssh", version="OpenSSH_9.2p1", obstacle="")
SLOW = "guests are emulated (tcg) and about twenty times slower"

ENOUGH_FILES = 524_288
OK, WARNING, FAILURE = Status.OK, Status.WARNING, Status.FAILURE


def told(check: Check) -> tuple[Status, str, str]:
    assert check.finding
    assert "\n" not in check.finding + check.remedy
    assert bool(check.remedy) is (check.status is not OK)
    return check.status, check.finding, check.remedy


@pytest.mark.parametrize(
    ("statuses", "ready"), [([], True), ([OK, WARNING], True), ([FAILURE], False), ([OK, FAILURE, WARNING], False)]
)
def test_host_is_ready_without_failures(statuses: list[Status], ready: bool) -> None:
    assert is_ready([Check(name="x", status=status, finding="y") for status in statuses]) is ready


def test_error_is_a_failure_in_its_own_words() -> None:
    assert told(checks.failed("x", MachineError("it is broken", hint="mend it"))) == (
        FAILURE,
        "it is broken",
        "mend it",
    )
    assert told(checks.failed("x", MachineError("it is broken"), "buy another")) == (
        FAILURE,
        "it is broken",
        "buy another",
    )


def test_architecture_without_guests() -> None:
    assert told(checks.architecture_check(make_host(machine="armv7l"), None)) == (
        FAILURE,
        "there are no guests of this host's architecture, armv7l",
        "use a host with one of: x86_64, aarch64, riscv64, s390x, ppc64le",
    )
    assert told(checks.architecture_check(make_host(), Arch.X86_64))[0] is OK


@pytest.mark.parametrize(
    ("version", "arch", "status"),
    [
        ((5, 2, 0), Arch.X86_64, FAILURE),
        ((5, 10, 1), Arch.X86_64, FAILURE),
        ((6, 2, 0), Arch.X86_64, OK),
        ((7, 2, 22), Arch.X86_64, OK),
        ((7, 2, 22), Arch.RISCV64, FAILURE),
        ((10, 0, 2), Arch.RISCV64, OK),
    ],
)
def test_version_of_qemu(version: tuple[int, ...], arch: Arch, status: Status) -> None:
    check = checks.qemu_check(replace(QEMU, version=version), arch, make_host())
    assert told(check)[0] is status
    assert ".".join(map(str, version)) in check.finding


@pytest.mark.parametrize(
    ("host_os", "arch", "command"),
    [
        (LINUX, Arch.X86_64, "apt install qemu-system-x86"),
        (LINUX, Arch.AARCH64, "apt install qemu-system-arm"),
        (MAC, Arch.AARCH64, "brew install qemu"),
    ],
)
def test_qemu_without_slirp(host_os: HostOS, arch: Arch, command: str) -> None:
    facts = replace(QEMU, networks=frozenset({"socket", "vhost-user"}))
    assert told(checks.network_check(facts, arch, make_host(host_os))) == (
        FAILURE,
        "/usr/bin/qemu-system-x86_64 was built without slirp, the network of every machine",
        f"install it with: {command}",
    )
    assert told(checks.network_check(QEMU, arch, make_host(host_os)))[0] is OK


@pytest.mark.parametrize(
    ("choice", "help_", "accelerators", "expected"),
    [
        ("auto", KVM, "kvm tcg", (OK, "kvm works", "")),
        ("kvm", KVM, "kvm tcg", (OK, "kvm works", "")),
        ("tcg", KVM, "kvm tcg", (OK, f"{SLOW}, as it was chosen", "")),
        ("auto", NO_KVM, "kvm tcg", (WARNING, f"{SLOW}: {NO_KVM.obstacle}", "enable it")),
        (
            "kvm",
            NO_KVM,
            "kvm tcg",
            (
                FAILURE,
                f"cannot use kvm for this machine: {NO_KVM.obstacle}",
                "use --accel auto or tcg, or: enable it",
            ),
        ),
        (
            "hvf",
            KVM,
            "kvm tcg",
            (FAILURE, "cannot use hvf for this machine: linux has no hvf", "use --accel auto or tcg"),
        ),
        (
            "auto",
            KVM,
            "tcg",
            (WARNING, f"{SLOW}: {QEMU.path} was built without kvm", "install a QEMU that has kvm"),
        ),
        (
            "auto",
            NO_KVM,
            "kvm",
            (
                FAILURE,
                f"{QEMU.path} was built without tcg, and {NO_KVM.obstacle}",
                "install it with: apt install qemu-system-x86",
            ),
        ),
    ],
)
def test_accelerator(choice: str, help_: HardwareHelp, accelerators: str, expected: tuple[Status, str, str]) -> None:
    facts = replace(QEMU, accelerators=frozenset(accelerators.split()))
    assert told(checks.accelerator_check(AcceleratorChoice(choice), Arch.X86_64, make_host(), help_, facts)) == expected


def test_firmware() -> None:
    missing = MachineError("no UEFI firmware for aarch64 guests on this host", hint="install it")
    found = FirmwareFiles(code=Path("/usr/share/code.fd"), variables=Path("/usr/share/vars.fd"))
    assert told(checks.firmware_check(Arch.X86_64, None, native=True)) == (OK, "x86_64 guests need none", "")
    assert told(checks.firmware_check(Arch.AARCH64, found, native=True)) == (OK, "/usr/share/code.fd", "")
    assert told(checks.firmware_check(Arch.AARCH64, missing, native=True)) == (FAILURE, missing.message, "install it")
    assert told(checks.firmware_check(Arch.AARCH64, missing, native=False)) == (WARNING, missing.message, "install it")


def test_ssh() -> None:
    assert told(checks.ssh_check(SSH, make_host(), has_keygen=True)) == (OK, "/usr/bin/ssh, OpenSSH_9.2p1", "")
    old = replace(SSH, version="OpenSSH_6.6", obstacle="command-line: line 0: Bad configuration option: SetEnv")
    assert told(checks.ssh_check(old, make_host(), has_keygen=True)) == (
        FAILURE,
        "/usr/bin/ssh (OpenSSH_6.6) cannot carry sockets: command-line: line 0: Bad configuration option: SetEnv",
        "install it with: apt install openssh-client",
    )
    assert told(checks.ssh_check(SSH, make_host(MAC), has_keygen=False)) == (
        FAILURE,
        "ssh-keygen is not installed on this host",
        "install it with: brew install openssh",
    )


def test_keys() -> None:
    keys = Path("/home/me/keys")
    assert told(checks.keys_check(3, [], keys)) == (OK, "3 signing keys are trusted", "")
    assert told(checks.keys_check(3, [keys / "a.gpg", keys / "b.asc"], keys)) == (
        WARNING,
        "no OpenPGP public key is in a.gpg, b.asc",
        "mend or remove it in /home/me/keys",
    )
    assert told(checks.keys_check(0, [], keys))[0] is FAILURE


@pytest.mark.parametrize(
    ("client", "status", "words"),
    [
        (None, WARNING, "there is no podman on PATH"),
        (legacy.Client(program="podman", path="/b/podman", version=(4, 3)), OK, "4.3, which keeps connections in"),
        (legacy.Client(program="podman", path="/b/podman", version=(5, 4)), OK, "5.4, which reads /c/connections.json"),
        (legacy.Client(program="podman", path="/b/podman", version=None), OK, "of unknown version, which reads /c/"),
    ],
)  # fmt: skip
def test_podman(client: legacy.Client | None, status: Status, words: str) -> None:
    found = told(checks.podman_check(client, make_host(), Path("/c/connections.json")))
    assert found[0] is status
    assert words in found[1]


# Directories

DATA = Path("/home/me/data")
GOOD = DirectoryFacts(
    path=DATA, nearest=DATA, is_directory=True, writable=True, owner=1000, free_bytes=80 * GIB, file_system="ext4"
)
ELSEWHERE = "set MACHINE_HOME to a directory on a disk of this host"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, (OK, "/home/me/data on ext4, 80GiB free", "")),
        ({"nearest": Path("/home/me")}, (OK, "/home/me/data on ext4, 80GiB free", "")),
        ({"file_system": ""}, (OK, "/home/me/data on a file system, 80GiB free", "")),
        (
            {"nearest": Path("/home"), "writable": False},
            (
                FAILURE,
                "/home may not be written, so /home/me/data cannot be made",
                "make /home writable for this user",
            ),
        ),
        (
            {"writable": False},
            (FAILURE, "/home/me/data may not be written", "make /home/me/data writable for this user"),
        ),
        (
            {"nearest": Path("/home/me"), "is_directory": False},
            (FAILURE, "/home/me is not a directory", "move /home/me out of the way"),
        ),
        (
            {"free_bytes": 200 * MIB},
            (
                FAILURE,
                "/home/me/data on ext4 has 200MiB free",
                "free some space on the disk that holds /home/me/data",
            ),
        ),
        (
            {"free_bytes": 3 * GIB},
            (
                WARNING,
                "/home/me/data on ext4 has 3GiB free, which a new image may exceed",
                "machine image prune, or free some space",
            ),
        ),
        (
            {"file_system": "vfat"},
            (
                FAILURE,
                "/home/me/data on vfat, which has neither links nor sockets",
                "set MACHINE_HOME to a directory on another disk",
            ),
        ),
        (
            {"file_system": "nfs4"},
            (WARNING, "/home/me/data on nfs4, which is slow for disks and may not keep locks", ELSEWHERE),
        ),
        ({"file_system": "tmpfs"}, (WARNING, "/home/me/data on tmpfs, which ends with this host's power", ELSEWHERE)),
    ],
)
def test_directory_of_machines(changes: dict[str, object], expected: tuple[Status, str, str]) -> None:
    assert told(checks.directory_check("data", replace(GOOD, **changes), keeps=True)) == expected  # type: ignore[arg-type]


def test_clients_directory_that_may_not_be_written() -> None:
    check = checks.client_files_check("docker contexts", replace(GOOD, writable=False), "contexts")
    assert told(check) == (FAILURE, "/home/me/data may not be written", "make /home/me/data writable for this user")
    assert told(checks.client_files_check("docker contexts", GOOD, "contexts")) == (OK, "contexts", "")


LOGIN, FALLBACK = Path("/run/user/1000"), Path("/tmp/b2p-1000")
SESSION = SessionFacts(session="/run/user/1000", login=LOGIN, fallback=FALLBACK, uid=1000, lingers=True)


@pytest.mark.parametrize(
    ("path", "changes", "session", "host_os", "status", "words"),
    [
        (LOGIN / "boot2podman", {}, {}, LINUX, OK, "paths of sockets have up to 82 of 107 bytes"),
        (
            LOGIN / "boot2podman",
            {},
            {"lingers": False},
            LINUX,
            WARNING,
            "goes, and machines' sockets with it, when you",
        ),
        (Path("/home/me/run"), {}, {"lingers": False}, LINUX, OK, "of 107 bytes"),
        (Path("/var/folders/x/T"), {}, {"lingers": False}, MAC, OK, "of 103 bytes"),
        (FALLBACK, {}, {"session": ""}, LINUX, WARNING, "as XDG_RUNTIME_DIR is not set"),
        (FALLBACK, {}, {"session": "/run/user/0"}, LINUX, WARNING, "as XDG_RUNTIME_DIR is not a directory of yours"),
        (FALLBACK, {}, {"session": ""}, MAC, WARNING, "as TMPDIR is not set"),
        (FALLBACK / "0badcafe", {}, {}, LINUX, OK, "paths of sockets would be longer than 107 bytes"),
        (LOGIN / "boot2podman", {"owner": 0}, {}, LINUX, FAILURE, "belongs to another user"),
        (LOGIN / "boot2podman", {"writable": False}, {}, LINUX, FAILURE, "may not be written"),
        (LOGIN / "boot2podman", {"free_bytes": 0}, {}, LINUX, FAILURE, "has 0B free"),
        (LOGIN / "boot2podman", {"file_system": "vfat"}, {}, LINUX, FAILURE, "neither links nor sockets"),
        (LOGIN / "boot2podman", {"file_system": "tmpfs", "free_bytes": 2 * MIB}, {}, LINUX, OK, "of 107 bytes"),
    ],
)
def test_runtime_directory(
    path: Path,
    changes: dict[str, object],
    session: dict[str, object],
    host_os: HostOS,
    status: Status,
    words: str,
) -> None:
    facts = replace(GOOD, path=path, nearest=path, **changes)  # type: ignore[arg-type]
    found = told(checks.runtime_check(facts, replace(SESSION, **session), host_os))  # type: ignore[arg-type]
    assert found[0] is status
    assert words in found[1]


# Settings, resources, machines


def test_settings_name_their_sources() -> None:
    memory = EffectiveSetting(key="memory", value=2048, origin=BUILT_IN)
    cpus = EffectiveSetting(key="cpus", value=2, origin="config.toml: /c/config.toml")
    assert told(checks.settings_check({"memory": memory}))[1] == "the built-in defaults: no file says otherwise"
    assert told(checks.settings_check({"memory": memory, "cpus": cpus}))[1] == "from config.toml: /c/config.toml"


@pytest.mark.parametrize(("available", "status"), [(None, OK), (2048, OK), (2047, WARNING)])
def test_memory_that_is_available_now(available: int | None, status: Status) -> None:
    resources = Resources(cpus=2, memory_mib=2048, disk_gib=100)
    found = told(checks.resources_check(resources, make_host(cpus=4, memory_mib=8192), available))
    assert found[0] is status
    assert found[1].startswith("a new machine has 2 of 4 CPUs and 2048 of 8192 MiB")


BOX = MachineFacts(
    name="box", state=STOPPED, log=Path("/m/box/supervisor.log"), has_disk=True, base=None, refetch="fcos:stable@43.1"
)


@pytest.mark.parametrize(
    ("changes", "finding", "remedy"),
    [
        (
            {"state": MachineState(state=State.DEGRADED, reason=SUPERVISOR_LOST)},
            "it is degraded: its supervisor has ended",
            "machine start box",
        ),
        (
            {"state": MachineState(state=State.DEGRADED, reason=SUPERVISOR_SILENT)},
            "it is degraded: its supervisor does not answer",
            "machine stop box",
        ),
        (
            {"state": MachineState(state=State.DEGRADED, reason="no API")},
            "it is degraded: no API",
            "see /m/box/supervisor.log",
        ),
        (
            {"base": Path("/c/image.qcow2")},
            "its base image /c/image.qcow2 is missing",
            "machine image pull fcos:stable@43.1",
        ),
        ({"has_disk": False}, "its disk is missing", "restore it, or: machine rm --force box"),
    ],
)
def test_machine_with_a_problem(changes: dict[str, object], finding: str, remedy: str) -> None:
    (check,) = checks.machine_checks([BOX, replace(BOX, **changes)], {})  # type: ignore[arg-type]
    assert (check.name, *told(check)) == ("machine box", WARNING, finding, remedy)


def test_machine_with_a_damaged_record() -> None:
    error = MachineError("the record is damaged", hint="machine rm --force bad")
    (check,) = checks.machine_checks([BOX], {"bad": error})
    assert (check.name, *told(check)) == ("machine bad", WARNING, "the record is damaged", "machine rm --force bad")


@pytest.mark.parametrize(
    ("count", "finding"),
    [
        (0, "no machine is there yet"),
        (1, "1 machine, and nothing is wrong with it"),
        (2, "2 machines, and nothing is wrong with them"),
    ],
)
def test_machines_without_a_problem_have_one_line(count: int, finding: str) -> None:
    (check,) = checks.machine_checks([BOX] * count, {})
    assert told(check) == (OK, finding, "")


def test_drafts() -> None:
    assert told(checks.drafts_check([]))[0] is OK
    assert told(checks.drafts_check([Path("/m/.box.x.tmp")]))[:2] == (
        WARNING,
        "an init or rm that was killed has left .box.x.tmp",
    )


# Network and time


@pytest.mark.parametrize(
    ("environment", "status", "finding"),
    [
        ({}, OK, "none; downloads go directly to their servers"),
        ({"https_proxy": "http://proxy:3128"}, OK, "https_proxy=http://proxy:3128"),
        ({"HTTPS_PROXY": "proxy:3128"}, OK, "HTTPS_PROXY=proxy:3128"),
        ({"https_proxy": "http://me:secret@proxy:3128"}, OK, "https_proxy=http://proxy:3128"),
        ({"http_proxy": "http://a", "HTTP_PROXY": "http://a"}, OK, "http_proxy=http://a"),
        (
            {"http_proxy": "http://a", "HTTP_PROXY": "http://b"},
            WARNING,
            "http_proxy and HTTP_PROXY differ, and the first holds",
        ),
        ({"https_proxy": "http://:3128"}, FAILURE, "https_proxy=http://:3128 names no proxy"),
        ({"ALL_PROXY": "http://proxy:many"}, FAILURE, "ALL_PROXY=http://proxy:many names no proxy"),
        ({"https_proxy": "http://[proxy"}, FAILURE, "https_proxy=http://[proxy names no proxy"),
    ],
)
def test_proxies(environment: dict[str, str], status: Status, finding: str) -> None:
    assert told(checks.proxies_check(environment, LINUX))[:2] == (status, finding)


def test_proxies_of_a_mac() -> None:
    """Its own settings are those of downloads, and not of guests."""
    found = told(checks.proxies_check({}, MAC))
    assert found[:2] == (OK, "no variable names one: downloads go as System Settings say, and guests have none")
    assert told(checks.proxies_check({"https_proxy": "http://p:1"}, MAC))[1] == "https_proxy=http://p:1"


def test_certificates() -> None:
    assert checks.certificates_variable({"SSL_CERT_FILE": "", "CURL_CA_BUNDLE": "/c", "HOME": "/"}) == (
        "CURL_CA_BUNDLE",
        Path("/c"),
    )
    variable = checks.certificates_variable({"SSL_CERT_FILE": "/a", "REQUESTS_CA_BUNDLE": "/b"})
    assert told(checks.certificates_check(variable, readable=True))[1] == "/a, as SSL_CERT_FILE says"
    assert told(checks.certificates_check(variable, readable=False)) == (
        FAILURE,
        "SSL_CERT_FILE names /a, which cannot be read",
        "unset SSL_CERT_FILE",
    )
    assert told(checks.certificates_check(None, readable=False))[0] is OK


@pytest.mark.parametrize(
    ("now", "known", "status"),
    [
        (datetime(2026, 6, 1, tzinfo=UTC), [], OK),
        (datetime(2026, 6, 1, tzinfo=UTC), [datetime(2026, 6, 1, 0, 5, tzinfo=UTC)], OK),
        (datetime(2026, 6, 1, tzinfo=UTC), [datetime(2026, 6, 1, 1, tzinfo=UTC)], WARNING),
        (datetime(1970, 1, 1, tzinfo=UTC), [], WARNING),
    ],
)
def test_clock(now: datetime, known: list[datetime], status: Status) -> None:
    assert told(checks.clock_check(now, known, LINUX))[0] is status


@pytest.mark.parametrize(
    ("host_os", "command"), [(LINUX, "timedatectl set-ntp true"), (MAC, "sntp -sS time.apple.com")]
)
def test_clock_is_set_by_a_program_of_the_host(host_os: HostOS, command: str) -> None:
    found = told(checks.clock_check(datetime(1970, 1, 1, tzinfo=UTC), [], host_os))
    assert found[2] == f"set the clock: sudo {command}"


@pytest.mark.parametrize(
    ("obstacles", "host", "status", "finding"),
    [
        ({}, make_host(), Status.OK, "machines can have folders of this host by virtiofs, 9p, sshfs"),
        (
            {Transport.VIRTIOFS: "virtiofsd is not installed on this host"},
            make_host(),
            Status.WARNING,
            (
                "machines can have folders of this host by 9p, sshfs; "
                "not by virtiofs: virtiofsd is not installed on this host"
            ),
        ),
        (
            {Transport.VIRTIOFS: "virtiofsd needs Linux"},
            make_host(HostOS.MACOS),
            Status.OK,
            "machines can have folders of this host by 9p, sshfs",
        ),
        (
            {Transport.VIRTIOFS: "a", Transport.NINEP: "b", Transport.SSHFS: "c"},
            make_host(),
            Status.WARNING,
            "no folder of this host can be in a machine: a; b; c",
        ),
    ],
)
def test_folders(obstacles: dict[Transport, str], host: Host, status: Status, finding: str) -> None:
    carriers = HostCarriers(obstacles={**dict.fromkeys(Transport, ""), **obstacles})
    check = checks.folders_check(carriers, host, ENOUGH_FILES)
    assert (check.status, check.finding) == (status, finding)
    assert bool(check.remedy) == (status is not Status.OK)


def test_mac_without_a_carrier_is_not_sent_for_virtiofsd() -> None:
    carriers = HostCarriers(obstacles=dict.fromkeys(Transport, "none"))
    mac = make_host(HostOS.MACOS)
    assert checks.folders_check(carriers, mac, ENOUGH_FILES).remedy == "install it with: brew install qemu"


def test_few_open_files_are_told_where_virtiofs_needs_them() -> None:
    carriers = HostCarriers(obstacles=dict.fromkeys(Transport, ""))
    check = checks.folders_check(carriers, make_host(), 4096)
    assert check.status is WARNING
    assert check.finding.endswith("; by virtiofs a folder of more than 4096 files may be told to have too many open")
    without = HostCarriers(obstacles={**carriers.obstacles, Transport.VIRTIOFS: "virtiofsd needs Linux"})
    assert checks.folders_check(without, make_host(HostOS.MACOS), 256).status is OK


@pytest.mark.parametrize(
    ("services", "gone", "lingers", "expected"),
    [
        ({}, set(), False, (OK, "no machine starts when you log in", "")),
        ({"box": "/m"}, set(), False, (OK, "box starts when you log in", "")),
        ({"b": "/m", "a": "/m"}, set(), True, (OK, "a, b start when the host boots", "")),
        (
            {"a": "/m", "box": "/old/machine"}, {"/old/machine"}, True,
            (
                WARNING, "box does not start when you log in: its service runs /old/machine, which is not there",
                "machine autostart enable box",
            ),
        ),
        (
            {"box": ""}, {""}, False,
            (
                WARNING,
                "box does not start when you log in: its service names no program",
                "machine autostart enable box",
            ),
        ),
    ],
)  # fmt: skip
def test_autostart(services: dict[str, str], gone: set[str], lingers: bool, expected: tuple[Status, str, str]) -> None:
    assert told(checks.autostart_check(services, gone, lingers=lingers)) == expected
