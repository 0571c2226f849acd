"""Define deadlines. A caller makes a deadline, on the monotonic clock, and passes it down to every wait."""

from __future__ import annotations

import time
from collections.abc import Callable

from machine.errors import DeadlineError
from machine.model.dataclass import dataclass


@dataclass(frozen=True, kw_only=True)
class Deadline:
    """A point in time until which to wait. `what` names, for error messages, what is awaited."""

    what: str
    at: float
    limit_s: float

    @classmethod
    def after(cls, seconds: float, what: str) -> Deadline:
        return cls(what=what, at=time.monotonic() + seconds, limit_s=seconds)

    @property
    def left_s(self) -> float:
        """The remaining seconds, never negative."""
        return max(0.0, self.at - time.monotonic())

    @property
    def passed(self) -> bool:
        return self.left_s == 0.0

    def error(self, last: str | None = None) -> DeadlineError:
        suffix = f" (last: {last})" if last else ""
        return DeadlineError(f"timed out after {self.limit_s:.0f} s waiting for {self.what}{suffix}")

    def wait_until(self, condition: Callable[[], bool], *, interval_s: float = 0.05) -> None:
        """Poll `condition` until it holds.

        Raises:
            DeadlineError: `condition` did not hold before the deadline.
        """
        while not condition():
            if self.passed:
                raise self.error()
            time.sleep(min(interval_s, self.left_s))
