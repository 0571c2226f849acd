"""Where everything lies: the roots, the short runtime directory, and directories that are this user's alone."""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from machine.errors import MachineError
from machine.model.host import HostOS
from machine.store import drafts
from machine.store.paths import find_roots, is_fallback, make_private, runtime_of, short_runtime_directory
from tests.support.builders import make_roots

# "/NAME/" and "ssh.ctl" with OpenSSH's 17 characters of a temporary name.
BELOW = 1 + 30 + 1 + 7 + 17


def test_machine_home_moves_every_directory() -> None:
    roots = find_roots({"MACHINE_HOME": "/m"}, HostOS.LINUX, 1000)
    assert roots == make_roots(Path("/m"))


def test_relative_machine_home_is_below_the_current_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_roots({"MACHINE_HOME": "m"}, HostOS.LINUX, 1000).data == tmp_path / "m" / "data"


@pytest.fixture
def short_directory() -> Iterator[Path]:
    """A directory of ours whose name leaves room for a socket's; pytest's are too long."""
    with tempfile.TemporaryDirectory(prefix="b2p", dir="/tmp") as directory:
        yield Path(directory)


def test_linux_sockets_go_to_the_session_directory(short_directory: Path) -> None:
    roots = find_roots({"XDG_RUNTIME_DIR": str(short_directory)}, HostOS.LINUX, os.getuid())
    assert roots.runtime.parent == short_directory / "boot2podman"


