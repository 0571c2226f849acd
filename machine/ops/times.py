"""Times as Go's encoding/json writes them, which is what Podman prints."""

from __future__ import annotations

from datetime import datetime

NEVER = "0001-01-01T00:00:00Z"


def rfc3339(moment: datetime | None) -> str:
    return moment.isoformat().replace("+00:00", "Z") if moment else NEVER
