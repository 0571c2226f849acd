"""Variables for everything in a guest, read back by those readers that there are on this side."""

from __future__ import annotations

import shlex

from machine.ignition.environment import environment_files

VARIABLES = (("A", "plain"), ("B", """a "b" $HOME `id` 100% \\ it's"""))


def test_no_variables_need_no_files() -> None:
    assert environment_files((), "50-x") == ()


def test_each_reader_has_its_quoting() -> None:
    files = {file.path: file.contents for file in environment_files(VARIABLES, "50-x")}
    assert list(files) == [
        "/etc/systemd/system.conf.d/50-x.conf", "/etc/systemd/user.conf.d/50-x.conf", "/etc/environment.d/50-x.conf",
        "/etc/profile.d/50-x.sh",
    ]  # fmt: skip
    services, users, sessions, shells = files.values()
    assert services == users
    assert services.splitlines() == [
        "[Manager]",
        'DefaultEnvironment="A=plain"',
        r'''DefaultEnvironment="B=a \"b\" $HOME `id` 100%% \\ it's"''',
    ]
    assert sessions.splitlines() == ['A="plain"', r'''B="a \"b\" $$HOME \`id\` 100% \\ it's"''']
    assert [shlex.split(line) for line in shells.splitlines()] == [
        ["export", f"{name}={value}"] for name, value in VARIABLES
    ]
