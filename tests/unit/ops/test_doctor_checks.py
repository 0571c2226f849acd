"""What doctor makes of hosts that are made up: each with one thing that is not as it should be.

What it says is in golden/doctor_checks.txt.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from machine.errors import MachineError
from machine.folders.transports import TransportFacts, choose_transport, host_obstacles
from machine.model.arch import Arch
from machine.model.check import Check, Status, is_ready
from machine.model.config import Resources
from machine.model.host import Accelerator, AcceleratorChoice, Host, HostOS
from machine.model.obstacle import Obstacle
from machine.model.settings import BUILT_IN, EffectiveSetting
from machine.model.state import ORPHANED, STOPPED, UNRESPONSIVE, MachineState, State
from machine.model.transport import Transport, TransportChoice
from machine.model.units import GIB, MIB
from machine.ops import doctor_checks as checks
from machine.ops.doctor_checks import MachineFacts, SessionFacts
from machine.podman import legacy
from machine.qemu.acceleration import HardwareSupport
from machine.qemu.firmware import FirmwareFiles
from machine.ssh.client import Client
from machine.store.filesystem import DirectoryFacts
from tests.support.builders import make_host, make_qemu
from tests.support.golden import Golden

LINUX, MAC = HostOS.LINUX, HostOS.MACOS

QEMU = make_qemu("/usr/bin/qemu-system-x86_64")
KVM = HardwareSupport(accelerator=Accelerator.KVM, obstacle=None)
NO_KVM = HardwareSupport(
    accelerator=Accelerator.KVM, obstacle=Obstacle(reason="the CPU has neither vmx nor svm", remedy="enable it")
)
SSH = Client(path="/usr/bin/ssh", version="OpenSSH_9.2p1", obstacle="")

ENOUGH_FILES = 524_288
OK, WARNING, FAILURE = Status.OK, Status.WARNING, Status.FAILURE


def told(*checks_: Check) -> str:
    """Checks as the golden file has them: status and finding, and below them what to do."""
    lines = []
    for check in checks_:
        assert check.finding
        assert "\n" not in check.finding + check.remedy
        assert bool(check.remedy) is (check.status is not OK)
        lines += [f"{check.name}: {check.status}: {check.finding}", *([f"  -> {check.remedy}"] if check.remedy else [])]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("statuses", "ready"), [([], True), ([OK, WARNING], True), ([FAILURE], False), ([OK, FAILURE, WARNING], False)]
)
def test_host_is_ready_without_failures(statuses: list[Status], ready: bool) -> None:
    assert is_ready([Check(name="x", status=status, finding="y") for status in statuses]) is ready


def test_error_is_a_failure_in_its_own_words() -> None:
    hinted = checks.failed("x", MachineError("it is broken", hint="mend it"))
    assert (hinted.status, hinted.finding, hinted.remedy) == (FAILURE, "it is broken", "mend it")
    assert checks.failed("x", MachineError("it is broken"), "buy another").remedy == "buy another"


def test_architecture(golden: Golden) -> None:
    golden.matches(told(checks.architecture_check(make_host(machine="armv7l"), None)), "without guests")
    golden.matches(told(checks.architecture_check(make_host(), Arch.X86_64)), "with guests")


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
    assert check.status is status
    assert ".".join(map(str, version)) in check.finding


@pytest.mark.parametrize(("host_os", "arch"), [(LINUX, Arch.X86_64), (LINUX, Arch.AARCH64), (MAC, Arch.AARCH64)])
def test_qemu_without_slirp(host_os: HostOS, arch: Arch, golden: Golden) -> None:
    facts = replace(QEMU, networks=frozenset({"socket", "vhost-user"}))
    golden.matches(told(checks.network_check(facts, arch, make_host(host_os))))
    assert checks.network_check(QEMU, arch, make_host(host_os)).status is OK


ACCELERATORS = {
    "auto": ("auto", KVM, "kvm tcg"),
    "kvm": ("kvm", KVM, "kvm tcg"),
    "tcg": ("tcg", KVM, "kvm tcg"),
    "auto without hardware": ("auto", NO_KVM, "kvm tcg"),
    "kvm without hardware": ("kvm", NO_KVM, "kvm tcg"),
    "hvf on Linux": ("hvf", KVM, "kvm tcg"),
    "QEMU without kvm": ("auto", KVM, "tcg"),
    "QEMU without tcg": ("auto", NO_KVM, "kvm"),
}


@pytest.mark.parametrize(("choice", "support", "accelerators"), ACCELERATORS.values(), ids=ACCELERATORS)
def test_accelerator(choice: str, support: HardwareSupport, accelerators: str, golden: Golden) -> None:
    facts = replace(QEMU, accelerators=frozenset(accelerators.split()))
    check = checks.accelerator_check(AcceleratorChoice(choice), Arch.X86_64, make_host(), support, facts)
    golden.matches(told(check))


def test_firmware(golden: Golden) -> None:
    missing = MachineError("no UEFI firmware for aarch64 guests on this host", hint="install it")
    found = FirmwareFiles(code=Path("/usr/share/code.fd"), variables=Path("/usr/share/vars.fd"))
    golden.matches(told(checks.firmware_check(Arch.X86_64, None, native=True)), "not needed")
    golden.matches(told(checks.firmware_check(Arch.AARCH64, found, native=True)), "found")
    golden.matches(told(checks.firmware_check(Arch.AARCH64, missing, native=True)), "missing for the host's own guests")
    golden.matches(told(checks.firmware_check(Arch.AARCH64, missing, native=False)), "missing for foreign guests")


def test_ssh(golden: Golden) -> None:
    golden.matches(told(checks.ssh_check(SSH, make_host(), has_keygen=True)), "good")
    old = replace(SSH, version="OpenSSH_6.6", obstacle="command-line: line 0: Bad configuration option: SetEnv")
    golden.matches(told(checks.ssh_check(old, make_host(), has_keygen=True)), "old")
    golden.matches(told(checks.ssh_check(SSH, make_host(MAC), has_keygen=False)), "without ssh-keygen")


def test_keys(golden: Golden) -> None:
    keys = Path("/home/me/keys")
    golden.matches(told(checks.keys_check(3, [], keys)), "good")
    golden.matches(told(checks.keys_check(3, [keys / "a.gpg", keys / "b.asc"], keys)), "files without a key")
    golden.matches(told(checks.keys_check(0, [], keys)), "none")


PODMANS = {
    "none": None,
    "4.3": legacy.Client(program="podman", path="/b/podman", version=(4, 3)),
    "5.4": legacy.Client(program="podman", path="/b/podman", version=(5, 4)),
    "unknown version": legacy.Client(program="podman", path="/b/podman", version=None),
}


@pytest.mark.parametrize("client", PODMANS.values(), ids=PODMANS)
def test_podman(client: legacy.Client | None, golden: Golden) -> None:
    golden.matches(told(checks.podman_check(client, make_host(), Path("/c/connections.json"))))


# Directories

DATA = Path("/home/me/data")
GOOD = DirectoryFacts(
    path=DATA, nearest=DATA, is_directory=True, writable=True, owner=1000, free_bytes=80 * GIB, file_system="ext4"
)

DIRECTORIES: dict[str, dict[str, object]] = {
    "good": {},
    "not there yet": {"nearest": Path("/home/me")},
    "unknown file system": {"file_system": ""},
    "cannot be made": {"nearest": Path("/home"), "writable": False},
    "not writable": {"writable": False},
    "below a file": {"nearest": Path("/home/me"), "is_directory": False},
    "full": {"free_bytes": 200 * MIB},
    "nearly full": {"free_bytes": 3 * GIB},
    "without links": {"file_system": "vfat"},
    "on a network": {"file_system": "nfs4"},
    "in memory": {"file_system": "tmpfs"},
}


@pytest.mark.parametrize("changes", DIRECTORIES.values(), ids=DIRECTORIES)
def test_directory_of_machines(changes: dict[str, object], golden: Golden) -> None:
    golden.matches(told(checks.directory_check("data", replace(GOOD, **changes), keeps=True)))  # type: ignore[arg-type]


def test_clients_directory(golden: Golden) -> None:
    check = checks.client_files_check("docker contexts", replace(GOOD, writable=False), "contexts")
    golden.matches(told(check), "not writable")
    golden.matches(told(checks.client_files_check("docker contexts", GOOD, "contexts")), "good")


LOGIN, FALLBACK = Path("/run/user/1000"), Path("/tmp/b2p-1000")
SESSION = SessionFacts(session="/run/user/1000", login=LOGIN, fallback=FALLBACK, uid=1000, lingers=True)


BELOW_LOGIN = LOGIN / "boot2podman"

RUNTIMES: dict[str, tuple[Path, dict[str, object], dict[str, object], HostOS]] = {
    "of the login": (BELOW_LOGIN, {}, {}, LINUX),
    "of a login that does not linger": (BELOW_LOGIN, {}, {"lingers": False}, LINUX),
    "elsewhere": (Path("/home/me/run"), {}, {"lingers": False}, LINUX),
    "of a Mac": (Path("/var/folders/x/T"), {}, {"lingers": False}, MAC),
    "XDG_RUNTIME_DIR not set": (FALLBACK, {}, {"session": ""}, LINUX),
    "XDG_RUNTIME_DIR of another user": (FALLBACK, {}, {"session": "/run/user/0"}, LINUX),
    "TMPDIR not set": (FALLBACK, {}, {"session": ""}, MAC),
    "long path": (FALLBACK / "0badcafe", {}, {}, LINUX),
    "another user's": (BELOW_LOGIN, {"owner": 0}, {}, LINUX),
    "not writable": (BELOW_LOGIN, {"writable": False}, {}, LINUX),
    "full": (BELOW_LOGIN, {"free_bytes": 0}, {}, LINUX),
    "without sockets": (BELOW_LOGIN, {"file_system": "vfat"}, {}, LINUX),
    "in memory": (BELOW_LOGIN, {"file_system": "tmpfs", "free_bytes": 2 * MIB}, {}, LINUX),
}


@pytest.mark.parametrize(("path", "changes", "session", "host_os"), RUNTIMES.values(), ids=RUNTIMES)
def test_runtime_directory(
    path: Path, changes: dict[str, object], session: dict[str, object], host_os: HostOS, golden: Golden
) -> None:
    facts = replace(GOOD, path=path, nearest=path, **changes)  # type: ignore[arg-type]
    golden.matches(told(checks.runtime_check(facts, replace(SESSION, **session), host_os)))  # type: ignore[arg-type]


# Settings, resources, machines


def test_settings_name_their_sources(golden: Golden) -> None:
    memory = EffectiveSetting(key="memory", value=2048, origin=BUILT_IN)
    cpus = EffectiveSetting(key="cpus", value=2, origin="config.toml: /c/config.toml")
    golden.matches(told(checks.settings_check({"memory": memory})), "built in")
    golden.matches(told(checks.settings_check({"memory": memory, "cpus": cpus})), "of a file")


@pytest.mark.parametrize("available", [None, 2048, 2047])
def test_memory_that_is_available_now(available: int | None, golden: Golden) -> None:
    resources = Resources(cpus=2, memory_mib=2048, disk_gib=100)
    golden.matches(told(checks.resources_check(resources, make_host(cpus=4, memory_mib=8192), available)))


BOX = MachineFacts(
    name="box", state=STOPPED, log=Path("/m/box/supervisor.log"), has_disk=True, base=None, refetch="fcos:stable@43.1"
)


PROBLEMS: dict[str, dict[str, object]] = {
    "supervisor has ended": {"state": ORPHANED},
    "supervisor is silent": {"state": UNRESPONSIVE},
    "degraded otherwise": {"state": MachineState(state=State.DEGRADED, reason="no API")},
    "base image is missing": {"base": Path("/c/image.qcow2")},
    "disk is missing": {"has_disk": False},
}


@pytest.mark.parametrize("changes", PROBLEMS.values(), ids=PROBLEMS)
def test_machine_with_a_problem(changes: dict[str, object], golden: Golden) -> None:
    golden.matches(told(*checks.machine_checks([BOX, replace(BOX, **changes)], {})))  # type: ignore[arg-type]


def test_machine_with_a_damaged_record() -> None:
    error = MachineError("the record is damaged", hint="machine rm --force bad")
    (check,) = checks.machine_checks([BOX], {"bad": error})
    assert told(check) == "machine bad: warning: the record is damaged\n  -> machine rm --force bad"


@pytest.mark.parametrize("count", [0, 1, 2])
def test_machines_without_a_problem_have_one_line(count: int, golden: Golden) -> None:
    golden.matches(told(*checks.machine_checks([BOX] * count, {})))


def test_drafts(golden: Golden) -> None:
    golden.matches(told(checks.drafts_check([])), "none")
    golden.matches(told(checks.drafts_check([Path("/m/.box.x.tmp")])), "one")


# Network and time


PROXIES = {
    "none": {},
    "lower case": {"https_proxy": "http://proxy:3128"},
    "without a scheme": {"HTTPS_PROXY": "proxy:3128"},
    "with a password": {"https_proxy": "http://me:secret@proxy:3128"},
    "the same twice": {"http_proxy": "http://a", "HTTP_PROXY": "http://a"},
    "two that differ": {"http_proxy": "http://a", "HTTP_PROXY": "http://b"},
    "no host": {"https_proxy": "http://:3128"},
    "no port number": {"ALL_PROXY": "http://proxy:many"},
    "damaged": {"https_proxy": "http://[proxy"},
}


@pytest.mark.parametrize("environment", PROXIES.values(), ids=PROXIES)
def test_proxies(environment: dict[str, str], golden: Golden) -> None:
    golden.matches(told(checks.proxies_check(environment, LINUX)))


def test_proxies_of_a_mac(golden: Golden) -> None:
    """Its own settings are those of downloads, and not of guests."""
    golden.matches(told(checks.proxies_check({}, MAC)), "no variable")
    golden.matches(told(checks.proxies_check({"https_proxy": "http://p:1"}, MAC)), "variable")


def test_certificates(golden: Golden) -> None:
    assert checks.certificates_variable({"SSL_CERT_FILE": "", "CURL_CA_BUNDLE": "/c", "HOME": "/"}) == (
        "CURL_CA_BUNDLE",
        Path("/c"),
    )
    variable = checks.certificates_variable({"SSL_CERT_FILE": "/a", "REQUESTS_CA_BUNDLE": "/b"})
    golden.matches(told(checks.certificates_check(variable, readable=True)), "variable")
    golden.matches(told(checks.certificates_check(variable, readable=False)), "variable that leads nowhere")
    golden.matches(told(checks.certificates_check(None, readable=False)), "no variable")


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
    assert checks.clock_check(now, known, LINUX).status is status


@pytest.mark.parametrize("host_os", [LINUX, MAC])
def test_clock_is_set_by_a_program_of_the_host(host_os: HostOS, golden: Golden) -> None:
    golden.matches(told(checks.clock_check(datetime(1970, 1, 1, tzinfo=UTC), [], host_os)))


NO_VIRTIOFSD = {Transport.VIRTIOFS: Obstacle("virtiofsd is not installed on this host", "install it")}
BROKEN_VIRTIOFSD = {Transport.VIRTIOFS: Obstacle("virtiofsd does not run: it ended with status 1")}
NOT_ON_A_MAC = {Transport.VIRTIOFS: Obstacle("virtiofsd needs Linux")}

FOLDERS: dict[str, tuple[dict[Transport, Obstacle], Host, int]] = {
    "all transports": ({}, make_host(), ENOUGH_FILES),
    "no virtiofsd": (NO_VIRTIOFSD, make_host(), ENOUGH_FILES),
    "broken virtiofsd": (BROKEN_VIRTIOFSD, make_host(), ENOUGH_FILES),
    "Mac": (NOT_ON_A_MAC, make_host(MAC), ENOUGH_FILES),
    "none": (
        {**NO_VIRTIOFSD, Transport.NINEP: Obstacle("b"), Transport.SSHFS: Obstacle("c")},
        make_host(),
        ENOUGH_FILES,
    ),
    "none on a Mac": (dict.fromkeys(Transport, Obstacle("none")), make_host(MAC), ENOUGH_FILES),
    "few open files": ({}, make_host(), 4096),
    "few open files and no virtiofs": (NOT_ON_A_MAC, make_host(MAC), 256),
}


@pytest.mark.parametrize(("obstacles", "host", "open_files"), FOLDERS.values(), ids=FOLDERS)
def test_folders(obstacles: dict[Transport, Obstacle], host: Host, open_files: int, golden: Golden) -> None:
    golden.matches(told(checks.folders_check(obstacles, host, open_files)))


@pytest.mark.parametrize("is_root", [False, True])
@pytest.mark.parametrize("has_virtiofsd", [False, True])
def test_folders_come_first_by_the_transport_that_auto_picks(is_root: bool, has_virtiofsd: bool) -> None:
    facts = TransportFacts(is_root=is_root, virtiofsd={}, has_sftp_server=True)
    if not has_virtiofsd:
        facts = replace(facts, virtiofsd=NO_VIRTIOFSD[Transport.VIRTIOFS])
    obstacles = host_obstacles(TransportChoice.AUTO, facts)
    finding = checks.folders_check(obstacles, make_host(), ENOUGH_FILES).finding
    assert finding.startswith(
        f"machines can have folders of this host by {choose_transport(TransportChoice.AUTO, facts)}"
    )
    assert ("9p" in finding) is not is_root


AUTOSTARTS: dict[str, tuple[dict[str, str], set[str], bool]] = {
    "none": ({}, set(), False),
    "at login": ({"box": "/m"}, set(), False),
    "at boot": ({"b": "/m", "a": "/m"}, set(), True),
    "program is gone": ({"a": "/m", "box": "/old/machine"}, {"/old/machine"}, True),
    "no program": ({"box": ""}, {""}, False),
}


@pytest.mark.parametrize(("services", "gone", "lingers"), AUTOSTARTS.values(), ids=AUTOSTARTS)
def test_autostart(services: dict[str, str], gone: set[str], lingers: bool, golden: Golden) -> None:
    golden.matches(told(checks.autostart_check(services, gone, lingers=lingers)))
