"""Verify OpenPGP signatures with gpgv or sqv while an image is being fetched."""

from __future__ import annotations

import base64
import binascii
import contextlib
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from types import TracebackType
from typing import IO, Protocol, Self

from machine import runner
from machine.errors import MachineError, Page

_TIMEOUT_S = 120.0
_ARMOR = re.compile(
    rb"-----BEGIN PGP PUBLIC KEY BLOCK-----\r?\n(?:[^\r\n]+\r?\n)*\r?\n(.*?)\r?\n(?:=.{4}\r?\n)?-----END", re.DOTALL
)
# The first octet of an OpenPGP public key (RFC 9580, 4.2), in the old and the new packet format.
_PUBLIC_KEY_TAGS = frozenset({0x98, 0x99, 0xC6})


@dataclass(frozen=True, kw_only=True)
class Signer:
    """The primary fingerprint (upper-case hex) and the user ID of the key that has made a good signature."""

    fingerprint: str
    name: str | None = None

    def __str__(self) -> str:
        return self.name or self.fingerprint


class Checker(Protocol):
    """A program that reads a file from standard input and verifies the file's signature.

    `judge` returns the signer according to the program's exit status and output, or raises a MachineError.
    """

    program: str

    def argv(self, keyring: Path, signature: Path) -> list[str]: ...
    def judge(self, returncode: int, out: str, err: str) -> Signer: ...


class Gpgv:
    """GnuPG's gpgv.

    The verdict is read from gpgv's status lines, because its exit status is 0 even for expired and revoked keys.
    """

    def __init__(self, program: str) -> None:
        self.program = program

    def argv(self, keyring: Path, signature: Path) -> list[str]:
        return [self.program, "--homedir", str(keyring.parent), "--status-fd", "1", "--keyring", str(keyring),
                str(signature), "-"]  # fmt: skip

    def judge(self, returncode: int, out: str, err: str) -> Signer:
        status: dict[str, list[str]] = {}
        for line in out.splitlines():
            match line.split():
                case ["[GNUPG:]", keyword, *words]:
                    status[keyword] = words
                case _:
                    pass
        for keyword, reason in (
            ("BADSIG", "the signature does not belong to this file"),
            ("EXPKEYSIG", "the signing key has expired"),
            ("REVKEYSIG", "the signing key was revoked"),
            ("EXPSIG", "the signature has expired"),
            ("NO_PUBKEY", "the signing key is not trusted"),
            ("NODATA", "the signature file contains no signature"),
        ):
            if keyword in status:
                key = status[keyword][0] if keyword != "NODATA" else ""
                raise MachineError(f"{reason}{f' ({key})' if key else ''}", page=Page.SIGNATURE)
        if returncode != 0 or "GOODSIG" not in status or "VALIDSIG" not in status:
            lines = err.strip().splitlines()
            raise MachineError(f"gpgv found no good signature{f': {lines[-1]}' if lines else ''}", page=Page.SIGNATURE)
        return Signer(fingerprint=status["VALIDSIG"][-1], name=" ".join(status["GOODSIG"][1:]) or None)


class Sqv:
    """Sequoia's sqv."""

    def __init__(self, program: str) -> None:
        self.program = program

    def argv(self, keyring: Path, signature: Path) -> list[str]:
        return [self.program, "--keyring", str(keyring), str(signature), "/dev/stdin"]

    def judge(self, returncode: int, out: str, err: str) -> Signer:
        fingerprints = out.split()
        if returncode != 0 or not fingerprints:
            lines = [line.strip() for line in err.splitlines() if line.strip()]
            raise MachineError(f"sqv found no good signature{f': {lines[0]}' if lines else ''}", page=Page.SIGNATURE)
        return Signer(fingerprint=fingerprints[0])


def find_checker() -> Checker:
    """Find gpgv, or else sqv, on this host.

    Raises:
        MachineError: neither gpgv nor sqv is installed.
    """
    if gpgv := shutil.which("gpgv"):
        return Gpgv(gpgv)
    if sqv := shutil.which("sqv"):
        return Sqv(sqv)
    raise MachineError(
        "no program on this host can check the image's signature",
        hint="install gpgv (Debian: gpgv, Homebrew: gnupg) or sqv, or use --no-verify-signature",
        page=Page.DOCTOR,
    )


def trusted_keys(directory: Path) -> list[bytes]:
    """Read Fedora's keys, which come with this program, and the user's keys, `*.gpg` and `*.asc` in `directory`."""
    shipped = (entry for entry in resources.files("machine.image").joinpath("keys").iterdir() if entry.is_file())
    own = sorted(path for path in directory.glob("*") if path.suffix in (".gpg", ".asc") and path.is_file())
    return [key for entry in (*shipped, *own) if (key := public_key(entry.read_bytes()))]


def unusable_keys(directory: Path) -> list[Path]:
    """List the user's key files that cannot be read or contain no public key."""
    own = sorted(path for path in directory.glob("*") if path.suffix in (".gpg", ".asc"))
    return [path for path in own if not _holds_key(path)]


def _holds_key(path: Path) -> bool:
    try:
        return public_key(path.read_bytes()) is not None
    except OSError:
        return False


def public_key(data: bytes) -> bytes | None:
    """Return an OpenPGP public key without ASCII armour, or None if `data` is anything else."""
    if armored := _ARMOR.search(data):
        try:
            data = base64.b64decode(armored[1])
        except binascii.Error:
            return None
    return data if data and data[0] in _PUBLIC_KEY_TAGS else None


@dataclass(frozen=True, kw_only=True)
class DetachedSignature:
    """A detached signature, and the accepted keys. One of these keys must have made the signature."""

    data: bytes
    keys: Sequence[bytes]


class SignatureCheck:
    """Checks the signature of a file that is fed to it chunk by chunk. This is a context manager."""

    def __init__(self, signature: DetachedSignature, workspace: Path) -> None:
        self._workspace = workspace
        self._checker = find_checker()
        self._signature = signature

    def __enter__(self) -> Self:
        base = self._directory
        base.mkdir(mode=0o700)
        keyring, signature = base / "keyring.gpg", base / "signature"
        with contextlib.ExitStack() as stack:
            stack.callback(shutil.rmtree, base, ignore_errors=True)
            keyring.write_bytes(b"".join(self._signature.keys))
            signature.write_bytes(self._signature.data)
            self._process = stack.enter_context(
                runner.running(
                    self._checker.argv(keyring, signature),
                    stdin=subprocess.PIPE,
                    output=stack.enter_context((base / "out").open("wb")),
                    errors=stack.enter_context((base / "err").open("wb")),
                    environment={"LC_ALL": "C", "PATH": "/usr/bin:/bin"},
                )
            )
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    def feed(self, chunk: bytes) -> None:
        with contextlib.suppress(BrokenPipeError):  # the program has already decided; `finish` reports it
            self._input.write(chunk)

    def finish(self) -> Signer:
        """Wait for the program's verdict, and return the signer.

        Raises:
            MachineError: the signature is not good. The message says why.
        """
        with contextlib.suppress(BrokenPipeError):
            self._input.close()
        try:
            status = self._process.wait(_TIMEOUT_S)
        except subprocess.TimeoutExpired as error:
            raise MachineError(f"its verification took longer than {_TIMEOUT_S:.0f} s") from error
        out, err = ((self._directory / name).read_text(errors="replace") for name in ("out", "err"))
        return self._checker.judge(status, out, err)

    @property
    def _directory(self) -> Path:
        return self._workspace / "verify"

    @property
    def _input(self) -> IO[bytes]:
        assert self._process.stdin is not None
        return self._process.stdin
