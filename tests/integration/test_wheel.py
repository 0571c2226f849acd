"""The wheel, built and installed for real: its man pages under real formatters, its completions in real shells."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import sysconfig
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from machine import DOCUMENTATION
from machine.cli.main import ALIASES, COMMANDS
from tests.support.builders import make_record, make_roots, save_machine
from tests.support.world import world_environment

ROOT = Path(__file__).parents[2]
PROGRAMS = ("machine", "podman-machine")
WAIT_S = 60


def call(*argv: str | Path, cwd: Path | None = None, environment: Mapping[str, str] | None = None) -> str:
    """What a program prints; it must have succeeded and said nothing on stderr."""
    done = subprocess.run(
        argv,
        cwd=cwd,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=WAIT_S * 2,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout


@pytest.fixture(scope="session")
def prefix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh virtual environment with the wheel in it; the dependencies are those of the one that runs the tests."""
    base = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    words = ["wheel", "--no-index", "--no-deps", "--no-build-isolation", "--wheel-dir", str(base), str(ROOT)]
    subprocess.run([*pip, *words], check=True, capture_output=True)
    (wheel,) = base.glob("*.whl")
    prefix = base / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", prefix], check=True)
    python = prefix / "bin" / "python"
    subprocess.run([*pip, "--python", str(python), "install", "--no-index", "--no-deps", str(wheel)], check=True)
    (site,) = prefix.glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    return prefix


def test_both_programs_run_from_the_wheel(prefix: Path) -> None:
    for program in PROGRAMS:
        assert call(prefix / "bin" / program, "--help").startswith(f"Usage: {program} ")
    code = "import machine, machine.ignition.assets; print(machine.__file__)"
    assert call(prefix / "bin" / "python", "-c", code, cwd=prefix).startswith(str(prefix))


def test_metadata_lead_to_the_documentation_from_outside_the_checkout(prefix: Path) -> None:
    (path,) = prefix.glob("lib/python*/site-packages/boot2podman-*.dist-info/METADATA")
    text = path.read_text()
    assert f"Project-URL: Documentation, {DOCUMENTATION}\n" in text
    assert "Description-Content-Type: text/markdown\n" in text
    assert f"]({DOCUMENTATION}images/overview.svg)" in text
    assert not re.search(r"\]\((?!https?://|#)", text)


@pytest.mark.linux("to imitate a Mac loads many modules")
def test_build_needs_nothing_but_click() -> None:
    code = """
import sys
from scripts import build_hook
assert build_hook._manual() and build_hook._completions(["machine"])
print(*sys.modules)
"""
    loaded = set(call(sys.executable, "-c", code, cwd=ROOT).split())
    assert {"click", "hatchling"} <= loaded
    assert not loaded & {"backports", "paramiko", "platformdirs", "qemu", "requests", "rich", "tomlkit"}


def test_pages_are_reproducible() -> None:
    code = "from scripts import build_hook; print(build_hook._manual())"
    first, second = (
        call(sys.executable, "-c", code, cwd=ROOT, environment={"SOURCE_DATE_EPOCH": "1767323045"}) for _ in range(2)
    )
    assert first == second
    assert " 1 2026-01-02 " in first


# Man pages


@pytest.fixture
def manual(prefix: Path) -> list[Path]:
    return sorted((prefix / "share" / "man" / "man1").iterdir())


def test_every_command_has_a_page(manual: list[Path]) -> None:
    names = {path.name for path in manual}
    assert {"machine.1", "machine-port-add.1", "machine-config-set.1", "machine-image-pull.1"} <= names
    assert {f"machine-{name}.1" for name in (*COMMANDS, *ALIASES)} <= names


def test_formatters_have_no_warning(manual: list[Path]) -> None:
    assert call("groff", "-man", "-ww", "-z", "-T", "utf8", *manual) == ""
    assert call("mandoc", "-T", "lint", "-W", "warning", *manual) == ""


def test_pages_are_indexed_by_name_and_purpose(manual: list[Path]) -> None:
    lines = call("lexgrog", *manual).splitlines()
    assert len(lines) == len(manual)
    for path, line in zip(manual, lines, strict=True):
        assert line.startswith(f'{path}: "{path.stem} - ')


def test_man_finds_and_shows_a_page_by_the_path_of_the_program(prefix: Path) -> None:
    path = f"{prefix / 'bin'}:{os.environ['PATH']}"
    assert (
        call("man", "--where", "machine-port-add", environment={"PATH": path})
        == f"{prefix}/share/man/man1/machine-port-add.1\n"
    )
    text = call(
        "man", "machine-port-add", environment={"PATH": path, "MANWIDTH": "80", "LC_ALL": "C.UTF-8", "MANPAGER": "cat"}
    )
    assert "machine port add box '*:5353:53/udp'" in re.sub(".\b", "", text)


# Completion

