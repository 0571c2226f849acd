"""Make a Python look as if it ran on a Mac, as far as `machine` can tell."""

from __future__ import annotations

import builtins
import ctypes
import errno
import functools
import importlib
import io
import os
import resource
import selectors
import socket
import struct
import sys
import sysconfig
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

IMITATED = "MACHINE_TESTS_IMITATE_MAC"
"""The environment variable by which tests know that the programs they start are to imitate a Mac."""

SITE = Path(__file__).parent / "site"
"""The directory that makes a Python imitate a Mac if it is in PYTHONPATH."""

_LOADED_FIRST = (
    "asyncio", "click._compat", "concurrent.futures.process", "ctypes.util", "fcntl", "inotify_simple",
    "multiprocessing.synchronize", "paramiko", "platform", "psutil", "pty", "requests", "resource", "rich.console",
    "select", "signal", "tarfile", "urllib.request", "uuid",
)  # fmt: skip

# A QEMU with HVF, which is TCG.
_QEMU = """#!/bin/sh
case " $* " in *' -accel help '*) {qemu} "$@" && echo hvf; exit ;; esac
for word; do
    shift
    case $word in
    hvf | hvf,*) word=tcg,thread=multi ;;
    host | host,*) word=max ;;
    esac
    set -- "$@" "$word"
done
exec {qemu} "$@"
"""
_SYSCTL = """#!/bin/sh
case $2 in kern.hv_support) echo 1 ;; *) exit 1 ;; esac
"""

# What Python's modules have on Linux and not on macOS.
_LINUX_ONLY: dict[str, tuple[str, ...]] = {
    "os": (
        "O_PATH", "O_TMPFILE", "O_NOATIME", "O_DIRECT", "setresuid", "setresgid", "getresuid", "getresgid",
        "pidfd_open", "memfd_create", "sched_getaffinity", "sched_setaffinity", "eventfd", "splice", "posix_fallocate",
        "posix_fadvise", "copy_file_range", "pipe2", "fdatasync", "unshare", "setns",
    ),
    "socket": (
        "SO_PEERCRED", "SOCK_CLOEXEC", "SOCK_NONBLOCK", "AF_NETLINK", "AF_VSOCK", "AF_PACKET", "SO_BINDTODEVICE",
        "TCP_QUICKACK", "TCP_USER_TIMEOUT", "TCP_DEFER_ACCEPT", "IP_TRANSPARENT", "MSG_NOSIGNAL",
    ),
    "select": ("epoll", "EPOLLIN", "EPOLLOUT", "EPOLLERR", "EPOLLHUP", "EPOLLRDHUP", "POLLRDHUP"),
    "signal": ("pidfd_send_signal", "sigtimedwait", "sigwaitinfo", "SIGRTMIN", "SIGRTMAX", "SIGPWR", "SIGSTKFLT"),
    "fcntl": ("F_SETPIPE_SZ", "F_GETPIPE_SZ", "F_OFD_SETLK", "F_ADD_SEALS"),
    "resource": ("prlimit",),
}  # fmt: skip

_SUN_PATH = 103
_FILES = 256
_PRIVILEGED_BELOW = 1024
_SOL_LOCAL, _LOCAL_PEERPID = 0, 2
_UCRED = struct.Struct("3i")
_LISTENING = "0A"
"""The state of a listening socket in /proc/net/tcp."""


class Uname(NamedTuple):
    sysname: str = "Darwin"
    nodename: str = "mac"
    release: str = "25.1.0"
    version: str = "Darwin Kernel Version 25.1.0: root:xnu-12377.41.6~2/RELEASE_X86_64"
    machine: str = "x86_64"


class MacLibrary(ctypes.CDLL):
    """A library that also has clonefile(2), on a file system that cannot clone."""

    def clonefile(self, *_: object) -> int:
        return -1


def become_mac() -> None:
    """Imitate macOS in this Python from now on, but for the user, for whom there is scripts/as-mac-user."""
    _load_first()
    _imitate_sockets()
    _hide_proc()
    for module, names in _LINUX_ONLY.items():
        for name in names:
            vars(sys.modules[module]).pop(name, None)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (_FILES, hard))
    os.uname = Uname  # type: ignore[assignment]
    ctypes.CDLL = MacLibrary  # type: ignore[misc]
    sys.platform = "darwin"


