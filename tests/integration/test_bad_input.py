"""Input that cannot be meant: one clear line, exit status 125, and nothing changed on disk."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from machine.hosts import current_host
from machine.image.streams import FCOS_BASE_URL
from machine.model.arch import Arch
from machine.model.host import AcceleratorChoice
from machine.qemu.acceleration import early_notice
from machine.qemu.probe import find_qemu, probe_hardware, probe_qemu
from tests.support.disk_images import Images, qemu_img
from tests.support.world import World, machine_program, make_world

RULE = "names must match [a-zA-Z0-9][a-zA-Z0-9_.-]*: invalid argument"
CHOICES = (
    "choose one of: fcos:stable, fcos:testing, fcos:next, fcos:STREAM@RELEASE, boot2podman, a path, an http(s) URL or "
    "docker://REGISTRY/NAME:TAG"
)
CPUS = os.cpu_count() or 1
MEMORY = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 1024**2
PACKINGS = "images are qcow2 or raw disks, plain or compressed by xz, gzip, bzip2 or zstd"
WHOLE = "make it whole with: qemu-img convert -O qcow2 IMAGE WHOLE"
TAKEN = (
    'system connection "{}" already exists. consider a different machine name or remove the connection with '
    "`podman system connection rm`"
)


def refuse(world: World, line: str, *words: str | Path, **environment: str) -> None:
    """A command that fails with this one line and leaves every file as it was."""
    before = world.files()
    outcome = world.machine(*words, **environment)
    errors = [text for text in outcome.stderr.splitlines() if not text.startswith(("Verifying ", "Unpacking "))]
    assert errors == [f"Error: {line}"]
    assert (outcome.status, outcome.stdout) == (125, "")
    assert world.files() == before
    assert not list(world.cache.glob(".new-*"))


BAD_WORDS = {
    "name with a slash": (["a/b"], f'invalid name "a/b": {RULE}'),
    "name that is empty": ([""], f'invalid name "": {RULE}'),
    "name of 31 characters": (["n" * 31], f'machine name "{"n" * 31}" must be 30 characters or less'),
    "name that is reserved": (["qemu"], 'cannot use "qemu" for a machine name'),
    "name with a line feed": (["a\nb"], f'invalid name "a b": {RULE}'),
    "username": (["--username", "a b"], f'invalid username "a b": {RULE}'),
    "username root": (
        ["--username", "root"],
        'invalid username "root": root always exists in the guest; use --rootful',
    ),
    "username of the system": (
        ["--username", "daemon"],
        'invalid username "daemon": a system user of the guest has that name',
    ),
    "username of 33 characters": (["--username", "u" * 33], f'username "{"u" * 33}" must be 32 characters or less'),
    "no cpus": (["--cpus", "0"], "requested number of CPUs (0) must be at least 1"),
    "negative cpus": (["--cpus", "-1"], "requested number of CPUs (-1) must be at least 1"),
    "more cpus than the host's": (
        ["--cpus", f"{CPUS + 1}"],
        f"requested number of CPUs ({CPUS + 1}) greater than number of host CPUs ({CPUS})",
    ),
    "memory below 512 MiB": (["--memory", "511"], "requested amount of memory (511 MB) must be at least 512 MB"),
    "memory above the host's": (
        ["--memory", f"{MEMORY + 1}"],
        f"requested amount of memory ({MEMORY + 1} MB) greater than total system memory ({MEMORY} MB)",
    ),
    "no disk": (["--disk-size", "0"], "requested disk size (0 GB) must be between 1 and 2097152 GB"),
    "more disk than an image can have": (
        ["--disk-size", "2097153"],
        "requested disk size (2097153 GB) must be between 1 and 2097152 GB",
    ),
    "volume without a source": (
        ["--volume", "/nonexistent:/x"],
        "the folder /nonexistent does not exist on this host; create it, or share another one",
    ),
    "volume that is a file": (
        ["--volume", "/etc/passwd"],
        "/etc/passwd is not a directory; share the directory that contains it",
    ),
    "volume in a place of the guest's own": (
        ["--volume", "/home:/home"],
        (
            'machine mount destination cannot be "/home": '
            "consider another location or a subdirectory of an existing location"
        ),
    ),
    "volumes in one place": (
        ["--volume", "/home:/a", "--volume", "/etc:/a/b"],
        'machine mount destinations "/a" and "/a/b" overlap; give each folder a place of its own',
    ),
    "volume driver": (
        ["--volume-driver", "nfs"],
        'unknown volume driver "nfs"; choose one of: auto, virtiofs, 9p, sshfs',
    ),
    "timezone": (
        ["--timezone", "../../etc/passwd"],
        'invalid timezone "../../etc/passwd"; give a name like "Europe/Stockholm", or "local"',
    ),
    "timezone of no place": (
        ["--timezone", "Europe/Atlantis"],
        'invalid timezone "Europe/Atlantis"; give a name like "Europe/Stockholm", or "local"',
    ),
    "unknown stream": (["--image", "fcos:rawhide"], 'unknown stream "rawhide"; choose one of: stable, testing, next'),
    "unknown image": (["--image", "Ubuntu"], f'unknown image "Ubuntu"; {CHOICES}'),
    "kind of image": (["--image", "ftp://x/y"], f'images of kind "ftp://" cannot be fetched; {CHOICES}'),
    "image in a registry": (
        ["--image", "docker://x/Y"],
        '"docker://x/Y" is no image in a registry; write docker://REGISTRY/NAME:TAG',
    ),
    "sha256": (["--image-sha256", "12"], '"12" is not a SHA-256; write its 64 hexadecimal digits'),
    "image that was never fetched": (
        ["--offline"],
        f"{FCOS_BASE_URL}/stable.json was never fetched to this host; run once without --offline",
    ),
    "damaged url": (["--image", "http://[/x"], f'"http://[/x" is not a URL that can be fetched; {CHOICES}'),
    "local stream that was not built": (
        ["--image", "boot2podman"],
        "there is no boot2podman image on this host; build one with: machine image build --arch x86_64",
    ),
    "architecture": (
        ["--arch", "sparc64"],
        'unknown architecture "sparc64"; choose one of: x86_64, aarch64, riscv64, s390x, ppc64le',
    ),
    "accelerator": (
        ["--accel", "warp"],
        "invalid value for '--accel': 'warp' is not one of 'auto', 'kvm', 'hvf', 'tcg'; see 'machine init --help'",
    ),
}


@pytest.mark.parametrize("what", BAD_WORDS)
def test_words_that_init_refuses(what: str, world: World) -> None:
    words, line = BAD_WORDS[what]
    refuse(world, line, "init", *words)


# Images. Each maker returns the path of an image that init refuses.


def missing(_: Images, directory: Path) -> Path:
    return directory / "nosuch.qcow2"


def a_directory(_: Images, directory: Path) -> Path:
    return directory


def empty(_: Images, directory: Path) -> Path:
    return write(directory / "empty.qcow2", b"")


def half_qcow2(images: Images, directory: Path) -> Path:
    content = images.qcow2.read_bytes()
    return write(directory / "half.qcow2", content[: len(content) // 2])


def header_alone(images: Images, directory: Path) -> Path:
    return write(directory / "head.qcow2", images.qcow2.read_bytes()[:50])


def half_xz(images: Images, directory: Path) -> Path:
    content = images.xz.read_bytes()
    return write(directory / "half.xz", content[: len(content) // 2])


def half_gz(images: Images, directory: Path) -> Path:
    return write(directory / "half.gz", images.gz.read_bytes()[:-1000])


def a_text(_: Images, directory: Path) -> Path:
    return write(directory / "notes.txt", b"disks are round\n" * 100)


def with_backing_file(images: Images, directory: Path) -> Path:
    overlay = directory / "overlay.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", images.qcow2, overlay)
    return overlay


def with_external_data(_: Images, directory: Path) -> Path:
    image = directory / "outside.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", "-o", f"data_file={directory / 'data'}", image, "1M")
    return image


def two_gigabytes(_: Images, directory: Path) -> Path:
    image = directory / "large.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", image, f"{1024**3 + 512}")
    return image


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


BAD_IMAGES: dict[str, tuple[Callable[[Images, Path], Path], str]] = {
    "missing": (missing, "stat {}: no such file or directory"),
    "a directory": (a_directory, "image {} is a directory"),
    "empty": (empty, "{} is empty"),
    "qcow2 that is cut short": (half_qcow2, "{} is damaged or cut short"),
    "qcow2 without more than a header": (header_alone, "{} is damaged or cut short"),
    "xz that is cut short": (half_xz, "{} is cut short: its compressed data has no end"),
    "gzip that is cut short": (half_gz, "{} is cut short: its compressed data has no end"),
    "no disk image": (a_text, f"{{}} is not a disk image; {PACKINGS}"),
    "qcow2 with a backing file": (with_backing_file, f"{{}} has a backing file; {WHOLE}"),
    "qcow2 with an external data file": (with_external_data, f"{{}} has an external data file; {WHOLE}"),
}


@pytest.mark.parametrize("what", BAD_IMAGES)
def test_image_that_init_refuses(what: str, world: World, images: Images, tmp_path: Path) -> None:
    make, line = BAD_IMAGES[what]
    directory = tmp_path / "my images"
    directory.mkdir()
    image = make(images, directory)
    before = world.files()
    outcome = world.machine("init", "--image", image, "box")
    (error,) = [text for text in outcome.stderr.splitlines() if text.startswith("Error: ")]
    assert error == f"Error: {line.format(image)}"
    assert (outcome.status, outcome.stdout) == (125, "")
    assert world.files() == before
    assert not list(world.cache.glob("sha256-*")) + list(world.cache.glob(".new-*"))


def test_disk_that_is_smaller_than_the_image(world: World, images: Images, tmp_path: Path) -> None:
    outcome = world.machine("init", "--image", two_gigabytes(images, tmp_path), "--disk-size", "1", "box")
    assert outcome.stderr.splitlines()[-1] == (
        "Error: requested disk size (1 GB) is smaller than the image (2 GB); give a larger --disk-size"
    )
    assert outcome.status == 125
    assert not world.machines.exists()
    assert world.connections == {}


def test_qcow2_with_a_leaked_cluster_is_whole(world: World, images: Images, tmp_path: Path) -> None:
    """Leaks waste space and harm nobody; qemu-img check ends with status 3 for them."""
    image = write(tmp_path / "leaky.qcow2", images.qcow2.read_bytes())
    with image.open("r+b") as stream:
        # The refcount of a cluster at the end of the file that nothing refers to (docs/interop/qcow2.txt).
        size = stream.seek(0, os.SEEK_END)
        stream.truncate(size + 64 * 1024)
        stream.seek(48)
        table = int.from_bytes(stream.read(8), "big")
        stream.seek(table)
        block = int.from_bytes(stream.read(8), "big")
        stream.seek(block + 2 * -(-size // 65536))
        stream.write(b"\x00\x01")
    check = subprocess.run(["qemu-img", "check", "-q", image], check=False, capture_output=True)
    assert check.returncode == 3
    world.init("box", image)


# What is there already


def test_existing_name(world: World, images: Images) -> None:
    world.init("box", images.qcow2)
    refuse(world, 'machine "box" already exists', "init", "--image", images.qcow2, "box")


@pytest.mark.parametrize("taken", ["box", "box-root"])
def test_connection_name_that_is_taken(taken: str, world: World, images: Images) -> None:
    document = {"Connection": {"Default": taken, "Connections": {taken: {"URI": "ssh://me@far"}}}}
    (world.root / "podman-connections.json").write_text(json.dumps(document))
    refuse(world, TAKEN.format(taken), "init", "--image", images.qcow2, "box")


@pytest.mark.parametrize("taken", ["box", "box-root"])
def test_connection_name_that_is_taken_in_an_old_podman(taken: str, podman_world: World, images: Images) -> None:
    podman_world.podman("system", "connection", "add", taken, "ssh://me@198.51.100.1/x")
    refuse(podman_world, TAKEN.format(taken), "init", "--image", images.qcow2, "box")


def test_connections_file_that_is_damaged(world: World, images: Images) -> None:
    path = write(world.root / "podman-connections.json", b"{")
    refuse(
        world,
        f"cannot read Podman's connections in {path}: Expecting property name enclosed in double quotes: line 1 "
        "column 2 (char 1); repair it or move it away",
        "init", "--image", images.qcow2, "box",
    )  # fmt: skip


@pytest.mark.parametrize("verb", ["start", "stop", "ssh", "rm"])
def test_machine_that_does_not_exist(verb: str, world: World) -> None:
    refuse(world, "nosuch: VM does not exist", verb, "nosuch")


def test_inspect_of_a_machine_that_does_not_exist(world: World) -> None:
    outcome = world.machine("inspect", "nosuch")
    assert (outcome.status, outcome.stdout, outcome.stderr) == (125, "[]\n", "Error: nosuch: VM does not exist\n")


@pytest.mark.parametrize("verb", ["start", "stop", "ssh"])
@pytest.mark.parametrize(
    ("content", "line"),
    [
        (
            b"",
            (
                "the record {} is damaged: not JSON (Expecting value: line 1 column 1 (char 0)); "
                "restore it, or remove the machine with: machine rm --force bad"
            ),
        ),
        (
            b'{"schema": 3}',
            "{} was written by a newer version of this program (schema 3, this one reads 2); upgrade boot2podman",
        ),
    ],
    ids=["damaged", "newer"],
)
def test_record_that_cannot_be_read(verb: str, content: bytes, line: str, world: World) -> None:
    directory = world.machines / "bad"
    directory.mkdir(parents=True)
    record = write(directory / "record.json", content)
    refuse(world, line.format(record), verb, "bad")


# What the host lacks

NO_QEMU = "qemu-system-x86_64 is not installed on this host; install it with: apt install qemu-system-x86"


@pytest.mark.parametrize(
    ("tool", "line"),
    [
        (
            "qemu-system-x86_64",
            NO_QEMU,
        ),
        ("qemu-img", "qemu-img is not installed on this host; install it (Debian: apt install qemu-utils)"),
        ("ssh-keygen", "ssh-keygen is not installed on this host; install it (Debian: apt install openssh-client)"),
    ],
)
def test_program_that_is_not_installed(tool: str, line: str, world: World, images: Images) -> None:
    world.without(tool)
    outcome = world.machine("init", "--image", images.qcow2, "box")
    errors = [text for text in outcome.stderr.splitlines() if text.startswith("Error")]
    assert (outcome.status, errors) == (125, [f"Error: {line}"])
    assert world.connections == {}
    assert [path.name for path in world.machines.glob("*") if path.is_dir()] == []


def test_foreign_guest_needs_its_own_qemu(world: World, images: Images) -> None:
    outcome = world.machine("init", "--arch", "arm64", "--image", images.qcow2, "box")
    line = "qemu-system-aarch64 is not installed on this host; install it with: apt install qemu-system-arm"
    assert (outcome.status, outcome.stderr) == (125, f"Error: {line}\n")
    assert not world.machines.exists()


USE_TCG = "use --accel auto or tcg"

FAKE_QEMU = """\
#!/bin/sh
case $* in
*--version*) echo 'QEMU emulator version {version}' ;;
*-accel*) echo 'Accelerators supported in QEMU binary:'; printf '%s\\n' {accelerators} ;;
*-netdev*) echo 'Available netdev backend types:'; printf '%s\\n' {networks} ;;
esac
"""


@pytest.mark.parametrize(
    ("fields", "words", "line"),
    [
        (
            {"version": "5.2.0"}, [],
            "{} is QEMU 5.2.0, but x86_64 guests need 6.2 or newer; install it with: apt install qemu-system-x86",
        ),
        (
            {"networks": "socket tap"}, [],
            "{} was built without slirp, which every machine needs; install it with: apt install qemu-system-x86",
        ),
        (
            {"accelerators": "tcg"}, ["--accel", "kvm"],
            f"cannot use kvm for this machine: {{}} was built without kvm; {USE_TCG}, or: install a QEMU that has kvm",
        ),
        (
            {"accelerators": "kvm"}, ["--accel", "tcg"],
            "{} was built without tcg; install it with: apt install qemu-system-x86",
        ),
    ],
)  # fmt: skip
def test_qemu_that_cannot_do_what_a_machine_needs(
    fields: dict[str, str], words: list[str], line: str, world: World, images: Images
) -> None:
    """A script speaks for QEMUs that no package here has."""
    binary = world.bin / "qemu-system-x86_64"
    binary.unlink()
    said = {"version": "10.0.2", "accelerators": "tcg kvm", "networks": "user tap", **fields}
    write(binary, FAKE_QEMU.format(**said).encode()).chmod(0o755)
    outcome = world.machine("init", "--image", images.qcow2, *words, "box")
    assert (outcome.status, outcome.stderr) == (125, f"Error: {line.format(binary)}\n")
    assert not world.machines.exists()


def test_accelerator_that_this_host_cannot_use_now_is_told_at_init(world: World, images: Images) -> None:
    """It may have it at the start: the machine is made all the same."""
    host = current_host()
    hardware = probe_hardware(host, probe_qemu(find_qemu(Arch.parse(host.machine), host)))
    made = world.machine("init", "--image", images.qcow2, "--accel", "kvm", "box")
    notice = early_notice(AcceleratorChoice.KVM, hardware)
    assert made.status == 0
    assert [line for line in made.stderr.splitlines() if "cannot be used" in line] == ([notice] if notice else [])


def test_accelerator_that_this_host_can_never_have(world: World, images: Images) -> None:
    line = f"cannot use hvf for this machine: linux has no hvf; {USE_TCG}"
    outcome = world.machine("init", "--image", images.qcow2, "--accel", "hvf", "box")
    assert (outcome.status, outcome.stderr) == (125, f"Error: {line}\n")
    world.init("box", images.qcow2)
    outcome = world.machine("start", "--quiet", "box", MACHINE_ACCEL="hvf")
    assert (outcome.status, outcome.stderr) == (125, f"Error: {line}\n")
    outcome = world.machine(
        "info", "--format", "[{{.Machine.Accelerator.Name}}] {{.Machine.Accelerator.Notice}}", MACHINE_ACCEL="hvf"
    )
    assert (outcome.status, outcome.stdout) == (0, f"[] {line}\n")


def test_qemu_that_is_gone_at_start(world: World, images: Images) -> None:
    world.init("box", images.qcow2)
    world.without("qemu-system-x86_64")
    outcome = world.machine("start", "--quiet", "box")
    assert (outcome.status, outcome.stderr) == (125, f"Error: {NO_QEMU}\n")
    assert world.machine("ls", "-q").stdout == "box*\n"


def test_base_image_that_is_gone_at_start(world: World, images: Images) -> None:
    world.init("box", images.qcow2)
    (base,) = world.cache.glob("sha256-*/image.qcow2")
    base.unlink()
    outcome = world.machine("start", "--quiet", "box")
    assert (outcome.status, outcome.stderr) == (
        125,
        f"Error: the base image of box is missing: {base}; fetch it again with: machine image pull {images.qcow2}\n",
    )


# Full disks


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 6 MiB: enough for one small image, not for its unpacking as well."""
    directory = tmp_path / "small"
    directory.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", directory], capture_output=True, text=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"no tmpfs can be mounted here: {mounted.stderr.strip()}")
    yield directory
    subprocess.run(["umount", "-l", directory], check=True)


