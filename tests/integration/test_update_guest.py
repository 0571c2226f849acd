"""What `machine start` runs in a guest for whom something has changed, run here in a file system of its own."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from machine.ignition.environment import environment_files
from machine.model.config import MachineConfig
from machine.model.units import GIB
from machine.ops.start_host_settings import CERTIFICATES, GuestFile
from machine.ops.start_update_guest import GuestUpdate, guest_script, size_notice
from tests.support.builders import make_config

# These ask a service of a running guest: here they tell what they were asked.
STUB = '#!/bin/sh\necho "${0##*/} $*" >>"$RECORD"\n'

# An /etc and what else is written to, of its own.
PREPARE = """
set -e
mkdir -p $KEPT
cp -a /etc/passwd /etc/group /etc/nsswitch.conf /etc/alternatives $KEPT
cp /etc/ssl/openssl.cnf $KEPT
for directory in /etc /run /var/lib /usr/local/share; do mount -t tmpfs tmpfs $directory || exit 77; done
cp -a $KEPT/. /etc
mkdir -p /etc/tmpfiles.d /etc/ssl/certs /etc/ca-certificates/update.d
mv /etc/openssl.cnf /etc/ssl
(cd /usr/share/ca-certificates && find . -name '*.crt' -printf '%P\n' | sort | head -n 3) >/etc/ca-certificates.conf
"""


@dataclass(frozen=True, kw_only=True)
class Guest:
    root: Path

    def run(self, *steps: str) -> str:
        """Bash's output, each of the steps read by a shell of its own."""
        tools = self.root / "bin"
        tools.mkdir(exist_ok=True)
        for name in ("hostnamectl", "systemctl"):
            (tools / name).write_text(STUB)
            (tools / name).chmod(0o755)
        script = PREPARE
        for number, step in enumerate(steps):
            path = self.root / f"step-{number}"
            path.write_text(step)
            script += f"bash -s <{shlex.quote(os.fspath(path))}\n"
        done = subprocess.run(
            ["unshare", "--mount", *([] if os.getuid() == 0 else ["--map-root-user"]), "sh", "-c", script],
            env={**os.environ, "LC_ALL": "C", "PATH": f"{tools}:{os.environ['PATH']}",
                 "RECORD": str(self.root / "asked"), "KEPT": str(self.root / "kept")},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode == 77:
            pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")
        assert done.returncode == 0, done.stderr
        return done.stdout

    @property
    def asked(self) -> list[str]:
        return (self.root / "asked").read_text().splitlines()


@pytest.fixture
def guest(tmp_path: Path) -> Guest:
    return Guest(root=tmp_path)


def test_script_does_what_a_guest_needs_and_can_do_it_again(guest: Guest) -> None:
    told = guest_script(make_config("a_b", rootful=True), GuestUpdate(record=True, timezone="Asia/Tokyo"))
    said = guest.run(told, told, "readlink /run/docker.sock /etc/localtime; df --output=size -B1 / | tail -1")
    assert guest.asked == ["hostnamectl set-hostname a-b"] * 2
    *first, docker, localtime, size = said.split()
    assert (docker, localtime) == ("/run/podman/podman.sock", "../usr/share/zoneinfo/Asia/Tokyo")
    assert size_notice(" ".join(first), int(size) // GIB) is None


def test_guest_of_an_older_version_gets_the_services_for_its_containers(guest: Guest) -> None:
    told = guest_script(make_config(), GuestUpdate(services=True))
    program = "/usr/local/bin/boot2podman-containers"
    paths = "/etc/systemd/system /etc/systemd/user"
    hide = "mount -t tmpfs tmpfs /usr/local/bin"
    said = guest.run(f"{hide}; {told}\nfind {paths} -name '*containers*' | sort; stat -c %a {program}")
    units, mode = said.splitlines()[:-1], said.splitlines()[-1]
    assert units == [
        "/etc/systemd/system/boot2podman-containers.service",
        "/etc/systemd/system/machine-.slice.d/containers.conf",
        "/etc/systemd/system/machine.slice.d/containers.conf",
        "/etc/systemd/user/boot2podman-containers.service",
        "/etc/systemd/user/user-.slice.d/containers.conf",
        "/etc/systemd/user/user.slice.d/containers.conf",
    ]
    assert mode == "755"
    assert "systemctl --quiet --global enable boot2podman-containers.service" in guest.asked


def files_of(config: MachineConfig, *files: GuestFile) -> str:
    return guest_script(config, GuestUpdate(files=files))


def proxy_files(value: str) -> tuple[GuestFile, ...]:
    files = environment_files((("http_proxy", value),), "50-host-proxy")
    return tuple(GuestFile(path=file.path[1:], content=file.contents.encode()) for file in files)


def test_files_of_the_host_come_change_and_go_and_no_others(guest: Guest) -> None:
    config = make_config()
    alias = GuestFile(path="etc/containers/registries.conf.d/9999-host-00-ä b.conf", content=b"[aliases]\n")
    key = GuestFile(path="etc/containers/certs.d/a:5000/client.key", content=b"K", private=True)
    show = 'find /etc/containers /etc/profile.d -type f -printf "%p %m %u\\n" | sort; cat /etc/profile.d/*; echo ---'
    said = guest.run(
        "mkdir -p /etc/containers/registries.conf.d; touch /etc/containers/registries.conf.d/own.conf",
        files_of(config, *proxy_files("http://a:1"), alias, key),
        show,
        files_of(config, *proxy_files("http://b c:1"), alias),
        show,
        files_of(config),
        show + "; find /etc -name '*host-proxy*'; cat /var/lib/boot2podman/followed",
    )
    own = "/etc/containers/registries.conf.d/own.conf 644 root\n"
    host = "/etc/containers/registries.conf.d/9999-host-00-ä b.conf 644 root\n"
    proxy = "/etc/profile.d/50-host-proxy.sh 644 root\n"
    assert said.split("---\n") == [
        "/etc/containers/certs.d/a:5000/client.key 640 root\n" + host + own + proxy + "export http_proxy=http://a:1\n",
        host + own + proxy + "export http_proxy='http://b c:1'\n",
        own,
        "",
    ]
    restarted = "systemctl --system try-restart podman.service"
    assert guest.asked == [
        "systemctl --system set-environment http_proxy=http://a:1", restarted,
        "systemctl --system set-environment http_proxy=http://b c:1", restarted,
        "systemctl --system set-environment http_proxy=", restarted,
    ]  # fmt: skip


def test_what_is_mounted_in_the_guest_is_not_the_guests_to_change(guest: Guest) -> None:
    """Where the host's own folders lie over files that the guest had from it before, and over what it would write."""
    shared, authorities = guest.root / "shared", guest.root / "authorities"
    authorities.mkdir()
    for name in ("certs.d/a:5000", "registries.conf.d"):
        (shared / name).mkdir(parents=True)
    (shared / "certs.d" / "a:5000" / "ca.crt").write_text("the user's")
    certificate = GuestFile(path="etc/containers/certs.d/a:5000/ca.crt", content=b"C")
    alias = GuestFile(path="etc/containers/registries.conf.d/9999-host-00-a.conf", content=b"[aliases]\n")
    config = make_config()
    said = guest.run(
        files_of(config, certificate),
        f"""
            mkdir -p /usr/local/share/ca-certificates
            for place in /usr/local/share/ca-certificates /etc/ssl/certs; do mount --bind {authorities} $place; done
            mount --bind {shared} /etc/containers
        """,
        files_of(config, alias, GuestFile(path=CERTIFICATES, content=b"none")),
        "umount /etc/containers; find /etc/containers -type f",
    )
    assert said == "/etc/containers/registries.conf.d/9999-host-00-a.conf\n"
    assert list(authorities.iterdir()) == []
    assert {path.name: path.read_text() for path in shared.rglob("*") if path.is_file()} == {"ca.crt": "the user's"}


# Runs what it is to run, which is the stub of systemctl, and notes that.
RUNUSER = """#!/bin/bash
echo "runuser $2" >>"$RECORD"
shift 3 && exec "$@"
"""


def test_users_managers_are_told_in_one_step_each_and_of_variables_only_if_those_have_changed(guest: Guest) -> None:
    (guest.root / "bin").mkdir()
    (guest.root / "bin" / "runuser").write_text(RUNUSER)
    (guest.root / "bin" / "runuser").chmod(0o755)
    listening = "import socket; socket.socket(socket.AF_UNIX).bind('/run/user/0/bus')"
    alias = GuestFile(path="etc/containers/registries.conf.d/9999-host-00-a.conf", content=b"[aliases]\n")
    guest.run(
        f'mkdir -p /run/user/0 /run/user/1; python3 -c "{listening}"',
        files_of(make_config(), *proxy_files("http://a:1")),
        files_of(make_config(), *proxy_files("http://a:1"), alias),
    )
    variable, podman = "set-environment http_proxy=http://a:1", "try-restart podman.service"
    assert guest.asked == [
        f"systemctl --system {variable}", f"systemctl --system {podman}",
        "runuser root", f"systemctl --user {variable}", f"systemctl --user {podman}",
        f"systemctl --system {podman}",
        "runuser root", f"systemctl --user {podman}",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "line", ['DefaultEnvironment="http_proxy=http://own:1"', "DefaultEnvironment=A=b http_proxy=c"]
)
def test_variables_of_the_machine_or_the_user_are_left_alone(guest: Guest, line: str) -> None:
    guest.run(
        f"mkdir -p /etc/systemd/system.conf.d; echo '{line}' >/etc/systemd/system.conf.d/60-machine.conf",
        files_of(make_config(), *proxy_files("http://a:1")),
        files_of(make_config()),
    )
    assert guest.asked == ["systemctl --system try-restart podman.service"] * 2


# Of Alpine's BusyBox, of which Debian's lacks two. It has no systemd.
BUSYBOX = (
    "awk", "base64", "cat", "cksum", "cp", "df", "find", "ln", "mkdir", "mktemp", "mount", "rm", "sed", "sort", "tar",
    "touch", "unshare",
)  # fmt: skip
OTHERS = ("bash", "comm", "mountpoint", "sh")
ALPINES = ("hostname", "rc-service")


@pytest.mark.skipif(shutil.which("busybox") is None, reason="BusyBox is what Alpine has")
def test_guest_without_systemd_is_told_by_busyboxs_tools(guest: Guest) -> None:
    tools = guest.root / "alpine"
    tools.mkdir()
    for name in BUSYBOX:
        (tools / name).symlink_to(str(shutil.which("busybox")))
    for name in OTHERS:
        (tools / name).symlink_to(str(shutil.which(name)))
    for name in ALPINES:
        (tools / name).write_text(STUB)
        (tools / name).chmod(0o755)
    limited = f"PATH={tools}; hash -r\n"
    config = make_config("a_b", rootful=True)
    files = (GuestFile(path="etc/containers/registries.conf.d/a.conf", content=b"[aliases]\n"),)
    show = "cat /etc/hostname; readlink /run/docker.sock /etc/localtime; find /etc/containers -type f; echo ---"
    zone = GuestUpdate(record=True, timezone="Asia/Tokyo", files=files)
    said = guest.run(
        *(limited + guest_script(config, update) for update in (zone, zone)), show,
        limited + guest_script(config, GuestUpdate(files=())), show,
    )  # fmt: skip
    (first, second), told = (said.splitlines()[:2], said.partition("\n")[2].partition("\n")[2].split("---\n"))
    assert int(first) == int(second) > 0
    kept = "a-b\n/run/podman/podman.sock\n../usr/share/zoneinfo/Asia/Tokyo\n"
    assert told == [f"{kept}/etc/containers/registries.conf.d/a.conf\n", kept, ""]
    restarted = ["rc-service podman-root restart", "rc-service podman-user restart"]
    assert guest.asked == [*restarted, "hostname a-b"] * 2 + restarted


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")
def test_certificates_of_the_host_are_known_to_the_guest_and_forgotten(guest: Guest) -> None:
    """By Debian's own update-ca-certificates; those that its distribution has too are not there twice."""
    made = guest.root / "own.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ed25519", "-nodes", "-keyout", guest.root / "key", "-out", made,
         "-subj", "/CN=own authority"],
        check=True, capture_output=True,
    )  # fmt: skip
    shipped = min(Path("/usr/share/ca-certificates").rglob("*.crt")).read_bytes()
    bundle = GuestFile(path=CERTIFICATES, content=shipped + made.read_bytes())
    show = (
        "ls /usr/local/share/ca-certificates; openssl verify -CApath /etc/ssl/certs "
        f"{shlex.quote(os.fspath(made))} 2>&1 | tail -1; echo ---"
    )
    said = guest.run(files_of(make_config(), bundle), show, files_of(make_config()), show).split("---\n")
    assert said[0] == f"boot2podman-host-1.crt\n{made}: OK\n"
    assert "boot2podman" not in said[1]
    assert "OK" not in said[1]
