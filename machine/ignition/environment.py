"""Environment variables of all processes in a guest, in the files that podman machine uses for proxies (pure)."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from machine.ignition.document import File

Variables = Sequence[tuple[str, str]]


def environment_files(variables: Variables, stem: str) -> tuple[File, ...]:
    """Return files, named after `stem`, for system services, user services and login shells."""
    if not variables:
        return ()
    services = "[Manager]\n" + "".join(f"DefaultEnvironment={_manager_word(*pair)}\n" for pair in variables)
    sessions = "".join(f"{name}={_session_word(value)}\n" for name, value in variables)
    shells = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in variables)
    return (
        File(path=f"/etc/systemd/system.conf.d/{stem}.conf", contents=services),
        File(path=f"/etc/systemd/user.conf.d/{stem}.conf", contents=services),
        File(path=f"/etc/environment.d/{stem}.conf", contents=sessions),
        File(path=f"/etc/profile.d/{stem}.sh", contents=shells),
    )


def _manager_word(name: str, value: str) -> str:
    """Quote for systemd-system.conf(5), which expands specifiers and C escapes."""
    return _quoted(f"{name}={value}".replace("%", "%%"))


def _session_word(value: str) -> str:
    """Quote for environment.d(5), which expands variables after unquoting, so that `$` must be doubled."""
    return _quoted(value.replace("$", "$$"), "`")


def _quoted(text: str, special: str = "") -> str:
    for character in ("\\", '"', *special):
        text = text.replace(character, f"\\{character}")
    return f'"{text}"'