def enlarge(disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)


def fill(disk: Path, *, but: int) -> None:
    facts = os.statvfs(disk)
    with (disk / "filler").open("wb") as stream:
        stream.write(bytes(facts.f_bavail * facts.f_frsize - but))


@pytest.mark.parametrize("room", [4096, 1024**2, 2 * 1024**2 + 64 * 1024])
def test_disk_that_is_full_leaves_nothing_half_made(room: int, small_disk: Path, images: Images) -> None:
    """The image needs a little over 2 MiB, so that each of these ends at another place."""
    world = make_world(small_disk / "w")
    fill(small_disk, but=room)
    before = world.files()
    outcome = world.machine("init", "--image", images.qcow2, "box")
    assert outcome.status == 125, outcome
    (error,) = [line for line in outcome.stderr.splitlines() if line.startswith("Error")]
    assert "o space left on" in error
    assert "Traceback" not in outcome.stderr
    assert world.files() == before
    assert world.machine("ls", "-q").stdout == ""
    enlarge(small_disk)
    world.init("box", images.qcow2)
    assert world.machine("ls", "-q").stdout == "box*\n"


def test_disk_that_is_full_of_the_cached_image_leaves_no_machine(small_disk: Path, images: Images) -> None:
    world = make_world(small_disk / "w")
    world.init("one", images.qcow2)
    before = world.files()
    fill(small_disk, but=8192)
    outcome = world.machine("init", "--image", images.qcow2, "two")
    assert outcome.status == 125
    assert outcome.stderr.splitlines()[-1].startswith("Error: ")
    (small_disk / "filler").unlink()
    assert world.files() == before
    assert world.machine("ls", "-q").stdout == "one*\n"
    assert sorted(path.name for path in world.machines.iterdir() if path.is_dir()) == ["one"]
    enlarge(small_disk)
    world.init("two", images.qcow2)


