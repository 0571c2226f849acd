"""A guest for `machine cp`: a real sshd on loopback, at the SSH port of the machine's record."""

from __future__ import annotations

import contextlib
import getpass
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.builders import make_record, make_roots, save_machine
from tests.support.sshd import Sshd, serving_sshd
from tests.support.start import held_lock
from tests.support.warm import warm_program
from tests.support.world import COMMAND_S, World, machine_program, make_world


@dataclass(kw_only=True)
class Guest:
    """A machine `box` that seems to run to `machine cp`; its guest's relative paths begin in `home`."""

    world: World
    sshd: Sshd
    home: Path
    host: Path

    def cp(self, *words: str | Path, stdin: bytes | None = None, stdout: int | None = None) -> Done:
        """Run `machine cp` in the directory `host`; as a new process if it reads or writes pipes."""
        if stdin is None and stdout is None and "-" not in words:
            status, output, errors = warm_program(machine_program()).run(
                ["cp", *(os.fspath(word) for word in words)], self.world.environment, self.host, timeout_s=COMMAND_S
            )
            return Done(status=status, stdout=output.encode(), stderr=errors)
        stdout = subprocess.PIPE if stdout is None else stdout
        done = subprocess.run(
            [machine_program(), "cp", *(os.fsencode(word) for word in words)],
            env=self.world.environment,
            cwd=self.host,
            input=stdin or b"",
            stdout=stdout,
            stderr=subprocess.PIPE,
            timeout=COMMAND_S,
            check=False,
        )
        return Done(status=done.returncode, stdout=done.stdout or b"", stderr=done.stderr.decode())

    def copy(self, *words: str | Path) -> Done:
        """Run a `machine cp` that must succeed."""
        done = self.cp(*words)
        assert (done.status, done.stdout) == (0, b"Copy successful\n"), done.stderr
        return done

    def copy_error(self, *words: str | Path, stdin: bytes | None = None) -> str:
        """Run a `machine cp` that must fail; returns its error, one line that may name a page."""
        done = self.cp("-q", *words, stdin=stdin)
        assert (done.status, done.stdout) == (125, b""), done.stderr
        line, *pages = done.stderr.splitlines()
        assert all(page.startswith("  see the documentation: ") for page in pages), done.stderr
        return line

    @contextlib.contextmanager
    def copying(self, *words: str | Path) -> Iterator[subprocess.Popen[bytes]]:
        """Run `machine cp` during the block; it is killed if the test fails."""
        with subprocess.Popen(
            ["/usr/bin/env", "--default-signal=INT", machine_program(), "cp", "-q", *words],
            env=self.world.environment,
            cwd=self.host,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process:
            try:
                yield process
            except BaseException:
                process.kill()
                raise


@dataclass(frozen=True, kw_only=True)
class Done:
    status: int
    stdout: bytes
    stderr: str


@contextlib.contextmanager
def running_guest(base: Path, *, subsystem: str = "internal-sftp", options: str = "") -> Iterator[Guest]:
    world = make_world(base / "w")
    home, host, settings = base / "guest", base / "host", base / "etc"
    for directory in (home, host, settings):
        directory.mkdir()
    paths = make_roots(world.home).machine("box")
    paths.directory.mkdir(parents=True)
    sftp = f"Subsystem sftp {subsystem} -d {home} {options}" if subsystem else ""
    with serving_sshd(paths.directory, settings, sftp) as sshd:
        record = save_machine(
            make_roots(base / "aside"), make_record(ssh_port=sshd.target.port, username=getpass.getuser())
        ).record
        record.rename(paths.record)
        with held_lock(paths):
            yield Guest(world=world, sshd=sshd, home=home, host=host)


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def parts(directory: Path) -> list[Path]:
    return [path for path in directory.iterdir() if ".part-" in path.name and path.stat().st_size]
