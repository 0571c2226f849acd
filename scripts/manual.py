"""Generates the man pages from the commands' help texts."""

from __future__ import annotations

import inspect
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType

import click

from machine import DOCUMENTATION

_PACKAGE = "boot2podman"
_SECTION = "1"

_EXAMPLES = re.compile(r"Examples?:")
_VERBATIM = "\b"  # marks a paragraph that click does not wrap

# Characters that roff interprets, or prints as similar ones that a shell does not accept (groff_char(7)).
_ESCAPES = {"\\": r"\e", "-": r"\-", "'": r"\(aq", "`": r"\(ga", "^": r"\(ha", "~": r"\(ti"}

EXIT_STATUS = {
    "0": "Success.",
    "1": "From doctor: this host cannot run machines. From image verify: an image is damaged.",
    "3": "From status: a machine is not running.",
    "125": "An error; a line on standard error begins with Error: and says what to do next.",
    "130": "Interrupted.",
}
SSH_STATUS = "machine ssh passes on the exit status of the command in the guest."
ENVIRONMENT = {
    "MACHINE_HOME": "One folder for all directories of the program.",
    "MACHINE_ACCEL": "The accelerator, auto, kvm, hvf or tcg; overrides the machine's own setting.",
    "MACHINE_PATIENCE": "A number; each deadline of a start and a stop is that many times as long.",
    "CONTAINERS_CONF, CONTAINERS_CONF_OVERRIDE": "Files that replace containers.conf, or override it.",
    "CONTAINERS_HELPER_BINARY_DIR": "A directory with programs such as gvproxy's; QEMU is looked for there, too.",
    "CONTAINERS_REGISTRIES_CONF, REGISTRY_AUTH_FILE": "Podman's registries and logins, for images from registries.",
    "PODMAN_CONNECTIONS_CONF, DOCKER_CONFIG": "Where Podman's connections and Docker's configuration are.",
    "http_proxy, https_proxy, ftp_proxy, all_proxy, no_proxy": "Proxies, for downloads and for guests.",
    "SSL_CERT_FILE, SSL_CERT_DIR": "Certificates for downloads.",
    "VISUAL, EDITOR": "The editor of machine config edit.",
    "NO_COLOR": "If it is set, nothing is printed in colour.",
    "XDG_CONFIG_HOME, XDG_DATA_HOME, XDG_CACHE_HOME, XDG_RUNTIME_DIR": "Directories, on Linux.",
}
_FILES = {
    "~/.config/boot2podman/config.toml": "Defaults of new machines; see machine config.",
    "~/.local/share/boot2podman/machines/NAME/": "A machine, with its serial.log and supervisor.log.",
    "~/.cache/boot2podman/": "The cache of images.",
    "$XDG_RUNTIME_DIR/boot2podman/NAME/": "A machine's sockets.",
}


@dataclass(frozen=True, kw_only=True)
class Topic:
    """A command with its own page; `names` begin with the program's name."""

    names: tuple[str, ...]
    command: click.Command
    context: click.Context

    @property
    def page(self) -> str:
        return "-".join(self.names)

    @property
    def words(self) -> str:
        return " ".join(self.names)

    @property
    def children(self) -> list[Topic]:
        command = self.command
        if not isinstance(command, click.Group):
            return []
        found = ((name, command.get_command(self.context, name)) for name in command.list_commands(self.context))
        return [
            topic_of((*self.names, name), child, self.context) for name, child in found if child and not child.hidden
        ]


def topic_of(names: tuple[str, ...], command: click.Command, parent: click.Context | None = None) -> Topic:
    context = click.Context(command, info_name=names[-1], parent=parent, **command.context_settings)
    return Topic(names=names, command=command, context=context)


@dataclass(frozen=True, kw_only=True)
class Program:
    """A program, the aliases of its commands (alias → command), and the commands by section of its page."""

    name: str
    command: click.Command
    aliases: Mapping[str, str] = field(default_factory=dict)
    sections: Mapping[str, Collection[str]] = field(default_factory=dict)


def pages(program: Program, version: str, day: datetime) -> dict[str, str]:
    """Generate the page of each command and alias, by file name."""
    root = topic_of((program.name,), program.command)
    named = {child.names[-1]: child for child in root.children}
    aliases = [
        topic_of((program.name, alias), named[name].command, root.context) for alias, name in program.aliases.items()
    ]
    found = {topic.page: page(topic, version, day) for topic in (*_walk(root), *aliases)}
    found[root.page] = page(root, version, day, program.sections)
    return {f"{name}.{_SECTION}": text for name, text in found.items()}


def _walk(topic: Topic) -> Iterator[Topic]:
    yield topic
    for child in topic.children:
        yield from _walk(child)


