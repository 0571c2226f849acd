"""A machine that runs on KVM, for the tests in the emulated host."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.support.free_ports import choose_port
from tests.support.guest_network import ECHO, SERVE
from tests.support.processes import processes_of, qemu_pid, supervisor_pid
from tests.support.world import World

NAME = "box"
BOOT_S = 3000
UP = ("running", "")


@dataclass(kw_only=True)
class KvmMachine:
    """The machine, and the host's folder that its guest has as /mnt/shared."""

    world: World
    folder: Path
    started: str = ""
    """What the last start has written to stderr."""

    _has_image: bool = False

    def run(self) -> None:
        """Start the machine unless it is running."""
        state, _ = self.world.state(NAME)
        if state == "running":
            return
        if state != "stopped":
            self.world.must("stop", NAME)
        self.started = self.world.must("start", NAME).stderr

    def is_back(self) -> bool:
        """Whether the machine is running and its Podman answers."""
        return self.condition() == (*UP, 0)

    def condition(self) -> tuple[str, str, int]:
        """Return the machine's state, its problem, and the status of a client that asks its Podman."""
        asked = self.world.remote(NAME, "version", check=False)
        return *self.world.state(NAME), asked.status

    # Containers

    def import_image(self, archive: Path) -> None:
        if not self._has_image:
            self.world.remote(NAME, "import", "--quiet", str(archive), "busybox")
            self._has_image = True

    def serve(self, archive: Path) -> tuple[int, int]:
        """Run containers unless they exist, and return the ports of this host for HTTP and for datagrams."""
        self.import_image(archive)
        web = self._publish("web", "80/tcp", "busybox", "sh", "-c", SERVE)
        return web, self._publish("echo", "53/udp", *ECHO)

    def _publish(self, name: str, port: str, *words: str) -> int:
        if self.world.remote(NAME, "container", "exists", name, check=False).status != 0:
            published = ("--publish", f"127.0.0.1:{choose_port()}:{port}")
            self.world.remote(NAME, "run", "--detach", "--restart", "always", "--name", name, *published, *words)
        return int(self.world.remote(NAME, "port", name).stdout.rpartition(":")[2])

    # Processes

    @property
    def qemu(self) -> int:
        return qemu_pid(self.world.runtime(NAME))

    @property
    def supervisor(self) -> int:
        return supervisor_pid(self.world.runtime(NAME))

    @property
    def folder_servers(self) -> list[int]:
        """The processes of virtiofsd. Their command lines have the shared folder, but no directory of the machine."""
        return [pid for pid, line in processes_of(self.folder).items() if "virtiofsd" in line.partition(" ")[0]]

    @property
    def ssh_master(self) -> int:
        masters = [pid for pid, line in processes_of(self.world.runtime(NAME)).items() if line.startswith("ssh ")]
        assert len(masters) == 1, masters
        return masters[0]