WORDS = [
    ("st", {"start", "stats", "status", "stop"}),
    ("unpro", {"unprotect"}),
    ("start b", {"bay", "box"}),
    ("port ls bo", {"box"}),
    ("image p", {"prune", "pull"}),
    ("wait --f", {"--for"}),
    ("wait --for a", {"api"}),
    ("init --arch a", {"aarch64"}),
    ("init --provider ", {"qemu", "ssh"}),
    ("nosuch st", {"start", "stats", "status", "stop"}),  # and no error at the prompt
]


@pytest.fixture
def shell_environment(prefix: Path, tmp_path: Path) -> dict[str, str]:
    """Two machines, and the wheel's programs first on PATH."""
    world = tmp_path / "shell"
    world.mkdir()
    environment = {**world_environment(world), "PATH": f"{prefix / 'bin'}:{os.environ['PATH']}", "TERM": "dumb"}
    for name in ("bay", "box"):
        save_machine(make_roots(world / "m"), make_record(name))
    return environment


BASH = """
source "$1"
complete -p "$2"
COMP_WORDS=($2 $3)
[[ $3 == *' ' ]] && COMP_WORDS+=('')
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
function=$(complete -p "$2" | sed 's/.*-F \\([^ ]*\\).*/\\1/')
"$function" "$2" "${COMP_WORDS[COMP_CWORD]}" ''
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.mark.parametrize(
    ("program", "line", "offered"), [*(("machine", *words) for words in WORDS), ("podman-machine", *WORDS[0])]
)
def test_bash_completes(
    program: str, line: str, offered: set[str], prefix: Path, shell_environment: dict[str, str]
) -> None:
    script = prefix / "share" / "bash-completion" / "completions" / program
    known, *found = call(
        "bash", "--norc", "-c", BASH, "bash", script, program, line, environment=shell_environment
    ).splitlines()
    assert known.startswith("complete -o nosort -F ")
    assert known.endswith(f" {program}")
    assert set(filter(None, found)) == offered


def test_bash_completes_machines_before_a_colon(prefix: Path, shell_environment: dict[str, str]) -> None:
    script = prefix / "share" / "bash-completion" / "completions" / "machine"
    # Outside of a completion, bash's compopt says so.
    code = f"compopt() {{ :; }}\n{BASH}"
    lines = call(
        "bash", "--norc", "-c", code, "bash", script, "machine", "cp b", environment=shell_environment
    ).splitlines()
    assert lines[1:] == ["bay:", "box:"]


@pytest.mark.parametrize(
    ("program", "line", "offered"), [*(("machine", *words) for words in WORDS), ("podman-machine", *WORDS[0])]
)
def test_fish_completes(
    program: str, line: str, offered: set[str], prefix: Path, shell_environment: dict[str, str]
) -> None:
    script = prefix / "share" / "fish" / "vendor_completions.d" / f"{program}.fish"
    code = "source $argv[1]; complete --do-complete $argv[2]"
    found = call("fish", "--no-config", "-c", code, script, f"{program} {line}", environment=shell_environment)
    # After each there may be what it means.
    assert {word.partition("\t")[0] for word in found.splitlines()} == offered


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize(
    ("typed", "completed"), [("unpro", "unprotect "), ("start bo", "start box "), ("port ls ba", "port ls bay ")]
)
def test_zsh_completes(
    program: str, typed: str, completed: str, prefix: Path, shell_environment: dict[str, str]
) -> None:
    """At a terminal, as zsh completes nowhere else: by the functions that compinit finds."""
    functions = prefix / "share" / "zsh" / "site-functions"
    process, terminal = pty.fork()
    if process == 0:
        os.execvpe("zsh", ["zsh", "-f", "-i"], {**os.environ, **shell_environment})
    try:
        setup = f"PROMPT=READY; fpath=({functions} $fpath); autoload -Uz compinit && compinit -u -D; echo SET''UP\n"
        os.write(terminal, setup.encode())
        expect(terminal, "SETUP")
        os.write(terminal, f"{program} {typed}\t".encode())
        expect(terminal, f"{program} {completed}")
    finally:
        os.close(terminal)
        os.waitpid(process, 0)


def expect(terminal: int, text: str) -> None:
    """Read until a terminal shows the text, whatever it shows between its letters."""
    seen, until = "", time.monotonic() + WAIT_S
    while text not in seen:
        readable, _, _ = select.select([terminal], [], [], max(0.0, until - time.monotonic()))
        assert readable, seen
        seen += os.read(terminal, 4096).decode(errors="replace")
        seen = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", seen)


def test_completion_of_a_home_that_cannot_be_read_is_silent(prefix: Path, shell_environment: dict[str, str]) -> None:
    home = Path(shell_environment["HOME"])
    home.touch()
    script = prefix / "share" / "fish" / "vendor_completions.d" / "machine.fish"
    code = "source $argv[1]; complete --do-complete $argv[2]"
    broken = {**shell_environment, "MACHINE_HOME": str(home), "HOME": str(home.parent)}
    assert call("fish", "--no-config", "-c", code, script, "machine start b", environment=broken) == ""
