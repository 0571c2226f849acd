"""Run a command in a user namespace, with mapped user and group IDs.

    python -I -S idmap.py UIDS GIDS READ_ONLY COMMAND…

UIDS and GIDS are lists of INSIDE:OUTSIDE:COUNT, separated by commas. READ_ONLY is empty, or a directory in which the
command cannot change anything. The program replaces itself with the command. It imports nothing of ours, so that it
starts in a few milliseconds.
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
# From mount_setattr(2), the same on every architecture; unlike a remount, it changes no other flags.
_SYS_MOUNT_SETATTR = 442
_AT_FDCWD, _AT_RECURSIVE = -100, 0x8000
_MOUNT_ATTR_RDONLY = 1

_libc = ctypes.CDLL(None, use_errno=True)


def main(uids: str, gids: str, read_only: str, *command: str) -> None:
    unshared = os.pipe()
    mapped = os.fork()
    if mapped == 0:
        # Only a process outside the namespace may map more IDs than its own.
        os.close(unshared[1])
        if not os.read(unshared[0], 1):
            os._exit(1)
        os._exit(_write_maps(os.getppid(), uids, gids))
    os.close(unshared[0])
    _call("a user namespace", _libc.unshare(_CLONE_NEWUSER | (_CLONE_NEWNS if read_only else 0)))
    os.write(unshared[1], b"x")
    os.close(unshared[1])
    if os.waitpid(mapped, 0)[1] != 0:
        sys.exit(1)  # the child has printed the reason
    if read_only:
        _protect(os.fsencode(read_only))
    if sys.platform == "linux" and uids.startswith("0:"):
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
    # virtiofsd keeps every file open that the guest has cached, and cannot raise the limit inside the namespace.
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with contextlib.suppress(OSError, ValueError):  # above fs.nr_open
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    os.execv(command[0], command)  # noqa: S606


def _write_maps(pid: int, uids: str, gids: str) -> int:
    """Write the ID maps of the process `pid`, and return the exit status of this program.

    Users other than root need newuidmap and newgidmap.
    """
    for kind, text in (("gid", gids), ("uid", uids)):
        lines = [entry.split(":") for entry in text.split(",")]
        try:
            if os.geteuid() == 0:
                with open(f"/proc/{pid}/{kind}_map", "w", encoding="ascii") as file:  # noqa: PTH123
                    file.write("".join(f"{' '.join(line)}\n" for line in lines))
            else:
                subprocess.run([f"new{kind}map", str(pid), *(word for line in lines for word in line)], check=True)
        except OSError as error:
            sys.stderr.write(f"cannot map owners in a user namespace: {error.strerror}\n")
            return 1
        except subprocess.CalledProcessError as error:
            sys.stderr.write(f"cannot map owners in a user namespace: new{kind}map failed ({error.returncode})\n")
            return 1
    return 0


def _protect(directory: bytes) -> None:
    _call("mounts private", _libc.mount(None, b"/", None, _MS_REC | _MS_PRIVATE, None))
    _call("a bind mount", _libc.mount(directory, directory, None, _MS_BIND | _MS_REC, None))
    attributes = (ctypes.c_uint64 * 4)(_MOUNT_ATTR_RDONLY, 0, 0, 0)
    words = (_AT_FDCWD, directory, _AT_RECURSIVE, ctypes.byref(attributes), ctypes.sizeof(attributes))
    _call("a read-only mount", _libc.syscall(_SYS_MOUNT_SETATTR, *words))


def _call(what: str, result: int) -> None:
    if result != 0:
        sys.exit(f"cannot make {what}: {os.strerror(ctypes.get_errno())}")


if __name__ == "__main__":
    main(*sys.argv[1:])
