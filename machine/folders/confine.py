"""Confine a command by Linux's Landlock, so that the command can access only one of the user's directories.

    python -I -S confine.py DIRECTORY COMMAND…

An SFTP server serves all directories. Without this program, a container that breaks out into the guest could read
everything that the host's user can read. On Linux before 5.19, whose Landlock is too old, the command runs unconfined.
This program replaces itself with the command, and imports nothing of ours.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys

# From landlock(7), the same on every architecture.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION = 1
_PATH_BENEATH = 1
_PR_SET_NO_NEW_PRIVS = 38
# From openat2(2), as above.
_OPENAT2, _AT_FDCWD, _RESOLVE_NO_SYMLINKS = 437, -100, 4

# This module is imported on macOS, too, though it does not run there.
if sys.platform == "linux":
    _OPEN = os.O_PATH | os.O_CLOEXEC
else:
    _OPEN = os.O_CLOEXEC

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1, 1 << 1, 1 << 2, 1 << 3
_READ = _EXECUTE | _READ_FILE | _READ_DIR
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | 1 << 14
# All rights up to moving between directories (version 2) and truncating (version 3).
_RIGHTS = {2: (1 << 14) - 1, 3: (1 << 15) - 1}

# What a program needs to run; nothing there belongs to the user.
_SYSTEM = ("/bin", "/etc", "/lib", "/lib32", "/lib64", "/nix", "/opt", "/run", "/sbin", "/usr")
_DEVICES = ("/dev/null", "/dev/urandom", "/dev/zero")


def main(directory: str, *command: str) -> None:
    _confine(directory)
    os.execv(command[0], command)  # noqa: S606


def _confine(directory: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    version = libc.syscall(_CREATE_RULESET, None, 0, _VERSION)
    if version < min(_RIGHTS):
        return
    rights = _RIGHTS[min(version, max(_RIGHTS))]
    attributes = struct.pack("=Q", rights)
    ruleset = _checked(libc.syscall(_CREATE_RULESET, attributes, len(attributes), 0))
    allowed = {**dict.fromkeys(_SYSTEM, _READ), **dict.fromkeys(_DEVICES, _WRITE_FILE | _READ_FILE), directory: rights}
    for path, granted in allowed.items():
        try:
            descriptor = os.open(path, _OPEN) if path != directory else _open(libc, directory)
        except OSError:
            continue
        mask = rights if os.path.isdir(path) else _OF_FILES  # noqa: PTH112
        rule = struct.pack("=Qi", granted & mask & rights, descriptor)
        _checked(libc.syscall(_ADD_RULE, ruleset, _PATH_BENEATH, rule, 0))
        os.close(descriptor)
    _checked(libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    _checked(libc.syscall(_RESTRICT_SELF, ruleset, 0))
    os.close(ruleset)


def _open(libc: ctypes.CDLL, directory: str) -> int:
    """Open a directory. If its path contains a symbolic link, exit.

    When the path was chosen, it contained no symbolic link, but a guest may have made one since then.
    """
    how = struct.pack("=QQQ", _OPEN, 0, _RESOLVE_NO_SYMLINKS)
    return _checked(libc.syscall(_OPENAT2, _AT_FDCWD, os.fsencode(directory), how, len(how)), directory)


def _checked(result: int, what: str = "Landlock") -> int:
    if result < 0:
        sys.exit(f"{what}: {os.strerror(ctypes.get_errno())}")
    return result


if __name__ == "__main__":
    main(*sys.argv[1:])
