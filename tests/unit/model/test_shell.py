"""Variables in every shell's syntax, as the real shells of this host read them where there are any."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from machine.model.shell import Shell

ODD = "/run/a b'c\"d$e\\f!g"


@pytest.mark.parametrize(
    ("shell", "line", "unset"),
    [
        (Shell.SH, "export A='/x y'", "unset A"),
        (Shell.FISH, "set -gx A '/x y';", "set -e A;"),
        (Shell.TCSH, "setenv A '/x y';", "unsetenv A;"),
        (Shell.POWERSHELL, "$Env:A = '/x y'", "Remove-Item Env:\\A -ErrorAction SilentlyContinue"),
        (Shell.CMD, "SET A=/x y", "SET A="),
        (Shell.EMACS, '(setenv "A" "/x y")', '(setenv "A" nil)'),
    ],
)
def test_lines_of_each_shell(shell: Shell, line: str, unset: str) -> None:
    assert shell.set("A", "/x y") == line
    assert shell.unset("A") == unset


@pytest.mark.parametrize(
    ("path", "shell"),
    [
        ("/bin/bash", Shell.SH),
        ("/usr/bin/zsh", Shell.SH),
        ("", Shell.SH),
        ("/usr/bin/fish", Shell.FISH),
        ("/bin/csh", Shell.TCSH),
        ("/opt/pwsh", Shell.POWERSHELL),
    ],
)
def test_shell_of_the_environment(path: str, shell: Shell) -> None:
    assert Shell.of(path) is shell


@pytest.mark.parametrize("program", ["sh", "bash", "fish", "tcsh"])
def test_real_shell_reads_an_odd_value(program: str) -> None:
    if shutil.which(program) is None:
        assert program not in ("sh", "bash")
        pytest.skip(f"{program} is not installed")
    script = f"{Shell.of(program).set('ODD', ODD)}\nprintenv ODD"
    done = subprocess.run([program, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == f"{ODD}\n"


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30))
def test_sh_reads_back_any_value(value: str) -> None:
    script = f'{Shell.SH.set("X", value)}\nprintf %s "$X"'
    assert subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout == value


def test_script_ends_with_how_to_use_it() -> None:
    script = Shell.SH.script({"A": "1", "B": "2"}, "machine env box", unset=False)
    assert script == (
        'export A=1\nexport B=2\n# Run this command to configure your shell:\n# eval "$(machine env box)"\n'
    )
    assert Shell.SH.script({"A": "1"}, "x", unset=True).startswith("unset A\n")
