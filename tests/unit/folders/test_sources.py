"""What a folder's source on this host really is, and what becomes of it."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from machine.folders import source_watch
from machine.folders.source_watch import SourceChange, SourceWatch
from machine.folders.sources import Source, probe_sources, resolve_guarded, resolve_in_time, resolve_source
from machine.model.folders import Folder
from machine.model.obstacle import Obstacle


def refusal(path: Path) -> str:
    found = resolve_source(os.fspath(path))
    assert isinstance(found, Obstacle)
    return found.reason


def real_path(found: Source | Obstacle) -> str:
    assert isinstance(found, Source), found
    return found.path


def test_links_are_followed_to_the_directory(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "first").symlink_to("real")
    (tmp_path / "second").symlink_to(tmp_path / "first")
    found = resolve_source(f"{tmp_path}/second")
    status = (tmp_path / "real").stat()
    assert found == Source(path=f"{tmp_path}/real", directory_id=(status.st_dev, status.st_ino))


def test_link_that_leads_nowhere_or_back_to_itself_is_named(tmp_path: Path) -> None:
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    assert refusal(tmp_path / "missing") == f"the folder {tmp_path}/missing does not exist on this host"
    assert refusal(tmp_path / "dangling") == (
        f"{tmp_path}/dangling is a symbolic link to nowhere, which does not exist on this host"
    )
    assert refusal(tmp_path / "a") == f"{tmp_path}/a is a loop of symbolic links"


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(os.fspath(path))


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    ("make", "what"),
    [
        (os.mkfifo, "is a FIFO; only directories can be shared"),
        (_socket, "is a socket; only directories can be shared"),
        (lambda path: path.symlink_to("/dev/null"), "is a device; only directories can be shared"),
        (lambda path: path.write_text(""), "is not a directory"),
    ],
    ids=["FIFO", "socket", "device", "file"],
)
def test_what_is_no_directory_is_told_as_what_it_is(
    short_path: Path, make: Callable[[Path], object], what: str
) -> None:
    make(short_path / "x")
    assert refusal(short_path / "x") == f"{short_path}/x {what}"
    assert refusal(short_path / "x" / "below") == f"{short_path}/x/below is not a directory"


def test_link_that_a_guest_may_have_made_is_not_followed(tmp_path: Path) -> None:
    for name in ("shared", "private"):
        (tmp_path / name).mkdir()
    (tmp_path / "shared" / "data").symlink_to("../private")
    (tmp_path / "way").symlink_to("shared/data")
    outer = Folder(source=f"{tmp_path}/shared", target="/outer")
    inner = Folder(source=f"{tmp_path}/shared/data", target="/data")
    around = Folder(source=f"{tmp_path}/way", target="/way")
    for folder in (inner, around):
        found = resolve_guarded(folder, [outer, inner, around])
        assert isinstance(found, Obstacle)
        assert found.reason == (
            f"{tmp_path}/shared/data is a symbolic link inside another shared folder, where the guest may have made it"
        )
    harmless = Folder(source=f"{tmp_path}/shared", target="/outer", read_only=True)
    assert real_path(resolve_guarded(inner, [harmless, inner])) == f"{tmp_path}/private"


def test_link_into_another_shared_folder_is_followed(tmp_path: Path) -> None:
    (tmp_path / "shared" / "below").mkdir(parents=True)
    (tmp_path / "link").symlink_to("shared/below")
    outer = Folder(source=f"{tmp_path}/shared", target="/outer")
    link = Folder(source=f"{tmp_path}/link", target="/link")
    assert real_path(resolve_guarded(link, [outer, link])) == f"{tmp_path}/shared/below"


def test_one_bad_source_decides_for_itself_alone(tmp_path: Path) -> None:
    (tmp_path / "good").mkdir()
    good, bad = (Folder(source=f"{tmp_path}/{name}", target=f"/{name}") for name in ("good", "bad"))
    found = probe_sources([good, bad])
    assert isinstance(found[good], Source)
    assert isinstance(found[bad], Obstacle)


def test_source_that_does_not_answer_keeps_nobody_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hung = threading.Event()
    monkeypatch.setattr(os.path, "realpath", lambda *_, **__: hung.wait() and os.fspath(tmp_path))
    folder = Folder(source=os.fspath(tmp_path), target="/x")
    found = resolve_in_time(folder, [folder], timeout_s=0.1)
    assert found == Obstacle(f"the folder {tmp_path} does not answer on this host")
    hung.set()


def test_change_of_a_shared_directory_is_noticed_until_it_is_back(tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    folder = Folder(source=os.fspath(place), target="/x")

    async def watch() -> None:
        watching = SourceWatch()
        assert await watching.change(folder) is None
        place.rename(tmp_path / "aside")
        assert await watching.change(folder) is SourceChange.REMOVED
        place.mkdir()
        assert await watching.change(folder) is SourceChange.REPLACED
        shutil.rmtree(place)
        place.write_text("")
        assert await watching.change(folder) is SourceChange.REPLACED
        place.unlink()
        (tmp_path / "aside").rename(place)
        assert await watching.change(folder) is None

    asyncio.run(watch())


def test_shared_directory_that_does_not_answer_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Folder(source=os.fspath(tmp_path), target="/x")

    async def watch() -> None:
        answer: asyncio.Future[tuple[int, int] | None] = asyncio.get_running_loop().create_future()
        looks: list[str] = []

        def look(path: str) -> asyncio.Future[tuple[int, int] | None]:
            looks.append(path)
            return answer

        monkeypatch.setattr(source_watch, "_look", look)
        watching = SourceWatch(answer_s=0.05)
        assert await watching.change(folder) is SourceChange.SILENT
        assert await watching.change(folder) is SourceChange.SILENT
        assert looks == [os.fspath(tmp_path)]  # one that hangs is enough
        answer.set_result((1, 2))
        assert await watching.change(folder) is None

    asyncio.run(watch())
