"""The verbs and flags that no other chapter needs: machines that are made with all that `init` knows, and changed."""

from __future__ import annotations

import json
import os
import shlex
import signal
import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest

from machine.ssh import keys
from tests.support import real_runs
from tests.support.certificates import make_certificate
from tests.support.free_ports import choose_port
from tests.support.guest_network import answers
from tests.support.guests import BOOT_S, make_guest_world, served, take_down
from tests.support.processes import processes_of, qemu_pid
from tests.support.waiting import wait_until
from tests.support.world import Outcome, World, machine_program, successful

pytestmark = pytest.mark.long

FILES = {
    "opts.toml": 'hostname = "opts.example.org"\ntimezone = "Asia/Tokyo"\n',
    "site.ign": json.dumps(
        {
            "ignition": {"version": "3.3.0"},
            "storage": {"files": [{"path": "/etc/own", "contents": {"source": "data:,own"}}]},
        }
    ),
    # The image has no Ansible. This one notes what it is asked for.
    "setup.sh": (
        "printf '#!/bin/sh\\nid -un >~/played; cat \"$1\" >>~/played\\n' >/usr/local/bin/ansible-playbook\n"
        "chmod +x /usr/local/bin/ansible-playbook\n"
    ),
    "play.yaml": "a play\n",
    "min.ign": '{"ignition": {"version": "3.3.0"}}',
    "share/hosts": "shared\n",
}


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two running machines: `opts` has all options, `alone` the user's Ignition config and nothing of ours."""

    world: World
    made: Outcome
    foreground: subprocess.Popen[str]
    """The start of `alone`, which lasts until the machine has stopped."""


@pytest.fixture(scope="module")
def own_world(streams: Path, pytestconfig: pytest.Config) -> Iterator[World]:
    made = make_guest_world(streams, os.getuid())
    for name, text in FILES.items():
        (made.root / name).parent.mkdir(exist_ok=True)
        (made.root / name).write_text(text)
    yield made
    take_down(made)
    real_runs.keep(pytestconfig, made.real_runs)


@pytest.fixture(scope="module")
def pair(own_world: World, streams: Path, mirror: str) -> Iterator[Pair]:
    """Both machines after their first boots, which run in parallel."""
    world = own_world
    init_alone(world, mirror)
    alone = world.spawn(machine_program(), "start", "--foreground", "alone")
    certificate = make_certificate(world.root / "server.pem")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    with served(streams, tls) as url:
        trusted = {"SSL_CERT_FILE": str(certificate)}
        opts = world.spawn(machine_program(), *opts_words(world, url, streams), **trusted)
        out, err = opts.communicate(timeout=2 * BOOT_S)
    made = successful(Outcome(status=opts.returncode, stdout=out, stderr=err), "init", "opts")
    wait_until(lambda: world.state("alone")[0] == "running", timeout_s=BOOT_S, what="the other machine to be up")
    yield Pair(world=world, made=made, foreground=alone)
    if alone.poll() is None:
        alone.send_signal(signal.SIGTERM)
        alone.communicate(timeout=BOOT_S)


def opts_words(world: World, url: str, streams: Path) -> tuple[str, ...]:
    published = json.loads((streams / "boot2podman.json").read_text())
    disk = published["architectures"]["x86_64"]["artifacts"]["qemu"]["formats"]["qcow2.xz"]["disk"]
    (world.root / "key.pub").write_text(keys.generate(world.root / "key", comment="other"))
    return (
        "init", "--now", "--quiet", "--file", "opts.toml",
        "--image", f"{url}/{disk['location']}", "--image-sha256", disk["sha256"], "--tls-verify=false",
        "--provisioning", "ignition", "--arch", "x86_64", "--accel", "tcg",
        "--cpus", "2", "--memory", "1024", "--disk-size", "12", "--swap", "256", "--usb", "vendor=1d6b,product=0104",
        "--volume", f"{world.root}/share:/mnt/share", "--volume-driver", "sshfs", "--mount-inotify",
        "--username", "ann", "--rootful", "--update-connection", "--import-native-ca", "--label", "team=db",
        "--ignition-path", "site.ign", "--provision", "setup.sh", "--playbook", "play.yaml", "--env", "GREETING=hello",
        "--ssh-authorized-key", "key.pub", "--provider", "qemu", "--user-mode-networking", "opts",
    )  # fmt: skip


