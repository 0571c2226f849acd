"""What is in the cache of images, and how it goes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tests.support.disk_images import Images, sha256
from tests.support.http_server import Fault, ImageServer
from tests.support.streams import PACKED, pull_image, stream
from tests.support.world import World

# The cache


def test_base_that_is_damaged_is_made_anew(world: World, images: Images, server: ImageServer) -> None:
    base = stream(world, server, images)
    pull_image(world, images, base)
    (image,) = world.cache.glob("sha256-*/image.qcow2")
    whole = image.read_bytes()
    description = image.parent / "artifact.json"
    for spoil in (image.unlink, lambda: os.truncate(image, 1000), lambda: description.write_text("{")):
        image.parent.chmod(0o700)
        if image.exists():
            image.chmod(0o600)
        spoil()
        assert world.machine("image", "ls", "-q").stdout == ""
        pull_image(world, images, base)
        assert image.read_bytes() == whole
    image.chmod(0o600)
    image.unlink()
    assert world.machine("image", "prune").status == 0
    assert not list(world.cache.glob("sha256-*"))


def test_base_that_has_changed_is_told_verified_and_fetched_again(
    world: World, images: Images, server: ImageServer
) -> None:
    base = stream(world, server, images)
    pull_image(world, images, base)
    world.machine("init", "--stream-base-url", base, "box")
    (image,) = world.cache.glob("sha256-*/image.qcow2")
    assert world.must("image", "verify").stdout.split()[-5::4] == ["fcos:stable", "intact"]
    whole, before = image.read_bytes(), image.stat()
    image.chmod(0o600)
    with image.open("r+b") as stream_:
        stream_.seek(-1, os.SEEK_END)
        stream_.write(b"!")
    verified = "{{.Verified}}"
    assert world.must("image", "ls", "--format", verified).stdout == "changed\n"
    assert "its base image has changed since it was fetched" in world.machine("doctor").stdout
    os.utime(image, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert world.must("image", "ls", "--format", verified).stdout == "signature\n"
    outcome = world.machine("image", "verify", "fcos:stable", "--format", "{{.Digest}} {{.Condition}}")
    assert (outcome.status, outcome.stdout) == (1, f"{image.parent.name.removeprefix('sha256-')} damaged\n")
    assert outcome.stderr.splitlines()[-2].startswith(
        f"Error: the base image {image} is damaged; fetch it again with: machine image pull fcos:stable@"
    )
    assert world.must("image", "ls", "--format", verified).stdout == "changed\n"
    pull_image(world, images, base)
    assert image.read_bytes() == whole
    assert world.must("image", "verify", "--format", "{{.Condition}}").stdout == "intact\n"
    assert world.must("image", "ls", "--format", verified).stdout == "signature\n"
    assert world.machine("image", "verify", "nosuch").stderr == (
        'Error: no image "nosuch" in the cache; see: machine image ls\n'
    )


def test_converted_image_is_verified_as_it_was_converted(world: World, images: Images) -> None:
    raw = world.root / "disk.raw"
    subprocess.run(["qemu-img", "convert", "-O", "raw", images.qcow2, raw], check=True)
    world.must("image", "pull", raw)
    assert world.must("image", "verify", "--format", "{{.Condition}}").stdout == "intact\n"


def test_promise_made_later_is_remembered(world: World, images: Images, server: ImageServer) -> None:
    url = server.add("/disk.xz", images.xz.read_bytes())
    for words in ((), ("--image-sha256", sha256(images.xz)), ("--image-sha256", sha256(images.xz)), ("--offline",)):
        assert world.machine("image", "pull", url, *words).status == 0
    assert server.ranges_of("/disk.xz") == [None]
    (listed,) = json.loads(world.machine("image", "ls", "--format", "json").stdout)
    assert listed["Verified"] == "sha256"


def test_promise_for_a_local_file_is_checked(world: World, images: Images) -> None:
    world.init("one", images.xz)
    refused = world.machine("image", "pull", images.gz, "--image-sha256", sha256(images.xz))
    promise = f"sha256 {sha256(images.gz)} instead of {sha256(images.xz)}"
    assert refused.stderr == (
        f"Error: {images.gz} is not the expected file: {promise}\n  see the documentation: troubleshooting#checksum\n"
    )


def test_file_that_has_not_changed_is_not_read_again(world: World, images: Images, tmp_path: Path) -> None:
    image = tmp_path / "disk.qcow2"
    shutil.copy(images.qcow2, image)
    time.sleep(0.2)  # until a change shows in its times
    assert world.init("one", image).stderr == "Unpacking disk.qcow2\n"
    assert world.init("two", image).stderr == ""
    os.link(image, tmp_path / "link.qcow2")  # changes its ctime
    time.sleep(0.2)
    assert world.init("three", image).stderr == "Unpacking disk.qcow2\n"
    assert world.init("four", tmp_path / "link.qcow2").stderr == ""
    (base,) = world.cache.glob("sha256-*")
    assert base.name == f"sha256-{sha256(images.qcow2)}"


def test_file_that_has_other_content_of_the_same_size_and_mtime_is_read_again(
    world: World, images: Images, tmp_path: Path
) -> None:
    image = tmp_path / "disk.raw"
    shutil.copy(images.raw, image)
    time.sleep(0.2)
    world.init("one", image)
    before = image.stat()
    with image.open("r+b") as stream:
        stream.seek(4096)
        stream.write(b"changed")
    os.utime(image, ns=(before.st_atime_ns, before.st_mtime_ns))
    world.init("two", image)
    assert len(list(world.cache.glob("sha256-*"))) == 2


def test_damaged_memory_of_files_costs_only_time(world: World, images: Images) -> None:
    world.init("one", images.qcow2)
    (memory,) = world.cache.glob("sha256-*/files.json")
    for number, damage in enumerate(("{", "5", "[1, [2]]")):
        memory.write_text(damage)
        world.init(f"m{number}", images.qcow2)
    assert world.init("last", images.qcow2).stderr == ""


def test_image_that_is_neither_file_nor_disk(world: World) -> None:
    fifo = world.root / "fifo"
    os.mkfifo(fifo)
    for path in (fifo, Path("/dev/zero")):
        refused = world.machine("image", "pull", path)
        assert refused.stderr == f"Error: image {path} is neither a file nor a disk\n"


@pytest.mark.linux("the file is Linux's")
def test_image_whose_content_cannot_be_read_is_named(world: World) -> None:
    path = Path("/proc/self/mem")  # fails to be read as a file on a damaged disk does
    refused = world.machine("image", "pull", path)
    assert refused.stderr.splitlines()[-1] == f"Error: image {path} cannot be read: Input/output error"


def test_login_in_a_url_is_used_and_not_written_down(world: World, images: Images, server: ImageServer) -> None:
    url = server.add("/disk.xz", images.xz.read_bytes(), login="me:secret")
    assert "answered 401" in world.machine("image", "pull", url).stderr
    world.init("box", url.replace("http://", "http://me:secret@"))
    everything = "".join(path.read_text(errors="replace") for path in world.home.rglob("*.json"))
    assert "secret" not in everything + world.machine("image", "ls").stdout + world.machine("inspect", "box").stdout


def test_removing_nothing_removes_nothing(world: World, images: Images) -> None:
    world.init("box", images.qcow2)
    world.machine("rm", "--force", "box")
    assert world.machine("image", "rm", "").stderr == 'Error: no image "" in the cache; see: machine image ls\n'
    assert len(list(world.cache.glob("sha256-*"))) == 1


def test_machine_without_record_and_disk_blocks_removal_alone(world: World, images: Images) -> None:
    world.init("box", images.qcow2)
    (world.machines / "box" / "record.json").write_text("{")
    (world.machines / "box" / "disk.qcow2").unlink()
    assert len(world.machine("image", "ls", "-q").stdout.splitlines()) == 1
    refused = world.machine("image", "prune").stderr
    assert refused.startswith("Error: cannot find out which image box uses: ")
    assert refused.endswith("; remove it with: machine rm --force box\n")


def test_verbs_of_the_cache(world: World, images: Images, server: ImageServer) -> None:
    base = stream(world, server, images)
    world.init("box", "stable", "--stream-base-url", base)
    url = server.add("/other.raw.gz", images.gz.read_bytes())
    other = world.machine("image", "pull", "--quiet", url).stdout.strip().removeprefix("sha256:")
    heading, first, second = world.machine("image", "ls").stdout.splitlines()
    assert heading.split() == ["REFERENCE", "RELEASE", "ARCH", "SIZE", "VERIFIED", "USED", "BY", "DIGEST"]
    rows = {row.split()[0]: row.split() for row in (first, second)}
    assert rows["fcos:stable"][1:3] == ["43.20260101.3.0", "x86_64"]
    assert rows["fcos:stable"][-3:] == ["signature", "box", sha256(images.qcow2)[:12]]
    assert rows[url][-3:] == ["nothing", "-", other[:12]]
    (described,) = json.loads(world.machine("image", "inspect", other[:12]).stdout)
    assert (described["Reference"], described["UsedBy"]) == (url, [])
    refused = world.machine("image", "rm", other[:12], "stable")
    digest = sha256(images.qcow2)[:12]
    assert refused.stderr == f"Error: fcos:stable ({digest}) is used by: box; remove these machines first\n"
    assert len(world.machine("image", "ls", "-q").stdout.splitlines()) == 2
    assert world.machine("image", "rm", url).stdout == f"sha256:{other}\n"
    assert world.machine("image", "rm", url).stderr == f'Error: no image "{url}" in the cache; see: machine image ls\n'
    world.machine("rm", "--force", "box")
    assert world.machine("image", "prune", "--keep", "1").stdout == ""
    pruned = world.machine("image", "prune")
    assert pruned.stdout == f"sha256:{sha256(images.qcow2)}\n"
    assert pruned.stderr.startswith("Freed ")
    assert not [path for path in world.cache.rglob("*") if path.is_file() and path.stat().st_size]


def test_base_of_a_machine_with_a_damaged_record_is_in_use(world: World, images: Images) -> None:
    world.init("box", images.qcow2)
    (world.machines / "box" / "record.json").write_text("{")
    assert world.machine("image", "prune").stdout == ""
    assert len(list(world.cache.glob("sha256-*/image.qcow2"))) == 1


def test_prune_does_not_disturb_who_fetches(world: World, images: Images, server: ImageServer) -> None:
    base = stream(world, server, images)
    server.documents[PACKED].faults.append(Fault(stall_after=1_000_000))
    with world.popen("image", "pull", "--stream-base-url", base) as process:
        assert server.stalled.wait(20)
        refused = world.machine("image", "prune")
        process.kill()
        process.communicate()
    assert (
        refused.stderr
        == "Error: another command is fetching an image or creating a machine; try again when that command has ended\n"
    )
    assert world.machine("image", "prune").status == 0
    assert not list(world.cache.glob("downloads/*"))


def test_empty_disk(world: World) -> None:
    world.init("box", "/dev/null", "--disk-size", "3")
    info = subprocess.run(
        ["qemu-img", "info", "--output=json", world.machines / "box" / "disk.qcow2"], check=True, capture_output=True
    )
    facts = json.loads(info.stdout)
    assert (facts["virtual-size"], facts.get("backing-filename")) == (3 * 1024**3, None)


def test_image_that_was_cached_from_a_file_is_known_as_the_streams(
    world: World, images: Images, server: ImageServer
) -> None:
    base = stream(world, server, images)
    world.init("one", images.xz)
    world.init("two", "stable", "--stream-base-url", base, "--no-verify-signature")
    assert server.ranges_of(PACKED) == []


def test_file_that_the_cache_has_under_another_name_keeps_its_own(
    world: World, images: Images, server: ImageServer
) -> None:
    """The name is what tells Fedora CoreOS from other guests."""
    path = world.root / "fedora-coreos-44.1-qemu.x86_64.qcow2"
    url = server.add("/fedora-coreos-44.1-qemu.x86_64.qcow2.xz", images.xz.read_bytes())
    world.init("first", images.qcow2)
    world.init("packed", images.xz)
    shutil.copy(images.qcow2, path)
    time.sleep(0.2)
    for name, image, *words in (
        ("read", path),
        ("known", path),
        ("promised", path, "--image-sha256", sha256(images.qcow2)),
        ("fetched", url, "--image-sha256", sha256(images.xz)),
        ("again", images.qcow2),
    ):
        world.init(name, image, *words, "--volume", f"{world.root}:/data")
        is_coreos = image != images.qcow2
        assert world.inspect(name)["Machine"]["Image"]["Location"].removeprefix("file://") == str(image)
        document = json.loads(world.must("ignition", name).stdout)
        assert document["ignition"]["version"] == ("3.3.0" if is_coreos else "3.2.0")
    assert len(list(world.cache.glob("sha256-*"))) == 1


def test_folders_of_a_machine_that_has_not_booted_change_its_kernel_arguments(world: World, images: Images) -> None:
    path = world.root / "fedora-coreos-44.1-qemu.x86_64.qcow2"
    shutil.copy(images.qcow2, path)
    world.init("box", path, "--volume", "")

    def arguments() -> list[str]:
        document = json.loads(world.must("ignition", "box").stdout)
        return list(document.get("kernelArguments", {}).get("shouldExist", []))

    needed, folder = ["ostree.prepare-root.composefs=0"], f"{world.root}:/data"
    assert arguments() == []
    for words in (
        ("set", "--volume", folder, "box"),
        ("set", "--volume", f"{world.root}:/mnt/x", "box"),
        ("mount", "add", "box", folder),
        ("mount", "rm", "box", "/data"),
    ):
        world.must(*words)
        assert arguments() == (needed if folder in words else [])
    config = world.machines / "box" / "config.ign"
    whole = config.read_text()
    config.write_text("{")
    for words in (("set", "--volume", folder, "box"), ("mount", "add", "box", folder)):
        before = (world.machines / "box" / "record.json").read_bytes()
        assert world.machine(*words).stderr == (
            f"Error: {config} is not an Ignition config; correct it, because the guest reads it at its first boot\n"
        )
        assert (world.machines / "box" / "record.json").read_bytes() == before
    config.write_text(whole)
    world.edit_record("box", guest={"provisioned": True})
    world.must("mount", "add", "box", folder)
    assert arguments() == []
