"""What real guests need: their images, the worlds that they are in, and a container's image."""

from __future__ import annotations

import contextlib
import functools
import http.server
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from machine.guestimage.publish import PUBLIC_KEY
from tests.support.processes import processes_of
from tests.support.world import World, machine_program

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "boot2podman-tests"
COMMAND_S = 900
BOOT_S = 900
BUILD_S = 2400

_ORDINARY_USER = "boot2podman-test"
# Holds what the machines of a world write; a test fills it.
_DISK = "4G"
_APPLETS = ("sh", "echo", "sleep", "uname", "httpd", "cat", "chroot", "mkdir", "wget")


def publish(*words: str, timeout_s: float = BUILD_S) -> Path:
    """The local stream with the guest image, which is built where the cache has not the current one."""
    command = [machine_program(), "image", "build", *words]
    subprocess.run(command, env={**os.environ, "MACHINE_HOME": str(CACHE)}, check=True, timeout=timeout_s)
    return CACHE / "data" / "streams"


def make_guest_world(streams: Path, uid: int, *, timeout_s: float = COMMAND_S) -> World:
    """A user's world, with the local stream and its key in it."""
    root = Path(tempfile.mkdtemp(prefix="b2p-", dir="/tmp"))
    (root / "m" / "data").mkdir(parents=True)
    (root / "home").mkdir()
    if uid == os.getuid():
        (root / "m" / "data" / "streams").symlink_to(streams)
    else:  # who may not go where the tests' cache is
        shutil.copytree(streams, root / "m" / "data" / "streams")
    (root / "m" / "data" / "keys").mkdir()
    shutil.copyfile(streams / PUBLIC_KEY, root / "m" / "data" / "keys" / PUBLIC_KEY)
    world = World(root=root, uid=uid, timeout_s=timeout_s)
    assert world.environment  # makes the files that are there before any command
    if uid != os.getuid():
        for directory, _, files in os.walk(root):
            for name in (".", *files):
                os.chown(Path(directory) / name, uid, uid, follow_symlinks=False)
    return world


def take_down(world: World) -> None:
    """Remove every machine, then prove that nothing is left of them."""
    try:
        for name in world.must("ls", "-n", "-q").stdout.split():
            world.must("rm", "--force", name.rstrip("*"))
    finally:
        left = processes_of(world.root)
        for pid in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                psutil.Process(pid).kill()
        shutil.rmtree(world.root, ignore_errors=True)
    assert not left, f"processes that outlived their machines: {left}"


@contextlib.contextmanager
def own_disk(directory: Path) -> Iterator[None]:
    """Where the tests may, the machines have a disk of their own, which can be filled."""
    directory.mkdir()
    if os.getuid() != 0:
        yield
        return
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_DISK},mode=0700", "machines", directory], check=True)
    yield
    subprocess.run(["umount", "--lazy", directory], check=True)


@contextlib.contextmanager
def ordinary_user() -> Iterator[int]:
    """A user who exists as long as that, where the tests run as root: ssh serves nobody whom it cannot look up."""
    if os.getuid() != 0:
        yield os.getuid()
        return
    if _ORDINARY_USER not in {user.pw_name for user in pwd.getpwall()}:  # as a run that was cut short leaves it
        subprocess.run(["useradd", "--no-create-home", "--user-group", _ORDINARY_USER], check=True)
    try:
        uid = pwd.getpwnam(_ORDINARY_USER).pw_uid
        command = [sys.executable, "-c", "import machine.cli.main"]
        reaches = subprocess.run(command, user=uid, group=uid, extra_groups=[], check=False, cwd="/").returncode == 0
        yield uid if reaches else os.getuid()
    finally:
        subprocess.run(["userdel", _ORDINARY_USER], check=True)


@contextlib.contextmanager
def served(directory: Path) -> Iterator[str]:
    """The URL of a server that has a directory's files."""
    handler = functools.partial(_QuietHandler, directory=str(directory))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


class _QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None: ...


def busybox_archive(program: Path, root: Path) -> Path:
    """The tar of a container image, made on the spot."""
    (root / "bin").mkdir()
    shutil.copy2(program, root / "bin" / "busybox")
    for applet in _APPLETS:
        (root / "bin" / applet).symlink_to("busybox")
    archive = root.parent / f"{root.name}.tar"
    subprocess.run(["tar", "-C", str(root), "-cf", str(archive), "."], check=True)
    archive.chmod(0o644)
    return archive


def debian_clients() -> Path:
    """The root of Debian 13's clients, unpacked once beside their own libraries."""
    root = CACHE / "clients-trixie"
    if not root.exists():
        unpacked = Path(tempfile.mkdtemp(prefix=".new-", dir=CACHE)) / "root"
        packages = "--include=podman-remote,docker-cli,docker-compose"
        command = ["mmdebstrap", "--quiet", "--variant=extract", packages, "trixie", str(unpacked)]
        subprocess.run(command, check=True, timeout=600)
        unpacked.rename(root)
        unpacked.parent.rmdir()
    return root
