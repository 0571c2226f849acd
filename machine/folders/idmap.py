"""A program that runs another one in a user namespace, with identities of its own on its inside.

    python -I -S idmap.py UIDS GIDS READ_ONLY COMMAND…

UIDS and GIDS are INSIDE:OUTSIDE:COUNT, more of them after commas; READ_ONLY is a directory below which the command
can change nothing, or empty. It becomes the command, and imports nothing of ours: it starts in a few milliseconds.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import subprocess
import sys

_CLONE_NEWNS = 0x00020000
_CLONE_NEWUSER = 0x10000000
_MS_BIND, _MS_REC, _MS_PRIVATE = 0x1000, 0x4000, 0x40000
# Of mount_setattr(2), the same on every architecture: unlike a remount it touches no flag but its own.
_SYS_MOUNT_SETATTR = 442
_AT_FDCWD, _AT_RECURSIVE = -100, 0x8000
_MOUNT_ATTR_RDONLY = 1

_libc = ctypes.CDLL(None, use_errno=True)


def main(uids: str, gids: str, read_only: str, *command: str) -> None:
    unshared = os.pipe()
    mapped = os.fork()
    if mapped == 0:
        # Outside: who maps more than itself has to be there.
        os.close(unshared[1])
        if not os.read(unshared[0], 1):
            os._exit(1)
        os._exit(_write_maps(os.getppid(), uids, gids))
    os.close(unshared[0])
    _call("user namespace", _libc.unshare(_CLONE_NEWUSER | (_CLONE_NEWNS if read_only else 0)))
    os.write(unshared[1], b"x")
    os.close(unshared[1])
    if os.waitpid(mapped, 0)[1] != 0:
        sys.exit(1)  # it has said why
    if read_only:
        _protect(os.fsencode(read_only))
    if uids.startswith("0:"):
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
    # virtiofsd has a file open for each that the guest knows of, and may lift no limit itself in a namespace.
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with contextlib.suppress(OSError, ValueError):  # more than fs.nr_open
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    os.execv(command[0], command)  # noqa: S606


def _write_maps(pid: int, uids: str, gids: str) -> int:
    """By our own hands as root, else by the programs that know what /etc/subuid grants; returns an exit status."""
    for kind, text in (("gid", gids), ("uid", uids)):
        lines = [entry.split(":") for entry in text.split(",")]
        try:
            if os.geteuid() == 0:
                with open(f"/proc/{pid}/{kind}_map", "w", encoding="ascii") as file:  # noqa: PTH123
                    file.write("".join(f"{' '.join(line)}\n" for line in lines))
            else:
                subprocess.run([f"new{kind}map", str(pid), *(word for line in lines for word in line)], check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            sys.stderr.write(f"no identities in a user namespace: {error}\n")
            return 1
    return 0


def _protect(directory: bytes) -> None:
    _call("private mounts", _libc.mount(None, b"/", None, _MS_REC | _MS_PRIVATE, None))
    _call("bind mount", _libc.mount(directory, directory, None, _MS_BIND | _MS_REC, None))
    attributes = (ctypes.c_uint64 * 4)(_MOUNT_ATTR_RDONLY, 0, 0, 0)
    words = (_AT_FDCWD, directory, _AT_RECURSIVE, ctypes.byref(attributes), ctypes.sizeof(attributes))
    _call("read-only mount", _libc.syscall(_SYS_MOUNT_SETATTR, *words))


def _call(what: str, result: int) -> None:
    if result != 0:
        sys.exit(f"no {what}: {os.strerror(ctypes.get_errno())}")


if __name__ == "__main__":
    main(*sys.argv[1:])
