"""The host's folders at work: virtiofsd beside QEMU, SFTP over the SSH master, and what the guest is told of them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shlex
import socket
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from machine.errors import MachineError, NotFoundError
from machine.folders.changes import Changes
from machine.folders.daemon import sftp_server_command
from machine.folders.guest import GuestReport, mount_command, parse_report, sshfs_command
from machine.folders.probe import find_sftp_server, listening, with_listener
from machine.folders.transports import Carried, save_carriers
from machine.hosts import current_host
from machine.ignition import assets
from machine.model.folders import Folder, check_apart
from machine.model.transport import Transport, TransportChoice

log = logging.getLogger(__name__)

_SCRIPT_S = 20.0
_SSHFS_S = 10.0
_END_S = 3.0
_MOUNTED = b"mounted"


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """Of one machine: `ssh` gives the command line that runs a command for the guest's root, `uid` is the guest's
    user, `inotify` says that changes are passed on, and `time_scale` is the accelerator's.
    """

    ssh: Callable[[str], list[str]]
    uid: int
    choice: TransportChoice
    inotify: bool
    table: Path
    log_file: Path
    time_scale: int


class Folders:
    """`carried` are the machine's, as a start has chosen what carries them.

    `changed` hears why one of the folders is not there, and `learned` what the guest can mount.
    """

    def __init__(
        self,
        carried: Sequence[Carried],
        around: Surroundings,
        *,
        changed: Callable[[str], None],
        learned: Callable[[frozenset[Transport]], Awaitable[None]],
    ) -> None:
        self._carried = list(carried)
        self._around = around
        self._changed = changed
        self._learned = learned
        self._changes = Changes(around.ssh)
        self._changing = asyncio.Lock()
        self._daemons: dict[asyncio.Task[None], Process] = {}
        self._sessions: dict[str, asyncio.Task[None]] = {}
        self._guest: frozenset[Transport] = frozenset()

    # virtiofsd

    async def start_daemons(self, lock: int | None) -> None:
        """Before QEMU, which waits for none of them; they hold the machine's lock, and end with QEMU."""
        save_carriers(self._carried, self._around.table)
        self._around.log_file.unlink(missing_ok=True)
        for carried in self._carried:
            if carried.command:
                process = await self._start_daemon(carried, () if lock is None else (lock,))
                self._daemons[asyncio.create_task(self._watch_daemon(carried.folder, process))] = process

    async def _start_daemon(self, carried: Carried, descriptors: tuple[int, ...]) -> Process:
        with listening(carried.socket) as listener, self._around.log_file.open("ab") as output:
            argv = with_listener(carried.command, listener)
            log.debug("run: %s", shlex.join(argv))
            return await asyncio.create_subprocess_exec(
                *argv, stdin=DEVNULL, stdout=output, stderr=output, pass_fds=(*descriptors, listener.fileno())
            )

    async def _watch_daemon(self, folder: Folder, process: Process) -> None:
        status = await process.wait()
        self._set_problem(folder, f"virtiofsd of {folder.source} has ended with status {status}")

    # The guest

    async def mount(self) -> None:
        """Have the guest mount everything; what it does not, `changed` tells.

        The master is a new one, on which no session is.
        """
        async with self._changing:
            for carried in self._carried:
                await self._disconnect(carried.folder)
            await self._mount()
            await self._follow()

    async def _mount(self) -> GuestReport | None:
        usable = [
            (each.folder, each.transport)
            for each in self._carried
            if each.transport and each.folder.target not in self._sessions
        ]
        report = await self._tell(usable)
        if report is None:
            for folder, _ in usable:
                self._set_problem(folder, f"the guest does not mount {folder.target}: it gives no answer")
            return None
        if report.can != self._guest:
            self._guest = report.can
            await self._learned(report.can)
        for number, (folder, _) in enumerate(usable):
            if number in report.mounted:
                self._set_problem(folder, "")
            elif number in report.ready:
                self._set_problem(folder, await self._connect(folder, report.ready[number]))
        if any(self._fall_back(usable[number][0]) for number in report.failed):
            return await self._mount()
        for number, reason in report.failed.items():
            folder = usable[number][0]
            self._set_problem(folder, f"the guest does not mount {folder.target}: {reason}")
        return report

    def _fall_back(self, folder: Folder) -> bool:
        """To SSH, where the guest lacks what was chosen before it could be asked."""
        carried = self._find(folder)
        transport = carried.transport
        if self._around.choice is not TransportChoice.AUTO or transport is None or transport in self._guest:
            return False
        if Transport.SSHFS not in self._guest or find_sftp_server() is None:
            return False
        log.info("the guest has no %s: %s goes over SSH", transport, folder.target)
        self._replace(replace(carried, transport=Transport.SSHFS))
        return True

    async def _tell(self, folders: Sequence[tuple[Folder, Transport]]) -> GuestReport | None:
        argv = self._around.ssh(mount_command(folders))
        log.debug("run: %s", shlex.join(argv))
        process = await asyncio.create_subprocess_exec(*argv, stdin=PIPE, stdout=PIPE, stderr=PIPE)
        try:
            async with asyncio.timeout(_SCRIPT_S * self._around.time_scale):
                out, err = await process.communicate(assets.load("files/folders.sh").encode())
        except TimeoutError:
            return None
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        text = out.decode(errors="replace")
        log.info("folders in the guest: %s %s", text.splitlines(), err.decode(errors="replace").strip())
        return parse_report(text, len(folders))

    # SFTP over the master, for sshfs

    async def _connect(self, folder: Folder, where: str) -> str:
        """Give the guest a session for one folder; returns why there is none."""
        await self._disconnect(folder)
        server = find_sftp_server()
        if server is None:
            return "sftp-server is not installed on this host"
        script = assets.load("files/folder-sshfs.sh")
        argv = self._around.ssh(sshfs_command(script, folder, uid=self._around.uid, where=where))
        ours, theirs = socket.socketpair()
        with ours, theirs, self._around.log_file.open("ab") as output:
            local = await asyncio.create_subprocess_exec(
                *sftp_server_command(server, folder, current_host().os),
                stdin=ours.fileno(),
                stdout=ours.fileno(),
                stderr=output,
            )
            remote = await asyncio.create_subprocess_exec(
                *argv, stdin=theirs.fileno(), stdout=theirs.fileno(), stderr=PIPE
            )
        mounted = asyncio.get_running_loop().create_future()
        session = asyncio.create_task(self._hold(folder, local, remote, mounted))
        self._sessions[folder.target] = session
        try:
            async with asyncio.timeout(_SSHFS_S * self._around.time_scale):
                return str(await mounted)
        except TimeoutError:
            await self._disconnect(folder)
            return f"the guest does not mount {folder.target}: sshfs gives no answer"

    async def _hold(self, folder: Folder, local: Process, remote: Process, mounted: asyncio.Future[str]) -> None:
        """One session, to its end; the master's end is one, and the next one's begin brings another."""
        assert remote.stderr is not None
        last = b""
        try:
            while line := await remote.stderr.readline():
                if line.strip() == _MOUNTED and not mounted.done():
                    mounted.set_result("")
                else:
                    last = line.strip() or last
            await remote.wait()
            self._sessions.pop(folder.target, None)
            reason = f"sshfs of {folder.target} has ended: {last.decode(errors='replace')}".removesuffix(": ")
            if mounted.done():
                self._set_problem(folder, reason)
            else:
                mounted.set_result(reason)
        finally:
            for process in (remote, local):
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
            await local.wait()  # a wait for the other would last until the master, too, lets go of its pipes

    async def _disconnect(self, folder: Folder) -> None:
        session = self._sessions.pop(folder.target, None)
        if session:
            session.cancel()
            await asyncio.wait([session])

    # What a person asks for

    async def add(self, folder: Folder) -> None:
        """Mount another folder, now.

        Raises:
            MachineError: it cannot be mounted before the next start, or at all.
        """
        async with self._changing:
            # Who asked has looked into a record that may have changed since.
            check_apart([*(each.folder for each in self._carried), folder])
            if self._around.choice not in (TransportChoice.AUTO, TransportChoice.SSHFS):
                raise MachineError(
                    f"{self._around.choice} takes no more folders while the machine runs",
                    hint="stop the machine and try again, or choose another driver with: machine set --volume-driver",
                )
            if Transport.SSHFS not in self._guest:
                await self._mount()  # it may not have been asked yet
            if Transport.SSHFS not in self._guest:
                hint = "stop the machine and try again"
                raise MachineError(
                    "the guest has no sshfs, without which no folder comes to a running machine", hint=hint
                )
            self._carried.append(Carried(folder=folder, transport=Transport.SSHFS))
            await self._mount()
            if problem := self._find(folder).problem:
                self._carried.remove(self._find(folder))
                self._report()
                raise MachineError(problem)
            save_carriers(self._carried, self._around.table)
            await self._follow()

    async def remove(self, target: str) -> None:
        """Unmount a folder.

        Raises:
            NotFoundError: there is none.
        """
        async with self._changing:
            found = next((each for each in self._carried if each.folder.target == target), None)
            if found is None:
                raise NotFoundError(f"no folder is mounted at {target}")
            self._carried.remove(found)
            await self._disconnect(found.folder)
            await self._mount()
            self._report()
            save_carriers(self._carried, self._around.table)
            await self._follow()

    async def _follow(self) -> None:
        if self._around.inotify:
            await self._changes.follow(each.folder for each in self._carried if each.transport and not each.problem)

    def listing(self) -> list[tuple[str, str, str]]:
        """Of every folder: itself as text, what carries it, and why it is not there."""
        return [(str(each.folder), each.transport or "", each.problem) for each in self._carried]

    async def end(self) -> None:
        """With the machine; a virtiofsd that QEMU has not taken along is ended."""
        for process in self._daemons.values():
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        await self._changes.end()
        tasks = [*self._sessions.values(), *self._daemons]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_END_S)

    # What is known of them

    @property
    def is_empty(self) -> bool:
        return not self._carried

    @property
    def problem(self) -> str:
        """The first of them."""
        return next((each.problem for each in self._carried if each.problem), "")

    def _find(self, folder: Folder) -> Carried:
        return next(each for each in self._carried if each.folder == folder)

    def _replace(self, carried: Carried) -> None:
        self._carried[self._carried.index(self._find(carried.folder))] = carried

    def _set_problem(self, folder: Folder, problem: str) -> None:
        with contextlib.suppress(StopIteration):  # removed meanwhile
            self._replace(replace(self._find(folder), problem=problem))
            self._report()

    def _report(self) -> None:
        self._changed(self.problem)
