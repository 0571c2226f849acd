"""Write the commands that set environment variables in the shells that people use (pure)."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from enum import StrEnum


class Shell(StrEnum):
    SH = "sh"
    FISH = "fish"
    TCSH = "tcsh"
    POWERSHELL = "powershell"
    CMD = "cmd"
    EMACS = "emacs"

    @classmethod
    def of(cls, path: str) -> Shell:
        """Return the shell that `$SHELL` names. An unknown shell is taken for sh."""
        name = path.rpartition("/")[2]
        try:
            return cls(ALIASES.get(name, name))
        except ValueError:
            return cls.SH

    def set(self, name: str, value: str) -> str:
        """Return a line that sets a variable. The value may contain any character."""
        match self:
            case Shell.SH:
                return f"export {name}={shlex.quote(value)}"
            case Shell.FISH:
                escaped = value.replace("\\", "\\\\").replace("'", "\\'")
                return f"set -gx {name} '{escaped}';"
            case Shell.TCSH:
                quoted = shlex.quote(value).replace("!", "\\!")
                return f"setenv {name} {quoted};"
            case Shell.POWERSHELL:
                doubled = value.replace("'", "''")
                return f"$Env:{name} = '{doubled}'"
            case Shell.CMD:
                return f"SET {name}={value}"
            case Shell.EMACS:
                return f"(setenv {_lisp(name)} {_lisp(value)})"

    def unset(self, name: str) -> str:
        """Return a line that unsets a variable."""
        match self:
            case Shell.SH:
                return f"unset {name}"
            case Shell.FISH:
                return f"set -e {name};"
            case Shell.TCSH:
                return f"unsetenv {name};"
            case Shell.POWERSHELL:
                return f"Remove-Item Env:\\{name} -ErrorAction SilentlyContinue"
            case Shell.CMD:
                return f"SET {name}="
            case Shell.EMACS:
                return f"(setenv {_lisp(name)} nil)"

    def usage(self, command: str) -> str:
        """Return a comment that says how to evaluate the output of `command` in this shell."""
        match self:
            case Shell.SH:
                return f'# Run this command to configure your shell:\n# eval "$({command})"'
            case Shell.FISH:
                return f"# Run this command to configure your shell:\n# {command} | source"
            case Shell.TCSH:
                return f"# Run this command to configure your shell:\n# eval `{command}`"
            case Shell.POWERSHELL:
                return f"# Run this command to configure your shell:\n# {command} | Out-String | Invoke-Expression"
            case Shell.CMD:
                loop = f"@FOR /f \"tokens=*\" %i IN ('{command}') DO @%i"
                return f"REM Run this command to configure your shell:\nREM {loop}"
            case Shell.EMACS:
                return f';; Run this to configure your Emacs:\n;; (eval-region of the output of "{command}")'

    def script(self, variables: Mapping[str, str], command: str, *, unset: bool) -> str:
        """Return lines that set or unset all variables, and a comment that says how to use them."""
        lines = [self.unset(name) if unset else self.set(name, value) for name, value in variables.items()]
        return "\n".join([*lines, self.usage(command)]) + "\n"


ALIASES = {"bash": "sh", "zsh": "sh", "csh": "tcsh", "pwsh": "powershell"}
"""Shells that understand another shell's syntax, with the name of that shell."""


def _lisp(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
