"""The record on disk and the supervisor's copy of it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from machine import lock
from machine.errors import MachineError
from machine.model.record import GuestFacts, MachineRecord, Pending
from machine.model.transport import Transport
from machine.store import records
from machine.store.paths import MachinePaths
from machine.supervisor.record import RecordKeeper
from tests.support.builders import make_record, make_roots, save_machine
from tests.support.fake_machine import until

NEWER = '{"schema": 99}'


def make_keeper(directory: Path, record: MachineRecord) -> tuple[RecordKeeper, MachinePaths]:
    paths = save_machine(make_roots(directory), record)
    return RecordKeeper(paths, record), paths


def protect(record: MachineRecord) -> MachineRecord:
    return replace(record, config=replace(record.config, protected=True))


def test_edit_changes_both_and_keeps_what_others_have_changed(tmp_path: Path) -> None:
    keeper, paths = make_keeper(tmp_path, make_record())
    records.edit(paths, protect)
    asyncio.run(keeper.note_boot())
    assert keeper.current == records.load_file(paths.record)
    assert keeper.current.config.protected
    assert keeper.current.guest.provisioned
    assert keeper.current.guest.last_up is not None


def test_edit_that_waits_for_another_command_holds_nobody_up(tmp_path: Path) -> None:
    keeper, paths = make_keeper(tmp_path, make_record())

    async def work() -> None:
        with lock.exclusively(paths.record_lock, timeout_s=1):
            edit = asyncio.create_task(keeper.edit(protect))
            for _ in range(5):
                await asyncio.sleep(0.01)  # the loop goes on
            assert not edit.done()
            assert not keeper.current.config.protected
        await edit
        assert keeper.current.config.protected

    asyncio.run(work())


def test_record_of_a_newer_program_asks_for_a_restart(tmp_path: Path) -> None:
    keeper, paths = make_keeper(tmp_path, make_record())
    paths.record.write_text('{"schema": 7}')
    with pytest.raises(MachineError) as caught:
        asyncio.run(keeper.edit(protect))
    assert caught.value.line == (
        "box still runs under an older version of this program, which cannot read the record; "
        "restart the machine: machine restart box"
    )


def test_edit_that_fails_changes_neither(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    keeper, paths = make_keeper(tmp_path, make_record())
    paths.record.write_text(NEWER)
    with pytest.raises(MachineError, match="older version"):
        asyncio.run(keeper.edit(protect))
    assert not keeper.current.config.protected
    asyncio.run(keeper.note_boot())
    assert not keeper.current.guest.provisioned
    assert "cannot write the machine's state into its record" in caplog.text
    assert paths.record.read_text() == NEWER


def test_edit_of_a_damaged_record_restores_it_first(tmp_path: Path) -> None:
    keeper, paths = make_keeper(tmp_path, make_record(ssh_port=1))
    paths.record.write_text("{")
    asyncio.run(keeper.edit(protect))
    assert records.load_file(paths.record) == keeper.current == protect(make_record(ssh_port=1))
    assert paths.damaged_record.read_text() == "{"


def test_damaged_record_is_written_anew_however_often_that_happens(tmp_path: Path) -> None:
    keeper, paths = make_keeper(tmp_path, make_record())

    async def work() -> None:
        watching = asyncio.create_task(keeper.keep_readable(every_s=0.01))
        for damage in ("{", "", "[]"):
            paths.record.write_text(damage)
            await until(paths.damaged_record.exists)
            assert paths.damaged_record.read_text() == damage
            await until(lambda: paths.record.exists() and records.load_file(paths.record) == make_record())
            paths.damaged_record.unlink()
        watching.cancel()

    asyncio.run(work())


def test_edits_at_once_all_arrive(tmp_path: Path) -> None:
    keeper, paths = make_keeper(tmp_path, make_record())

    async def work() -> None:
        await asyncio.gather(keeper.note_boot(), keeper.edit(protect), keeper.note_transports(frozenset(Transport)))

    asyncio.run(work())
    record = records.load_file(paths.record)
    assert keeper.current == record
    assert record.config.protected
    assert (record.guest.provisioned, record.guest.transports) == (True, frozenset(Transport))


def test_machine_that_is_up_has_been_rekeyed(tmp_path: Path) -> None:
    keeper, paths = make_keeper(tmp_path, make_record(pending=Pending(rekey=True), guest=GuestFacts(provisioned=True)))
    paths.rekey_table.write_text("keys")
    asyncio.run(keeper.note_up())
    assert not keeper.current.pending.rekey
    assert not paths.rekey_table.exists()


def test_transports_that_are_known_are_not_written_again(tmp_path: Path) -> None:
    known = frozenset({Transport.SSHFS})
    keeper, paths = make_keeper(tmp_path, make_record(guest=GuestFacts(transports=known)))
    before = paths.record.stat().st_ino
    asyncio.run(keeper.note_transports(known))
    assert paths.record.stat().st_ino == before
