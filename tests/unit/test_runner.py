"""What the log says of a program that is run."""

from __future__ import annotations

from machine.runner import logged


def test_command_line_is_logged_as_a_shell_would_take_it() -> None:
    assert logged(["ssh", "-p", "2222", "core@host", "echo 'a b'"]) == """ssh -p 2222 core@host 'echo '"'"'a b'"'"''"""


def test_script_is_logged_by_its_first_and_last_line() -> None:
    script = "\n".join(["sh -c '#!/bin/sh", *(f"line {number}" for number in range(40)), "done' sshfs rw 1000 /src"])
    assert logged(["ssh", script, "a\nb"]) == (
        """ssh 'sh -c '"'"'#!/bin/sh … 40 lines … done'"'"' sshfs rw 1000 /src' 'a\nb'"""
    )
