"""A machine that was stopped, was changed and starts again."""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import signal
import subprocess
from pathlib import Path

import psutil
import pytest

from machine.files import sha256_of
from machine.model.network import HOST
from machine.model.ports import Endpoint, Protocol
from machine.ports.holder import find_holder
from tests.support.free_ports import choose_port
from tests.support.guest_containers import check_statuses
from tests.support.guest_machines import Change, SecondMachine, copy_into_world
from tests.support.guest_network import SERVE, answers, api_socket, fetch
from tests.support.guests import BOOT_S, served
from tests.support.processes import processes_of
from tests.support.waiting import wait_until
from tests.support.world import World, machine_program


def test_stopping_a_stopped_machine_is_success(world: World, stopped_box: str) -> None:
    assert world.must("stop", "box").stdout == 'Machine "box" stopped successfully\n'


def test_ssh_into_a_stopped_machine_is_refused(world: World, stopped_box: str) -> None:
    refused = world.machine("ssh", "box", "true")
    line = 'Error: vm "box" is not running; start it with: machine start box\n'
    assert (refused.status, refused.stderr) == (125, line)


def test_machine_that_was_changed_starts_as_it_was_asked_to(world: World, crate: Change) -> None:
    assert "The root file system of box will grow into the larger disk at the next start" in crate.changed.stderr
    assert f"detected port conflict on machine ssh port [{crate.port}], reassigning" in crate.started.stderr
    assert world.inspect("crate")["SSHConfig"]["Port"] != crate.port
    script = "id -un; hostname; nproc; readlink /run/docker.sock; df --output=size -B1 / | tail -1"
    user, hostname, cpus, docker_socket, size = world.must("ssh", "crate", script).stdout.split()
    assert (user, hostname, cpus, docker_socket) == ("root", "crate", "1", "/run/podman/podman.sock")
    assert int(size) > 15 * 1024**3
    paths = f"readlink {world.runtime('crate')}/podman-root.sock; test -L {world.runtime('box')}/podman.sock || echo no"
    assert world.must("ssh", "crate", paths).stdout == "/run/podman/podman.sock\nno\n"
    assert api_socket(world, "crate").endswith("/crate/podman-root.sock")
    connections = world.podman("system", "connection", "list", "--format", "{{.Name}} {{.Default}}")
    assert set(connections.splitlines()) == {"crate false", "crate-root true"}
    assert "sleeper" in world.remote("crate", "ps", "--all", "--format", "{{.Names}}").stdout


@pytest.mark.long
def test_containers_are_as_their_policies_say_after_a_start(world: World, crate: Change) -> None:
    """The service of Quadlet waits for the network, and the boot ends: see `Change`."""
    check_statuses(crate.rootless, crate.rootful)
    assert crate.rootless["sleeper"].startswith("Exited (137) ")  # busybox's sleep ignores SIGTERM
    assert world.must("ssh", "crate", "systemctl is-active network-online.target").stdout == "active\n"


def test_machine_follows_the_variables_of_its_host_at_each_start(ordinary_world: World, box2_reconfigured: str) -> None:
    assert proxies(ordinary_world) == ["http://proxy.example:8080 "] * 2


def proxies(world: World) -> list[str]:
    """What a login shell and a service see of those that the host had at this start."""
    show = """'echo "$ftp_proxy $NO_PROXY"'"""
    return world.must(
        "ssh", "box2", f"bash -lc {show}; systemd-run --quiet --wait --pipe --expand-environment=no sh -c {show}"
    ).stdout.splitlines()


def listens(process: psutil.Process, port: int) -> bool:
    with contextlib.suppress(psutil.Error):
        connections = process.net_connections("tcp")
        return any(one.status == psutil.CONN_LISTEN and one.laddr.port == port for one in connections)
    return False


def test_ssh_carries_published_ports_where_that_is_wanted(
    ordinary_world: World, busybox: Path, box2_reconfigured: str
) -> None:
    port = choose_port()
    archive = copy_into_world(busybox, ordinary_world)
    ordinary_world.remote("box2-root", "import", "--quiet", str(archive), "busybox")
    publish = ("--publish", f"127.0.0.1:{port}:80")
    ordinary_world.remote("box2-root", "run", "--detach", "--name", "web", *publish, "busybox", "sh", "-c", SERVE)
    assert fetch(f"127.0.0.1:{port}") == "hello\n"
    endpoint = Endpoint(protocol=Protocol.TCP, address="127.0.0.1", port=port)
    assert find_holder(endpoint) == "machine box2"
    assert [process.name() for process in psutil.process_iter() if listens(process, endpoint.port)] == ["ssh"]


