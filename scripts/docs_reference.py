"""Generate the parts of the documentation's reference that the program itself knows best, as Markdown."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import machine
from machine.cli.main import ALIASES, SECTIONS, cli
from machine.model.arch import Arch
from machine.model.host import Host, HostOS
from machine.model.settings import DEFAULT_VOLUMES, RULES, built_in, value_text
from machine.ops.init_request import KEYS
from scripts.manual import ENVIRONMENT, EXIT_STATUS, SSH_STATUS, Topic, help_paragraphs, is_example, topic_of

_PATHS = Path(machine.__file__).parent / "store" / "paths.py"
_RUNTIME_LINK = "run"
_EXAMPLE_HEADING = 2

# Of a machine's files, those whose names say enough for a comment in the code to be missing.
_FILES = {
    "record.json": "Everything that is stored about the machine, with a schema number.",
    "disk.qcow2": "The machine's disk, an overlay on an image in the cache; snapshots are in it, too.",
    "config.ign": "The Ignition config of the guest's first boot.",
    "id_ed25519": "The private key by which this program logs in to the guest.",
    "id_ed25519.pub": "The public half of `id_ed25519`.",
    "ready.sock": "How the guest says that it has booted.",
    "ssh_host_ed25519_key.pub": "The public half of the guest's host key.",
    "known_hosts": "The only host key that connections to the guest accept.",
    "efivars.fd": "The variables of the guest's UEFI firmware, if it has one.",
    "serial.log": "What the guest has printed on its serial console since the last start.",
    "ignition-journal.log": "Ignition's own journal, if the first boot has failed.",
    "qemu.log": "What QEMU has printed.",
    "supervisor.log": "What the supervisor has done, and why.",
    "control.sock": "How commands speak to the supervisor.",
    "qmp.sock": "QEMU's control protocol, for the supervisor.",
    "ssh.ctl": "OpenSSH's own socket for the connection to the guest.",
    "podman.sock": "The API of rootless Podman, and Docker's API.",
    "podman-root.sock": "The API of rootful Podman, and Docker's API.",
}


def command_line() -> str:
    """Describe each command, in the order in which `machine --help` lists them."""
    root = topic_of(("machine",), cli)
    children = {child.names[-1]: child for child in root.children}
    lines: list[str] = []
    for title, names in SECTIONS.items():
        lines += [f"## {title}", ""]
        for name in names:
            lines += _command(children[name], 3)
    return "\n".join(lines)


def _command(topic: Topic, level: int) -> Iterator[str]:
    aliases = [alias for alias, name in ALIASES.items() if topic.names == ("machine", name)]
    yield from (f"{'#' * level} {topic.words}", "")
    if aliases:
        yield from (f"Also `machine {'`, `machine '.join(aliases)}`.", "")
    yield from ("```text", _usage(topic), "```", "")
    for text in help_paragraphs(topic.command):
        yield from (*_paragraph(text), "")
    if options := _options(topic):
        yield from (*_table(("option", "meaning"), options), "")
    for child in topic.children:
        yield from _command(child, level + 1)


def _usage(topic: Topic) -> str:
    return f"{topic.words} {' '.join(topic.command.collect_usage_pieces(topic.context))}".rstrip()


def _paragraph(text: str) -> Sequence[str]:
    if is_example(text):
        lines = [line.removeprefix("  ") for line in text.splitlines()[_EXAMPLE_HEADING:]]
        return ["```sh", *lines, "```"]
    if text.startswith("\b"):
        return ["```text", *text.splitlines()[1:], "```"]
    return [_escaped(" ".join(text.split()))]


def _options(topic: Topic) -> list[tuple[str, str]]:
    records = (param.get_help_record(topic.context) for param in topic.command.get_params(topic.context))
    return [(f"`{head}`", _escaped(text)) for head, text in filter(None, records) if text]


def settings() -> str:
    """Describe each key of config.toml, with its built-in value."""
    host = Host(os=HostOS.LINUX, machine=Arch.X86_64, cpus=2, memory_mib=8192)
    values = vars(built_in(host)) | {"cpus": "half of the host's CPUs", "volumes": "your home directory"}
    rows = []
    for key, rule in RULES.items():
        text = values[key] if isinstance(values[key], str) else value_text(values[key])
        rows.append((f"`{key}`", f"{_escaped(rule.meaning)}.", _escaped(rule.expected), _escaped(text or "none")))
    volumes = ", ".join(f"`{each}`" for each in DEFAULT_VOLUMES[HostOS.MACOS])
    note = f"On macOS, `volumes` is {volumes}."
    return "\n".join([*_table(("key", "meaning", "value", "built in"), rows), "", note])


def environment() -> str:
    """Describe the environment variables that the program reads."""
    rows = [(", ".join(f"`{name}`" for name in names.split(", ")), text) for names, text in ENVIRONMENT.items()]
    return "\n".join(_table(("variable", "meaning"), rows))


def exit_statuses() -> str:
    """Describe the exit statuses."""
    rows = [(f"`{status}`", text) for status, text in EXIT_STATUS.items()]
    return "\n".join([*_table(("status", "meaning"), rows), "", SSH_STATUS])


def machine_file_keys() -> str:
    """Describe the keys of the file for `machine init -f`, by the help of the flags of the same names."""
    init = next(child for child in topic_of(("machine",), cli).children if child.names[-1] == "init")
    helps = {}
    for param in init.command.get_params(init.context):
        record = param.get_help_record(init.context)
        if record and param.opts:
            helps[max(param.opts, key=len).lstrip("-").replace("-", "_")] = record[1]
    rows = [
        (f"`{key}`", _escaped(helps.get(key) or "The machine's name, if the command line has none.")) for key in KEYS
    ]
    return "\n".join(_table(("key", "meaning"), rows))


def machine_files() -> str:
    """Describe the files of a machine's directory, by the comments of `store/paths.py`."""
    return "\n".join(_table(("file", "what it is"), list(files_of("_PersistentPath").items())))


