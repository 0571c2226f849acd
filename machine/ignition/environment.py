"""Write environment variables for all processes in a guest to the files that podman machine uses (pure)."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from machine.ignition.document import File

Variables = Sequence[tuple[str, str]]


def environment_files(variables: Variables, stem: str) -> tuple[File, ...]:
    """Return files that set variables in system services, user services and shells. File names contain `stem`."""
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
    """Quote an assignment for systemd-system.conf(5), in which specifiers and C escapes are expanded."""
    return _quoted(f"{name}={value}".replace("%", "%%"))


def _session_word(value: str) -> str:
    """Quote a value for environment.d(5). `$` is doubled, because variables are expanded after unquoting."""
    return _quoted(value.replace("$", "$$"), "`")


def _quoted(text: str, special: str = "") -> str:
    for character in ("\\", '"', *special):
        text = text.replace(character, f"\\{character}")
    return f'"{text}"'
