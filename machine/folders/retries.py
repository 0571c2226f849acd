"""Decide when a folder is mounted again: its session has ended or did not begin, or the guest could not be asked."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from machine.model.folders import Folder

_FIRST_S = 1.0
_MAX_S = 60.0
# A session that has lasted this long is not one that ends at once again and again.
_LASTED_S = 120.0


@dataclass(frozen=True, kw_only=True)
class _Retry:
    pause_s: float
    due: float
    is_pending: bool = True


class Retries:
    """The folders that have to be mounted again. The first pause is short, and each further pause is longer."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._retries: dict[Folder, _Retry] = {}

    def plan(self, *folders: Folder) -> None:
        """Plan to mount folders again, because their sessions have ended, or because they could not be mounted."""
        now = self._clock()
        for folder in folders:
            last = self._retries.get(folder)
            pause_s = min(2 * last.pause_s, _MAX_S) if last and now - last.due < _LASTED_S else _FIRST_S
            self._retries[folder] = _Retry(pause_s=pause_s, due=now + pause_s)

    def take(self) -> list[Folder]:
        """Return the folders that are to be mounted now. Each is returned once for each plan."""
        now = self._clock()
        due = {folder: retry for folder, retry in self._retries.items() if retry.is_pending and retry.due <= now}
        for folder, retry in due.items():
            self._retries[folder] = _Retry(pause_s=retry.pause_s, due=retry.due, is_pending=False)
        return list(due)

    def clear(self) -> None:
        """Forget all plans, because all folders are being mounted."""
        self._retries.clear()
