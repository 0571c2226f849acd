"""What systemd and launchd read, against files that a person can read too."""

from __future__ import annotations

import plistlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

import pytest

from machine.errors import BadInputError
from machine.model.host import HostOS
from machine.model.proxies import guest_proxies
from machine.model.service import (
    Service,
    agent_program,
    launch_agent,
    service_environment,
    systemd_unit,
    unit_program,
)
from tests.support.builders import ODD_SERVICE, SERVICE
from tests.support.golden import Golden

MAC = replace(
    SERVICE,
    argv=("/opt/homebrew/bin/machine", "start", "--foreground", "--no-info", "box"),
    environment={"PATH": "/opt/homebrew/bin:/usr/bin:/bin", "MACHINE_HOME": "/Volumes/A & B"},
    log="/Users/me/Library/Application Support/boot2podman/machines/box/autostart.log",
)


def test_systemd_unit_is_the_golden_one(golden: Golden) -> None:
    golden.matches_file(systemd_unit(SERVICE), "box.service")


def test_what_means_something_to_systemd_is_escaped() -> None:
    unit = systemd_unit(ODD_SERVICE).splitlines()
    assert r'ExecStart="/opt/100%% my tools/$HOME/machine" "start" "a \"b\" $$c \\ 5%%"' in unit
    assert r'Environment="MACHINE_HOME=/srv/50%%u \"a\" \\ $b"' in unit


@pytest.mark.parametrize("path", ['/opt/"x"/machine', "/opt/x's/machine", "/opt/x\\y/machine"])
def test_program_that_systemd_never_runs_is_refused(path: str) -> None:
    with pytest.raises(BadInputError, match="systemd cannot run a program with quotes or backslashes"):
        systemd_unit(replace(SERVICE, argv=(path,)))


def test_launch_agent_is_the_golden_one(golden: Golden) -> None:
    golden.matches_file(launch_agent(MAC).decode(), "org.boot2podman.box.plist")


def test_launch_agent_says_what_launchd_understands() -> None:
    said = plistlib.loads(launch_agent(MAC))
    assert said["ProgramArguments"] == list(MAC.argv)
    assert said["EnvironmentVariables"] == MAC.environment
    assert (said["Label"], said["RunAtLoad"], said["ExitTimeOut"]) == ("org.boot2podman.box", True, 270)
    assert "KeepAlive" not in said


@pytest.mark.parametrize("program", [SERVICE.argv[0], ODD_SERVICE.argv[0]])
def test_program_of_a_service_is_read_back(program: str) -> None:
    service = replace(SERVICE, argv=(program, *SERVICE.argv[1:]))
    assert unit_program(systemd_unit(service)) == program
    assert agent_program(launch_agent(service)) == program


def test_service_that_somebody_else_has_written_tells_no_program() -> None:
    assert unit_program("[Service]\nExecStart=/bin/true\n") is None
    for text in (b"", b"<plist", b"<plist><dict/></plist>", b"<plist><array/></plist>"):
        assert agent_program(text) is None


HERE = PurePosixPath("/here")


def test_environment_of_a_service_has_what_a_start_depends_on_alone() -> None:
    environment = {
        "PATH": "/opt/bin:.:/usr/bin:/caf\udce9:",
        "MACHINE_HOME": "/m",
        "CONTAINERS_HELPER_BINARY_DIR": "/opt/podman",
        "XDG_DATA_HOME": "",
        "TERM": "xterm",
        "HOME": "/h",
    }
    assert service_environment(environment, ("/usr/bin", "/bin"), HERE) == {
        "PATH": "/opt/bin:/usr/bin:/bin",
        "MACHINE_HOME": "/m",
        "CONTAINERS_HELPER_BINARY_DIR": "/opt/podman",
    }
    assert service_environment({}, HostOS.MACOS.traits.service_path, HERE) == {
        "PATH": "/opt/homebrew/bin:/usr/local/bin:/opt/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
    }


def test_environment_of_a_service_has_what_the_guest_is_told_of_the_host() -> None:
    """Else the guest of a machine that a service starts would lose the proxies of one that a person has started."""
    told = {
        "https_proxy": "http://me:secret@proxy:3128",
        "NO_PROXY": "localhost",
        "SSL_CERT_FILE": "/etc/ours.pem",
        "SSL_CERT_DIR": "/a:/b",
        "TZ": "Europe/Stockholm",
        "MACHINE_ACCEL": "tcg",
        "MACHINE_PATIENCE": "5",
    }
    found = service_environment(told, (), HERE)
    assert found == {"PATH": "", **told}
    assert guest_proxies(found) == guest_proxies(told)


def test_relative_paths_are_those_of_whoever_makes_the_service() -> None:
    said = {"MACHINE_HOME": "my machines", "DOCKER_CONFIG": "../docker"}
    found = service_environment(said, (), HERE)
    assert (found["MACHINE_HOME"], found["DOCKER_CONFIG"]) == ("/here/my machines", "/here/../docker")


@pytest.mark.parametrize("render", [systemd_unit, launch_agent])
@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"argv": ("/caf\udce9/machine",)}, r"'/caf\udce9/machine'"),
        ({"environment": {"MACHINE_HOME": "/\x01"}}, r"'MACHINE_HOME=/\x01'"),
        ({"log": "/caf\udce9"}, r"'/caf\udce9'"),
    ],
)
def test_what_is_no_text_is_refused(
    render: Callable[[Service], str | bytes], changes: dict[str, Any], word: str
) -> None:
    with pytest.raises(BadInputError) as caught:
        render(replace(SERVICE, **changes))
    assert caught.value.line == f"{word} cannot be part of a service, because it is not printable UTF-8"