def runtime_files() -> str:
    """Describe the sockets in a machine's runtime directory."""
    return "\n".join(_table(("socket", "what it is"), list(files_of("_RuntimePath").items())))


def files_of(kind: str) -> dict[str, str]:
    """Return a text for each file name that `MachinePaths` declares by the class `kind`."""
    tree = ast.parse(_PATHS.read_text())
    paths = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "MachinePaths")
    found: dict[str, str] = {}
    names: dict[str, str] = {}
    for node, following in pairwise([*paths.body, ast.Pass()]):
        match node:
            case ast.Assign(
                targets=[ast.Name(id=attribute)], value=ast.Call(func=ast.Name(id=called), args=[argument])
            ):
                name = argument.value if isinstance(argument, ast.Constant) else _RUNTIME_LINK
                names[attribute] = str(name)
                if called == kind:
                    found[str(name)] = _comment(following) or _FILES[str(name)]
            case _:
                pass
    # The comments of the code name its attributes.
    return {
        f"`{file}`": re.sub(r"`(\w+)`", lambda word: f"`{names.get(word[1], word[1])}`", text)
        for file, text in found.items()
    }


def _comment(node: ast.stmt) -> str | None:
    match node:
        case ast.Expr(value=ast.Constant(value=str(text))):
            return " ".join(text.split())
        case _:
            return None


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [heads, ["---"] * len(heads), *rows]
    return [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines]


def _escaped(text: str) -> str:
    """Return text of the program's so that Markdown shows it as it is; what is between backticks stays code."""
    parts = text.split("`")
    for index in range(0, len(parts), 2):
        parts[index] = re.sub(r"([\\*_<>\[\]#$])", r"\\\1", parts[index]).replace(r"\$", "$")
    return "`".join(parts)


GENERATED: Mapping[str, Callable[[], str]] = {
    "command-line": command_line,
    "settings": settings,
    "environment": environment,
    "exit-statuses": exit_statuses,
    "machine-file-keys": machine_file_keys,
    "machine-files": machine_files,
    "runtime-files": runtime_files,
}
"""What can stand in the place of `<!-- generated: NAME -->` in a page."""
