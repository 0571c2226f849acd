"""Carry out what other commands, such as `machine port` and `machine stop`, request of a running machine."""

from __future__ import annotations

from dataclasses import replace

from machine.control import Command
from machine.errors import GuestError, MachineError, Page
from machine.folders.server import FolderServer
from machine.model.folders import Folder, read_folder
from machine.model.ports import Forward, PortState, PortStatus, parse_forward
from machine.model.state import MachineState, State
from machine.ports import listing
from machine.ports.forwarding import Forwarding
from machine.supervisor.events import StopRequested, SuspendRequested
from machine.supervisor.phases import Phase
from machine.supervisor.progress import ProgressBroadcaster
from machine.supervisor.record import RecordKeeper
from machine.supervisor.tracker import LifeTracker

_FOLDER_COMMANDS = (Command.MOUNT_ADD, Command.MOUNT_REMOVE, Command.MOUNT_LIST)


class Commands:
    """Carries out the commands that arrive on the control socket, and saves changes of the config in the record."""

    def __init__(
        self,
        *,
        life: LifeTracker,
        record: RecordKeeper,
        ports: Forwarding,
        folders: FolderServer,
        starting: ProgressBroadcaster,
        stopping: ProgressBroadcaster,
    ) -> None:
        self._life = life
        self._record = record
        self._ports = ports
        self._folders = folders
        self._starting = starting
        self._stopping = stopping

    @property
    def state(self) -> MachineState:
        """The machine's state. As long as the `machine start` that started the machine runs, the state is STARTING."""
        life = self._life.current
        state = replace(life.state, remedy=life.remedy(self._record.current.name))
        if state.state in (State.RUNNING, State.DEGRADED) and self._starting.has_reader:
            return replace(state, state=State.STARTING, reason=None, remedy=None)
        return state

    @property
    def is_first_boot(self) -> bool:
        """Whether the guest has not completed its first boot."""
        return not self._record.current.guest.provisioned and not self._life.current.was_up

    def stop(self, *, at_once: bool) -> None:
        """Begin to stop the machine. With `at_once`, do not shut the guest down first.

        A first boot is always ended at once, because the next start repeats the first boot on a new disk.
        """
        if self.is_first_boot:
            self._stopping.notice("The first boot was not complete, so the next start will repeat it")
        self._life.post(StopRequested(at_once=at_once or self.is_first_boot))

    def suspend(self, *, if_idle: bool = False) -> None:
        """Begin to suspend the machine, unless this has begun. With `if_idle`, it runs on if a client comes meanwhile.

        Raises:
            MachineError: the machine is in a state in which it cannot be suspended.
        """
        state, life = self.state, self._life.current
        if life.suspending:
            return
        if state.state in (State.STARTING, State.DEGRADED) and self.is_first_boot:
            raise MachineError(
                "a first boot cannot be suspended",
                hint=f"wait until it is complete: machine wait --for running {self._record.current.name}",
            )
        if state.state not in (State.RUNNING, State.DEGRADED) or not life.phase.is_after_ssh:
            raise MachineError(f"it is {state.state}{f' ({state.reason})' if state.reason else ''}")
        self._life.post(SuspendRequested(if_idle=if_idle))

    async def carry_out(self, command: Command, value: str) -> dict[str, object]:
        """Add, remove or list forwards or folders, and return the resulting list.

        Raises:
            MachineError: the host cannot listen for the forward, the guest does not mount the folder, or the record
                cannot be written.
        """
        match command:
            case Command.PORT_ADD:
                await self._add_forward(parse_forward(value))
            case Command.PORT_REMOVE:
                await self._remove_forward(parse_forward(value))
            case Command.MOUNT_ADD:
                await self._add_folder(read_folder(value))
            case Command.MOUNT_REMOVE:
                await self._remove_folder(value)
            case _:
                pass
        return self._folder_list() if command in _FOLDER_COMMANDS else self._port_list()

    async def _add_forward(self, forward: Forward) -> None:
        if self._life.current.silent:
            raise MachineError("QEMU does not answer", hint="try again when it does", page=Page.RUNNING)
        is_new = await self._ports.add(forward)
        try:
            await self._record.edit(lambda record: replace(record, config=record.config.with_forward(forward)))
        except MachineError:
            if is_new:
                await self._ports.remove(forward.endpoint, forward.origin)
            raise

    async def _remove_forward(self, forward: Forward) -> None:
        await self._record.edit(lambda record: replace(record, config=record.config.without_forward(forward.endpoint)))
        await self._ports.remove(forward.endpoint, forward.origin)

    def _check_connected(self) -> None:
        """Check that the guest can be reached, because the guest must mount or unmount the folder.

        Raises:
            GuestError: the guest cannot be reached.
        """
        if not self._life.current.connected:
            state = self._life.current.state
            reason = state.reason or f"it is {state.state}"
            raise GuestError(f"the machine cannot be reached: {reason}", page=Page.RUNNING)

    async def _add_folder(self, folder: Folder) -> None:
        self._check_connected()
        await self._folders.add(folder)
        try:
            await self._record.edit(lambda record: replace(record, config=record.config.with_folder(folder)))
        except MachineError:
            await self._folders.remove(folder.target)
            raise

    async def _remove_folder(self, target: str) -> None:
        self._check_connected()
        await self._folders.remove(target)
        await self._record.edit(lambda record: replace(record, config=record.config.without_folder(target)))

    def _port_list(self) -> dict[str, object]:
        return listing.encode(self._ports.statuses(), self._api_status())

    def _api_status(self) -> PortStatus:
        life = self._life.current
        if life.phase is Phase.UP and life.connected:
            return PortStatus(state=PortState.OPEN)
        return PortStatus(state=PortState.WAITING, reason=life.state.reason or life.state.state)

    def _folder_list(self) -> dict[str, object]:
        return {"folders": [[str(each.folder), each.transport, each.problem] for each in self._folders.folders]}
