"""Run the build's programs, step by step, in temporary folders."""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from machine import runner
from machine.errors import MachineError, Page, ProgramError
from machine.files import FILE_PUBLIC, open_created
from machine.guestimage.disk import FIXED_TIMES
from machine.guestimage.host import MAPPED, SEARCH_PATH, HostFacts, find_problem, probe_host
from machine.guestimage.recipe import ImagePlan
from machine.model.arch import Arch
from machine.report import Reporter

log = logging.getLogger(__name__)

STEP_TIMEOUT_S = 1800.0
WORK_PREFIX = ".build-"
# Not /tmp, which is often a tmpfs.
DEFAULT_SCRATCH = "/var/tmp"  # noqa: S108 - mkdtemp makes the folder in it
LOG_TAIL = 20
ERROR_PREFIXES = ("E: ", "dracut[E]", "dracut[F]", "error:")
MMDEBSTRAP_CLOSING = ("E: setup failed", "E: mmdebstrap failed", "E: run_chroot failed")


@contextlib.contextmanager
def building(plan: ImagePlan, output: Path, report: Reporter) -> Iterator[Steps]:
    """Create the temporary folders of a build, and remove them after the block.

    Raises:
        MachineError: this host cannot build the image.
    """
    scratch_base = Path(os.environ.get("TMPDIR") or DEFAULT_SCRATCH)
    facts = probe_host(plan, output=output, scratch=scratch_base)
    if problem := find_problem(facts, plan):
        raise problem
    remove_stale(output, facts)
    with work_folder(output, scratch_base, facts) as (work, scratch):
        yield Steps(log_file=output / "build.log", work=work, scratch=scratch, facts=facts, report=report)


@contextlib.contextmanager
def work_folder(output: Path, scratch_base: Path, facts: HostFacts) -> Iterator[tuple[Path, Path]]:
    """Create a work folder in `output`, and a scratch folder for mmdebstrap. Remove the two folders after the block."""
    work = Path(tempfile.mkdtemp(prefix=WORK_PREFIX, dir=output))
    try:
        scratch = Path(tempfile.mkdtemp(prefix="boot2podman-", dir=scratch_base))
        # If this build is killed, the next build reads this and removes both folders.
        (work / "scratch").write_text(os.fspath(scratch))
        # Root in mmdebstrap's user namespace is another user on the host and must be able to enter.
        scratch.chmod(0o711)
        yield work, scratch
    finally:
        remove_work(work, facts)


def remove_stale(output: Path, facts: HostFacts) -> None:
    for work in output.glob(f"{WORK_PREFIX}*"):
        remove_work(work, facts)


def remove_work(work: Path, facts: HostFacts) -> None:
    """Delete a work folder and its scratch folder. If that fails, only log the error."""
    with contextlib.suppress(OSError):
        scratch = Path((work / "scratch").read_text())
        if scratch.name.startswith("boot2podman-"):
            remove_tree(scratch, facts)
    remove_tree(work, facts)


def remove_tree(folder: Path, facts: HostFacts) -> None:
    """Delete a folder that may contain files of users in a user namespace. If that fails, only log the error."""
    try:
        runner.run(
            [*mapping(facts), "rm", "-rf", "--one-file-system", "--", folder],
            timeout_s=STEP_TIMEOUT_S,
            environment={"PATH": SEARCH_PATH},
        )
    except MachineError as error:
        log.warning("cannot delete %s: %s", folder, error)


def mapping(facts: HostFacts) -> tuple[str, ...]:
    return () if facts.is_root else MAPPED


class Steps:
    """Runs the programs of a build in the build's work folder, and writes their output to the build's log."""

    def __init__(self, *, log_file: Path, work: Path, scratch: Path, facts: HostFacts, report: Reporter) -> None:
        self.log_file = log_file
        self.work = work
        self.scratch = scratch
        self.report = report
        self._facts = facts
        self._mapping = mapping(facts)
        self._name = ""
        open_created(log_file, "wb", permissions=FILE_PUBLIC).close()

    def native_arch(self, plan: ImagePlan) -> Arch | None:
        """Return this host's architecture if the image has another architecture, else None."""
        return None if self._facts.arch == plan.arch.value else Arch(self._facts.arch)

    def begin(self, name: str) -> None:
        self._name = name
        self.report.step(name)
        with self.log_file.open("a") as stream:
            stream.write(f"\n== {name}\n")

    def run(
        self,
        argv: Sequence[str | os.PathLike[str]],
        *,
        stdin: str | None = None,
        timeout_s: float = STEP_TIMEOUT_S,
        environment: dict[str, str] | None = None,
    ) -> None:
        """Run one program in the work folder.

        Raises:
            MachineError: the program failed. The message names the step and the log.
        """
        try:
            runner.run(
                argv,
                timeout_s=timeout_s,
                stdin=stdin,
                cwd=self.work,
                environment={**FIXED_TIMES, "PATH": SEARCH_PATH, **(environment or {})},
                output=self.log_file,
            )
        except ProgramError as error:
            raise self.failure(error) from error

    def run_mapped(self, argv: Sequence[str | os.PathLike[str]], *, stdin: str | None = None) -> None:
        """Run a program that has to see and create files of any owner. If we are not root, use a user namespace."""
        self.run([*self._mapping, *argv], stdin=stdin)

    def failure(self, error: ProgramError) -> MachineError:
        """Return the error for a failed step, with the last lines of the log."""
        text = self.log_file.read_text(errors="replace")
        lines = [line.rstrip() for line in text.splitlines() if line.strip()][-LOG_TAIL:]
        return MachineError(
            f"building the image failed ({self._name}): {error_line(lines) or error.message}",
            details=[error.message, *lines],
            hint=f"see the whole log: {self.log_file}",
            page=Page.BUILD,
        )


def error_line(lines: Sequence[str]) -> str | None:
    """Return the last line that is marked as an error or, if no line is marked, the last line."""
    errors = [line for line in lines if line.startswith(ERROR_PREFIXES) or ": error: " in line]
    # mmdebstrap's last lines only say that it failed.
    causes = [line for line in errors if not line.startswith(MMDEBSTRAP_CLOSING)]
    return next(reversed(causes or errors or list(lines)), None)
