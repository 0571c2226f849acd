"""What `machine init` takes and what it refuses before it touches anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from machine.errors import BadInputError, MachineError, Page
from machine.model.arch import Arch
from machine.model.config import Resources
from machine.model.folders import Folder
from machine.model.host import Host, HostOS
from machine.model.settings import EffectiveSetting, Layer, built_in, merge
from machine.model.transport import TransportChoice
from machine.ops.init_checks import check_image_arch, guest_arch
from machine.ops.shared.creation import guest_uid
from machine.ops.shared.defaults import COMMAND_LINE
from machine.ops.shared.folders import check_transport
from machine.ops.shared.resources import check_resources
from machine.ops.shared.timezone import resolve_timezone
from machine.ops.start import hidden_marker
from tests.support.builders import make_base, make_host

HOST = make_host(cpus=4, memory_mib=8192)
TOO_MUCH = "greater than total system memory"


def chosen(host: Host, asked: dict[str, int], origin: str = COMMAND_LINE) -> dict[str, EffectiveSetting]:
    return merge(built_in(host), [Layer(origin=origin, values=asked)])


@pytest.mark.parametrize(
    ("asked", "host", "resources"),
    [
        ({}, HOST, Resources(cpus=2, memory_mib=2048, disk_gib=100)),
        ({}, make_host(cpus=1), Resources(cpus=1, memory_mib=2048, disk_gib=100)),
        (
            {"cpus": 4, "memory": 8192, "disk_size": 1},
            HOST,
            Resources(cpus=4, memory_mib=8192, disk_gib=1),
        ),
        ({"cpus": 1, "memory": 512}, HOST, Resources(cpus=1, memory_mib=512, disk_gib=100)),
    ],
)
def test_resources_are_what_was_asked_for_or_the_defaults(
    asked: dict[str, int], host: Host, resources: Resources
) -> None:
    assert check_resources(chosen(host, asked), host) == resources


@pytest.mark.parametrize(
    ("asked", "line"),
    [
        ({"cpus": 5}, "requested number of CPUs (5) greater than number of host CPUs (4)"),
        ({"cpus": 0}, "requested number of CPUs (0) must be at least 1"),
        ({"cpus": -2}, "requested number of CPUs (-2) must be at least 1"),
        (
            {"memory": 8193},
            f"requested amount of memory (8193 MB) {TOO_MUCH} (8192 MB); choose less memory",
        ),
        ({"memory": 511}, "requested amount of memory (511 MB) must be at least 512 MB"),
        ({"disk_size": 0}, "requested disk size (0 GB) must be between 1 and 2097152 GB"),
    ],
)
def test_resources_that_cannot_be_had(asked: dict[str, int], line: str) -> None:
    with pytest.raises(BadInputError) as caught:
        check_resources(chosen(HOST, asked), HOST)
    assert caught.value.line == line


def test_default_memory_is_refused_on_a_host_that_has_less() -> None:
    host = make_host(memory_mib=1024)
    with pytest.raises(BadInputError) as caught:
        check_resources(chosen(host, {}), host)
    assert caught.value.line == (f"requested amount of memory (2048 MB) {TOO_MUCH} (1024 MB); choose less memory")
    assert caught.value.page is Page.MEMORY


def test_resources_from_a_file_that_cannot_be_had_are_told_with_the_file() -> None:
    with pytest.raises(BadInputError) as caught:
        check_resources(chosen(HOST, {"cpus": 64}, "config.toml: /c.toml"), HOST)
    assert caught.value.line == (
        "requested number of CPUs (64) greater than number of host CPUs (4); "
        'the value of "cpus" comes from config.toml: /c.toml'
    )


def test_guest_has_the_architecture_of_the_host_or_the_one_that_was_asked_for() -> None:
    assert guest_arch(None, make_host(machine="arm64")) is Arch.AARCH64
    assert guest_arch("amd64", make_host(machine="arm64")) is Arch.X86_64
    assert guest_arch("s390x", make_host(machine="armv7l")) is Arch.S390X


@pytest.mark.parametrize(
    ("wanted", "machine", "line"),
    [
        (
            None, "armv7l",
            f"this host's architecture, armv7l, is not supported for guests; choose one with --arch: {', '.join(Arch)}",
        ),
        (
            "sparc64", "x86_64",
            'unknown architecture "sparc64"; choose one of: x86_64, aarch64, riscv64, s390x, ppc64le',
        ),
        ("", "x86_64", 'unknown architecture ""; choose one of: x86_64, aarch64, riscv64, s390x, ppc64le'),
    ],
)  # fmt: skip
def test_architecture_that_guests_cannot_have(wanted: str | None, machine: str, line: str) -> None:
    with pytest.raises(MachineError) as caught:
        guest_arch(wanted, make_host(machine=machine))
    assert caught.value.line == line


def test_image_whose_stream_tells_another_architecture_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInputError) as caught:
        check_image_arch(make_base(tmp_path, arch="aarch64"), Arch.X86_64)
    assert caught.value.line == (
        "the image stable 43.1 is for aarch64, but the machine would be x86_64; "
        "use --arch aarch64, or an image for x86_64"
    )
    check_image_arch(make_base(tmp_path, arch="aarch64"), Arch.AARCH64)


def test_image_of_which_nothing_is_known_is_taken(tmp_path: Path) -> None:
    check_image_arch(make_base(tmp_path, arch="x86_64", stream=""), Arch.AARCH64)


def test_user_in_the_guest_has_the_id_of_the_one_on_the_host() -> None:
    assert guest_uid(501) == 501
    assert guest_uid(0) == 1000


@pytest.mark.parametrize("name", ["UTC", "Europe/Stockholm", "America/Argentina/Buenos_Aires", "Etc/GMT+5"])
def test_named_timezone_is_taken(name: str) -> None:
    assert resolve_timezone(name, {}) == name


@pytest.mark.parametrize("name", ["", "../../etc/shadow", "/etc/passwd", "Europe/", "a b", "Europe//Rome", "x\ny"])
def test_what_is_no_timezone_is_refused(name: str) -> None:
    with pytest.raises(BadInputError) as caught:
        resolve_timezone(name, {})
    assert caught.value.line == f'invalid timezone "{name}"; use a name like "Europe/Stockholm", or "local"'


@pytest.mark.parametrize(
    ("tz", "link", "name"),
    [
        ("", "/usr/share/zoneinfo/Asia/Tokyo", "Asia/Tokyo"),
        ("", "/var/db/timezone/zoneinfo/Europe/Rome", "Europe/Rome"),
        ("Asia/Tokyo", "/usr/share/zoneinfo/Europe/Rome", "Asia/Tokyo"),
        (":Asia/Tokyo", "/usr/share/zoneinfo/Europe/Rome", "Asia/Tokyo"),
        (":/nonexistent/zoneinfo/Asia/Tokyo", "/usr/share/zoneinfo/Europe/Rome", "Asia/Tokyo"),
        ("/nonexistent/own", "/usr/share/zoneinfo/Europe/Rome", "UTC"),
        ("<+03>-3", "/usr/share/zoneinfo/Europe/Rome", "UTC"),
        ("", "/usr/share/zoneinfo.default/Europe/Berlin", "Europe/Berlin"),  # macOS 15
        ("", "/usr/share/zoneinfo/posix/Asia/Tokyo", "Asia/Tokyo"),
        ("", "/etc/my-own-zone", "UTC"),
    ],
)
def test_local_timezone_is_the_hosts(tz: str, link: str, name: str, tmp_path: Path) -> None:
    localtime = tmp_path / "localtime"
    localtime.symlink_to(link)
    assert resolve_timezone("local", {"TZ": tz}, localtime) == name


def test_local_timezone_without_a_name_is_utc(tmp_path: Path) -> None:
    (tmp_path / "localtime").touch()
    assert resolve_timezone("local", {}, tmp_path / "localtime") == "UTC"


def test_mac_is_not_sent_for_virtiofsd() -> None:
    folder = Folder(source="/Users/me", target="/Users/me")
    mac = make_host(HostOS.MACOS, "arm64")
    with pytest.raises(MachineError) as caught:
        check_transport(TransportChoice.VIRTIOFS, [folder], Arch.AARCH64, mac, guest_uid=1000)
    assert caught.value.line == "virtiofs cannot be used: virtiofsd needs Linux; leave out --volume-driver"


def test_folder_that_hides_from_podman_that_it_is_in_a_machine_is_told(tmp_path: Path) -> None:
    folder = Folder(source=str(tmp_path), target="/etc/containers")
    assert hidden_marker([Folder(source=str(tmp_path), target="/etc/containers.d")]) is None
    assert (hidden_marker([folder]) or "").endswith(f"Create the file with: echo qemu >{tmp_path}/podman-machine")
    (tmp_path / "podman-machine").touch()
    assert hidden_marker([folder]) is None
