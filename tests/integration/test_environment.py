"""What a guest's sessions make of the variables given to it: systemd's own generator and a shell read them."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest

from machine.ignition.environment import environment_files

GENERATOR = Path("/usr/lib/systemd/user-environment-generators/30-systemd-environment-d-generator")

VARIABLES = (("OURS", """he said "100 %" $HOME ${HOME} $$ `id` \\ \\$ it's ü"""), ("OURS_TOO", ""))


def write(tmp_path: Path, suffix: str) -> Path:
    files = {Path(file.path).parent.name: file.contents for file in environment_files(VARIABLES, "60-machine")}
    path = tmp_path / "environment.d" / f"60-machine.{suffix}"
    path.parent.mkdir()
    path.write_text(files["environment.d" if suffix == "conf" else "profile.d"])
    return path


@pytest.mark.skipif(not GENERATOR.exists(), reason="systemd has the generator")
def test_systemd_gives_users_managers_the_values_as_they_are(tmp_path: Path) -> None:
    write(tmp_path, "conf")
    environment = {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)}
    said = subprocess.run([GENERATOR], env=environment, capture_output=True, text=True, check=True).stdout
    # It writes what a shell would read.
    show = f'{said}\nprintf \'%s\\0\' "$OURS" "$OURS_TOO"'
    read = subprocess.run(["sh", "-c", show], env=environment, capture_output=True, text=True, check=True).stdout
    assert read.split("\0")[:2] == [value for _, value in VARIABLES]


def test_login_shells_give_the_values_as_they_are(tmp_path: Path) -> None:
    script = f". {shlex.quote(str(write(tmp_path, 'sh')))}; printenv -0 OURS OURS_TOO"
    read = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout
    assert read.split("\0")[:2] == [value for _, value in VARIABLES]