def test_session_directory_of_somebody_else_or_a_relative_one_is_ignored(
    short_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(short_directory.parent)
    for session in (str(short_directory), short_directory.name):
        roots = find_roots({"XDG_RUNTIME_DIR": session}, HostOS.LINUX, 4_000_000_000)
        assert roots.runtime.parent == Path("/tmp/b2p-4000000000")
    relative = find_roots({"XDG_RUNTIME_DIR": short_directory.name}, HostOS.LINUX, os.getuid())
    assert relative.runtime.parent.parent != short_directory


def test_sockets_of_a_machine_stay_where_they_were_at_init(tmp_path: Path) -> None:
    before = make_roots(tmp_path)
    with drafts.draft(before, "box") as paths:
        drafts.publish(paths, before, "box")
    after = replace(before, runtime=tmp_path / "another session")
    assert after.machine("box").runtime == before.machine("box").runtime == before.runtime / "box"
    assert after.machine("new").runtime == after.runtime / "new"


def test_linux_without_a_session_has_a_directory_of_its_own_in_tmp() -> None:
    assert find_roots({}, HostOS.LINUX, 4_000_000_000).runtime.parent == Path("/tmp/b2p-4000000000")


HOME = Path("/home/me/.local/share/boot2podman")
RUNTIME = Path("/run/user/1000/boot2podman")


def test_usual_data_directory_has_the_usual_runtime_directory() -> None:
    assert runtime_of(HOME, HOME, RUNTIME) == RUNTIME


@pytest.mark.parametrize("usual", [HOME, None], ids=["a home", "a user whom the system does not know"])
def test_other_data_directories_have_sockets_of_their_own(usual: Path | None) -> None:
    others = [Path(f"/srv/{number}/.local/share/boot2podman") for number in range(2)]
    first, second = (runtime_of(data, usual, RUNTIME) for data in others)
    assert first.parent == second.parent == RUNTIME
    assert first.name[0] == second.name[0] == "."
    assert first != second


@pytest.mark.parametrize("session", [{}, {"XDG_RUNTIME_DIR": "yes"}], ids=["without a session", "in a session"])
def test_machines_of_the_same_name_in_two_homes_do_not_share_sockets(
    session: dict[str, str], tmp_path: Path, short_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = dict.fromkeys(session, str(short_directory))
    runtimes = []
    for home in ("one", "two"):
        monkeypatch.setenv("HOME", str(tmp_path / home))
        runtimes.append(find_roots(environment, HostOS.LINUX, os.getuid()).machine("box").runtime)
    assert len(set(runtimes)) == 2


def test_fallback_is_known_from_a_short_path() -> None:
    assert is_fallback(Path("/tmp/b2p-1000"), 1000)
    assert is_fallback(runtime_of(HOME, None, Path("/tmp/b2p-1000")), 1000)
    assert not is_fallback(short_runtime_directory(Path("/" + "d" * 200), HostOS.LINUX, 1000), 1000)
    assert not is_fallback(RUNTIME, 1000)


def test_macos_sockets_go_below_tmpdir_where_they_fit(short_directory: Path) -> None:
    uid = os.getuid()
    roots = find_roots({"TMPDIR": str(short_directory)}, HostOS.MACOS, uid)
    assert roots.runtime.parent == short_directory / "boot2podman"
    long = short_directory / ("x" * 60)
    long.mkdir()
    assert find_roots({"TMPDIR": str(long)}, HostOS.MACOS, uid).runtime.parent == Path(f"/tmp/b2p-{uid}")


@pytest.mark.parametrize(("host_os", "limit"), [(HostOS.LINUX, 107), (HostOS.MACOS, 103)])
def test_runtime_directory_is_replaced_exactly_where_a_socket_would_be_too_long(host_os: HostOS, limit: int) -> None:
    fits = Path("/" + "d" * (limit - BELOW - 1))
    too_long = Path("/" + "d" * (limit - BELOW))
    digest = hashlib.sha256(os.fsencode(too_long)).hexdigest()[:8]
    assert short_runtime_directory(fits, host_os, 1000) == fits
    assert short_runtime_directory(too_long, host_os, 1000) == Path(f"/tmp/b2p-1000/{digest}")


def test_length_of_a_path_is_counted_in_bytes() -> None:
    wanted = Path("/" + "é" * 40)
    assert short_runtime_directory(wanted, HostOS.LINUX, 1000) != wanted


def test_socket_paths_fit_into_a_volume_of_docker_and_podman() -> None:
    assert short_runtime_directory(Path("/home/a:b/run"), HostOS.LINUX, 1000).parent == Path("/tmp/b2p-1000")


def test_longest_sockets_of_a_replaced_directory_fit() -> None:
    directory = short_runtime_directory(Path("/" + "d" * 200), HostOS.MACOS, 4_294_967_294)
    assert len(os.fsencode(directory)) + BELOW <= HostOS.MACOS.traits.socket_path_limit


def test_private_directory_is_made_with_its_parents(tmp_path: Path) -> None:
    made = make_private(tmp_path / "a" / "b")
    assert [stat.S_IMODE(path.stat().st_mode) for path in (made.parent, made)] == [0o700, 0o700]


def test_directory_that_others_can_read_becomes_private(tmp_path: Path) -> None:
    path = tmp_path / "run"
    path.mkdir(mode=0o755)
    path.chmod(0o755)
    make_private(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o700


def test_parents_that_exist_keep_their_mode(tmp_path: Path) -> None:
    parent = tmp_path / "shared"
    parent.mkdir()
    parent.chmod(0o755)
    make_private(parent / "mine")
    assert stat.S_IMODE(parent.stat().st_mode) == 0o755


@pytest.mark.parametrize("target_exists", [True, False])
def test_link_in_place_of_a_private_directory_is_refused(tmp_path: Path, target_exists: bool) -> None:
    target = tmp_path / "elsewhere"
    if target_exists:
        target.mkdir()
    link = tmp_path / "run"
    link.symlink_to(target)
    with pytest.raises(MachineError) as caught:
        make_private(link)
    assert caught.value.line == (
        f"{link} is not a directory that you own; remove it, or set MACHINE_HOME to another directory"
    )


def test_file_in_place_of_a_private_directory_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run"
    path.touch()
    with pytest.raises(MachineError, match="is not a directory that you own"):
        make_private(path)


def test_file_in_place_of_a_parent_is_refused(tmp_path: Path) -> None:
    (tmp_path / "home").touch()
    with pytest.raises(MachineError) as caught:
        make_private(tmp_path / "home" / "run")
    assert str(tmp_path / "home") in caught.value.line


def test_directory_of_somebody_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid + 1)
    with pytest.raises(MachineError, match="is not a directory that you own"):
        make_private(tmp_path)
