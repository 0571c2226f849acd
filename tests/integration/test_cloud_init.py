"""Images of other distributions: by a catalogue from a real server to a machine with its seed disk."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path

import pytest

from machine.ignition.cloud_init import LABEL
from machine.ignition.fat import fat_image, fat_size
from tests.support.disk_images import Images
from tests.support.http_server import ImageServer
from tests.support.world import World

IMAGE = "/cloud/own-1-amd64.qcow2"
SUMS = "/cloud/SHA512SUMS"
FILES = {
    "user-data": "#cloud-config\n" + "x" * 5000,
    "meta-data": "y" * 512,
    "network-config": "",
    "a-name-of-26-letters-in-it": "two parts of thirteen each",
    "Ä name with spaces": "z",
}


def publish(world: World, server: ImageServer, images: Images, sums: str = "", **entry: object) -> None:
    """An image own:1 as Debian publishes its own, in the user's catalogue."""
    digest = hashlib.sha512(images.qcow2.read_bytes()).hexdigest()
    fields = {
        "url": server.add("/cloud/own-1-{arch}.qcow2", b""),
        "checksums": server.add(SUMS, (sums or f"{digest}  own-1-amd64.qcow2\n").encode()),
        **entry,
    }
    server.add(IMAGE, images.qcow2.read_bytes())
    lines = [f"{key} = {json.dumps(value)}" for key, value in fields.items()]
    catalogue = world.root / "m" / "config" / "catalogue.toml"
    catalogue.parent.mkdir(parents=True, exist_ok=True)
    catalogue.write_text("\n".join(['["own:1"]', *lines, 'arch = { x86_64 = "amd64" }']))


def read(disk: Path, name: str) -> str:
    command = ["mtype", "-i", str(disk), f"::/{name}"]
    return subprocess.run(command, check=True, capture_output=True, text=True, env={"LC_ALL": "C.UTF-8"}).stdout


def seed_of(world: World, name: str) -> Path:
    return world.root / "m" / "data" / "machines" / name / "seed.img"


def test_tools_of_fat_find_no_fault_with_the_seed_disk(tmp_path: Path) -> None:
    disk = tmp_path / "seed.img"
    with disk.open("wb") as stream:
        stream.write(fat_image(LABEL, FILES))
        stream.truncate(fat_size())
    check = subprocess.run(["/sbin/fsck.vfat", "-n", "-v", str(disk)], capture_output=True, text=True, check=False)
    assert check.returncode == 0, check.stdout
    assert "16 bit entries" in check.stdout
    label = subprocess.run(
        ["/sbin/blkid", "-p", "-o", "value", "-s", "LABEL", str(disk)], capture_output=True, check=True
    )
    assert label.stdout == b"CIDATA\n"
    assert {name: read(disk, name) for name in FILES} == FILES


def test_image_of_the_catalogue_becomes_a_machine(world: World, images: Images, server: ImageServer) -> None:
    publish(world, server, images)
    made = world.init("box", "own:1", "--username", "me")
    asked, fetched = made.stderr.splitlines()
    assert asked == f"Asking for {server.url}{IMAGE}"
    assert fetched.startswith("Fetching own:1 for ")
    machine = world.inspect("box")["Machine"]
    assert machine["Provisioning"] == "cloud-init"
    assert (machine["Image"]["Reference"], machine["Image"]["Verified"]) == ("own:1", "sha512")
    user_data = json.loads(read(seed_of(world, "box"), "user-data").removeprefix("#cloud-config\n"))
    assert [user["name"] for user in user_data["users"]] == ["me", "root"]
    assert user_data["packages"] == ["podman"]
    assert json.loads(read(seed_of(world, "box"), "meta-data"))["local-hostname"] == "box"
    assert not (seed_of(world, "box").parent / "config.ign").exists()
    assert seed_of(world, "box").stat().st_mode & 0o777 == 0o600


def test_second_machine_needs_no_download_and_offline_no_server(
    world: World, images: Images, server: ImageServer
) -> None:
    publish(world, server, images)
    world.init("one", "own:1")
    assert world.init("two", "own:1").stderr == ""
    assert server.ranges_of(IMAGE) == [None]
    assert server.statuses_of(SUMS) == [200, 304]
    server.documents.clear()
    assert world.init("three", "own:1", "--offline").stderr == ""


def test_image_that_is_not_what_its_makers_promise_is_refused(
    world: World, images: Images, server: ImageServer
) -> None:
    publish(world, server, images, sums=f"{'0' * 128}  own-1-amd64.qcow2\n")
    refused = world.machine("init", "--image", "own:1", "box")
    digest = hashlib.sha512(images.qcow2.read_bytes()).hexdigest()
    assert refused.status == 125
    assert refused.stderr.splitlines()[-2] == (
        f"Error: {server.url}{IMAGE} is not the expected file: sha512 {digest} instead of {'0' * 128}; "
        "nothing was stored; try again, and do not use the image if this happens again"
    )
    assert not list(world.cache.glob("sha256-*"))
    assert not seed_of(world, "box").parent.exists()


