"""`machine init` and `machine rm` with real images, keys, disks and clients' files."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from pathlib import Path

import pytest

from tests.support.builders import make_metadata_text
from tests.support.clients import connections_of, docker_meta
from tests.support.disk_images import Images, qemu_img, sha256
from tests.support.http_server import ImageServer
from tests.support.world import World, machine_program, make_world


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("packing", ["qcow2", "raw", "xz", "gz"])
def test_image_in_any_packing_becomes_the_base_of_a_disk(packing: str, world: World, images: Images) -> None:
    outcome = world.init("box", getattr(images, packing), "--disk-size", "7")
    assert outcome.stdout == "Machine init complete\nTo start your machine run:\n\n\tmachine start box\n\n"
    information = json.loads(
        qemu_img("info", "--output=json", "--backing-chain", world.machines / "box" / "disk.qcow2")
    )
    overlay, base = information
    assert (overlay["format"], overlay["virtual-size"]) == ("qcow2", 7 * 1024**3)
    assert overlay["backing-filename-format"] == "qcow2"
    content = images.raw if packing in ("raw", "gz") else images.qcow2
    assert base["filename"] == str(world.cache / f"sha256-{sha256(content)}" / "image.qcow2")
    assert base["virtual-size"] == 64 * 1024**2
    assert mode(Path(base["filename"])) == 0o444
    qemu_img("compare", "-f", "qcow2", "-F", "raw", base["filename"], images.raw)


def test_files_of_a_machine_are_its_owners_alone(world: World, images: Images) -> None:
    world.init("box", images.qcow2)
    directory = world.machines / "box"
    modes = {path.name: mode(path) for path in directory.iterdir() if not path.is_symlink()}
    assert modes.pop("id_ed25519.pub") == 0o644
    assert modes.pop("ssh_host_ed25519_key.pub") == 0o644
    assert modes == dict.fromkeys(
        (
            "config.ign",
            "disk.qcow2",
            "id_ed25519",
            "known_hosts",
            "lock",
            "record.json",
            "record.last-good.json",
            "ssh_host_ed25519_key",
        ),
        0o600,
    )
    assert mode(directory) == 0o700


def test_keys_are_real_and_in_their_places(world: World, images: Images) -> None:
    world.init("box", images.qcow2)
    directory = world.machines / "box"
    publics = {}
    for key in ("id_ed25519", "ssh_host_ed25519_key"):
        derived = subprocess.run(
            ["ssh-keygen", "-y", "-f", directory / key], check=True, capture_output=True, text=True
        ).stdout.split()
        assert (directory / f"{key}.pub").read_text().split()[:2] == derived[:2]
        publics[key] = derived[1]
    assert (directory / "known_hosts").read_text() == f"machine-box ssh-ed25519 {publics['ssh_host_ed25519_key']}\n"
    config = json.loads((directory / "config.ign").read_bytes())
    assert publics["id_ed25519"] in config["passwd"]["users"][0]["sshAuthorizedKeys"][0]


def test_two_machines_share_nothing_but_the_base(world: World, images: Images) -> None:
    world.init("one", images.xz)
    world.init("two", images.xz)
    one, two = world.inspect("one"), world.inspect("two")
    assert one["SSHConfig"]["Port"] != two["SSHConfig"]["Port"]
    assert one["Machine"]["Image"]["Digest"] == two["Machine"]["Image"]["Digest"]
    records = [json.loads((world.machines / name / "record.json").read_bytes()) for name in ("one", "two")]
    assert records[0]["config"]["mac"] != records[1]["config"]["mac"]
    assert (world.machines / "one" / "id_ed25519").read_bytes() != (world.machines / "two" / "id_ed25519").read_bytes()
    assert {path.name for path in world.cache.iterdir()} == {".lock", "downloads", f"sha256-{sha256(images.qcow2)}"}


def test_flags_reach_the_record(world: World, images: Images) -> None:
    flags = ("--cpus", "1", "-m", "600", "--username", "me", "--timezone", "Asia/Tokyo", "--rootful", "--accel", "tcg")
    world.init("box", images.qcow2, *flags)
    document = world.inspect("box")
    assert (document["Resources"]["CPUs"], document["Resources"]["Memory"]) == (1, 600)
    assert (document["SSHConfig"]["RemoteUsername"], document["Rootful"]) == ("me", True)
    assert (document["Machine"]["Timezone"], document["Machine"]["Accelerator"]) == ("Asia/Tokyo", "tcg")
    assert world.connections["Default"] == "box-root"


@pytest.fixture
def foreign_world(world: World) -> World:
    """One with the QEMU of aarch64 guests too."""
    world.link_tool("qemu-system-aarch64")
    return world


@pytest.mark.parametrize("name", ["arm64", "aarch64"])
def test_machine_of_another_architecture(name: str, foreign_world: World, images: Images) -> None:
    outcome = foreign_world.init("arm", images.qcow2, "--arch", name)
    notice = (
        f"No hardware acceleration (the guest is aarch64 and the host is {os.uname().machine}): "
        "the guest is emulated and about thirty times slower"
    )
    assert notice in outcome.stderr
    document = foreign_world.inspect("arm")["Machine"]
    assert (document["Arch"], document["Console"]) == ("aarch64", "ttyAMA0")
    (listed,) = json.loads(foreign_world.machine("ls", "--format", "json").stdout)
    assert listed["Arch"] == "aarch64"
    assert "Arch" not in foreign_world.machine("ls").stdout


def test_machine_takes_the_image_of_its_architecture(foreign_world: World, images: Images, server: ImageServer) -> None:
    foreign_world.trust(images.key)
    server.add("/streams/box.xz", images.xz.read_bytes())
    server.add("/streams/box.xz.sig", images.signature)
    metadata = make_metadata_text("box.xz", arch="aarch64", signature="box.xz.sig", **images.hashes)
    server.add("/streams/stable.json", metadata)
    base = ("--stream-base-url", f"{server.url}/streams")
    refused = foreign_world.machine("init", "--image", "fcos:stable", *base, "box")
    line = "stream stable has no image for x86_64; its architectures are: aarch64"
    assert (refused.status, refused.stderr.splitlines()[-1]) == (125, f"Error: {line}")
    foreign_world.init("arm", "fcos:stable", *base, "--arch", "aarch64")
    # What the stream has told of it holds for the same file under another name.
    refused = foreign_world.machine("init", "--image", images.xz, "box")
    line = "the image stable 43.20260101.3.0 is for aarch64, but the machine would be x86_64; "
    assert refused.status == 125
    assert f"Error: {line}use --arch aarch64, or an image for x86_64" in refused.stderr
    assert foreign_world.machine("ls", "-q").stdout == "arm*\n"


def test_local_stream_without_the_architecture_tells_how_to_have_it(foreign_world: World, images: Images) -> None:
    streams = foreign_world.home / "data" / "streams"
    streams.mkdir(parents=True)
    (streams / "boot2podman.json").write_bytes(make_metadata_text(stream="boot2podman"))
    refused = foreign_world.machine("init", "--image", "boot2podman", "--arch", "arm64", "arm")
    assert refused.status == 125
    assert refused.stderr.splitlines()[-1] == (
        "Error: stream boot2podman has no image for aarch64; its architectures are: x86_64; "
        "build one with: machine image build --arch aarch64"
    )


def test_connections_and_context_come_and_go_with_the_machine(world: World, images: Images) -> None:
    before = world.files()
    world.init("box", images.qcow2)
    sockets = world.inspect("box")["Machine"]["Sockets"]
    assert world.connections == {
        "Default": "box",
        "Connections": {
            "box": {"URI": f"unix://{sockets['Rootless']}"},
            "box-root": {"URI": f"unix://{sockets['Rootful']}"},
        },
    }
    meta = json.loads(docker_meta(world, "box").read_bytes())
    assert meta["Endpoints"]["docker"]["Host"] == f"unix://{sockets['Rootless']}"
    removed = world.machine("rm", "--force", "box")
    assert (removed.status, removed.stdout, removed.stderr) == (0, "", "")
    assert world.connections == {"Default": "", "Connections": {}}
    assert not docker_meta(world, "box").parent.exists()
    assert not (world.machines / "box").exists()
    left = {name for name in world.files() if not name.startswith("m/cache/images/sha256-")}
    assert left - before.keys() == {"podman-connections.json"}


def test_default_is_handed_on_when_its_machine_goes(world: World, images: Images) -> None:
    world.init("one", images.qcow2)
    world.init("two", images.qcow2)
    assert world.connections["Default"] == "one"
    world.machine("rm", "-f", "one")
    assert world.connections["Default"] == "two"
    assert world.machine("ls", "-q").stdout == "two*\n"


def test_default_that_is_handed_on_to_a_rootful_machine_is_its_rootful_connection(world: World) -> None:
    world.init("one", "/dev/null", "-v", "")
    world.init("two", "/dev/null", "-v", "", "--rootful")
    world.must("rm", "-f", "one")
    assert world.connections["Default"] == "two-root"
    assert world.must("ls", "-q").stdout == "two*\n"


def test_old_podman_gets_the_rootful_connection_of_the_next_machine(podman_world: World) -> None:
    podman_world.init("one", "/dev/null", "-v", "")
    podman_world.init("two", "/dev/null", "-v", "", "--rootful")
    podman_world.must("rm", "-f", "one")
    assert podman_world.connections["Default"] == "two-root"
    starred = [
        line.split()[0] for line in podman_world.podman("system", "connection", "ls").splitlines() if "true" in line
    ]
    assert starred == ["two-root"]


def test_old_podman_is_told_too(podman_world: World, images: Images) -> None:
    world = podman_world
    world.podman("system", "connection", "add", "far", "ssh://core@198.51.100.1/run/podman.sock")
    world.init("box", images.qcow2)
    sockets = world.inspect("box")["Machine"]["Sockets"]
    rows = connections_of(world)
    assert rows["box"] == (f"unix://{sockets['Rootless']}", "false")
    assert rows["box-root"] == (f"unix://{sockets['Rootful']}", "false")
    assert rows["far"][1] == "true"
    world.machine("rm", "-f", "box")
    assert list(connections_of(world)) == ["far"]
    assert connections_of(world)["far"][1] == "true"


def test_first_machine_is_the_old_podmans_default(podman_world: World, images: Images) -> None:
    podman_world.init("box", images.qcow2)
    assert connections_of(podman_world)["box"][1] == "true"


@pytest.mark.parametrize("variable", ["CONTAINER_HOST", "CONTAINER_CONNECTION"])
def test_users_choice_of_a_remote_podman_disturbs_no_registration(
    variable: str, podman_world: World, images: Images
) -> None:
    podman_world.extra[variable] = "ssh://nobody@198.51.100.1/x"
    podman_world.init("box", images.qcow2)
    del podman_world.extra[variable]
    assert "box" in connections_of(podman_world)


def test_rm_asks_and_keeps_the_machine_without_a_yes(world: World, images: Images) -> None:
    world.init("box", images.qcow2)
    before = world.files()
    for answer, status in (("n\n", 0), ("\n", 0), ("", 125)):
        done = subprocess.run(
            [machine_program(), "rm", "box"], env=world.environment, input=answer, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        assert done.returncode == status
        assert done.stdout.startswith("The following files will be deleted:\n\n")
        assert str(world.machines / "box" / "disk.qcow2") in done.stdout.splitlines()
        assert done.stdout.endswith("Are you sure you want to continue? [y/N] ")
    assert world.files() == before


def test_rm_force_removes_a_machine_whose_record_is_damaged(world: World, images: Images) -> None:
    world.init("box", images.qcow2)
    (world.machines / "box" / "record.json").write_text("{")
    assert world.machine("rm", "--force", "box").status == 0
    assert not (world.machines / "box").exists()
    assert world.connections["Connections"] == {}


def test_rm_tells_of_a_clients_file_that_it_cannot_change(world: World, images: Images) -> None:
    world.init("box", images.qcow2)
    connections = world.root / "podman-connections.json"
    connections.write_text("{")
    removed = world.machine("rm", "--force", "box")
    assert removed.status == 0
    assert removed.stderr.startswith(
        f'"box" could not be removed from every client: cannot read Podman\'s connections in {connections}'
    )
    assert not (world.machines / "box").exists()
    assert connections.read_text() == "{"


def test_docker_context_of_the_users_own_is_kept_with_a_notice(world: World, images: Images) -> None:
    meta = docker_meta(world, "box")
    meta.parent.mkdir(parents=True)
    meta.write_text(own := '{"Name":"box","Endpoints":{"docker":{"Host":"tcp://198.51.100.1"}}}')
    outcome = world.init("box", images.qcow2)
    assert 'The Docker context "box" is unchanged, because it existed already and points elsewhere\n' in outcome.stderr
    world.machine("rm", "--force", "box")
    assert meta.read_text() == own


def test_connections_file_that_is_a_link_stays_one(world: World, images: Images) -> None:
    link, target = world.root / "podman-connections.json", world.root / "dotfiles.json"
    link.symlink_to(target)
    world.init("box", images.qcow2)
    assert link.is_symlink()
    assert "box" in target.read_text()


def test_long_home_gets_short_sockets(tmp_path: Path, images: Images) -> None:
    world = make_world(tmp_path / ("long" * 25))
    name = "n" * 30
    world.init(name, images.qcow2)
    uri = world.connections["Connections"][f"{name}-root"]["URI"]
    assert uri.startswith("unix:///tmp/b2p-")
    assert len(uri.removeprefix("unix://")) <= 103


def test_home_with_every_odd_character_works(tmp_path: Path, images: Images) -> None:
    world = make_world(tmp_path / "a b,c%d:e'f\"gé")
    world.init("box", images.raw)
    assert world.machine("ls", "-q").stdout == "box*\n"
    assert world.machine("rm", "-f", "box").status == 0
