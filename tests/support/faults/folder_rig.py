"""Another machine on which faults are tried: one with a folder on virtiofs, which has no snapshots."""

from __future__ import annotations

from dataclasses import dataclass

from tests.support.faults.rig import Rig
from tests.support.guest_machines import bring_up

FOLDERS = "folders"
"""The machine's name."""

FOLDER = "/mnt/first"
_SIZE = ("--disk-size", "12", "--memory", "1024", "--cpus", "2")


@dataclass(kw_only=True)
class FolderRig(Rig):
    """A machine without containers, which boots when a trial has left it in another state."""

    name: str = FOLDERS

    def restore(self) -> None:
        if not self.directory.exists():
            source = self.world.root / "first"
            source.mkdir()
            (source / "file").write_text("of the host\n")
            volume = ("--volume", f"{source}:{FOLDER}")
            self.world.must("init", "--image", "boot2podman", *_SIZE, *volume, self.name)
        self.resume_processes()
        bring_up(self.world, self.name)

    def has_folder(self) -> bool:
        return self.world.machine("ssh", self.name, f"cat {FOLDER}/file").stdout == "of the host\n"

    def _container_started(self) -> str:
        return ""

    def _serves(self) -> bool:
        return True
