"""Find out whether a file system gives out file handles, by which virtiofsd knows its files again (Linux)."""

from __future__ import annotations

import ctypes
import errno
import os

_AT_FDCWD = -100


class _FileHandle(ctypes.Structure):
    """The beginning of struct file_handle, of name_to_handle_at(2)."""

    _fields_ = (("handle_bytes", ctypes.c_uint), ("handle_type", ctypes.c_int))


def has_file_handles(path: str) -> bool:
    """Return whether the file system of `path` has file handles. Overlays mostly have none."""
    mount_id = ctypes.c_int()
    libc = ctypes.CDLL(None, use_errno=True)
    # No room for a handle: where there are handles, the answer is how large they are.
    libc.name_to_handle_at(_AT_FDCWD, os.fsencode(path), ctypes.byref(_FileHandle()), ctypes.byref(mount_id), 0)
    return ctypes.get_errno() == errno.EOVERFLOW