def init_alone(world: World, mirror: str) -> None:
    """Make `alone`, and give its config what a start needs: the keys, and Podman's sockets."""
    image = ("--stream-base-url", mirror, "--no-verify-signature")
    world.must("image", "pull", *image, "fcos:stable")
    size = ("--cpus", "1", "--memory", "1024", "--disk-size", "12", "--volume", "")
    ignition = ("--ignition-path", "min.ign", "--ignition-replace")
    made = world.must("init", "--image-path", "fcos:stable", *image, "--offline", *size, *ignition, "alone")
    paths = world.machines / "alone"
    assert f"You can change {paths}/config.ign until the first start." in made.stderr
    key, uid = (paths / "id_ed25519.pub").read_text().strip(), world.uid or 1000
    user = "/etc/systemd/user/sockets.target.wants/podman.socket"
    config = {
        "ignition": {"version": "3.3.0"},
        "passwd": {"users": [{"name": "root", "sshAuthorizedKeys": [key]}, {"name": "core", "uid": uid}]},
        "storage": {
            "files": [
                {
                    "path": "/etc/ssh/ssh_host_ed25519_key",
                    "mode": 0o600,
                    "contents": {"source": f"data:,{quote((paths / 'ssh_host_ed25519_key').read_text())}"},
                },
                {"path": "/var/lib/systemd/linger/core", "contents": {"source": "data:,"}},
            ],
            "links": [{"path": user, "target": "/usr/lib/systemd/user/podman.socket"}],
        },
        "systemd": {"units": [{"name": "podman.socket", "enabled": True}]},
    }
    (paths / "config.ign").write_text(json.dumps(config))


def guest(world: World, script: str, name: str = "opts") -> list[str]:
    return world.must("ssh", name, script).stdout.splitlines()


def test_guest_is_as_the_flags_of_init_say(pair: Pair) -> None:
    script = (
        "id -un; hostname; readlink /etc/localtime; nproc; cat /etc/own; echo; bash -lc 'echo $GREETING'; "
        "cat ~ann/played /mnt/share/hosts; readlink /run/docker.sock; "
        "awk 'END { print $1, $3 }' /proc/swaps; findmnt -no FSTYPE /mnt/share | tail -1; "
        "ls /usr/local/share/ca-certificates"
    )
    assert guest(pair.world, script) == [
        "root", "opts.example.org", "../usr/share/zoneinfo/Asia/Tokyo", "2", "own", "hello", "ann", "a play", "shared",
        "/run/podman/podman.sock", "/dev/zram0 262140", "fuse.sshfs",
        "boot2podman-host-1.crt",
    ]  # fmt: skip
    assert "Machine init complete" in pair.made.stdout
    runtime = pair.world.runtime("opts")
    qemu = processes_of(runtime)[qemu_pid(runtime)]
    assert "usb-host,bus=usb.0,vendorid=0x1d6b,productid=0x0104" in qemu
    assert "-accel tcg," in qemu
    assert pair.world.must("active").stdout == "opts\n"


def test_another_key_of_the_user_lets_in(pair: Pair) -> None:
    port = pair.world.inspect("opts")["SSHConfig"]["Port"]
    options = "-F /dev/null -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o IdentitiesOnly=yes"
    key = ("-i", str(pair.world.root / "key"), "-p", str(port))
    assert pair.world.run("ssh", *shlex.split(options), *key, "ann@127.0.0.1", "id", "-un").stdout == "ann\n"


def test_guest_with_the_users_ignition_config_alone_comes_up(pair: Pair) -> None:
    """Without our unit that reports that it is ready, and with nothing else of ours."""
    assert pair.world.state("alone") == ("running", "")
    assert answers(pair.world, "alone")
    ours = "ls /etc/podman-machine /etc/systemd/system/boot2podman-ready.service 2>/dev/null; systemctl is-active ssh"
    assert pair.world.must("ssh", "--username", "root", "alone", ours).stdout == "active\n"
    assert pair.world.must("ssh", "--username", "root", "alone", "cat /proc/swaps | wc -l").stdout == "1\n"


