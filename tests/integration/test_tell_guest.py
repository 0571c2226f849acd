"""What `machine start` runs in a guest whose record has changed, run here in a file system of its own."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

import pytest

from machine.ignition import assets
from machine.model.units import GIB
from machine.ops.tell_guest import guest_command, size_notice
from tests.builders import make_config

# hostnamectl asks a service of a running guest: here it tells what it was asked.
HOSTNAMECTL = '#!/bin/sh\necho "$@" >"$RECORD"\n'


def test_script_does_what_a_guest_needs_and_can_do_it_again(tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "hostnamectl").write_text(HOSTNAMECTL)
    (tools / "hostnamectl").chmod(0o755)
    command = shlex.join(["sh", "-c", " ".join(guest_command(make_config("a_b", rootful=True)))])
    script = f"""
        mount -t tmpfs tmpfs /etc/tmpfiles.d && mount -t tmpfs tmpfs /run || exit 77
        {command} <{shlex.quote(str(tmp_path / "script"))} && {command} <{shlex.quote(str(tmp_path / "script"))}
        status=$?
        readlink /run/docker.sock >{shlex.quote(str(tmp_path / "link"))}
        exit $status
    """
    (tmp_path / "script").write_text(assets.load("files/tell-guest.sh"))
    done = subprocess.run(
        ["unshare", "--mount", *([] if os.getuid() == 0 else ["--map-root-user"]), "sh", "-c", script],
        env={**os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "RECORD": str(tmp_path / "hostname")},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode == 77:
        pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "hostname").read_text() == "set-hostname a-b\n"
    assert (tmp_path / "link").read_text() == "/run/podman/podman.sock\n"
    facts = os.statvfs("/")
    assert size_notice(done.stdout, facts.f_blocks * facts.f_frsize // GIB) == ""
