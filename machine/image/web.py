"""Send HTTP requests. Errors name the URL and the cause, and say whether a retry may help.

Proxies are set by the usual environment variables, and trusted certificates by `SSL_CERT_FILE`.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast
from urllib.parse import unquote_to_bytes, urlsplit, urlunsplit

from machine.errors import MachineError, Page, reason_of

if TYPE_CHECKING:
    from requests import PreparedRequest, Response, Session
    from requests.adapters import HTTPAdapter

CHUNK_BYTES = 64 * 1024

# Seconds to connect, and seconds between two reads.
_TIMEOUTS = (10, 60)
# Seconds before each retry.
_BACK_OFF = (0.3, 0.7, 1.5)
# Total time for a small document, even if its server keeps sending slowly.
_DOCUMENT_S = 60.0
_DOCUMENT_CHUNK_BYTES = 1024
_TRANSIENT_STATUS = frozenset({408, 425, 429})

# How OpenSSL's versions call an answer that is not TLS.
_NOT_TLS = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG"})
_NO_COMMON_VERSION = frozenset({"TLSV1_ALERT_PROTOCOL_VERSION", "UNSUPPORTED_PROTOCOL", "NO_PROTOCOLS_AVAILABLE"})
# X509_V_ERR_*: self-signed, or by an authority that is not among the known ones; not yet valid, or expired.
_UNKNOWN_AUTHORITY = frozenset({18, 19, 20, 21})
_NOT_VALID_NOW = frozenset({9, 10})

_PROXY_HINT = "proxies come from the environment: env | grep -i _proxy"

T = TypeVar("T")


class FetchError(MachineError):
    """A document or file could not be fetched.

    If the error is `transient`, another attempt may succeed. `status` is the HTTP status, or None without a response.
    """

    def __init__(
        self,
        message: str,
        *,
        transient: bool,
        status: int | None = None,
        hint: str | None = None,
        page: Page | None = None,
    ) -> None:
        super().__init__(message, hint=hint, page=page)
        self.transient = transient
        self.status = status


class PlainHttpError(FetchError):
    """The server does not speak TLS."""


@dataclass(frozen=True, kw_only=True)
class Authorities:
    """Files with the certificates of authorities that may sign for one server, besides those that all may have."""

    server: str
    files: tuple[Path, ...]


@dataclass(frozen=True, kw_only=True)
class WebSettings:
    """Settings of all requests. `offline` forbids the network. Without `verify_tls`, any certificate is accepted."""

    offline: bool = False
    verify_tls: bool = True
    authorities: Authorities | None = None


class Web:
    """An HTTP client that reuses its connections. Not thread-safe."""

    def __init__(self, settings: WebSettings) -> None:
        self._settings = settings
        self._session: Session | None = None

    @contextlib.contextmanager
    def get(self, url: str, headers: Mapping[str, str] | None = None) -> Iterator[Response]:
        """Send a GET request, follow redirects, and yield the response, whose body the block can read.

        Raises:
            FetchError: the network failed during the request or while the block reads the body, or the HTTP status
                is not 2xx, 304, 401 or 416.
        """
        name = public_url(url)
        if self._settings.offline:
            raise FetchError(f"cannot fetch {name}, because --offline was given", transient=False)
        import requests  # takes 0.1 s, which only downloads should pay
        import urllib3

        try:
            with self._request(url, headers or {}) as response:
                status = response.status_code
                if status not in (304, 401, 416) and not 200 <= status < 300:
                    raise FetchError(
                        f"{name} answered {status} {response.reason}".rstrip(),
                        transient=status >= 500 or status in _TRANSIENT_STATUS,
                        status=status,
                        page=Page.UNREACHABLE,
                    )
                yield response
        except requests.exceptions.SSLError as error:
            raise _tls_error(name, _innermost(error)) from error
        except requests.exceptions.ProxyError as error:
            raise FetchError(
                f"cannot fetch {name} through the proxy {public_url(_proxy_of(url) or '')}: {_cause(error)}",
                transient=True,
                hint=_PROXY_HINT,
                page=Page.PROXY,
            ) from error
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            reason = f"cannot fetch {name}: {_cause(error)}"
            raise FetchError(reason, transient=True, page=Page.UNREACHABLE) from error

    def _request(self, url: str, headers: Mapping[str, str]) -> Response:
        import requests

        try:
            return self._open_session().get(
                url,
                headers={"Accept-Encoding": "identity", **headers},
                stream=True,
                timeout=_TIMEOUTS,
                verify=self._verify,  # per request, since $REQUESTS_CA_BUNDLE overrides a session's
            )
        except ValueError as error:  # requests and urllib3 raise it for invalid URLs, of proxies too
            proxy = _proxy_of(url)
            if proxy is not None and not _is_usable_proxy(proxy):
                message = f"cannot fetch {public_url(url)} through {public_url(proxy)}, which is not an http(s) proxy"
                raise FetchError(message, transient=False, hint=_PROXY_HINT, page=Page.PROXY) from error
            raise FetchError(f"{public_url(url)} is not a URL that can be fetched", transient=False) from error
        except requests.RequestException:
            raise
        except OSError as error:
            message = f"cannot fetch {public_url(url)}: SSL_CERT_FILE names {self._verify}, which does not exist"
            raise FetchError(message, transient=False, page=Page.CERTIFICATE) from error

    @property
    def _verify(self) -> bool | str:
        return (os.environ.get("SSL_CERT_FILE") or True) if self._settings.verify_tls else False

    def _open_session(self) -> Session:
        if self._session is None:
            import requests
            import urllib3

            class OwnLogins(requests.Session):
                """A session that ignores ~/.netrc, which would override a registry's token."""

                def rebuild_auth(self, prepared_request: PreparedRequest, response: Response) -> None:
                    old, new = str(response.request.url), str(prepared_request.url)
                    if self.should_strip_auth(old, new):  # type: ignore[no-untyped-call]
                        prepared_request.headers.pop("Authorization", None)

            self._session = OwnLogins()
            self._session.auth = _login_of_url
            if self._settings.verify_tls and (authorities := self._settings.authorities):
                self._session.mount(f"https://{authorities.server}/", _adapter(authorities.files))
            # A clock that is off is told with the error that it leads to.
            urllib3.disable_warnings(urllib3.exceptions.SystemTimeWarning)
            if not self._settings.verify_tls:
                urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
        return self._session


