"""Man pages from the commands themselves, so that there is one text of what they do: their help."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import click

_PACKAGE = "boot2podman"
_SECTION = "1"

_EXAMPLES = re.compile(r"Examples?:")
_VERBATIM = "\b"  # click's mark of a paragraph that stays as it is

# What roff would take for its own, or print as another character than a shell knows (groff_char(7)).
_ESCAPES = {"\\": r"\e", "-": r"\-", "'": r"\(aq", "`": r"\(ga", "^": r"\(ha", "~": r"\(ti"}

_EXIT_STATUS = {
    "0": "It is done.",
    "1": "Of doctor: machines cannot be made or started on this host.",
    "3": "Of status: a machine is not running.",
    "125": "It failed: a line on standard error begins with Error: and says what to do next.",
    "130": "It was interrupted.",
}
_SSH_STATUS = "machine ssh passes the exit status of the command in the guest on."
_ENVIRONMENT = {
    "MACHINE_HOME": "Moves all directories to one folder.",
    "MACHINE_ACCEL": "auto, kvm, hvf or tcg: what runs the guest's code, whatever the machine was made with.",
    "CONTAINERS_CONF, CONTAINERS_CONF_OVERRIDE": "Files that take the place of containers.conf, or overrule it.",
    "PODMAN_CONNECTIONS_CONF, DOCKER_CONFIG": "Where the files of Podman's and Docker's clients are.",
    "http_proxy, https_proxy, all_proxy, no_proxy": "Proxies for downloads.",
    "SSL_CERT_FILE": "Certificates for downloads.",
}
_FILES = {
    "~/.config/boot2podman/config.toml": "Defaults of new machines; machine config tells more.",
    "~/.local/share/boot2podman/machines/NAME/": "A machine; serial.log and supervisor.log tell what it did.",
    "~/.cache/boot2podman/": "Images.",
    "$XDG_RUNTIME_DIR/boot2podman/NAME/": "A machine's sockets.",
}


@dataclass(frozen=True, kw_only=True)
class Topic:
    """One command, its names from the program's on."""

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
        return [_topic((*self.names, name), child, self.context) for name, child in found if child and not child.hidden]


def _topic(names: tuple[str, ...], command: click.Command, parent: click.Context | None) -> Topic:
    context = click.Context(command, info_name=names[-1], parent=parent, **command.context_settings)
    return Topic(names=names, command=command, context=context)


def pages(
    program: str, command: click.Command, aliases: Mapping[str, str], version: str, day: datetime
) -> dict[str, str]:
    """A page for each command, and for each of `aliases` of commands, by its file's name."""
    root = _topic((program,), command, None)
    named = {child.names[-1]: child for child in root.children}
    others = [_topic((program, alias), named[name].command, root.context) for alias, name in aliases.items()]
    return {f"{topic.page}.{_SECTION}": page(topic, version, day) for topic in (*_walk(root), *others)}


def _walk(topic: Topic) -> Iterator[Topic]:
    yield topic
    for child in topic.children:
        yield from _walk(child)


def page(topic: Topic, version: str, day: datetime) -> str:
    """A whole page in the macros of man(7)."""
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
        *_section("COMMANDS", _commands(topic)),
        *_section("EXAMPLES", [_verbatim(_example_lines(text)) for text in examples]),
        *(_of_the_program() if len(topic.names) == 1 else []),
        ".SH SEE ALSO", _see_also(topic),
    ]  # fmt: skip
    return "\n".join(line for line in lines if line) + "\n"


def help_paragraphs(command: click.Command) -> list[str]:
    return [text for text in re.split(r"\n[ ]*\n", inspect.cleandoc(command.help or "")) if text.strip()]


def is_example(paragraph: str) -> bool:
    first, *_ = paragraph.lstrip(f"{_VERBATIM}\n").splitlines()
    return paragraph.startswith(_VERBATIM) and _EXAMPLES.fullmatch(first) is not None


def summary(prose: Sequence[str]) -> str:
    """The first sentence, without its end."""
    words = " ".join(prose[0].split()) if prose else ""
    return re.split(r"\.(?: |$)|; ", words, maxsplit=1)[0]


def escaped(text: str) -> str:
    """Text as roff prints it, character for character."""
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


def _commands(topic: Topic) -> list[str]:
    return [
        _item(f"\\fB{escaped(child.words)}\\fP", summary(help_paragraphs(child.command))) for child in topic.children
    ]


def _item(head: str, text: str) -> str:
    return f".TP\n{head}\n{escaped(text)}"


def _synopsis(topic: Topic) -> str:
    pieces = " ".join(topic.command.collect_usage_pieces(topic.context))
    return f"\\fB{escaped(topic.words)}\\fP {escaped(pieces)}".rstrip()


def _options(topic: Topic) -> list[str]:
    records = (param.get_help_record(topic.context) for param in topic.command.get_params(topic.context))
    # Arguments without a help of their own are what the description is about.
    return [_item(_option_head(head), text) for head, text in filter(None, records) if text]


def _option_head(head: str) -> str:
    """`-m, --memory MIB` with the flags bold, and what they take in italics."""
    marked = (rf"\fB{escaped(word)}\fP" if word.startswith("-") else rf"\fI{escaped(word)}\fP" for word in head.split())
    return " ".join(marked)


def _of_the_program() -> Iterator[str]:
    yield from _section("EXIT STATUS", [_item(f"\\fB{status}\\fP", text) for status, text in _EXIT_STATUS.items()])
    yield f".PP\n{escaped(_SSH_STATUS)}"
    for name, table in (("ENVIRONMENT", _ENVIRONMENT), ("FILES", _FILES)):
        yield from _section(name, [_item(f"\\fB{escaped(head)}\\fP", text) for head, text in table.items()])


def _see_also(topic: Topic) -> str:
    parent = ["-".join(topic.names[:-1])] if len(topic.names) > 1 else []
    own = [f"\\fB{escaped(name)}\\fP({_SECTION})" for name in (*parent, *(child.page for child in topic.children))]
    return ", ".join([*own, "\\fBpodman\\fP(1)"])
