"""The errors that users see. This module imports nothing of ours.

::

    MachineError             anything that ends a command with one line and exit status 125
    ├── NotFoundError        there is no machine, image or stream with the given name
    ├── BadInputError        invalid input
    ├── DiskError            a disk is full or cannot be written
    │   └── NotWritableError this user may not write there, or nobody may
    ├── DeadlineError        something did not happen in time
    ├── ProgramError         a program that we ran failed
    └── GuestError           the guest failed to boot, to provision itself or to answer
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import StrEnum

EXIT_OK = 0
EXIT_ERROR = 125
EXIT_INTERRUPTED = 130

# What libraries put around their sentences, for programmers.
# Not compiled, because most commands succeed.
_FOR_PROGRAMMERS = r"""(?x)\[Errno\ -?\d+\]\s*       # OSError
    |\[(?:SSL|X509)[^]]*\]\s*     # ssl.SSLError
    |\s*\(_ssl\.c:\d+\)
    |Error\ -?\d+\ (?=while\ )   # zlib.error
    |<[\w.]+\ object\ at\ 0x[0-9a-f]+>:?\s*
    |^(?:\w+\.)*[A-Z]\w*(?:Error|Exception)\b:?\s*"""


class Page(StrEnum):
    """An entry of the documentation's page on troubleshooting, by the entry's anchor."""

    BUILD = "build"
    CERTIFICATE = "certificate"
    CHECKSUM = "checksum"
    CONNECTION_EXISTS = "connection-exists"
    DAMAGED_IMAGE = "damaged-image"
    DOCTOR = "doctor"
    FILES = "files"
    FOLDER = "folder"
    HOSTS = "hosts"
    HOST_DISK_FULL = "disk-full-host"
    KVM = "kvm"
    LOGIN = "login"
    MEMORY = "memory"
    NO_QEMU = "no-qemu"
    OLD_QEMU = "old-qemu"
    PAUSED = "paused"
    PORTS = "port-unusable"
    PORT_TAKEN = "port-taken"
    PROXY = "proxy"
    RESUME = "resume"
    RUNNING = "running"
    SIGNATURE = "signature"
    STARTS = "starts"
    UNREACHABLE = "unreachable"

    @property
    def reference(self) -> str:
        """The words that lead users to the entry."""
        return f"see the documentation: troubleshooting#{self}"


class MachineError(Exception):
    """An error for users.

    `message` says what failed, `hint` what to do, `details` has lines of evidence, and `page` names the entry of the
    documentation that explains more.
    """

    def __init__(
        self, message: str, *, details: Sequence[str] = (), hint: str | None = None, page: Page | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.details = tuple(details)
        self.hint = hint
        self.page = page

    @property
    def line(self) -> str:
        """The message and the hint in one line."""
        return f"{self.message}; {self.hint}" if self.hint else self.message


class NotFoundError(MachineError):
    """There is no machine, image or stream with the given name."""


class BadInputError(MachineError):
    """An option, an argument, an environment variable or a file of the user's is invalid."""


class DiskError(MachineError):
    """A disk is full or cannot be written."""


class NotWritableError(DiskError):
    """This user may not write to a file or directory, or nobody can, as on a read-only file system."""


class DeadlineError(MachineError):
    """Something did not happen in time."""


class GuestError(MachineError):
    """The guest failed to boot, to provision itself or to answer."""


class ProgramError(MachineError):
    """A program that we ran failed. `returncode` is its exit status, or the negative number of a signal."""

    def __init__(self, message: str, *, returncode: int, details: Sequence[str] = (), hint: str | None = None) -> None:
        super().__init__(message, details=details, hint=hint)
        self.returncode = returncode


def page_of(error: BaseException | None) -> Page | None:
    """Return the entry of the documentation that explains an error, or else one of the errors that caused it."""
    while error is not None:
        if isinstance(error, MachineError) and error.page:
            return error.page
        error = error.__cause__
    return None


def evidence_of(error: MachineError) -> tuple[str, ...]:
    """Return the lines that follow an error: its details, and the entry of the documentation that explains it."""
    entry = page_of(error)
    return (*error.details, entry.reference) if entry else error.details


def line_of(error: OSError) -> str:
    """Return a system error as one line, with the file that it names."""
    return f"{error.filename}: {error.strerror}" if error.filename else reason_of(error)


def reason_of(error: BaseException) -> str:
    """Return the text of an exception for users.

    The name of the class, error numbers and places in a library's source are left out.
    """
    match error:
        case MachineError():
            return error.line
        case UnicodeError():
            return "it is not UTF-8"
        case KeyError(args=[key]):
            return f'"{key}" is missing'
        case TimeoutError() if not error.strerror:
            return "timed out"
        case EOFError() | ConnectionError() if not str(error):
            return "the connection was closed"
        case OSError(strerror=str(text)):
            pass
        case _:
            text = str(error).removeprefix(type(error).__name__).lstrip(": ")
    return re.sub(_FOR_PROGRAMMERS, "", " ".join(text.split())).rstrip(".") or "an unexpected error"
