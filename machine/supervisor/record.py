"""The supervisor's access to the machine's record."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from machine.errors import MachineError, reason_of
from machine.model.record import MachineRecord
from machine.model.transport import Transport
from machine.store import records
from machine.store.paths import MachinePaths
from machine.store.records import NewerRecordError

log = logging.getLogger(__name__)


_REMOVED_AFTER = 3
"""So often in a row a machine's directory must be missing until it counts as removed."""


class RecordKeeper:
    """Edits the machine's record on disk, and with it `current`, the supervisor's copy in memory.

    Other commands edit the record on disk as well. Their changes reach `current` with the supervisor's next edit.
    """

    def __init__(self, paths: MachinePaths, record: MachineRecord) -> None:
        self._paths = paths
        self._current = record
        self._editing = asyncio.Lock()
        self._good: tuple[int, int, int] | None = None
        """The state of the record's file when it was last found readable."""

    @property
    def current(self) -> MachineRecord:
        return self._current

    async def edit(self, change: Callable[[MachineRecord], MachineRecord]) -> None:
        """Change the record. While another command holds the record's lock, wait without blocking the event loop.

        Raises:
            MachineError: the record cannot be read or written. Neither the file nor the copy in memory has changed.
        """
        async with self._editing:
            try:
                await self._restore()
                self._current = await asyncio.to_thread(records.edit, self._paths, change)
            except NewerRecordError as error:
                raise records.older_supervisor(self._current.name, error.message) from error
            except OSError as error:
                raise MachineError(f"cannot write {self._paths.record}: {reason_of(error)}") from error

    async def keep_readable(self, *, every_s: float) -> None:
        """Check the record at intervals. If something else has damaged it, write it anew. This never returns."""
        while True:
            await asyncio.sleep(every_s)
            async with self._editing:
                try:
                    await self._restore()
                except NewerRecordError as error:
                    log.debug("%s", error)
                except (MachineError, OSError) as error:
                    log.error("cannot restore the record: %s", error)

    async def await_removal(self, *, every_s: float) -> None:
        """Wait until somebody has removed the machine's directory. If it is missing for a moment only, wait on."""
        missing = 0
        while missing < _REMOVED_AFTER:
            await asyncio.sleep(every_s)
            missing = 0 if self._paths.directory.exists() else missing + 1

    async def _restore(self) -> None:
        """Write the record anew if it is damaged. An unchanged file is not read again."""
        state = _state_of(self._paths.record)
        if state is not None and state == self._good:
            return
        if await asyncio.to_thread(records.restore, self._paths, self._current):
            log.warning(
                "the record was damaged and has been replaced by a good one; the damaged file is kept as %s",
                self._paths.damaged_record,
            )
            state = None  # it is read again, as something may have damaged it again meanwhile
        self._good = state

    async def note(self, change: Callable[[MachineRecord], MachineRecord]) -> None:
        """Change the record as `edit` does. If that fails, only log the error."""
        try:
            await self.edit(change)
        except MachineError as error:
            log.error("cannot write the machine's state into its record: %s", error.line)

    async def note_boot(self) -> None:
        """Note in the record that the guest has booted. From now on, the disk is never made anew."""
        await self.note(
            lambda record: replace(record, guest=replace(record.guest, provisioned=True, last_up=datetime.now(UTC)))
        )

    async def note_up(self) -> None:
        """Note in the record that the machine is up. If the machine is a clone, it now has its new keys."""
        rekeyed = self._current.pending.rekey
        await self.note(
            lambda record: replace(
                record,
                pending=replace(record.pending, rekey=False),
                guest=replace(record.guest, provisioned=True, last_up=datetime.now(UTC)),
            )
        )
        if rekeyed and not self._current.pending.rekey:
            self._paths.rekey_table.unlink(missing_ok=True)

    async def note_end(self) -> None:
        await self.note(lambda record: replace(record, guest=replace(record.guest, last_up=datetime.now(UTC))))

    async def note_transports(self, transports: frozenset[Transport]) -> None:
        """Note in the record by which transports the guest can mount folders."""
        if transports != self._current.guest.transports:
            await self.note(lambda record: replace(record, guest=replace(record.guest, transports=transports)))


def _state_of(path: Path) -> tuple[int, int, int] | None:
    """Return a file's inode, time and size, one of which changes with every write. If there is no file, return None."""
    try:
        facts = path.stat()
    except OSError:
        return None
    return facts.st_ino, facts.st_mtime_ns, facts.st_size
