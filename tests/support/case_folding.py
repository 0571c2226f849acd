"""Let names in a directory differ in more than their case, as on most Macs, for the Python that runs this."""

from __future__ import annotations

import builtins
import errno
import functools
import io
import os
from collections.abc import Callable
from typing import Any

FOLDED = "MACHINE_TESTS_FOLD_CASE"
"""The environment variable with the directory below which names are found whatever their case."""

_ON_PATHS = ("stat", "lstat", "open", "listdir", "scandir", "unlink", "rmdir", "chmod", "mkdir")


def fold_case(directory: str) -> None:
    """From now on, find names below `directory` whatever their case."""
    for module, name in ((io, "open"), (builtins, "open"), *((os, name) for name in _ON_PATHS)):
        act = getattr(module, name)
        folding = _folding(act, directory, makes=name == "mkdir")
        for supporting in (os.supports_dir_fd, os.supports_fd, os.supports_follow_symlinks):
            if act in supporting:
                supporting.add(folding)
        setattr(module, name, folding)


def _folding(act: Callable[..., Any], directory: str, *, makes: bool) -> Callable[..., Any]:
    @functools.wraps(act)
    def wrapped(path: Any = ".", *words: Any, **settings: Any) -> Any:
        if isinstance(path, int) or settings.get("dir_fd") is not None:
            return act(path, *words, **settings)
        name = os.fsdecode(path)
        if not name.startswith(f"{directory}/"):
            return act(path, *words, **settings)
        found = _as_it_is(name, directory)
        if makes and found != name and _lexists(found):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
        return act(found, *words, **settings)

    return wrapped


def _as_it_is(path: str, directory: str) -> str:
    """Return the path with each name as its directory has it. Names that do not exist stay as they are."""
    if _lexists(path):
        return path
    found = directory
    for name in path.removeprefix(f"{directory}/").split("/"):
        try:
            names = _listdir(found)
        except OSError:
            names = []
        same = [other for other in names if other.casefold() == name.casefold()]
        found = f"{found}/{name if name in names or not same else same[0]}"
    return found


_listdir, _lstat = os.listdir, os.lstat


def _lexists(path: str) -> bool:
    try:
        _lstat(path)
    except OSError:
        return False
    return True
