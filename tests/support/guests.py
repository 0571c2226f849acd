"""Images and worlds for real guests, and a container image."""

from __future__ import annotations

import contextlib
import functools
import http.server
import os
import pwd
import shutil
import ssl
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from machine import lock
from machine.guestimage.publish import PUBLIC_KEY
from tests.support.processes import processes_of
from tests.support.real_runs import RealRuns
from tests.support.world import World, machine_program

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "boot2podman-tests"
COMMAND_S = 900
BOOT_S = 900
BUILD_S = 2400

_ORDINARY_USER = "boot2podman-test"
_USER_LOCK = Path(tempfile.gettempdir()) / f"{_ORDINARY_USER}.lock"
# The size of the file system for a world's machines, which a test fills up.
_DISK = "4G"
_CARRIES_S = 20.0
_APPLETS = ("sh", "echo", "sleep", "uname", "httpd", "cat", "chroot", "mkdir", "wget")


def publish(*words: str, timeout_s: float = BUILD_S, home: Path = CACHE) -> Path:
    """Return the local stream with the guest image, which is built unless the cache has the current one."""
    command = [machine_program(), "image", "build", *words]
    subprocess.run(command, env={**os.environ, "MACHINE_HOME": str(home)}, check=True, timeout=timeout_s)
    return home / "data" / "streams"


def publish_variant(variant: str) -> Path:
    """Return a local stream of its own for another variant, which would take the small one's place in the other."""
    return publish("--variant", variant, home=CACHE / variant)


def make_guest_world(streams: Path, uid: int, *, timeout_s: float = COMMAND_S) -> World:
    """Create a user's world with the local stream and its key."""
    root = Path(tempfile.mkdtemp(prefix="b2p-", dir="/tmp"))
    (root / "m" / "data").mkdir(parents=True)
    (root / "home").mkdir()
    if uid == os.getuid():
        (root / "m" / "data" / "streams").symlink_to(streams)
    else:  # that user may not enter the tests' cache
        shutil.copytree(streams, root / "m" / "data" / "streams")
    (root / "m" / "data" / "keys").mkdir()
    shutil.copyfile(streams / PUBLIC_KEY, root / "m" / "data" / "keys" / PUBLIC_KEY)
    world = World(root=root, uid=uid, timeout_s=timeout_s, real_runs=RealRuns())
    assert world.environment  # creates the initial files
    if uid != os.getuid():
        for directory, _, files in os.walk(root):
            for name in (".", *files):
                os.chown(Path(directory) / name, uid, uid, follow_symlinks=False)
    return world


def left_after(root: Path, patience_s: float) -> dict[int, str]:
    """Return the processes that are left. One that has carried clients ends a moment after its machine."""
    until = time.monotonic() + patience_s
    while (left := processes_of(root)) and time.monotonic() < until:
        time.sleep(0.2)
    return left


def take_down(world: World) -> None:
    """Remove all machines, and check that none of their processes is left."""
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
    """Mount a separate file system for the machines, which tests can fill, if the tests run as root."""
    directory.mkdir()
    if os.getuid() != 0:
        yield
        return
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_DISK},mode=0700", "machines", directory], check=True)
    yield
    subprocess.run(["umount", "--lazy", directory], check=True)


@contextlib.contextmanager
def ordinary_user() -> Iterator[int]:
    """Create a user for the block if the tests run as root, since ssh requires an entry in passwd; yields its uid.

    Runs of the tests at the same time share the user, and the last of them removes it.
    """
    if os.getuid() != 0:
        yield os.getuid()
        return
    with lock.shared(_USER_LOCK, timeout_s=60, waits_for=f"another run of the tests to remove {_ORDINARY_USER}"):
        if _ORDINARY_USER not in {user.pw_name for user in pwd.getpwall()}:
            subprocess.run(["useradd", "--no-create-home", "--user-group", _ORDINARY_USER], check=True)
        uid = pwd.getpwnam(_ORDINARY_USER).pw_uid
        command = [sys.executable, "-c", "import machine.cli.main"]
        reaches = subprocess.run(command, user=uid, group=uid, extra_groups=[], check=False, cwd="/").returncode == 0
        yield uid if reaches else os.getuid()
    with lock.held(_USER_LOCK) as is_last:
        if is_last:
            # It fails if a run that was killed has left processes.
            subprocess.run(["userdel", _ORDINARY_USER], check=False)


@contextlib.contextmanager
def served(directory: Path, tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """Serve a directory's files over HTTP, or over HTTPS with `tls`, during the block; yields the URL."""
    handler = functools.partial(_QuietHandler, directory=str(directory))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        if tls:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"{'https' if tls else 'http'}://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


class _QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None: ...


def busybox_archive(program: Path, root: Path) -> Path:
    """Create the tar of a container image with busybox."""
    (root / "bin").mkdir()
    shutil.copy2(program, root / "bin" / "busybox")
    for applet in _APPLETS:
        (root / "bin" / applet).symlink_to("busybox")
    archive = root.parent / f"{root.name}.tar"
    subprocess.run(["tar", "-C", str(root), "-cf", str(archive), "."], check=True)
    archive.chmod(0o644)
    return archive


def reaper_archive(busybox: Path, client_root: Path) -> Path:
    """Create the tar of a container image with busybox and the docker client."""
    archive = busybox.with_name("reaper.tar")
    shutil.copyfile(busybox, archive)
    libraries = client_root / "usr/lib/x86_64-linux-gnu"
    with tarfile.open(archive, "a", dereference=True) as tar:
        tar.add(client_root / "usr/bin/docker", "bin/docker")
        tar.add(libraries / "ld-linux-x86-64.so.2", "lib64/ld-linux-x86-64.so.2")
        tar.add(libraries / "libc.so.6", "lib/x86_64-linux-gnu/libc.so.6")
    return archive


def debian_clients() -> Path:
    """Return a directory with Debian 13's clients and their libraries, unpacked once into the cache."""
    root = CACHE / "clients-trixie"
    if not root.exists():
        unpacked = Path(tempfile.mkdtemp(prefix=".new-", dir=CACHE)) / "root"
        packages = "--include=podman-remote,docker-cli,docker-compose"
        command = ["mmdebstrap", "--quiet", "--variant=extract", packages, "trixie", str(unpacked)]
        subprocess.run(command, check=True, timeout=600)
        unpacked.rename(root)
        unpacked.parent.rmdir()
    return root
