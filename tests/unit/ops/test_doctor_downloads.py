"""What doctor says of proxies, certificates and the clock, on made-up hosts."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from machine.model.doctor_check import Status
from machine.model.host import HostOS
from machine.ops import doctor_downloads as checks
from tests.support.checks import text_of
from tests.support.golden import Golden

LINUX, MAC = HostOS.LINUX, HostOS.MACOS


PROXIES = {
    "none": {},
    "lower case": {"https_proxy": "http://proxy:3128"},
    "without a scheme": {"HTTPS_PROXY": "proxy:3128"},
    "with a password": {"https_proxy": "http://me:secret@proxy:3128"},
    "the same twice": {"http_proxy": "http://a", "HTTP_PROXY": "http://a"},
    "two that differ": {"http_proxy": "http://a", "HTTP_PROXY": "http://b"},
    "no host": {"https_proxy": "http://:3128"},
    "no port number": {"ALL_PROXY": "http://proxy:many"},
    "damaged": {"https_proxy": "http://[proxy"},
}


@pytest.mark.parametrize("environment", PROXIES.values(), ids=PROXIES)
def test_proxies(environment: dict[str, str], golden: Golden) -> None:
    golden.matches(text_of(checks.proxies_check(environment, LINUX)))


def test_proxies_of_a_mac(golden: Golden) -> None:
    """Its own settings are those of downloads, and not of guests."""
    golden.matches(text_of(checks.proxies_check({}, MAC)), "no variable")
    golden.matches(text_of(checks.proxies_check({"https_proxy": "http://p:1"}, MAC)), "variable")


def test_certificates(golden: Golden) -> None:
    assert checks.certificates_variable({"SSL_CERT_FILE": "", "CURL_CA_BUNDLE": "/c", "HOME": "/"}) == (
        "CURL_CA_BUNDLE",
        Path("/c"),
    )
    variable = checks.certificates_variable({"SSL_CERT_FILE": "/a", "REQUESTS_CA_BUNDLE": "/b"})
    golden.matches(text_of(checks.certificates_check(variable, readable=True)), "variable")
    golden.matches(text_of(checks.certificates_check(variable, readable=False)), "variable that leads nowhere")
    golden.matches(text_of(checks.certificates_check(None, readable=False)), "no variable")


@pytest.mark.parametrize(
    ("now", "known", "status"),
    [
        (datetime(2026, 6, 1, tzinfo=UTC), [], Status.OK),
        (datetime(2026, 6, 1, tzinfo=UTC), [datetime(2026, 6, 1, 0, 5, tzinfo=UTC)], Status.OK),
        (datetime(2026, 6, 1, tzinfo=UTC), [datetime(2026, 6, 1, 1, tzinfo=UTC)], Status.WARNING),
        (datetime(1970, 1, 1, tzinfo=UTC), [], Status.WARNING),
    ],
)
def test_clock(now: datetime, known: list[datetime], status: Status) -> None:
    assert checks.clock_check(now, known, LINUX).status is status


@pytest.mark.parametrize("host_os", [LINUX, MAC])
def test_clock_is_set_by_a_program_of_the_host(host_os: HostOS, golden: Golden) -> None:
    golden.matches(text_of(checks.clock_check(datetime(1970, 1, 1, tzinfo=UTC), [], host_os)))