def test_connections_on_a_full_disk_take_the_machine_back(world: World, small_disk: Path, images: Images) -> None:
    world.extra["PODMAN_CONNECTIONS_CONF"] = str(small_disk / "podman-connections.json")
    connections = write(small_disk / "podman-connections.json", b'{"Connection":{},"Farm":{}}')
    (small_disk / "podman-connections.json.lock").touch()
    fill(small_disk, but=0)
    outcome = world.machine("init", "--image", images.qcow2, "box")
    assert (outcome.status, outcome.stderr.splitlines()[-1]) == (
        125,
        f"Error: no space left on the disk that holds {small_disk}; free some space and try again",
    )
    assert world.machine("ls").stdout.count("\n") == 1
    assert connections.read_bytes() == b'{"Connection":{},"Farm":{}}'
    assert not list(world.root.glob("docker/contexts/meta/*"))
    enlarge(small_disk)
    world.init("box", images.qcow2)


def test_home_that_is_a_file(world: World, images: Images) -> None:
    home = write(world.root / "file", b"x")
    line = f"cannot write {home}/cache/images: Not a directory"
    refuse(world, line, "init", "--image", images.qcow2, "box", MACHINE_HOME=str(home))


def test_output_that_nobody_reads_ends_quietly(world: World) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as nobody:
        done = subprocess.run(
            [machine_program(), "ls"], env=world.environment, stdout=nobody, stderr=subprocess.PIPE, check=False
        )
    assert (done.returncode, done.stderr) == (1, b"")
