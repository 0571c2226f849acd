"""Ask this host for the addresses of names, as its own programs do."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
import threading
from collections.abc import Sequence

from machine.model import network
from machine.resolver.answers import Missing

log = logging.getLogger(__name__)

_ANSWER_S = 20.0
# More questions at once are not answered; the guest asks again.
_MAX_LOOKUPS = 64


class HostNames:
    """Looks names up by getaddrinfo(3), which knows /etc/hosts, multicast DNS and the servers of a VPN."""

    def __init__(self) -> None:
        self._running = 0

    async def look_up(self, name: str) -> Sequence[str] | Missing:
        """Return the addresses of a name, or why it has none. An address of this host's loopback is that of the host
        as the guest sees it.
        """
        if self._running >= _MAX_LOOKUPS:
            return Missing.FAILURE
        self._running += 1
        try:
            async with asyncio.timeout(_ANSWER_S):
                return await _in_thread(name)
        except TimeoutError:
            return Missing.FAILURE
        finally:
            self._running -= 1


async def _in_thread(name: str) -> Sequence[str] | Missing:
    """Look a name up in a thread that does not keep this process from ending."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[Sequence[str] | Missing] = loop.create_future()

    def settle(found: Sequence[str] | Missing) -> None:
        if not answer.done():
            answer.set_result(found)

    def work() -> None:
        found = _ask_host(name)
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, found)

    threading.Thread(target=work, daemon=True).start()
    return await answer


def _ask_host(name: str) -> Sequence[str] | Missing:
    try:
        found = socket.getaddrinfo(name.encode("ascii"), None, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        if error.errno == socket.EAI_NONAME:
            return Missing.NO_SUCH_NAME
        no_data = getattr(socket, "EAI_NODATA", None), getattr(socket, "EAI_ADDRFAMILY", None)
        return () if error.errno in no_data else Missing.FAILURE
    except (OSError, ValueError) as error:
        log.debug("%s: %s", name, error)
        return Missing.FAILURE
    return for_guest([str(entry[4][0]) for entry in found])


def for_guest(addresses: Sequence[str]) -> list[str]:
    """Return a name's addresses as they are in the guest, each once (pure)."""
    usable = []
    for text in addresses:
        address = ipaddress.ip_address(text.partition("%")[0])
        if address.is_loopback and address.version == 4:
            usable.append(network.HOST)
        elif not address.is_loopback and not address.is_link_local:
            usable.append(str(address))
    return list(dict.fromkeys(usable))