@pytest.mark.long
def test_machines_are_restarted(ordinary_world: World, second_machine: SecondMachine, box2_reconfigured: str) -> None:
    before = ordinary_world.must("ssh", "box2", "cat", "/proc/sys/kernel/random/boot_id").stdout
    second_machine.restart({})
    assert proxies(ordinary_world) == [" "] * 2
    # A machine's own variables are not its host's.
    assert ordinary_world.must("ssh", "box2", "bash -lc 'echo ${#GREETING}'").stdout == "21\n"
    assert ordinary_world.must("status", "box2").stdout == "running\n"
    assert ordinary_world.must("ssh", "box2", "cat", "/proc/sys/kernel/random/boot_id").stdout != before


def test_console_is_that_of_the_guest_in_both_directions(world: World, crate: Change) -> None:
    """A login prompt answers to what is typed."""
    typed = world.machine("console", "crate", stdin="\nnobody-here\n")
    assert typed.status == 0, typed.stderr
    assert "crate login: " in typed.stdout
    assert "nobody-here" in typed.stdout


def test_upgrade_gives_a_guest_of_debians_the_packages_of_its_sources(
    world: World, crate: Change, tmp_path: Path
) -> None:
    """Of a repository on this host, in place of Debian's; the newer package asks for a restart."""
    repository = tmp_path / "repository"
    make_package(repository, "1.0")
    with served(repository) as url:
        sources = f"deb [trusted=yes] {url.replace('127.0.0.1', HOST)}/ ./"
        script = (
            "cd /etc/apt; rm -rf sources.list sources.list.d/*;"
            f"echo {shlex.quote(sources)} >sources.list; apt-get -q update && apt-get -q -y install {PACKAGE}"
        )
        world.must("ssh", "--username", "root", "crate", script)
        make_package(repository, "2.0", "touch /run/reboot-required")
        upgraded = world.must("upgrade", "crate")
    assert upgraded.stdout.splitlines() == [
        'Machine "crate" upgraded successfully',
        "Restart the machine to use the upgrade: machine restart crate",
    ]
    assert f"Unpacking {PACKAGE} (2.0) over (1.0)" in upgraded.stderr
    assert world.must("ssh", "crate", f"cat /usr/share/{PACKAGE}").stdout == "2.0\n"
    # The server is gone: what cannot be had is an error, with the status of the guest's own tool.
    failed = world.machine("upgrade", "crate")
    assert (failed.status, failed.stdout) == (100, "")
    assert failed.stderr.splitlines()[-1] == (
        'Error: unable to upgrade the OS of "crate": '
        "the guest's tools failed with exit status 100; see the messages above"
    )


@pytest.mark.parametrize("words", [["upgrade"], ["upgrade", "--dry-run"], ["apply", "quay.io/fedora/fedora-coreos"]])
def test_image_of_a_guest_that_boots_none_is_not_changed(words: list[str], world: World, crate: Change) -> None:
    refused = world.machine("os", *words, "crate")
    assert (refused.status, refused.stdout) == (125, "")
    assert refused.stderr.splitlines()[-1] == (
        'Error: unsupported OS: "crate" runs Debian GNU/Linux 13 (trixie), which is not an image-based OS; '
        "upgrade its packages with: machine upgrade crate"
    )


def test_stop_does_not_wait_for_a_container_that_ignores_sigterm(world: World, crate: Change) -> None:
    """As the console shows a stop: systemd's own patience would be 90 s, and then QEMU would be told to quit."""
    world.remote("crate", "start", "sleeper")
    log = world.machines / "crate" / "serial.log"
    before = log.stat().st_size  # on a busy host, the boot shows what takes seconds to start
    assert world.must("stop", "crate").stderr == "Waiting for VM to exit...\n"
    console = log.read_bytes()[before:].decode(errors="replace")
    assert "reboot: Power down" in console
    assert not re.search(r"\((\d+min |[3-9]\ds)[^()]*/ 1min 30s\)", console)


@pytest.mark.long
def test_rootless_podman_is_back_when_the_users_systemd_has_failed(ordinary_world: World, box2: str) -> None:
    uid = ordinary_world.must("ssh", "--username", "core", "box2", "id -u").stdout.strip()
    unit = f"user@{uid}.service"
    ordinary_world.must("ssh", "box2", f"systemctl kill --signal=KILL --kill-whom=main {unit}")
    restarts = f"systemctl show --property=NRestarts,ActiveState --value {unit}"
    wait_until(
        lambda: sorted(ordinary_world.must("ssh", "box2", restarts).stdout.split()) == ["1", "active"],
        timeout_s=BOOT_S,
        what="another systemd of the user's",
    )
    assert answers(ordinary_world, "box2")


def test_a_guest_that_powers_itself_off_is_stopped(ordinary_world: World, box2: str) -> None:
    assert ordinary_world.state("box2") == ("running", "")
    ordinary_world.machine("ssh", "box2", "systemctl", "--no-block", "poweroff")
    wait_until(lambda: ordinary_world.state("box2")[0] == "stopped", timeout_s=180, what="the guest to power off")
    wait_until(lambda: not processes_of(ordinary_world.runtime("box2")), timeout_s=10, what="its processes to end")


