"""Input that cannot be meant: one clear line, exit status 125, and nothing changed on disk."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from machine.model.arch import Arch
from machine.model.host import AcceleratorChoice
from machine.qemu.accelerator import early_notice
from machine.qemu.probe import find_qemu, probe_hardware, probe_qemu
from machine.this_host import current_host
from tests.support.disk_images import Images, qemu_img
from tests.support.golden import Golden
from tests.support.transcripts import refuse, transcript, without_steps
from tests.support.world import World, machine_program, make_world

BAD_WORDS = {
    "name with a slash": ["a/b"],
    "name that is empty": [""],
    "name of 31 characters": ["n" * 31],
    "name that is reserved": ["qemu"],
    "name with a line feed": ["a\nb"],
    "username": ["--username", "a b"],
    "username root": ["--username", "root"],
    "username of the system": ["--username", "daemon"],
    "username of 33 characters": ["--username", "u" * 33],
    "no cpus": ["--cpus", "0"],
    "negative cpus": ["--cpus", "-1"],
    "more cpus than the host's": ["--cpus", "99999"],
    "memory below 512 MiB": ["--memory", "511"],
    "memory above the host's": ["--memory", "99999999"],
    "no disk": ["--disk-size", "0"],
    "more disk than an image can have": ["--disk-size", "2097153"],
    "volume without a source": ["--volume", "/nonexistent:/x"],
    "volume that is a file": ["--volume", "/etc/passwd"],
    "volume in a place of the guest's own": ["--volume", "/home:/home"],
    "volumes in one place": ["--volume", "/home:/a", "--volume", "/etc:/a/b"],
    "volume driver": ["--volume-driver", "nfs"],
    "timezone": ["--timezone", "../../etc/passwd"],
    "timezone of no place": ["--timezone", "Europe/Atlantis"],
    "unknown stream": ["--image", "fcos:rawhide"],
    "unknown image": ["--image", "Ubuntu"],
    "kind of image": ["--image", "ftp://x/y"],
    "image in a registry": ["--image", "docker://x/Y"],
    "sha256": ["--image-sha256", "12"],
    "image that was never fetched": ["--offline"],
    "damaged url": ["--image", "http://[/x"],
    "local stream that was not built": ["--image", "boot2podman"],
    "architecture": ["--arch", "sparc64"],
    "accelerator": ["--accel", "warp"],
}


@pytest.mark.parametrize("what", BAD_WORDS)
def test_words_that_init_refuses(what: str, world: World, golden: Golden) -> None:
    refuse(golden, world, "init", *BAD_WORDS[what])


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


BAD_IMAGES = {
    "missing": missing,
    "a directory": a_directory,
    "empty": empty,
    "qcow2 that is cut short": half_qcow2,
    "qcow2 without more than a header": header_alone,
    "xz that is cut short": half_xz,
    "gzip that is cut short": half_gz,
    "no disk image": a_text,
    "qcow2 with a backing file": with_backing_file,
    "qcow2 with an external data file": with_external_data,
}


@pytest.mark.parametrize("what", BAD_IMAGES)
def test_image_that_init_refuses(what: str, world: World, images: Images, tmp_path: Path, golden: Golden) -> None:
    directory = tmp_path / "my images"
    directory.mkdir()
    refuse(golden, world, "init", "--image", BAD_IMAGES[what](images, directory), "box")
    assert not list(world.cache.glob("sha256-*"))


def test_disk_that_is_smaller_than_the_image(world: World, images: Images, tmp_path: Path, golden: Golden) -> None:
    image = two_gigabytes(images, tmp_path)
    outcome = world.machine("init", "--image", image, "--disk-size", "1", "box")
    golden.matches(transcript(world, without_steps(outcome), "init", "--image", image, "--disk-size", "1", "box"))
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


def test_existing_name(world: World, images: Images, golden: Golden) -> None:
    world.init("box", images.qcow2)
    refuse(golden, world, "init", "--image", images.qcow2, "box")


@pytest.mark.parametrize("taken", ["box", "box-root"])
def test_connection_name_that_is_taken(taken: str, world: World, images: Images, golden: Golden) -> None:
    document = {"Connection": {"Default": taken, "Connections": {taken: {"URI": "ssh://me@far"}}}}
    (world.root / "podman-connections.json").write_text(json.dumps(document))
    refuse(golden, world, "init", "--image", images.qcow2, "box")


@pytest.mark.parametrize("taken", ["box", "box-root"])
def test_connection_name_that_is_taken_in_an_old_podman(
    taken: str, podman_world: World, images: Images, golden: Golden
) -> None:
    podman_world.podman("system", "connection", "add", taken, "ssh://me@198.51.100.1/x")
    refuse(golden, podman_world, "init", "--image", images.qcow2, "box")


def test_connections_file_that_is_damaged(world: World, images: Images, golden: Golden) -> None:
    write(world.root / "podman-connections.json", b"{")
    refuse(golden, world, "init", "--image", images.qcow2, "box")


@pytest.mark.parametrize(
    "flag", ["--ignition-path", "--provision", "--playbook", "--ssh-authorized-key", "--file", "--image"]
)
def test_fifo_without_a_writer_is_not_waited_for(flag: str, world: World, images: Images) -> None:
    os.mkfifo(world.root / "fifo")
    before = world.files()
    outcome = world.machine("init", "--image", images.qcow2, flag, "./fifo", "box")
    assert (outcome.status, world.files()) == (125, before)
    assert outcome.stderr in (
        "Error: fifo is not a regular file\n",
        f"Error: image {world.root}/fifo is neither a file nor a disk\n",
    )


def test_descriptor_that_a_shell_passes_is_read(world: World, images: Images) -> None:
    machine = f"{machine_program()} init --image {images.qcow2}"
    world.run("/bin/bash", "-c", f"{machine} --provision <(echo true) box")
    world.run("/bin/bash", "-c", f"{machine} -f <(echo cpus = 1) filed")
    world.run("/bin/bash", "-c", f"echo cpus = 1 | {machine} -f /dev/stdin piped")
    assert world.record("box")["config"]["first_boot"]["scripts"][0]["text"] == "true\n"
    assert [world.record(name)["config"]["resources"]["cpus"] for name in ("filed", "piped")] == [1, 1]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("--image ./x", "the current directory no longer exists; go to another with: cd"),
        ("--image {image} --volume x:/x",
         'invalid volume "x:/x": the current directory no longer exists; write SRC[:DST[:ro]]'),
        ("--image {image} --provision x", "cannot read x: No such file or directory"),
        ("--image {image} --volume {root}:/x", None),
    ],
)  # fmt: skip
def test_current_directory_that_was_removed(words: str, line: str | None, world: World, images: Images) -> None:
    words = words.format(image=images.qcow2, root=world.root)
    script = f"/bin/mkdir gone && cd gone && /bin/rmdir ../gone && exec {machine_program()} init {words} box"
    outcome = world.run("/bin/bash", "-c", script, check=False)
    assert outcome.status == (125 if line else 0), outcome.stderr
    assert not line or outcome.stderr.endswith(f"Error: {line}\n")


@pytest.mark.linux("macOS has no /proc")
@pytest.mark.parametrize("source", ["/dev/fd", "/proc/self", "/proc/self/task"])
def test_folder_of_a_process_is_refused(source: str, world: World, images: Images) -> None:
    outcome = world.machine("init", "--image", images.qcow2, "--volume", f"{source}:/m", "box")
    assert outcome.status == 125
    assert re.fullmatch(
        rf"Error: {source} leads to /proc/\d+/?.*, which belongs to a process and ends with it; share another folder\n"
        "  see the documentation: troubleshooting#folder\n",
        outcome.stderr,
    )


@pytest.mark.parametrize("verb", ["start", "stop", "ssh", "rm"])
def test_machine_that_does_not_exist(verb: str, world: World, golden: Golden) -> None:
    refuse(golden, world, verb, "nosuch")


def test_inspect_of_a_machine_that_does_not_exist(world: World, golden: Golden) -> None:
    golden.matches(transcript(world, world.machine("inspect", "nosuch"), "inspect", "nosuch"))


@pytest.mark.parametrize("verb", ["start", "stop", "ssh"])
@pytest.mark.parametrize("content", [b"", b'{"schema": 1000}'], ids=["damaged", "newer"])
def test_record_that_cannot_be_read(verb: str, content: bytes, world: World, golden: Golden) -> None:
    directory = world.machines / "bad"
    directory.mkdir(parents=True)
    write(directory / "record.json", content)
    before = world.files()
    golden.matches(transcript(world, without_steps(world.machine(verb, "bad")), verb, "bad"))
    assert world.files() == before


# What the host lacks


@pytest.mark.linux("its text names the packages of this Linux")
@pytest.mark.parametrize("tool", ["qemu-system-x86_64", "qemu-img"])
def test_program_that_is_not_installed(tool: str, world: World, images: Images, golden: Golden) -> None:
    world.without(tool)
    outcome = world.machine("init", "--image", images.qcow2, "box")
    golden.matches(transcript(world, without_steps(outcome), "init", "--image", images.qcow2, "box"))
    assert world.connections == {}
    assert [path.name for path in world.machines.glob("*") if path.is_dir()] == []


@pytest.mark.linux("its text names the packages of this Linux")
def test_foreign_guest_needs_its_own_qemu(world: World, images: Images, golden: Golden) -> None:
    refuse(golden, world, "init", "--arch", "arm64", "--image", images.qcow2, "box")


FAKE_QEMU = """\
#!/bin/sh
case $* in
*--version*) echo 'QEMU emulator version {version}' ;;
*-accel*) echo 'Accelerators supported in QEMU binary:'; printf '%s\\n' {accelerators} ;;
*-netdev*) echo 'Available netdev backend types:'; printf '%s\\n' {networks} ;;
esac
"""


BAD_QEMUS: dict[str, tuple[dict[str, str], list[str]]] = {
    "old": ({"version": "5.2.0"}, []),
    "no slirp": ({"networks": "socket tap"}, []),
    "no kvm": ({"accelerators": "tcg"}, ["--accel", "kvm"]),
    "no tcg": ({"accelerators": "kvm"}, ["--accel", "tcg"]),
}


@pytest.mark.linux("its text names the packages of this Linux")
@pytest.mark.parametrize("what", BAD_QEMUS)
def test_qemu_that_cannot_do_what_a_machine_needs(what: str, world: World, images: Images, golden: Golden) -> None:
    """A script speaks for QEMUs that no package here has."""
    fields, words = BAD_QEMUS[what]
    world.without("qemu-system-x86_64")
    said = {"version": "10.0.2", "accelerators": "tcg kvm", "networks": "user tap", **fields}
    write(world.bin / "qemu-system-x86_64", FAKE_QEMU.format(**said).encode()).chmod(0o755)
    refuse(golden, world, "init", "--image", images.qcow2, *words, "box")


@pytest.mark.linux("its accelerator is KVM")
def test_accelerator_that_this_host_cannot_use_now_is_told_at_init(world: World, images: Images) -> None:
    """It may have it at the start: the machine is made all the same."""
    host = current_host()
    hardware = probe_hardware(host, probe_qemu(find_qemu(Arch.parse(host.machine), host)))
    made = world.machine("init", "--image", images.qcow2, "--accel", "kvm", "box")
    notice = early_notice(AcceleratorChoice.KVM, hardware)
    assert made.status == 0
    assert [line for line in made.stderr.splitlines() if "cannot be used" in line] == ([notice] if notice else [])


@pytest.mark.linux("its accelerator is KVM")
def test_accelerator_that_this_host_can_never_have(world: World, images: Images, golden: Golden) -> None:
    refuse(golden, world, "init", "--image", images.qcow2, "--accel", "hvf", "box", case="init")
    world.init("box", images.qcow2)
    start = ("start", "--quiet", "box")
    golden.matches(transcript(world, world.machine(*start, MACHINE_ACCEL="hvf"), *start, MACHINE_ACCEL="hvf"), "start")
    words = ("info", "--format", "[{{.Machine.Accelerator.Name}}] {{.Machine.Accelerator.Notice}}")
    golden.matches(transcript(world, world.machine(*words, MACHINE_ACCEL="hvf"), *words, MACHINE_ACCEL="hvf"), "info")


@pytest.mark.linux("its text names the packages of this Linux")
def test_qemu_that_is_gone_at_start(world: World, images: Images, golden: Golden) -> None:
    world.init("box", images.qcow2)
    world.without("qemu-system-x86_64")
    golden.matches(transcript(world, world.machine("start", "--quiet", "box"), "start", "--quiet", "box"))
    assert world.machine("ls", "-q").stdout == "box*\n"


def test_base_image_that_is_gone_at_start(world: World, images: Images, golden: Golden) -> None:
    world.init("box", images.qcow2)
    (base,) = world.cache.glob("sha256-*/image.qcow2")
    base.unlink()
    golden.matches(transcript(world, world.machine("start", "--quiet", "box"), "start", "--quiet", "box"))


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
    *_, error, page = outcome.stderr.splitlines()
    assert error.startswith("Error: ")
    assert page == "  see the documentation: troubleshooting#disk-full-host"
    (small_disk / "filler").unlink()
    assert world.files() == before
    assert world.machine("ls", "-q").stdout == "one*\n"
    assert sorted(path.name for path in world.machines.iterdir() if path.is_dir()) == ["one"]
    enlarge(small_disk)
    world.init("two", images.qcow2)


def test_connections_on_a_full_disk_take_the_machine_back(
    world: World, small_disk: Path, images: Images, golden: Golden
) -> None:
    world.extra["PODMAN_CONNECTIONS_CONF"] = str(small_disk / "podman-connections.json")
    connections = write(small_disk / "podman-connections.json", b'{"Connection":{},"Farm":{}}')
    (small_disk / "podman-connections.json.lock").touch()
    fill(small_disk, but=0)
    outcome = world.machine("init", "--image", images.qcow2, "box")
    golden.matches(transcript(world, without_steps(outcome), "init", "--image", images.qcow2, "box"))
    assert world.machine("ls").stdout.count("\n") == 1
    assert connections.read_bytes() == b'{"Connection":{},"Farm":{}}'
    assert not list(world.root.glob("docker/contexts/meta/*"))
    enlarge(small_disk)
    world.init("box", images.qcow2)


def test_home_that_is_a_file(world: World, images: Images, golden: Golden) -> None:
    home = write(world.root / "file", b"x")
    words = ("init", "--image", images.qcow2, "box")
    golden.matches(transcript(world, world.machine(*words, MACHINE_HOME=str(home)), *words, MACHINE_HOME=str(home)))
    assert home.read_bytes() == b"x"


def test_output_that_nobody_reads_ends_quietly(world: World) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as nobody:
        done = subprocess.run(
            [machine_program(), "ls"], env=world.environment, stdout=nobody, stderr=subprocess.PIPE, check=False
        )
    assert (done.returncode, done.stderr) == (1, b"")