def test_verbs_that_ask_answer(pair: Pair) -> None:
    world = pair.world
    assert world.must("url", "opts").stdout.startswith("unix://")
    assert world.must("ip", "opts").stdout == "127.0.0.1\n"
    assert "DOCKER_HOST=" in world.must("env", "opts").stdout
    config = world.root / "ssh_config"
    config.write_text(world.must("ssh-config", "opts").stdout)
    assert world.run("ssh", "-F", str(config), "machine-opts", "hostname").stdout == "opts.example.org\n"
    assert 'hostname = "opts.example.org"' in world.must("export", "opts").stdout
    assert world.must("ignition", "alone").stdout == (world.machines / "alone" / "config.ign").read_text()
    assert world.must("status", "opts").stdout == "running\n"
    assert world.must("wait", "opts").status == 0
    assert "opts" in world.must("top", "--no-stream").stdout
    assert world.must("logs", "--tail", "1", "opts").stdout
    assert world.machine("console", "opts", stdin="\n").status == 0
    assert "qemu-system-x86_64" in world.must("info").stdout
    world.must("image", "prune")
    (image, *_) = json.loads(world.must("image", "ls", "--format", "json").stdout)  # the machines' is kept
    assert world.must("image", "inspect", image["Digest"]).stdout
    world.must("config", "set", "cpus", "1")
    assert world.must("config", "get", "cpus").stdout.startswith("1")
    world.must("config", "unset", "cpus")
    assert world.must("config", "path").stdout.startswith(str(world.root))
    assert world.must("list", "--quiet", "--label", "team=db").stdout == "opts*\n"


def test_verbs_that_change_a_running_machine_change_it(pair: Pair) -> None:
    world = pair.world
    port = choose_port()
    world.must("port", "add", "opts", f"{port}:22")
    assert f":{port}" in world.must("port", "ls", "opts").stdout
    world.must("port", "rm", "opts", f"{port}:22")
    world.must("mount", "add", "opts", f"{world.root}/share:/mnt/more")
    assert guest(world, "cat /mnt/more/hosts") == ["shared"]
    assert "/mnt/more" in world.must("mount", "ls", "opts").stdout
    world.must("mount", "rm", "opts", "/mnt/more")
    world.must("cp", "share/hosts", "opts:copied")
    assert guest(world, "cat copied") == ["shared"]
    world.must("protect", "opts")
    assert world.machine("rm", "--force", "opts").status == 125
    world.must("unprotect", "opts")
    guest(world, "rm -rf /etc/apt/sources.list /etc/apt/sources.list.d/*")
    assert 'Machine "opts" upgraded successfully' in world.must("upgrade", "opts").stdout


def test_machines_that_were_changed_start_all_together(pair: Pair) -> None:
    world = pair.world
    pair.foreground.send_signal(signal.SIGTERM)
    world.must("stop", "opts")
    out, err = pair.foreground.communicate(timeout=300)
    assert (pair.foreground.returncode, out.splitlines()[-1]) == (0, 'Machine "alone" stopped'), err
    world.must("rm", "--force", "alone")
    world.must("clone", "opts", "twin")
    world.must(
        "set", "--cpus", "1", "--memory", "1280", "--disk-size", "13", "--rootful=false", "--usb", "",
        "--volume", f"{world.root}/share:/mnt/again", "--volume-driver", "virtiofs", "--mount-inotify=false",
        "--import-native-ca=false", "--user-mode-networking", "opts",
    )  # fmt: skip
    with world.popen("events", "--format", "json") as events:
        world.must("start", "--all", "--no-info", "--quiet", "--update-connection=false")
        events.send_signal(signal.SIGINT)
        told, _ = events.communicate(timeout=60)
    assert {"opts", "twin"} <= {json.loads(line)["Name"] for line in told.splitlines()}
    script = "id -un; nproc; findmnt -no FSTYPE /mnt/again | tail -1; ls /usr/local/share/ca-certificates"
    assert guest(world, script) == ["ann", "1", "virtiofs"]
    assert guest(world, "hostname", "twin") == ["twin"]
    world.must("restart", "--quiet", "opts")
    assert answers(world, "opts")
    world.must("kill", "twin")
    world.must("rm", "--force", "twin")
    world.must("doctor")
    world.must("reset", "--force")
    assert world.must("list", "--quiet").stdout == ""
