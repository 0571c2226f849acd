"""What the supervisor logs of exceptions that nobody awaits any more."""

from __future__ import annotations

import asyncio

import pytest

from machine.supervisor.process import log_unawaited


@pytest.mark.parametrize(("error", "has_traceback"), [(EOFError(), False), (ValueError("x"), True)])
def test_only_the_end_of_a_connection_has_no_traceback(
    error: Exception, has_traceback: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def leave_behind() -> None:
        context = {"message": "Task exception was never retrieved", "exception": error}
        log_unawaited(asyncio.get_running_loop(), context)

    asyncio.run(leave_behind())
    assert ("Task exception was never retrieved" in caplog.text) is has_traceback
