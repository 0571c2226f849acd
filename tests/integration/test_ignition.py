"""The real ignition-validate reads what we write, and has nothing to say of it."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from machine.ignition.provision import provision
from machine.model.arch import Arch
from machine.model.config import MachineConfig, UserIgnition
from machine.model.folders import Folder
from tests.support.builders import KEYS, make_config, make_full_config
from tests.support.disk_images import Images
from tests.support.world import World


def validate(path: Path) -> tuple[int, str]:
    done = subprocess.run(["ignition-validate", path], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    "config",
    [
        make_config(),
        make_config("my_box", username="me", uid=501, timezone="UTC"),
        make_config(rootful=True),
        make_config(uid=200_000),
        make_full_config(),
        make_config(arch=Arch.PPC64LE, folders=(Folder(source="/s", target="/data"),)),
    ],
    ids=["default", "other-user", "rootful", "uid-in-subordinate-range", "first-boot", "kernel-arguments"],
)
def test_config_is_valid_without_a_warning(config: MachineConfig, tmp_path: Path) -> None:
    path = tmp_path / "config.ign"
    path.write_text(provision(config, KEYS).to_json())
    assert validate(path) == (0, "")


def test_config_of_a_machine_is_valid_without_a_warning(world: World, images: Images) -> None:
    world.init("box", images.qcow2)
    assert validate(world.machines / "box" / "config.ign") == (0, "")


def test_validator_does_tell_of_a_mistake(tmp_path: Path) -> None:
    path = tmp_path / "config.ign"
    document = json.loads(provision(make_config(), KEYS).to_json())
    document["storage"]["files"][0]["contents"]["source"] = "nonsense"
    path.write_text(json.dumps(document))
    status, text = validate(path)
    assert status != 0
    assert "nonsense" in text or "url" in text.lower()


IGNITION = Path("/usr/lib/dracut/modules.d/30ignition/ignition")

# This host's own file system with a layer over it is the root that Ignition provisions. Debian's Ignition relabels for
# SELinux, which Debian has not: see images/boot2podman.
PROVISION = """
mount -t tmpfs tmpfs "$1" || exit 77
cd "$1" && mkdir upper work root bin
mount -t overlay overlay -o lowerdir=/,upperdir=upper,workdir=work root || exit 77
mkdir -p root/etc/selinux && printf 'SELINUX=disabled\\nSELINUXTYPE=none\\n' >root/etc/selinux/config
rm -f root/etc/localtime root/etc/hostname
ln -s /bin/true bin/setfiles
printf '#!/bin/sh\necho "$*" >>"%s/arguments"\n' "$PWD" >bin/ignition-kargs-helper
chmod +x bin/ignition-kargs-helper
for stage in fetch kargs files; do
    PATH="$PWD/bin:$PATH" IGNITION_CONFIG_FILE=$2 "$3" -platform file -stage $stage -root "$PWD/root" \\
        -config-cache "$PWD/cache.json" -neednet "$PWD/neednet" -state-file "$PWD/state" -log-to-stdout >>log 2>&1 || {
        tail -n 5 log >&2
        exit 1
    }
done
cat arguments
cd root
cat etc/own; echo
awk -F: '$1 == "eve" || $1 == "core" { print $1, $3 }' etc/passwd
cat etc/hostname; sort etc/systemd/system-preset/20-ignition.preset
find var/lib/boot2podman usr/local/bin/boot2podman-provision -newer ../bin -type f -printf '%p %m\\n' | sort
"""


@pytest.mark.skipif(os.getuid() != 0, reason="Ignition is root's")
def test_ignition_itself_merges_the_users_config_over_ours(short_path: Path) -> None:
    theirs = {
        "ignition": {"version": "3.3.0"},
        "passwd": {"users": [{"name": "eve", "uid": 64242}, {"name": "core", "groups": ["adm"]}]},
        "storage": {"files": [{"path": "/etc/own", "contents": {"source": "data:,own"}}]},
        "systemd": {"units": [{"name": "own.service", "enabled": True, "contents": "[Service]\nExecStart=true\n"}]},
    }
    config = make_full_config(uid=61111)
    given = replace(config.first_boot, ignition=UserIgnition(name="site.ign", text=json.dumps(theirs)))
    path = short_path / "config.ign"
    path.write_text(provision(replace(config, first_boot=given), KEYS).to_json())
    (short_path / "m").mkdir()
    short_path.chmod(0o755)  # Ignition writes keys as the users whose they are
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", PROVISION, "sh", short_path / "m", path, IGNITION],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode == 77:
        pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "--should-exist ostree.prepare-root.composefs=0",
        "own",
        "core 61111",
        "eve 64242",
        "box.example.org",
        "disable console-login-helper-messages-gensnippet-os-release.service",
        "disable console-login-helper-messages-gensnippet-ssh-keys.service",
        "disable coreos-container-signing-migration-motd.service",
        "disable coreos-oci-migration-motd.service",
        "disable coreos-warn-invalid-mounts.service",
        "disable zincati.service",
        "enable boot2podman-containers.service",
        "enable boot2podman-ready.service",
        "enable boot2podman-sshd.service",
        "enable own.service",
        "enable podman.socket",
        "usr/local/bin/boot2podman-provision 755",
        "var/lib/boot2podman/provision/scripts/001-root-set_up.sh 700",
        "var/lib/boot2podman/provision/scripts/002-user-own.sh 755",
        "var/lib/boot2podman/provision/scripts/003-user-site.yml 755",
    ]