@pytest.mark.long
def test_a_start_in_the_foreground_lasts_as_long_as_its_machine(world: World, stopped_crate: str) -> None:
    """What systemd and launchd do with it: SIGTERM stops the machine, and the exit status says that all went well.

    Meanwhile its clone boots: what is to be seen of them is to be seen while both run.
    """
    world.must("clone", "crate", "twin")
    clone = world.spawn(machine_program(), "start", "--quiet", "twin")
    process = world.spawn(machine_program(), "start", "--foreground", "--no-info", "crate")
    wait_until(lambda: world.state("crate")[0] == "running", timeout_s=BOOT_S, what="the machine to be up")
    out, err = clone.communicate(timeout=BOOT_S)
    assert (out, clone.returncode) == ('Machine "twin" started successfully\n', 0), err
    check_clone(world, "crate", "twin")
    world.must("rm", "--force", "twin")
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=300)
    assert (process.returncode, out.splitlines()[-1]) == (0, 'Machine "crate" stopped'), err
    assert world.state("crate") == ("stopped", "")


def test_rm_leaves_nothing(world: World, stopped_crate: str) -> None:
    world.must("rm", "--force", "crate")
    assert not (world.machines / "crate").exists()
    assert not world.runtime("crate").exists()
    assert "crate" not in (world.root / "podman-connections.json").read_text()
    assert "crate" not in world.podman("system", "connection", "list")
    assert not list((world.root / "docker" / "contexts" / "meta").iterdir())
    assert not processes_of(world.runtime("crate"))


def check_clone(world: World, original: str, clone: str) -> None:
    """Two machines that run, with the same things in them and nothing else in common."""
    assert world.state(original) == world.state(clone) == ("running", "")
    script = "hostname; cat /etc/machine-id; cat /etc/ssh/ssh_host_*_key.pub; cat /proc/sys/kernel/random/boot_id"
    one, two = (world.must("ssh", name, script).stdout.splitlines() for name in (original, clone))
    assert (one[0], two[0]) == (original, clone)
    assert len(one) == len(two)
    assert not set(one) & set(two)
    inside = ("images", "--quiet", "--no-trunc"), ("ps", "--all", "--format", "{{.ID}} {{.Names}}")
    for words in inside:
        assert world.remote(clone, *words).stdout == world.remote(original, *words).stdout != ""
    # This boot has begun under its own identity.
    journal = f"journalctl --directory=/var/log/journal/{two[1]} --boot | grep -o 'Linux version'"
    assert world.must("ssh", "--username", "root", clone, journal).stdout == "Linux version\n"
    for user in ("core", "root"):
        for key_of, guest in ((original, clone), (clone, original), (clone, clone)):
            opened = opens(world, world.machines / key_of / "id_ed25519", guest, user)
            assert opened is (key_of == guest), (key_of, guest, user)
    assert json.loads((world.machines / clone / "record.json").read_text())["pending"]["rekey"] is False
    assert not (world.machines / clone / "identity.smbios").exists()


def opens(world: World, key: Path, name: str, user: str) -> bool:
    """Whether a private key logs in to a guest."""
    port = world.inspect(name)["SSHConfig"]["Port"]
    options = ("StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "IdentitiesOnly=yes", "BatchMode=yes",
               "IdentityAgent=none", "LogLevel=ERROR")  # fmt: skip
    words = [word for option in options for word in ("-o", option)]
    done = world.run(
        "ssh", "-F", "/dev/null", *words, "-i", str(key), "-p", str(port), f"{user}@127.0.0.1", "true", check=False
    )
    assert done.status == 0 or "Permission denied" in done.stderr, done.stderr
    return done.status == 0


PACKAGE = "boot2podman-probe"


def make_package(repository: Path, version: str, script: str = ":") -> None:
    """A repository of Debian's in one folder, with one package."""
    tree = repository.with_name(f"package-{version}")
    (tree / "DEBIAN").mkdir(parents=True)
    fields = {
        "Package": PACKAGE, "Version": version, "Architecture": "all", "Maintainer": "nobody <nobody@example.com>",
        "Description": "tells its version",
    }  # fmt: skip
    control = "".join(f"{name}: {value}\n" for name, value in fields.items())
    (tree / "DEBIAN" / "control").write_text(control)
    (tree / "DEBIAN" / "postinst").write_text(f"#!/bin/sh\n{script}\n")
    (tree / "DEBIAN" / "postinst").chmod(0o755)
    (tree / "usr" / "share").mkdir(parents=True)
    (tree / "usr" / "share" / PACKAGE).write_text(f"{version}\n")
    repository.mkdir(exist_ok=True)
    package = repository / f"{PACKAGE}_{version}_all.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "--build", tree, package], check=True, capture_output=True)
    more = f"Filename: ./{package.name}\nSize: {package.stat().st_size}\nSHA256: {sha256_of(package)}\n"
    (repository / "Packages").write_text(f"{control}{more}\n")