def page(
    topic: Topic, version: str, day: datetime, sections: Mapping[str, Collection[str]] = MappingProxyType({})
) -> str:
    """Generate a page in man(7) macros; `sections` map titles to names of commands."""
    paragraphs = help_paragraphs(topic.command)
    prose = [text for text in paragraphs if not is_example(text)]
    examples = [text for text in paragraphs if is_example(text)]
    title = f'.TH "{escaped(topic.page.upper())}" {_SECTION} {day:%Y-%m-%d} "{_PACKAGE} {version}"'
    lines = [
        title,
        ".SH NAME", f"{escaped(topic.page)} \\- {escaped(summary(prose))}",
        ".SH SYNOPSIS", _synopsis(topic),
        ".SH DESCRIPTION", *_paragraphs(prose),
        *_section("OPTIONS", _options(topic)),
        *_section("COMMANDS", _commands(topic, sections)),
        *_section("EXAMPLES", [_verbatim(_example_lines(text)) for text in examples]),
        *(_of_the_program() if len(topic.names) == 1 else []),
        ".SH SEE ALSO", _see_also(topic),
    ]  # fmt: skip
    return "\n".join(line for line in lines if line) + "\n"


def help_paragraphs(command: click.Command) -> list[str]:
    """Split a command's help into paragraphs."""
    return [text for text in re.split(r"\n[ ]*\n", inspect.cleandoc(command.help or "")) if text.strip()]


def is_example(paragraph: str) -> bool:
    """Return whether a paragraph is a block of examples."""
    first, *_ = paragraph.lstrip(f"{_VERBATIM}\n").splitlines()
    return paragraph.startswith(_VERBATIM) and _EXAMPLES.fullmatch(first) is not None


def summary(prose: Sequence[str]) -> str:
    """Return the first sentence, without its full stop."""
    words = " ".join(prose[0].split()) if prose else ""
    return re.split(r"\.(?: |$)|; ", words, maxsplit=1)[0]


def escaped(text: str) -> str:
    """Escape text so that roff prints each character as it is."""
    marked = "".join(_ESCAPES.get(letter, letter if letter.isascii() else f"\\[u{ord(letter):04X}]") for letter in text)
    return f"\\&{marked}" if marked.startswith(".") else marked


def _section(name: str, content: Sequence[str]) -> list[str]:
    return [f".SH {name}", *content] if content else []


def _paragraphs(prose: Sequence[str]) -> Iterator[str]:
    for number, text in enumerate(prose):
        if number:
            yield ".PP"
        if text.startswith(_VERBATIM):
            yield _verbatim(text.splitlines()[1:])
        else:
            yield escaped(" ".join(text.split()))


def _verbatim(lines: Sequence[str]) -> str:
    return "\n".join([".nf", *(escaped(line) for line in lines), ".fi"])


def _example_lines(paragraph: str) -> list[str]:
    return [line.removeprefix("  ") for line in paragraph.splitlines()[2:]]


def _commands(topic: Topic, sections: Mapping[str, Collection[str]]) -> list[str]:
    items = {
        child.names[-1]: _item(f"\\fB{escaped(child.words)}\\fP", summary(help_paragraphs(child.command)))
        for child in topic.children
    }
    if not sections:
        return list(items.values())
    return [
        line
        for title, names in sections.items()
        for line in (f".SS {escaped(title)}", *(items[name] for name in names))
    ]


def _item(head: str, text: str) -> str:
    return f".TP\n{head}\n{escaped(text)}"


def _synopsis(topic: Topic) -> str:
    pieces = " ".join(topic.command.collect_usage_pieces(topic.context))
    return f"\\fB{escaped(topic.words)}\\fP {escaped(pieces)}".rstrip()


def _options(topic: Topic) -> list[str]:
    records = (param.get_help_record(topic.context) for param in topic.command.get_params(topic.context))
    # Arguments without a help text are explained in the description.
    return [_item(_option_head(head), text) for head, text in filter(None, records) if text]


def _option_head(head: str) -> str:
    """Format text such as `-m, --memory MIB`, with flags in bold and values in italics."""
    marked = (rf"\fB{escaped(word)}\fP" if word.startswith("-") else rf"\fI{escaped(word)}\fP" for word in head.split())
    return " ".join(marked)


def _of_the_program() -> Iterator[str]:
    yield from _section("EXIT STATUS", [_item(f"\\fB{status}\\fP", text) for status, text in EXIT_STATUS.items()])
    yield f".PP\n{escaped(SSH_STATUS)}"
    for name, table in (("ENVIRONMENT", ENVIRONMENT), ("FILES", _FILES)):
        yield from _section(name, [_item(f"\\fB{escaped(head)}\\fP", text) for head, text in table.items()])


def _see_also(topic: Topic) -> str:
    parent = ["-".join(topic.names[:-1])] if len(topic.names) > 1 else []
    own = [f"\\fB{escaped(name)}\\fP({_SECTION})" for name in (*parent, *(child.page for child in topic.children))]
    return ", ".join([*own, "\\fBpodman\\fP(1)"]) + f"\n.PP\n{escaped(DOCUMENTATION)}"
