"""Small files that a guest is given, under the programs that read them there."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

import pytest

from machine.ignition import assets

PENALTIES = "/etc/ssh/sshd_config.d/60-boot2podman-penalties.conf"
CANNOT_MOUNT = 77


@pytest.mark.skipif(os.getuid() != 0, reason="only root becomes another user")
@pytest.mark.parametrize(
    ("uid", "socket"), [(0, "/run/podman/podman.sock"), (12345, "/run/user/12345/podman/podman.sock")]
)
def test_shells_know_podmans_socket_without_asking_a_program(uid: int, socket: str) -> None:
    script = f"{assets.load('files/docker-host.sh')}\necho $DOCKER_HOST"
    for shell, path in (("bash", "/nonexistent"), ("sh", "/usr/bin:/bin")):
        done = subprocess.run(
            [f"/bin/{shell}", "-c", script], user=uid, group=uid, extra_groups=[], env={"PATH": path},
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert (done.stdout, done.stderr) == (f"unix://{socket}\n", "")


def _command_of_unit(name: str) -> list[str]:
    (line,) = (line for line in assets.load(name).splitlines() if line.startswith("ExecStart="))
    return shlex.split(line.removeprefix("ExecStart="))


@pytest.mark.skipif(os.getuid() != 0, reason="only root has a file system of its own to mount in")
@pytest.mark.parametrize(
    ("sshd", "written"),
    [
        # Older sshds end so. This host's own sshd may be one of them.
        ('echo "command-line: line 0: Bad configuration option: PerSourcePenalties" >&2; exit 255', ""),
        ('test "$*" = "-t -o PerSourcePenalties=no"', "PerSourcePenalties no\n"),
    ],
    ids=["older sshd", "newer sshd"],
)
def test_sshd_is_told_of_penalties_only_if_it_knows_them(sshd: str, written: str, tmp_path: Path) -> None:
    (tmp_path / "sshd").write_text(f"#!/bin/sh\n{sshd}\n")
    (tmp_path / "sshd").chmod(0o755)
    places = ("/run", "/etc/ssh")
    mounts = " && ".join(
        [f"mount --bind {tmp_path}/sshd /usr/sbin/sshd", *(f"mount -t tmpfs tmpfs {place}" for place in places)]
    )
    check = shlex.join(_command_of_unit("units/boot2podman-sshd.service"))
    script = f"{mounts} || exit {CANNOT_MOUNT}\nmkdir /etc/ssh/sshd_config.d\n{check} && cat {PENALTIES}"
    done = subprocess.run(["unshare", "--mount", "sh", "-c", script], capture_output=True, text=True, check=False)
    if done.returncode == CANNOT_MOUNT:
        pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")
    assert (done.returncode, done.stdout) == (0, written), done.stderr


def test_every_sshd_accepts_what_it_is_told_without_asking(tmp_path: Path) -> None:
    (tmp_path / "config").write_text(assets.load("files/sshd.conf"))
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key"], check=True)
    command: list[str | Path] = ["/usr/sbin/sshd", "-T", "-f", tmp_path / "config", "-h", tmp_path / "key"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert {"maxstartups 100:30:200", "maxsessions 100"} <= set(told)
