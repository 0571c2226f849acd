"""The errors of logins that a guest refuses, in the same words for OpenSSH and for paramiko (pure)."""

from __future__ import annotations

from machine.errors import GuestError, Page
from machine.ssh.command import SshTarget


def rejected_key(name: str, target: SshTarget) -> GuestError:
    if target.has_own_key:
        return GuestError(f'{name} rejects the machine\'s key for the user "{target.username}"', page=Page.LOGIN)
    return GuestError(f'{target.place} rejects your key for the user "{target.username}"', page=Page.HOSTS)


def other_host_key(name: str, target: SshTarget) -> GuestError:
    return GuestError(
        f"the server on {target.place} does not have the host key of {name}, so nothing was sent to it",
        hint=None if target.has_own_key else f"if it was given a new one on purpose: machine rm {name}, and init again",
        page=Page.LOGIN if target.has_own_key else Page.HOSTS,
    )


def unknown_host_key(name: str, target: SshTarget) -> GuestError:
    return GuestError(
        f"{target.known_hosts} does not have the host key of {name}, so nothing was sent to it", page=Page.FILES
    )


def unanswered_page(target: SshTarget) -> Page:
    """Return the entry of the documentation that explains why there is no session with a guest, or with a host."""
    return Page.RUNNING if target.has_own_key else Page.HOSTS


def refusal(name: str, target: SshTarget, messages: str) -> GuestError | None:
    """Return why a login was refused, from what OpenSSH's client has written to stderr. Return None if that is unknown.

    The messages are in sshconnect.c and sshconnect2.c of OpenSSH.
    """
    if "Permission denied (" in messages or "Too many authentication failures" in messages:
        return rejected_key(name, target)
    if "REMOTE HOST IDENTIFICATION HAS CHANGED" in messages:
        return other_host_key(name, target)
    if "host key is known for" in messages:
        return unknown_host_key(name, target)
    return None
