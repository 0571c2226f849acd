"""Serve the folders of a running machine by virtiofsd or SFTP, and have the guest mount them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from machine.errors import MachineError, NotFoundError, Page, reason_of
from machine.folders.changes import ChangeRelay
from machine.folders.daemons import VirtiofsDaemons
from machine.folders.guest import SEALED, GuestReport, not_mounted, sshfs_command
from machine.folders.guest_runs import mount_in_guest, release_in_guest
from machine.folders.missing_sources import MissingSources
from machine.folders.probe import find_sftp_server
from machine.folders.retries import Retries
from machine.folders.settings import FolderSettings
from machine.folders.source_watch import SourceChange, SourceWatch
from machine.folders.sources import resolve_in_time
from machine.folders.sshfs import SshfsSession, sftp_server_command
from machine.folders.table import FolderTable, ProblemOf
from machine.folders.transports import MountedFolder, shares_of
from machine.model.folders import Folder, Share, check_apart
from machine.model.obstacle import Obstacle
from machine.model.transport import Transport, TransportChoice

log = logging.getLogger(__name__)

_SSHFS_S = 10.0
_END_S = 3.0
# If QEMU has ended, the supervisor ends within this time, and virtiofsd has ended for that reason.
_QEMUS_END_S = 1.0


class FolderServer:
    """Keeps the machine's folders mounted in the guest, with the transports that were chosen for this start.

    `on_problem` is called with the reason why a folder is not mounted, or with None when all are mounted. `on_learned`
    is called with the transports that the guest supports, and `on_notice` with a notice for the user if a transport is
    not the expected one. `on_mounted` is called after the guest has mounted or unmounted folders.
    """

    def __init__(
        self,
        folders: Sequence[MountedFolder],
        settings: FolderSettings,
        *,
        on_problem: Callable[[str | None], None],
        on_learned: Callable[[frozenset[Transport]], Awaitable[None]],
        on_notice: Callable[[str], None],
        on_mounted: Callable[[], Awaitable[None]],
    ) -> None:
        self._folders = FolderTable(folders, settings.state_file, on_problem=on_problem)
        self.daemons = VirtiofsDaemons(settings.log_file, on_exit=self._daemon_has_ended)
        self._settings = settings
        self._on_learned = on_learned
        self._on_notice = on_notice
        self._on_mounted = on_mounted
        self._relay = ChangeRelay(settings.ssh, settings.scripts.changes)
        self._changing = asyncio.Lock()
        self._sessions: dict[str, SshfsSession] = {}
        self._watch = SourceWatch()
        self._missing = MissingSources(self._folders, self._watch)
        self._retries = Retries()
        self._supported: frozenset[Transport] = frozenset()
        """The transports that the guest supports; empty before it has been asked."""

        self._sshfs_remedy: str | None = None
        self._mounted: set[Folder] = set()
        """The folders that the guest has mounted since the current SSH master has connected, without those on sshfs."""

        self._leaving_out: asyncio.Task[None] | None = None

    # virtiofsd

    async def start_daemons(self, lock: int | None) -> None:
        """Start a virtiofsd for each folder that needs one. QEMU has to be started afterwards.

        Each virtiofsd inherits the machine's lock, and ends with QEMU.

        Raises:
            MachineError: virtiofsd cannot be run.
        """
        self._folders.save()
        await self.daemons.start(self._folders, lock)

    def note_unplugged(self, folder: Folder) -> None:
        """Note that a suspend, whose supervisor was killed, has unplugged the folder's device."""
        reason = "a suspend that has failed took it away; restart the machine to share it again"
        self._daemon_has_ended(folder, not_mounted(folder, reason))

    def _daemon_has_ended(self, folder: Folder, problem: str) -> None:
        if self._folders.has_problem(folder, ProblemOf.DAEMON):
            return
        self._folders.set_problem(folder, ProblemOf.DAEMON, problem)
        self._folders.save()
        if self._supported and (self._leaving_out is None or self._leaving_out.done()):
            self._leaving_out = asyncio.create_task(self._leave_out())

    async def _leave_out(self) -> None:
        """Have the guest take folders away whose virtiofsd has ended, because programs that look at them would hang."""
        await asyncio.sleep(_QEMUS_END_S)
        try:
            async with self._changing:
                await self._mount()
                await self._follow_changes()
        except (MachineError, OSError) as error:
            log.warning("a folder whose virtiofsd has ended stays in the guest: %s", reason_of(error))

    def report(self) -> None:
        """Call `on_problem` with the worst problem of the folders, or with None if there is none."""
        self._folders.report()

    @property
    def hangs(self) -> bool:
        """Whether programs in the guest may hang, because they use a folder whose virtiofsd has ended."""
        return any(self._folders.has_problem(each.folder, ProblemOf.DAEMON) for each in self._folders)

    @property
    def shares(self) -> list[Share]:
        """The devices that share the folders, in the order of their numbers."""
        return shares_of(self._folders)

    # The guest's mounts

    async def mount(self) -> None:
        """Make the guest mount all folders after a new SSH master has connected. Report problems to `on_problem`."""
        async with self._changing:
            self._retries.clear()
            self._mounted.clear()
            for each in self._folders:
                await self._disconnect(each.folder)
            again = await self._mount()
            asked = [each.folder for each in self._folders if again or each.transport is Transport.SSHFS]
            self._retries.plan(*(folder for folder in asked if self._folders.has_problem(folder, ProblemOf.MOUNT)))
            await self._follow_changes()

    async def _mount(self) -> Obstacle | None:
        """Make the guest mount the machine's folders, and unmount all other folders of ours.

        If the guest cannot be reached, return the reason, else None.
        """
        obstacle = await self._mount_usable()
        if obstacle is None:
            await self._on_mounted()
        return obstacle

    async def _mount_usable(self) -> Obstacle | None:
        usable = [(each.folder, each.transport) for each in self._folders if each.transport]
        if isinstance(report := await self._run_script(usable), Obstacle):
            for folder, _ in usable:
                if folder.target not in self._sessions and folder not in self._mounted:
                    self._folders.set_problem(folder, ProblemOf.MOUNT, not_mounted(folder, report))
            return report
        self._sshfs_remedy = report.sshfs_remedy
        if report.supported != self._supported:
            self._supported = report.supported
            await self._on_learned(report.supported)
        folders = [folder for folder, _ in usable]
        for number in report.mounted:
            self._mounted.add(folders[number])
            self._folders.set_problem(folders[number], ProblemOf.MOUNT, None)
        for number, where in report.ready.items():
            problem = self._without_sshfs(folders[number]) or await self._connect(folders[number], where)
            self._folders.set_problem(folders[number], ProblemOf.MOUNT, problem)
        if any(self._fall_back(folders[number]) for number in report.failed):
            return await self._mount_usable()
        for number, reason in {**report.failed, **dict.fromkeys(report.sealed, SEALED)}.items():
            self._mounted.discard(folders[number])
            self._folders.set_problem(folders[number], ProblemOf.MOUNT, not_mounted(folders[number], reason))
        return None

    def _without_sshfs(self, folder: Folder) -> str | None:
        if self._sshfs_remedy is None:
            return None
        return not_mounted(folder, f"the host has no sshfs; {self._sshfs_remedy}, and restart the machine")

    async def _run_script(self, folders: Sequence[tuple[Folder, Transport]]) -> GuestReport | Obstacle:
        connected = {folder for folder, _ in folders if folder.target in self._sessions}
        ended = {folder for folder, _ in folders if self._folders.has_problem(folder, ProblemOf.DAEMON)}
        return await mount_in_guest(self._settings, folders, connected=connected, ended=ended)

    def _fall_back(self, folder: Folder) -> bool:
        """Switch a folder to SSH if the guest does not support its transport. Return whether the folder was switched.

        This may be needed in a first start, which chooses a transport before the guest can be asked.
        """
        mounted = self._folders.get(folder)
        transport = mounted.transport
        if self._settings.choice is not TransportChoice.AUTO or transport is None or transport in self._supported:
            return False
        if Transport.SSHFS not in self._supported or find_sftp_server() is None:
            return False
        self._on_notice(f"sshfs is used instead of {transport} for {folder.target}: the guest has no {transport}")
        self._folders.replace(replace(mounted, transport=Transport.SSHFS))
        return True

    async def take_away(self) -> None:
        """Make a host that stays when its machine ends unmount all folders, and leave nothing of ours mounted there."""
        async with self._changing:
            if self._folders:
                for each in self._folders:
                    await self._disconnect(each.folder)
                if isinstance(report := await self._run_script([]), Obstacle):
                    log.warning("the folders stay on the host: %s", report)

    async def release(self) -> Obstacle | None:
        """Make the guest unmount all folders, and end the sessions over SSH.

        Return why a folder must stay mounted. Then all of them do.
        """
        async with self._changing:
            if not self._folders:
                return None
            obstacle = await release_in_guest(self._settings, [each.folder for each in self._folders])
            if obstacle is None:
                await self._relay.end()
                self._mounted.clear()
                for each in self._folders:
                    await self._disconnect(each.folder)
            return obstacle

    # Sessions over SSH

    async def _connect(self, folder: Folder, where: str) -> str | None:
        """Start an sshfs session that mounts a folder in the guest at `where`. Return why it is not mounted, if so."""
        await self._disconnect(folder)
        if (server := find_sftp_server()) is None:
            return "sftp-server is not installed on this host"
        source = await asyncio.to_thread(resolve_in_time, folder, [each.folder for each in self._folders])
        if isinstance(source, Obstacle):
            return not_mounted(folder, source)
        self._watch.note(folder, source.directory_id)
        if self._folders.lost.pop(folder, None):
            self._folders.set_problem(folder, ProblemOf.SOURCE, None)
        settings, resolved = self._settings, replace(folder, source=source.path)
        remote = sshfs_command(settings.scripts.sshfs, resolved, uid=settings.guest_uid, where=where)
        session = SshfsSession(folder, on_end=lambda reason: self._session_has_ended(folder, reason))
        self._sessions[folder.target] = session
        problem = await session.open(
            sftp_server_command(server, resolved, settings.host_os, settings.confine),
            settings.ssh(remote),
            settings.log_file,
            timeout_s=_SSHFS_S * settings.time_scale,
        )
        if problem:
            self._sessions.pop(folder.target, None)
        return problem

    def _session_has_ended(self, folder: Folder, reason: str) -> None:
        self._sessions.pop(folder.target, None)
        self._folders.set_problem(folder, ProblemOf.MOUNT, reason)
        self._retries.plan(folder)

    async def _disconnect(self, folder: Folder) -> None:
        session = self._sessions.pop(folder.target, None)
        if session:
            await session.close()

    # Changes while the machine runs

    async def add(self, folder: Folder) -> None:
        """Add a folder to the running machine, and make the guest mount the folder now.

        Raises:
            BadInputError: another folder is mounted at the same target.
            MachineError: the folder cannot be mounted, or can be mounted only at the next start.
        """
        async with self._changing:
            # The caller has checked a record that may have changed since.
            check_apart([*(each.folder for each in self._folders), folder])
            await self._check_sshfs()
            self._folders.add(MountedFolder(folder=folder, transport=Transport.SSHFS))
            await self._mount()
            if problem := self._folders.get(folder).problem:
                self._drop(self._folders.get(folder))
                await self._mount()
                self._folders.report()
                raise MachineError(problem, page=Page.FOLDER)
            self._folders.save()
            await self._follow_changes()

    async def _check_sshfs(self) -> None:
        """Check that a folder can be mounted over SSH, the only transport for a new folder of a running machine.

        Raises:
            MachineError: the user has chosen another transport, the guest has no sshfs, or the guest does not answer.
        """
        choice = self._settings.choice
        if choice not in (TransportChoice.AUTO, TransportChoice.SSHFS):
            raise MachineError(
                f"folders cannot be added with {choice} while the machine runs",
                hint="stop the machine and try again, or choose another driver with: machine set --volume-driver",
            )
        if Transport.SSHFS not in self._supported and (obstacle := await self._mount()):
            raise MachineError(f"the machine cannot be asked whether it has sshfs: {obstacle}")
        if Transport.SSHFS not in self._supported:
            raise MachineError(
                "the machine has no sshfs, which is needed to add a folder while it runs",
                hint=self._sshfs_remedy or "stop the machine and try again",
                page=Page.FOLDER,
            )

    async def remove(self, target: str) -> None:
        """Make the guest unmount the folder at `target` now.

        Raises:
            NotFoundError: the machine has no folder with this target.
        """
        async with self._changing:
            found = self._folders.at(target)
            if found is None:
                raise NotFoundError(f"no folder is mounted at {target}")
            self._drop(found)
            await self._disconnect(found.folder)
            await self._mount()
            self._folders.report()
            self._folders.save()
            await self._follow_changes()

    def _drop(self, mounted: MountedFolder) -> None:
        self._folders.drop(mounted)
        self._mounted.discard(mounted.folder)
        self._watch.forget(mounted.folder)

    async def _follow_changes(self) -> None:
        if self._settings.relay_changes:
            await self._relay.follow(each.folder for each in self._folders if each.transport and not each.problem)

    # Changes of this host's directories

    async def watch_sources(self, *, every_s: float) -> None:
        """Check the shared directories every `every_s` seconds, and mount folders again as planned. Never return."""
        while True:
            await self.check_sources()
            await self.mount_again()
            await asyncio.sleep(every_s)

    async def mount_again(self) -> None:
        """Mount folders again whose sessions have ended or did not begin, or which the guest could not be asked for."""
        for folder in self._retries.take():
            waits = folder not in self._folders.lost and folder.target not in self._sessions
            if waits and self._folders.has_problem(folder, ProblemOf.MOUNT):
                await self._share_again(folder)
                if self._folders.has_problem(folder, ProblemOf.MOUNT):
                    self._retries.plan(folder)

    async def check_sources(self) -> None:
        """Check whether this host still has the sources of all mounted folders, and now has those that were missing."""
        for each in self._folders:
            if each.transport and not self._folders.has_problem(each.folder, ProblemOf.DAEMON, ProblemOf.MOUNT):
                await self._check_source(each)
        await self._missing.check()

    async def _check_source(self, mounted: MountedFolder) -> None:
        folder = mounted.folder
        change = await self._watch.change(folder)
        if change is self._folders.lost.get(folder):
            return
        log.info("%s: %s", folder.source, change)
        if change is SourceChange.REPLACED and mounted.transport is Transport.SSHFS:
            await self._share_again(folder)
        elif change is None:
            del self._folders.lost[folder]
            self._folders.set_problem(folder, ProblemOf.SOURCE, None)
        else:
            self._folders.lost[folder] = change
            self._folders.set_problem(folder, ProblemOf.SOURCE, change.message(folder.source))

    async def _share_again(self, folder: Folder) -> None:
        """Share the directory that is at the folder's path now, in place of the directory that was there before."""
        async with self._changing:
            if folder in self._folders:
                await self._disconnect(folder)
                await self._mount()

    # The end

    async def end(self) -> None:
        """End all sshfs sessions, and each virtiofsd that has not ended with QEMU."""
        self.daemons.forget()
        if self._leaving_out:
            self._leaving_out.cancel()
        await self._relay.end()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_END_S), asyncio.TaskGroup() as ending:
                for session in self._sessions.values():
                    ending.create_task(session.close())
                ending.create_task(self.daemons.end())

    @property
    def is_empty(self) -> bool:
        return not self._folders

    @property
    def folders(self) -> Sequence[MountedFolder]:
        return tuple(self._folders)