def imitate_programs(directory: Path) -> None:
    """Let the QEMUs that are linked to in this directory, which is on a program's PATH, have HVF."""
    for link in directory.glob("qemu-system-*"):
        if link.is_symlink():
            target = link.readlink()
            link.unlink()
            _write_program(link, _QEMU.format(qemu=target))
    _write_program(directory / "sysctl", _SYSCTL)


def _write_program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def _load_first() -> None:
    """Load what decides by sys.platform while it is loaded. Such modules stay Linux's here."""
    for module in _LOADED_FIRST:
        importlib.import_module(module)
    sysconfig.get_config_vars()
    tempfile._O_TMPFILE_WORKS = False  # type: ignore[attr-defined]
    # Those of Linux would want epoll when they are used.
    selectors.DefaultSelector = selectors.PollSelector  # type: ignore[assignment, misc]


def _imitate_sockets() -> None:
    peer = socket.SO_PEERCRED
    ask, bind, connect = socket.socket.getsockopt, socket.socket.bind, socket.socket.connect

    def getsockopt(self: socket.socket, level: int, name: int, *size: int) -> Any:
        if (self.family, level, name) == (socket.AF_UNIX, _SOL_LOCAL, _LOCAL_PEERPID):
            pid, _, _ = _UCRED.unpack(ask(self, socket.SOL_SOCKET, peer, _UCRED.size))
            return pid.to_bytes(4, sys.byteorder)
        return ask(self, level, name, *size)

    def checked(act: Callable[[socket.socket, Any], None]) -> Callable[[socket.socket, Any], None]:
        def wrapped(self: socket.socket, address: Any) -> None:
            if self.family == socket.AF_UNIX and len(os.fsencode(address)) > _SUN_PATH:
                raise OSError("AF_UNIX path too long")
            if act is bind and _is_single_and_privileged(self, address):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            try:
                act(self, address)
            except OSError as error:
                if act is connect or error.errno != errno.EADDRINUSE or not _may_share(self) or _listens(*address):
                    raise
                self.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                act(self, address)
            if act is bind and _may_share(self):
                self.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)

        return wrapped

    socket.socket.getsockopt = getsockopt  # type: ignore[method-assign, assignment]
    socket.socket.bind = checked(bind)  # type: ignore[method-assign, assignment]
    socket.socket.connect = checked(connect)  # type: ignore[method-assign, assignment]


def _is_single_and_privileged(asking: socket.socket, address: Any) -> bool:
    """Since macOS 10.14, ports below 1024 are everybody's, but only with the address that stands for all."""
    if asking.family not in (socket.AF_INET, socket.AF_INET6):
        return False
    return address[0] not in ("", "0.0.0.0", "::") and 0 < address[1] < _PRIVILEGED_BELOW


def _may_share(asking: socket.socket) -> bool:
    """With SO_REUSEADDR, BSD's kernels let one program listen on every address, and another on one of them.

    This is imitated between programs in Python. QEMU and ssh stay Linux's.
    """
    is_tcp = (asking.family, asking.type) == (socket.AF_INET, socket.SOCK_STREAM)
    return is_tcp and bool(asking.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR))


def _listens(address: str, port: int) -> bool:
    """Return whether a program listens on this very address and port."""
    try:
        number = socket.inet_aton(address or "0.0.0.0")
    except OSError:  # a name
        return True
    wanted = f"{int.from_bytes(number, sys.byteorder):08X}:{port:04X}"
    rows = (row.split() for row in Path("/proc/net/tcp").read_text().splitlines())
    return any(row[1] == wanted and row[3] == _LISTENING for row in rows)


def _hide_proc() -> None:
    """Let files of /proc and /sys be missing for this program, though not for Python and the tests."""
    for module, name in ((io, "open"), (builtins, "open"), (os, "open"), (os, "listdir"), (os, "scandir")):
        setattr(module, name, _without_proc(getattr(module, name)))


def _without_proc(act: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(act)
    def wrapped(path: Any = ".", *words: Any, **settings: Any) -> Any:
        if not isinstance(path, int) and os.fsdecode(path).startswith(("/proc/", "/sys/")) and _asked_by_program():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return act(path, *words, **settings)

    return wrapped


def _asked_by_program() -> bool:
    frame = sys._getframe(2)
    while frame.f_back and frame.f_globals["__name__"].partition(".")[0] in ("pathlib", "os", "io", "codecs"):
        frame = frame.f_back
    return bool(frame.f_globals["__name__"].partition(".")[0] == "machine")
