"""A guest of another distribution: Debian's packages with Debian's own cloud-init, published as Debian publishes."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from machine.guestimage.build import build_lock, make_disk
from machine.guestimage.recipe import load_plan, recipe_key
from machine.guestimage.root import make_root
from machine.guestimage.steps import building
from machine.model.arch import Arch
from machine.report import SilentReporter
from tests.support.debian_packages import flat_source, make_repository
from tests.support.guest_containers import check_statuses, run_containers, take_statuses
from tests.support.guest_hosts import publish, reboot_host, unsupervised, words_of_host
from tests.support.guest_network import SERVE, answers, fetch
from tests.support.guests import CACHE, served
from tests.support.world import World

pytestmark = pytest.mark.long

RECIPE = Path(__file__).with_name("debian-cloud")
SUITE = "trixie"
IMAGE = "debian-13-generic-amd64.qcow2"
_PODMAN = "podman conmon crun netavark aardvark-dns passt fuse-overlayfs uidmap catatonit"
_WITHOUT_PODMAN = f"""
set -e
systemctl --user disable --now podman.socket podman.service
sudo systemctl disable --now podman.socket
sudo apt-get purge -y --auto-remove {_PODMAN} >&2
sudo loginctl disable-linger core
sudo rm -rf /etc/containers /etc/podman-machine ~/.config/containers /etc/apt/sources.list.d/* /var/lib/apt/lists/*
"""
"""What makes of a machine's guest a host as Debian's installer leaves it."""


@pytest.fixture(scope="module")
def published() -> Path:
    """The folder of the image and its checksums, built when the recipe has changed."""
    plan = load_plan(RECIPE, Arch.X86_64, SUITE)
    base = CACHE / "debian-cloud"
    folder = base / recipe_key(RECIPE, Arch.X86_64, SUITE)
    base.mkdir(parents=True, exist_ok=True)
    with build_lock(base, SilentReporter()):
        if not folder.exists():
            for outdated in filter(Path.is_dir, base.iterdir()):
                shutil.rmtree(outdated)
            with building(plan, base, SilentReporter()) as steps:
                disk = make_disk(steps, RECIPE, plan, make_root(steps, RECIPE, plan))
                staged = steps.work / "publish"
                staged.mkdir(mode=0o755)
                disk.rename(staged / IMAGE)
                with (staged / IMAGE).open("rb") as stream:
                    digest = hashlib.file_digest(stream, "sha512").hexdigest()
                (staged / "SHA512SUMS").write_text(f"{digest}  {IMAGE}\n")
                staged.rename(folder)
    return folder


@pytest.fixture(scope="module")
def deb(world: World, published: Path) -> Iterator[str]:
    """The name of a running machine that was made from the catalogue."""
    catalogue = world.root / "m" / "config" / "catalogue.toml"
    catalogue.parent.mkdir(exist_ok=True)
    with served(published) as url:
        catalogue.write_text(
            f"""
            ["debian:13"]
            aliases = ["trixie"]
            url = "{url}/debian-13-generic-{{arch}}.qcow2"
            checksums = "{url}/SHA512SUMS"
            arch = {{ x86_64 = "amd64" }}
            packages = []
            """
        )
        world.must("image", "pull", "debian:trixie")
    image = ("--image", "debian:trixie", "--offline", "--timezone", "Asia/Tokyo")
    world.must("init", *image, "--disk-size", "12", "--memory", "1024", "new")
    world.must("rename", "new", "deb")
    world.must("start", "deb")
    yield "deb"
    world.must("rm", "--force", "deb")


def test_machine_is_made_from_the_catalogue(world: World, deb: str) -> None:
    assert world.state(deb) == ("running", "")
    facts = world.inspect(deb)["Machine"]
    assert (facts["Provisioning"], facts["Provisioned"]) == ("cloud-init", True)
    assert (facts["Image"]["Reference"], facts["Image"]["Verified"]) == ("debian:13", "sha512")


def test_cloud_init_has_nothing_to_complain_of(world: World, deb: str) -> None:
    result = json.loads(world.must("ssh", deb, "cat", "/var/lib/cloud/data/result.json").stdout)["v1"]
    assert result["datasource"].startswith("DataSourceNoCloud [seed=/dev/vd")
    assert result["errors"] == []
    schema = world.must(
        "ssh", deb, "sudo", "cloud-init", "schema", "--config-file", "/var/lib/cloud/instance/user-data.txt"
    )
    assert "Valid schema" in schema.stdout
    assert world.must("ssh", deb, "systemctl", "--failed", "--no-legend", "--plain").stdout == ""


def test_guest_is_as_ignition_would_have_made_it(world: World, deb: str) -> None:
    script = (
        "id -un; id -u; id -g; sudo id -un; hostname; date +%Z; cat /etc/subuid; systemctl is-enabled podman.socket;"
        "grep -c gateway.containers.internal /etc/hosts; cat /etc/containers/podman-machine; readlink /run/docker.sock;"
        "stat -c %U:%a ~/.config/containers/containers.conf ~/.config/containers ~/.config;"
        "readlink /usr/local/bin/docker; sudo grep -Ec '^(core|root):[!*]' /etc/shadow;"
        "cat /proc/sys/fs/inotify/max_user_instances; systemctl is-enabled docker.socket"
    )
    uid = 1000 if world.uid == 0 else world.uid
    assert world.machine("ssh", deb, script).stdout.split() == [
        "core", str(uid), str(uid), "root", "deb", "JST", "core:100000:1000000", "enabled",
        "1", "qemu", f"/run/user/{uid}/podman/podman.sock",
        "core:644", "core:755", "core:755",
        "/usr/bin/podman", "2",
        "524288", "masked",
    ]  # fmt: skip
    expected = (world.machines / deb / "ssh_host_ed25519_key.pub").read_text().split()[1]
    assert world.must("ssh", deb, "cat", "/etc/ssh/ssh_host_ed25519_key.pub").stdout.split()[1] == expected
    size = int(world.must("ssh", deb, "df --output=size -B1 / | tail -1").stdout)
    assert size > 11 * 1024**3


def test_podman_of_the_host_has_it_by_both_connections(world: World, deb: str, busybox: Path) -> None:
    assert answers(world, "deb")
    assert answers(world, "deb-root")
    world.remote("deb", "import", "--quiet", str(busybox), "busybox")
    assert world.remote("deb", "run", "--rm", "busybox", "echo", "hello").stdout == "hello\n"
    world.remote("deb", "run", "--detach", "--name", "cloud", "-p", "127.0.0.1::80", "busybox", "sh", "-c", SERVE)
    (address,) = world.remote("deb", "port", "cloud", "80").stdout.split()
    assert fetch(address) == "hello\n"


def test_next_boot_starts_the_containers_and_needs_neither_its_seed_nor_cloud_init(
    world: World, deb: str, busybox: Path
) -> None:
    world.remote(deb, "import", "--quiet", str(busybox), "busybox")
    run_containers(world, deb)
    world.must("restart", deb)
    check_statuses(*take_statuses(world, deb))
    assert answers(world, "deb")
    script = "hostname; cloud-init status; lsblk -dno NAME | grep -c vd"
    assert world.must("ssh", deb, script).stdout.split() == ["deb", "status:", "disabled", "1"]


def test_host_without_podman_gets_it_by_apt(world: World, deb: str, busybox: Path, tmp_path: Path) -> None:
    host = words_of_host(world, deb)
    (tmp_path / "word").write_text("shared")
    world.must("ssh", deb, _WITHOUT_PODMAN)
    status = tmp_path / "status"
    status.write_text(world.must("ssh", deb, "cat", "/var/lib/dpkg/status").stdout)
    make_repository(tmp_path / "repository", SUITE, status, "podman", "sshfs")
    with served(tmp_path / "repository") as url, unsupervised(world, deb):
        source = flat_source(url.replace("127.0.0.1", "host.containers.internal"))
        world.must("ssh", deb, f"echo '{source}' | sudo tee /etc/apt/sources.list")
        place = (*host, "--volume", f"{tmp_path}:/srv/far")
        refused = world.machine("init", *place, "far")
        assert refused.status == 125
        update, install = "sudo apt-get update", "sudo apt-get install -y"
        assert refused.stderr.splitlines()[-2] == (
            f"Error: {host[3].partition('@')[2]} is not ready: Podman is not installed; Podman's API socket is not "
            "enabled; containers of core end when core logs out; sshfs, which mounts folders, is not installed; run "
            f"there: {update} && {install} podman && systemctl --user enable --now podman.socket && sudo loginctl "
            f"enable-linger core && {update} && {install} sshfs; or let machine init --install do it"
        )
        installed = world.machine("init", *place, "--install", "far", stdin=4 * "y\n")
        assert installed.status == 0, installed.stderr
        assert f"Podman is not installed. Run there: {update} && {install} podman [y/N]" in installed.stdout
        world.must("start", "far")
        assert world.must("ssh", "far", "cat", "/srv/far/word").stdout == "shared"
        world.remote("far", "import", "--quiet", str(busybox), "busybox")
        port = publish(world, "far")
        world.remote("far-root", "info")
        reboot_host(world, "/srv/far/word", port)
        world.must("rm", "--force", "far")
