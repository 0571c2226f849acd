"""The host's proxies, as a guest has to name them."""

from __future__ import annotations

import pytest

from machine.model.proxies import guest_proxies


@pytest.mark.parametrize(
    ("value", "guest"),
    [
        ("http://proxy.example:3128", "http://proxy.example:3128"),
        ("http://localhost:3128", "http://host.containers.internal:3128"),
        ("http://LOCALHOST", "http://host.containers.internal"),
        ("127.0.0.1:3128", "host.containers.internal:3128"),
        ("http://127.1.2.3:3128/", "http://host.containers.internal:3128/"),
        ("socks5h://me:localhost@[::1]:1080", "socks5h://me:localhost@host.containers.internal:1080"),
        ("http://localhost.example:1", "http://localhost.example:1"),
        ("http://notlocalhost:1", "http://notlocalhost:1"),
        ("http://proxy.example/localhost:1", "http://proxy.example/localhost:1"),
    ],
)
def test_loopback_of_the_host_has_another_name_in_the_guest(value: str, guest: str) -> None:
    assert guest_proxies({"http_proxy": value}) == (("http_proxy", guest),)


def test_both_spellings_follow_and_exceptions_stay_as_they_are() -> None:
    environment = {
        "NO_PROXY": "localhost,127.0.0.1", "all_proxy": "a", "HTTPS_PROXY": "b", "ftp_proxy": "", "http_proxy": "c\nd",
        "PATH": "/bin",
    }  # fmt: skip
    assert guest_proxies(environment) == (("HTTPS_PROXY", "b"), ("all_proxy", "a"), ("NO_PROXY", "localhost,127.0.0.1"))
