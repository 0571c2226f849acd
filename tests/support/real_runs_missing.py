"""Why some verbs and flags have never run on a real guest."""

from __future__ import annotations

_HOST = "it is about this host alone, and tests/integration runs it"
_LOGIN = "it needs the login services of a real session, which tests/integration stands in for"
_FEDORA = "it needs Fedora CoreOS, whose image the tests do not have"

_REMOTE = "it needs a host that runs already, which tests/integration makes with a real SSH server"

MISSING = {
    "autostart disable": _LOGIN,
    "autostart enable": _LOGIN,
    "config edit": _HOST,
    "init --accept-new-host-key": _REMOTE,
    "image build": "it makes the image of the guests, before there is one",
    "image catalogue": _HOST,
    "image rm": _HOST,
    "image verify": _HOST,
    "os apply": _FEDORA,
    "os upgrade": _FEDORA,
    "start --on-demand": "it starts no guest itself, and tests/integration runs it",
    "set --idle-suspend": "its guest is suspended after five minutes at the soonest, as by `init --idle-suspend`",
    "set --username": "it is refused, as a user cannot be renamed",
}
"""The reason for each verb or flag."""
