"""Read what `machine export --format kubevirt` prints."""

from __future__ import annotations

import re
import textwrap


def payload_of(manifest: str) -> str:
    """Return the text in the Secret, which the guest reads at its first boot."""
    found = re.search(r"^    userdata: \|\n((?:      .*\n|\n)+)", manifest, re.MULTILINE)
    assert found
    return textwrap.dedent(found[1])
