"""Variables of everything in a guest: where podman machine puts its proxies, in the words of each reader (pure)."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from machine.ignition.document import File

Variables = Sequence[tuple[str, str]]


def environment_files(variables: Variables, stem: str) -> tuple[File, ...]:
    """Files that begin with `stem` for the system's services, the users' services and login shells."""
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
    """systemd-system.conf(5) expands specifiers, and unquotes C-style."""
    return _quoted(f"{name}={value}".replace("%", "%%"))


def _session_word(value: str) -> str:
    """environment.d(5) expands variables after it has unquoted: a dollar sign stands twice."""
    return _quoted(value.replace("$", "$$"), "`")


def _quoted(text: str, special: str = "") -> str:
    for character in ("\\", '"', *special):
        text = text.replace(character, f"\\{character}")
    return f'"{text}"'
