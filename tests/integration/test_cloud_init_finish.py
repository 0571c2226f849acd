"""What cloud-init runs last in a guest whose Podman could not be installed, run here in a file system of its own."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from machine.ignition.assets import images_directory

SCRIPT = images_directory() / "ignition" / "files" / "cloud-init-finish.sh"
TOOLS = ("cat", "cut", "grep", "sh", "tail")
HEADER = "Cloud-init v. 25.1.4 running 'modules:final' at Sun, 22 Nov 2026 09:45:52 +0000. Up 38.26 seconds.\n"

APT_WITHOUT_NETWORK = """\
Ign:1 http://mirror trixie InRelease
Err:1 http://mirror trixie InRelease
  Temporary failure resolving 'mirror'
Reading package lists...
W: Failed to fetch http://mirror/dists/trixie/InRelease  Temporary failure resolving 'mirror'
W: Some index files failed to download. They have been ignored, or old ones used instead.
Setting up systemd-resolved (257.9-1~deb13u1) ...
E: Unable to locate package podman
"""
APT_WITHOUT_THE_PACKAGE = """\
Hit:1 http://mirror/debian trixie InRelease
Setting up systemd-resolved (257.9-1~deb13u1) ...
E: Unable to locate package podman
2026-11-22 09:46:01,100 - cc_package_update_upgrade_install.py[WARNING]: Failed to install packages: ['podman']
"""
DNF_WITHOUT_NETWORK = """\
Updating and loading repositories:
 Fedora 44 - x86_64                     ???% |   0.0   B/s |   0.0   B |  00m00s
>>> Curl error (6): Could not resolve hostname for https://mirror/metalink?repo=fedora-44
Failed to download metadata
"""
APK_WITHOUT_THE_PACKAGE = """\
fetch https://dl-cdn.alpinelinux.org/alpine/v3.22/main/x86_64/APKINDEX.tar.gz
ERROR: unable to select packages:
  podman (no such package):
    required by: world[podman]
"""


@pytest.mark.parametrize(
    ("log", "reason"),
    [
        (
            APT_WITHOUT_NETWORK,
            "W: Failed to fetch http://mirror/dists/trixie/InRelease  Temporary failure resolving 'mirror'",
        ),
        (APT_WITHOUT_THE_PACKAGE, "E: Unable to locate package podman"),
        (
            DNF_WITHOUT_NETWORK,
            ">>> Curl error (6): Could not resolve hostname for https://mirror/metalink?repo=fedora-44",
        ),
        (APK_WITHOUT_THE_PACKAGE, "ERROR: unable to select packages:"),
        ("", ""),
    ],
)
def test_host_is_told_why_podman_is_not_there(tmp_path: Path, log: str, reason: str) -> None:
    tools, dev = tmp_path / "bin", tmp_path / "dev"
    tools.mkdir()
    for name in TOOLS:
        (tools / name).symlink_to(str(shutil.which(name)))
    dev.mkdir()
    (tmp_path / "log").write_text(HEADER + log)
    place = shlex.quote(str(tmp_path))
    script = f"""
        mount -t tmpfs tmpfs /sys/class && mount -t tmpfs tmpfs /var/log || exit 77
        mkdir -p /sys/class/virtio-ports/vport1p1 /sys/class/virtio-ports/vport1p2
        echo com.coreos.ignition.journal >/sys/class/virtio-ports/vport1p1/name
        echo org.boot2podman.ready >/sys/class/virtio-ports/vport1p2/name
        cp {place}/log /var/log/cloud-init-output.log
        mount --bind {place}/dev /dev
        env -i PATH={place}/bin {place}/bin/sh {shlex.quote(str(SCRIPT))} core enable:podman.socket
    """
    done = subprocess.run(
        ["unshare", "--mount", *([] if os.getuid() == 0 else ["--map-root-user"]), "sh", "-c", script],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode == 77:
        pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    expected = f"failed Podman is not in the image and could not be installed: {reason}"
    assert (dev / "vport1p2").read_text().rstrip() == expected.rstrip()
    assert not (dev / "vport1p1").exists()
