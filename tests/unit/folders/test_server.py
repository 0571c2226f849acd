"""What the supervisor makes of folders before it asks the guest."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from machine.errors import BadInputError
from machine.folders.server import Folders, Surroundings
from machine.folders.transports import Carried
from machine.model.folders import Folder
from machine.model.transport import Transport, TransportChoice


def test_second_of_two_that_were_asked_for_at_once_finds_its_place_taken() -> None:
    def nobody(command: str) -> list[str]:
        raise AssertionError(command)

    around = Surroundings(
        ssh=nobody,
        uid=1000,
        choice=TransportChoice.AUTO,
        inotify=False,
        table=Path("/nonexistent/table"),
        log_file=Path("/nonexistent/log"),
        time_scale=1,
    )
    there = Carried(folder=Folder(source="/a", target="/x"), transport=Transport.SSHFS)

    async def learn(transports: frozenset[Transport]) -> None:
        raise AssertionError(transports)

    async def add() -> list[tuple[str, str, str]]:
        folders = Folders([there], around, changed=print, learned=learn)
        with pytest.raises(BadInputError, match='"/x" and "/x/y" overlap'):
            await folders.add(Folder(source="/b", target="/x/y"))
        return folders.listing()

    assert asyncio.run(add()) == [("/a:/x", "sshfs", "")]
