"""What users read of exceptions that Python and libraries raise: no class, no error number, no file of C."""

from __future__ import annotations

import asyncio
import json
import lzma
import re
import socket
import ssl
import tomllib
import zlib
from collections.abc import Callable

import pytest
import requests
from qemu.qmp import ConnectError, QMPError
from urllib3.exceptions import IncompleteRead, MaxRetryError

from machine.cli import list as list_command
from machine.cli.many import print_failure
from machine.errors import DiskError, MachineError, Page, evidence_of, reason_of
from machine.image.web import FetchError, Web, WebSettings
from tests.support.command_line import run_in_process

FOR_PROGRAMMERS = re.compile(
    r"_ssl|\[SSL|Errno|0x[0-9a-f]{3}|\b[A-Z]\w*(Error|Exception|Read|Pool)\b|Traceback|object at|None|error -?\d"
)


def raised(call: Callable[[], object]) -> Exception:
    try:
        call()
    except Exception as error:  # noqa: BLE001  (any is meant)
        return error
    raise AssertionError("it raised nothing")


def tls(text: str, reason: str) -> ssl.SSLError:
    error = ssl.SSLError(1, text)
    error.reason = reason
    return error


def unverified(code: int, message: str) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, f"[SSL: CERTIFICATE_VERIFY_FAILED] {message} (_ssl.c:1006)")
    error.verify_code, error.verify_message = code, message
    return error


WRONG_VERSION = tls("[SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1006)", "WRONG_VERSION_NUMBER")
OLD_PROTOCOL = tls(
    "[SSL: TLSV1_ALERT_PROTOCOL_VERSION] tlsv1 alert protocol version (_ssl.c:1)", "TLSV1_ALERT_PROTOCOL_VERSION"
)
ENDED = ssl.SSLEOFError(8, "EOF occurred in violation of protocol (_ssl.c:1006)")
SELF_SIGNED = unverified(18, "self-signed certificate")
OTHER_HOST = unverified(62, "Hostname mismatch, certificate is not valid for 'a'.")
EXPIRED = unverified(10, "certificate has expired")
FAILURES: list[Exception] = [
    FileNotFoundError(2, "No such file or directory"),
    PermissionError(13, "Permission denied", "/x"),
    OSError("Could not find a suitable TLS CA certificate bundle, invalid path: /x"),
    OSError(),
    TimeoutError(),
    TimeoutError(110, "Connection timed out"),
    ConnectionResetError(104, "Connection reset by peer"),
    BrokenPipeError(),
    EOFError(),
    asyncio.IncompleteReadError(b"", 5),
    socket.gaierror(-2, "Name or service not known"),
    WRONG_VERSION, OLD_PROTOCOL, ENDED, SELF_SIGNED, OTHER_HOST,
    raised(b"\xff".decode),
    raised("\ud800".encode),
    raised(lambda: json.loads("{")),
    raised(lambda: tomllib.loads("a")),
    raised(lambda: lzma.decompress(b"\xfd7zXZ\x00garbage.....")),
    raised(lambda: zlib.decompress(b"garbage")),
    KeyError("digest"),
    raised(lambda: int("x")),
    raised(lambda: len(5)),  # type: ignore[arg-type]
    raised(lambda: 1 / 0),
    IncompleteRead(5, 10),
    ValueError("<urllib3.connection.HTTPSConnection object at 0x7f00>: Failed to establish: [Errno 111] refused"),
    ConnectError("Failed to establish connection: [Errno 2] No such file or directory", FileNotFoundError(2, "x")),
    QMPError("QMPError: it hung up"),
    ValueError("ValueError: of another library"),
    RuntimeError(),
]  # fmt: skip
TLS_HINT = "name a file with its authority's certificate in SSL_CERT_FILE, or use --tls-verify=false"
TRUST_HINT = "use --tls-verify=false if you trust the network"
IDS = [f"{number}-{type(error).__name__}" for number, error in enumerate(FAILURES)]


def plain(text: str) -> bool:
    return bool(text.strip()) and not FOR_PROGRAMMERS.search(text) and "\n" not in text.strip()


@pytest.mark.parametrize("error", FAILURES, ids=IDS)
def test_reason_is_for_users(error: Exception) -> None:
    assert plain(reason_of(error)), reason_of(error)


def test_reason_keeps_what_was_said() -> None:
    assert reason_of(MachineError("it failed", hint="try again")) == "it failed; try again"
    assert reason_of(WRONG_VERSION) == "wrong version number"
    assert reason_of(FAILURES[0]) == "No such file or directory"
    assert reason_of(QMPError("QMPError: it hung up")) == "it hung up"
    assert reason_of(ValueError("Error loading the key")) == "Error loading the key"


@pytest.mark.parametrize("error", FAILURES, ids=IDS)
def test_failed_fetch_is_told_for_users(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    for wrapped in (
        requests.exceptions.ConnectionError(MaxRetryError(None, "/", error)),  # type: ignore[arg-type]
        requests.exceptions.SSLError(error),
        requests.exceptions.ChunkedEncodingError(error),
    ):

        def get(*_: object, wrapped: Exception = wrapped, **__: object) -> None:
            raise wrapped

        monkeypatch.setattr(requests.Session, "get", get)
        with pytest.raises(FetchError) as caught, Web(WebSettings()).get("https://host/x"):
            pass
        assert plain(caught.value.line), caught.value.line


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (WRONG_VERSION, "server gave HTTP response to HTTPS client; use an http:// URL"),
        (SELF_SIGNED, f"certificate signed by unknown authority; {TLS_HINT}"),
        # With its authority's certificate these would be refused again.
        (OTHER_HOST, f"Hostname mismatch, certificate is not valid for 'a'; {TRUST_HINT}"),
        (EXPIRED, "certificate has expired; check the clock of this host, or use --tls-verify=false"),
        (OLD_PROTOCOL, "the server has no version of TLS that this host accepts"),
    ],
)  # fmt: skip
def test_tls_that_fails_is_told_as_podman_tells_it(
    error: Exception, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def get(*_: object, **__: object) -> None:
        raise requests.exceptions.SSLError(MaxRetryError(None, "/", error))  # type: ignore[arg-type]

    monkeypatch.setattr(requests.Session, "get", get)
    with pytest.raises(FetchError) as caught, Web(WebSettings()).get("https://host/x"):
        pass
    assert caught.value.line == f"cannot fetch https://host/x: {line}"


@pytest.mark.parametrize("error", FAILURES, ids=IDS)
def test_failure_that_nobody_expected_is_told_for_users(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if isinstance(error, EOFError):
        return  # click takes it for ^D

    def fail() -> None:
        raise error

    monkeypatch.setattr(list_command, "current_context", fail)
    outcome = run_in_process(monkeypatch, "ls")
    assert (outcome.status, outcome.stdout) == (125, "")
    assert plain(outcome.stderr), outcome.stderr
    if isinstance(error, OSError):
        print_failure("box", error)
        assert plain(capsys.readouterr().err)


def test_error_names_the_page_of_what_has_caused_it() -> None:
    error = MachineError("no image", details=["a line"])
    error.__cause__ = DiskError("no space", page=Page.HOST_DISK_FULL)
    assert evidence_of(error) == ("a line", "see the documentation: troubleshooting#disk-full-host")
    assert evidence_of(MachineError("no image", details=["a line"])) == ("a line",)
