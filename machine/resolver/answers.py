"""Read questions in DNS's format, and write answers (pure). Only addresses are answered (A and AAAA).

dnspython is slow to import, so this module is imported only where a guest's questions are answered.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import dns.exception
import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.rdatatype

# dnspython imports the modules of record types when it needs them, which an upgrade may have removed by then.
import dns.rdtypes.ANY.OPT
import dns.rdtypes.IN.A
import dns.rdtypes.IN.AAAA
import dns.rrset

# An answer of the host may change at any time, for example when a VPN connects.
_TTL_S = 10
# Without EDNS, and as much as any network carries in one packet.
_UDP_BYTES, _MAX_UDP_BYTES = 512, 1232


class Missing(Enum):
    """Why a name has no addresses."""

    NO_SUCH_NAME = dns.rcode.NXDOMAIN
    FAILURE = dns.rcode.SERVFAIL


@dataclass(frozen=True)
class Question:
    """A question for the addresses of a name."""

    message: dns.message.Message
    name: str
    """The name without its last dot, in ASCII."""

    @property
    def wants_addresses(self) -> bool:
        """Whether the question asks for what this host can answer."""
        asked = self.message.question[0]
        return asked.rdclass == dns.rdataclass.IN and asked.rdtype in (dns.rdatatype.A, dns.rdatatype.AAAA)

    @property
    def wants_ipv6(self) -> bool:
        return self.message.question[0].rdtype == dns.rdatatype.AAAA

    @property
    def max_bytes(self) -> int:
        """How long an answer over UDP may be."""
        return min(max(_UDP_BYTES, self.message.payload), _MAX_UDP_BYTES)


def read_question(data: bytes) -> Question | None:
    """Return the question in a message, or None if the message is not a question about one name."""
    try:
        message = dns.message.from_wire(data)
    except (dns.exception.DNSException, ValueError):
        return None
    is_query = message.opcode() == dns.opcode.QUERY and not message.flags & dns.flags.QR
    if not is_query or len(message.question) != 1:
        return None
    return Question(message=message, name=message.question[0].name.to_text(omit_final_dot=True))


def write_answer(question: Question, found: Sequence[str] | Missing, *, max_bytes: int = 0) -> bytes:
    """Return the answer to a question. `found` has the addresses of the name, of both kinds.

    If `max_bytes` is given and the answer is longer, it says that it is incomplete, so that the guest asks over TCP.
    """
    answer = dns.message.make_response(question.message, recursion_available=True)
    if isinstance(found, Missing):
        answer.set_rcode(found.value)
    else:
        version = 6 if question.wants_ipv6 else 4
        addresses = [address for address in found if ipaddress.ip_address(address).version == version]
        asked = question.message.question[0]
        if question.wants_addresses and addresses:
            answer.answer.append(dns.rrset.from_text_list(asked.name, _TTL_S, asked.rdclass, asked.rdtype, addresses))
    whole = answer.to_wire()
    if not max_bytes or len(whole) <= max_bytes:
        return whole
    answer.answer.clear()
    answer.flags |= dns.flags.TC
    return answer.to_wire()