def _adapter(files: Sequence[Path]) -> HTTPAdapter:
    """Return what makes connections to servers whose certificates these authorities may have signed, too."""
    import ssl

    from requests.adapters import HTTPAdapter

    context = ssl.create_default_context()
    for file in files:
        try:
            context.load_verify_locations(file)
        except OSError as error:
            raise MachineError(f"cannot read the certificate in {file}: {reason_of(error)}") from error

    class OwnAuthorities(HTTPAdapter):
        def init_poolmanager(self, *arguments: Any, **settings: Any) -> None:  # noqa: ANN401  (as the base class)
            super().init_poolmanager(*arguments, ssl_context=context, **settings)

    return OwnAuthorities()


def _login_of_url(request: PreparedRequest) -> PreparedRequest:
    from requests.auth import HTTPBasicAuth
    from requests.utils import get_auth_from_url

    user, password = get_auth_from_url(str(request.url))
    if user and "Authorization" not in request.headers:
        HTTPBasicAuth(user, password)(request)
    return request


def _proxy_of(url: str) -> str | None:
    """Return the proxy that the environment names for a URL."""
    from requests.utils import get_environ_proxies, select_proxy

    try:
        return select_proxy(url, get_environ_proxies(url, no_proxy=None))
    except ValueError:
        return None


def _is_usable_proxy(proxy: str) -> bool:
    try:
        parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def public_url(url: str) -> str:
    """Return a URL without credentials, for messages and files."""
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
        return urlunsplit(parts._replace(netloc=host)) if host != parts.netloc else url
    except ValueError:
        return url


def body_chunks(response: Response) -> Iterator[bytes]:
    """Yield the body of a response in chunks, as the server has sent it, without undoing a Content-Encoding."""
    return cast("Iterator[bytes]", response.raw.stream(CHUNK_BYTES, decode_content=False))


def retried(action: Callable[[], T]) -> T:
    """Call `action` and return its result. If a transient error is raised, wait, and call `action` again."""
    for pause in _BACK_OFF:
        try:
            return action()
        except FetchError as error:
            if not error.transient:
                raise
        time.sleep(pause)
    return action()


def back_off_s(failures: int) -> float | None:
    """Return how many seconds to wait after so many failures in a row. None means to give up."""
    return _BACK_OFF[failures - 1] if failures <= len(_BACK_OFF) else None


