"""Open an SFTP session with OpenSSH's client, which knows the user's keys, agents and proxy commands."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from machine import runner
from machine.errors import GuestError
from machine.ssh.command import SshTarget, sftp_argv
from machine.ssh.refusal import refusal, unanswered_page

_END_S = 5.0


class ChannelSocket(socket.socket):
    """A socket that has what paramiko's SFTP client wants of a channel besides."""

    def get_name(self) -> str:
        return "sftp"


@dataclass(frozen=True, kw_only=True)
class SftpSession:
    """A session that has begun. The SFTP server, if there is one, is at the other end of `socket`."""

    socket: ChannelSocket

    failure: Callable[[], GuestError]
    """Waits for the end of a session in which nobody answers, and returns why."""


@contextlib.contextmanager
def openssh_session(name: str, target: SshTarget) -> Iterator[SftpSession]:
    """Connect to the guest of the machine `name`, and yield the session.

    Raises:
        MachineError: ssh is not installed.
    """
    plain, theirs = socket.socketpair()
    with ChannelSocket(fileno=plain.detach()) as ours, theirs, tempfile.TemporaryFile() as said:
        argv = sftp_argv(target)
        with runner.running(argv, stdin=theirs.fileno(), output=theirs.fileno(), errors=said) as client:
            theirs.close()

            def failure() -> GuestError:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    client.wait(_END_S)
                said.seek(0)
                words = said.read().decode(errors="replace").strip()
                reason = words.rpartition("\n")[2] or "its SSH server offers no access to files (SFTP)"
                unanswered = GuestError(f"{name} cannot be reached: {reason}", page=unanswered_page(target))
                return refusal(name, target, words) or unanswered

            yield SftpSession(socket=ours, failure=failure)
