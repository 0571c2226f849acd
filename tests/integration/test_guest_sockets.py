"""api-sockets.sh, which gives the guest's sockets the paths that they have on this host, in a namespace of its own."""

from __future__ import annotations

import os
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from machine.store.paths import MachinePaths
from machine.supervisor.guest_sockets import COMMAND, sockets_script
from tests.support.builders import make_config

# No test may change this host, and `stat` takes `folder` for one that the guest mounts of its host.
PREPARE = """
set -e
for directory in /etc/systemd/system /usr/local/bin /run "$ROOT/m"; do mount -t tmpfs tmpfs $directory || exit 77; done
mkdir "$ROOT/m/folder" "$ROOT/m/folder/box" "$ROOT/m/folder/empty"
touch "$ROOT/m/folder/box/podman.sock"
set +e
"""
STAT = """#!/bin/sh
case "$*" in
*" %t $ROOT/m/folder"*) test "$(/usr/bin/stat -f -c %t "$4")" = 1021994 && test -L "$4/podman.sock" || echo 65735546 ;;
*) exec /usr/bin/stat "$@" ;;
esac
"""
UNIT = "/etc/systemd/system/multi-user.target.wants/boot2podman-api-sockets.service"


@dataclass(frozen=True, kw_only=True)
class Guest:
    root: Path

    def provide(self, directory: str) -> str:
        """The command that the host runs for sockets in a directory below the root."""
        paths = MachinePaths(directory=Path("/unused"), runtime=self.root / "m" / directory)
        step = self.root / f"step-{directory.replace('/', '-')}"
        step.write_text(sockets_script(paths, make_config(name="box", uid=1000)))
        return f"{COMMAND} <{shlex.quote(os.fspath(step))}"

    def run(self, *steps: str) -> list[str]:
        """Run the steps, each of which may fail; returns what they print."""
        tools = self.root / "bin"
        tools.mkdir(exist_ok=True)
        for name, text in (("stat", STAT), ("systemctl", "#!/bin/sh\n")):
            (tools / name).write_text(text)
            (tools / name).chmod(0o755)
        (self.root / "m").mkdir(exist_ok=True)
        script = PREPARE + "\n".join(steps)
        done = subprocess.run(
            ["unshare", "--mount", *([] if os.getuid() == 0 else ["--map-root-user"]), "sh", "-c", script],
            env={"LC_ALL": "C.UTF-8", "PATH": f"{tools}:{os.environ['PATH']}", "ROOT": os.fspath(self.root)},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=60,
        )  # fmt: skip
        if done.returncode == 77:
            pytest.skip(f"nothing can be mounted here: {done.stdout.strip()}")
        return done.stdout.replace(f"{self.root}/m/", "").splitlines()

    def show(self, directory: str) -> str:
        """The command that shows where the sockets' paths lead."""
        place = shlex.quote(f"{self.root}/m/{directory}")
        return f"readlink {place}/podman.sock {place}/podman-root.sock; ls -A {place} | wc -l"


LINKS = ["/run/user/1000/podman/podman.sock", "/run/podman/podman.sock", "2"]


@pytest.fixture
def guest(tmp_path: Path) -> Guest:
    return Guest(root=tmp_path)


@pytest.mark.parametrize("directory", ["run/box", "my run, é/it's $HOME/box"])
def test_paths_lead_to_the_sockets_of_the_guest(guest: Guest, directory: str) -> None:
    once = guest.provide(directory)
    assert guest.run(once, guest.show(directory), once, "grep -c ^boot2podman-sockets /proc/mounts") == [*LINKS, "1"]


def test_directories_belong_to_the_owner_of_the_one_above(guest: Guest) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can own files as another user")
    home = guest.root / "m/home"
    steps = [f"mkdir {home}; chown 1000:1000 {home}", guest.provide("home/a/run/box"), f"stat -c '%u %a' {home}/a/run"]
    assert guest.run(*steps) == ["1000 755"]


def test_paths_of_an_earlier_start_are_removed(guest: Guest) -> None:
    gone = f"test -e {guest.root}/m/run/box || echo gone"
    shown = guest.run(guest.provide("run/box"), guest.provide("run/crate"), guest.show("run/crate"), gone)
    assert shown == [*LINKS, "gone"]


def test_guest_has_them_at_its_own_boots(guest: Guest) -> None:
    boot = f"umount {guest.root}/m/run/box; $(sed -n s/ExecStart=//p {UNIT})"
    assert guest.run(guest.provide("run/box"), boot, guest.show("run/box")) == LINKS
    after = guest.run(guest.provide("run/box"), f"systemd-analyze verify {UNIT} 2>&1; grep -E '^(After|Before)' {UNIT}")
    assert after[-2:] == [
        "After=local-fs.target user-runtime-dir@1000.service",
        "Before=user@1000.service podman-restart.service boot2podman-containers.service",
    ]


def test_folder_of_the_host_is_covered_and_not_written_into(guest: Guest) -> None:
    hidden = f"umount {guest.root}/m/folder/box; ls {guest.root}/m/folder/box"
    assert guest.run(guest.provide("folder/box"), guest.show("folder/box"), hidden) == [*LINKS, "podman.sock"]
    refused = guest.run(guest.provide("folder/other/box"), f"ls {guest.root}/m/folder")
    assert refused == ["the host's folder at folder has no other", "box", "empty"]
    renamed = guest.run(
        guest.provide("folder/empty"), guest.provide("folder/box"), f"ls -a {guest.root}/m/folder/empty"
    )
    assert renamed == [".", ".."]


def test_files_of_the_guest_are_not_covered(guest: Guest) -> None:
    kept = f"mkdir -p {guest.root}/m/run/box; touch {guest.root}/m/run/box/own"
    refused = guest.run(kept, guest.provide("run/box"), f"ls {guest.root}/m/run/box")
    assert refused == ["the guest has files of its own in run/box", "own"]
