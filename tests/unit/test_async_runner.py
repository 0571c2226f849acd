"""Programs that asyncio waits for, feeds, reads and ends."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest

from machine.async_runner import PIPE, run, spawn
from machine.errors import DeadlineError, MachineError, ProgramError

T = TypeVar("T")

PATIENCE_S = 20.0
FOR_EVER_S = 600


def finish(work: Coroutine[Any, Any, T]) -> T:
    async def bounded() -> T:
        async with asyncio.timeout(PATIENCE_S):
            return await work

    return asyncio.run(bounded())


def is_gone(pid: int) -> bool:
    """Whether a process is no more, not even a zombie."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_output_input_and_status_are_passed_on() -> None:
    completed = finish(run(["sh", "-c", "cat; echo low >&2; exit 3"], timeout_s=9, check=False, stdin="é\n"))
    assert (completed.returncode, completed.stdout, completed.stderr) == (3, "é\n", "low\n")


def test_environment_is_added_to_ours_and_messages_are_english() -> None:
    completed = finish(run(["sh", "-c", "echo $LC_ALL $OWN $HOME"], timeout_s=9, environment={"OWN": "x"}))
    assert completed.stdout.split() == ["C", "x", os.environ["HOME"]]


def test_more_than_a_pipe_holds_goes_both_ways() -> None:
    text = "0123456789abcdef" * 64 * 1024
    assert finish(run(["cat"], timeout_s=9, stdin=text)).stdout == text


def test_program_may_leave_its_input_unread() -> None:
    assert finish(run(["true"], timeout_s=9, stdin="x" * 1024 * 1024)).returncode == 0


def test_failed_program_is_an_error_with_its_last_words() -> None:
    with pytest.raises(ProgramError, match=r"^sh failed with exit status 4: bad luck$") as caught:
        finish(run(["sh", "-c", "echo bad luck >&2; exit 4"], timeout_s=9))
    assert caught.value.returncode == 4


def test_program_that_is_not_there_or_is_none(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match=r"^/nonexistent is not installed on this host$"):
        finish(run(["/nonexistent"], timeout_s=9))
    (tmp_path / "text").write_text("")
    with pytest.raises(MachineError, match=r"text cannot be run: Permission denied$"):
        finish(run([tmp_path / "text"], timeout_s=9, stdin="x"))


def test_program_is_killed_and_reaped_at_its_deadline(tmp_path: Path) -> None:
    script = f"echo $$ >{tmp_path}/pid; exec sleep {FOR_EVER_S}"
    with pytest.raises(DeadlineError, match=r"^sh did not end within 1 s$"):
        finish(run(["sh", "-c", script], timeout_s=1))
    assert is_gone(int((tmp_path / "pid").read_text()))


def test_program_is_killed_and_reaped_when_its_caller_is_cancelled(tmp_path: Path) -> None:
    async def cancel() -> None:
        task = asyncio.create_task(run(["sh", "-c", f"echo $$ >{tmp_path}/pid; exec sleep {FOR_EVER_S}"], timeout_s=99))
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()

    finish(cancel())
    assert is_gone(int((tmp_path / "pid").read_text()))


def test_program_is_reaped_however_often_its_end_is_cancelled() -> None:
    async def work() -> int:
        child = await spawn(["sh", "-c", "trap '' TERM; sleep 60 & wait"], patience_s=PATIENCE_S)
        ending = asyncio.create_task(child.end())
        while not ending.done():
            await asyncio.sleep(0)
            ending.cancel()
        assert ending.cancelled()
        return child.pid

    assert is_gone(finish(work()))


def test_wait_is_over_when_the_program_has_ended_whoever_holds_its_pipes() -> None:
    """As the SSH master does for as long as a session lasts."""
    script = f"sleep {FOR_EVER_S} & echo $!"
    completed = finish(run(["sh", "-c", script], timeout_s=PATIENCE_S, stdin=""))  # past which it fails
    os.kill(int(completed.stdout), signal.SIGKILL)


def test_child_is_talked_to_by_streams_until_it_ends() -> None:
    async def talk() -> tuple[bytes, bytes, int]:
        async with await spawn(
            ["sh", "-c", "read x; echo got $x; echo low >&2; read x"], stdin=PIPE, stdout=PIPE, stderr=PIPE
        ) as child:
            assert child.stdin
            assert child.stdout
            assert child.stderr
            child.stdin.write(b"this\n")
            said = await child.stdout.readline(), await child.stderr.readline()
            child.stdin.close()
            return *said, await child.wait()

    assert finish(talk()) == (b"got this\n", b"low\n", 1)


def test_child_writes_to_a_file_and_has_the_descriptors_it_was_given(tmp_path: Path) -> None:
    async def write() -> None:
        with (tmp_path / "out").open("wb") as output, (tmp_path / "passed").open("w") as passed:
            script = f"echo out; echo there >/dev/fd/{passed.fileno()}"
            async with await spawn(["sh", "-c", script], stdout=output, pass_fds=[passed.fileno()]) as child:
                assert (child.stdin, child.stdout, child.stderr) == (None, None, None)
                assert await child.wait() == 0

    finish(write())
    assert ((tmp_path / "out").read_text(), (tmp_path / "passed").read_text()) == ("out\n", "there\n")


@pytest.mark.parametrize(
    ("trap", "patience_s", "status"),
    [
        ("trap 'exit 7' TERM", PATIENCE_S, 7),
        ("trap '' TERM", 0.2, -signal.SIGKILL),
        ("trap 'exit 7' TERM", 0, -signal.SIGKILL),
    ],
)
def test_child_that_is_ended_has_its_patience_and_no_more(trap: str, patience_s: float, status: int) -> None:
    async def end() -> int:
        script = f"{trap}; echo ready; while :; do sleep 0.05; done"
        child = await spawn(["sh", "-c", script], stdout=PIPE, patience_s=patience_s)
        assert child.stdout
        await child.stdout.readline()
        assert child.returncode is None
        ended = await child.end()
        assert await child.end() == ended
        child.kill()
        assert is_gone(child.pid)
        return ended

    assert finish(end()) == status