def local_path(url: str) -> Path | None:
    """Return the path in a `file:` URL. For any other URL, return None."""
    parts = urlsplit(url)
    # In bytes, as `Path.as_uri` has it: a path need not be UTF-8.
    return Path(os.fsdecode(unquote_to_bytes(parts.path))) if parts.scheme == "file" else None


def fetch_bytes(url: str, web: Web, *, limit: int) -> bytes:
    """Fetch a small document. If a transient error is raised, try again.

    Raises:
        MachineError: the document cannot be fetched, or is larger than `limit` bytes.
    """
    path = local_path(url)
    if path is not None:
        try:
            if not path.is_file() and path.exists():
                raise MachineError(f"cannot read {path}: it is not a file")
            with path.open("rb") as stream:
                return stream.read(limit)
        except FileNotFoundError as error:
            raise FetchError(f"{path} does not exist", transient=False, status=404) from error
        except OSError as error:
            raise MachineError(f"cannot read {path}: {reason_of(error)}") from error

    def attempt() -> bytes:
        with web.get(url) as response:
            return read_body(response, url, limit=limit)

    return retried(attempt)


def read_body(response: Response, url: str, *, limit: int) -> bytes:
    """Read the body of a response.

    Raises:
        MachineError: the body is larger than `limit` bytes, or takes too long to arrive.
    """
    received = bytearray()
    deadline = time.monotonic() + _DOCUMENT_S
    for chunk in response.raw.stream(_DOCUMENT_CHUNK_BYTES, decode_content=True):
        received += chunk
        if len(received) > limit:
            raise MachineError(f"{public_url(url)} is too large: more than {limit} bytes")
        if time.monotonic() > deadline:
            raise FetchError(f"{public_url(url)} did not arrive within {_DOCUMENT_S:.0f} s", transient=True)
    return bytes(received)


def _cause(error: BaseException) -> str:
    """Describe the innermost cause of an error, because urllib3 wraps the error of a socket in several others."""
    cause = _innermost(error)
    match type(cause).__name__:
        case "IncompleteRead":
            return "the connection ended too early"
        case "RemoteDisconnected":
            return "the server closed the connection without an answer"
        case "BadStatusLine":
            return "the server does not speak HTTP"
        case _:
            pass
    if "timed out" in str(cause).lower():
        return "timed out"
    return reason_of(cause)


def _innermost(error: BaseException) -> BaseException:
    while (inner := _inner(error)) is not None:
        error = inner
    return error


def _tls_error(name: str, cause: BaseException) -> FetchError:
    """Return the error for a failed TLS handshake, in podman's words. `name` is the URL for messages."""
    import ssl

    if isinstance(cause, ssl.SSLCertVerificationError):
        reason, hint = _certificate_error(cause.verify_code, cause.verify_message)
        return FetchError(f"cannot fetch {name}: {reason}", transient=False, hint=hint, page=Page.CERTIFICATE)
    code = getattr(cause, "reason", None)
    if code in _NOT_TLS:
        return PlainHttpError(
            f"cannot fetch {name}: server gave HTTP response to HTTPS client",
            transient=False,
            hint="use an http:// URL",
        )
    if code in _NO_COMMON_VERSION:
        reason = "the server has no version of TLS that this host accepts"
        return FetchError(f"cannot fetch {name}: {reason}", transient=False)
    if code == "NO_CERTIFICATE_OR_CRL_FOUND":
        reason = f"SSL_CERT_FILE names {os.environ.get('SSL_CERT_FILE')}, which has no certificate"
        return FetchError(f"cannot fetch {name}: {reason}", transient=False, page=Page.CERTIFICATE)
    return FetchError(f"cannot fetch {name}: {reason_of(cause)}", transient=False, page=Page.UNREACHABLE)


def _certificate_error(code: int, text: str) -> tuple[str, str]:
    """Return the reason and a remedy for a certificate that was refused with OpenSSL's `code` and `text` (pure)."""
    if code in _UNKNOWN_AUTHORITY:
        known = "name a file with its authority's certificate in SSL_CERT_FILE"
        return "certificate signed by unknown authority", f"{known}, or use --tls-verify=false"
    if code in _NOT_VALID_NOW:
        return reason_of(Exception(text)), "check the clock of this host, or use --tls-verify=false"
    return reason_of(Exception(text)), "use --tls-verify=false if you trust the network"


def _inner(error: BaseException) -> BaseException | None:
    reason = getattr(error, "reason", None)
    candidates = [reason, error.__cause__, *error.args, error.__context__]
    return next((item for item in candidates if isinstance(item, BaseException) and item is not error), None)