def test_checksums_without_the_image_are_refused_before_anything_is_fetched(
    world: World, images: Images, server: ImageServer
) -> None:
    publish(world, server, images, sums=f"{'0' * 128}  other.qcow2\n")
    refused = world.machine("image", "pull", "own:1")
    assert refused.stderr == f"Error: {server.url}{SUMS} has no SHA-256 or SHA-512 of own-1-amd64.qcow2\n"
    assert server.ranges_of(IMAGE) == []


def test_promise_of_a_persons_own_is_kept_too(world: World, images: Images, server: ImageServer) -> None:
    publish(world, server, images)
    refused = world.machine("image", "pull", "own:1", "--image-sha256", "1" * 64)
    assert "is not the expected file: sha256 " in refused.stderr
    good = hashlib.sha256(images.qcow2.read_bytes()).hexdigest()
    assert world.machine("image", "pull", "own:1", "--image-sha256", good).status == 0


def test_image_without_checksums_is_taken_with_a_notice(world: World, images: Images, server: ImageServer) -> None:
    publish(world, server, images, checksums="")
    pulled = world.machine("image", "pull", "own:1")
    assert pulled.status == 0
    assert "own:1 could not be verified; pass --image-sha256 to check it" in pulled.stderr


def test_image_of_ones_own_is_provisioned_as_asked(world: World, images: Images) -> None:
    world.init("box", images.qcow2, "--provisioning", "cloud-init")
    assert world.inspect("box")["Machine"]["Provisioning"] == "cloud-init"
    assert "podman" in json.loads(read(seed_of(world, "box"), "user-data").partition("\n")[2])["packages"]
    world.init("other", images.qcow2)
    assert world.inspect("other")["Machine"]["Provisioning"] == "ignition"
    assert not seed_of(world, "other").exists()


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--image", "own:2"), 'unknown image "own:2"; choose one of: own:1'),
        (("--image", "own:1", "--arch", "s390x"), "own:1 has no image for s390x; its architectures are: x86_64"),
        (("--image", "own:1", "--swap", "100"),
         "a guest that is provisioned by cloud-init cannot have swap; leave out --swap"),
        (("--image", "own:1", "--provisioning", "ignition"),
         "guests of the image own:1 are provisioned by cloud-init; leave out --provisioning"),
        (("--image", "fcos:stable", "--provisioning", "cloud-init"),
         "guests of the image fcos:stable are provisioned by ignition; leave out --provisioning"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_told_in_one_line_and_nothing_is_made(
    world: World, images: Images, server: ImageServer, words: tuple[str, ...], line: str
) -> None:
    publish(world, server, images)
    refused = world.machine("init", *words, "box")
    assert (refused.status, refused.stdout, refused.stderr) == (125, "", f"Error: {line}\n")
    assert not server.requests
    assert not list((world.root / "m").glob("data/machines/*"))


def test_damaged_catalogue_harms_only_who_needs_it(world: World, images: Images, server: ImageServer) -> None:
    publish(world, server, images)
    catalogue = world.root / "m" / "config" / "catalogue.toml"
    catalogue.write_text('["own:1"]\nurl = "http://h"\n')
    line = f'Error: {catalogue}: ["own:1"] lacks the key "arch"\n'
    assert world.machine("init", "--image", "own:1", "box").stderr == line
    assert world.machine("image", "catalogue").stderr == line
    assert world.machine("config", "set", "image", "debian:13").stderr.endswith(line.removeprefix("Error: "))
    world.init("box", images.qcow2)


def test_catalogue_lists_ours_and_the_users(world: World, images: Images, server: ImageServer) -> None:
    publish(world, server, images)
    listed = json.loads(world.machine("image", "catalogue", "--format", "json").stdout)
    names = [entry["Reference"] for entry in listed]
    assert {"alpine:3.22", "debian:13", "fedora-cloud:44", "own:1", "ubuntu:26.04"} <= set(names)
    own = listed[names.index("own:1")]
    assert (own["Arches"], own["Provisioning"], own["Packages"]) == (["x86_64"], "cloud-init", ["podman"])
    table = world.machine("image", "catalogue").stdout
    assert "debian:13" in table
    assert table.startswith("REFERENCE")


def test_default_image_may_be_one_of_the_catalogue(world: World) -> None:
    assert world.machine("config", "set", "image", "debian:trixie").status == 0
    refused = world.machine("config", "set", "image", "debain:13")
    assert refused.status == 125
    assert 'unknown image "debain:13"' in refused.stderr


def test_there_is_no_ignition_config_to_show_or_to_keep(world: World, images: Images) -> None:
    world.init("box", images.qcow2, "--provisioning", "cloud-init")
    assert world.machine("ignition", "box").stderr == (
        "Error: box is provisioned by cloud-init, which does not use an Ignition config; "
        "see what the machine was made with: machine export box\n"
    )
    refused = world.machine("rm", "--force", "--save-ignition", "box")
    assert refused.stderr == 'Error: "box" has no Ignition config; leave out --save-ignition\n'
    assert world.inspect("box")["Name"] == "box"
