"""Adds the seconds in the file FALSE_CLOCK to the wall clock of this interpreter."""

from __future__ import annotations

import os
import time
from pathlib import Path

_true_time = time.time


def _false_time() -> float:
    return _true_time() + float(Path(os.environ["FALSE_CLOCK"]).read_text() or 0)


if "FALSE_CLOCK" in os.environ:
    time.time = _false_time
