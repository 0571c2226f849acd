"""The defaults that a person can choose: what each may be, and which of several sources it comes from (pure)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from machine.errors import BadInputError
from machine.model.config import (
    DEFAULT_DISK_GIB,
    DEFAULT_IMAGE,
    DEFAULT_MEMORY_MIB,
    DEFAULT_USERNAME,
    MAX_DISK_GIB,
    MIN_MEMORY_MIB,
)
from machine.model.host import AcceleratorChoice, Host, HostOS
from machine.model.names import check_username
from machine.model.ports import Driver

Value = bool | int | str | tuple[str, ...]

BUILT_IN = "built-in"

# Podman's.
DEFAULT_VOLUMES = {
    HostOS.LINUX: ("$HOME:$HOME",),
    HostOS.MACOS: ("/Users:/Users", "/private:/private", "/var/folders:/var/folders"),
}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """A value for everything that can be chosen. Memory in MiB, the disk in GiB.

    `stream_base_url` is where Fedora CoreOS's stream metadata is fetched from, empty for Fedora's own; `port_driver`
    carries published TCP ports.
    """

    cpus: int
    memory: int
    disk_size: int
    image: str
    username: str
    rootful: bool
    timezone: str
    volumes: tuple[str, ...]
    accel: AcceleratorChoice
    import_native_ca: bool
    stream_base_url: str
    port_driver: Driver


def built_in(host: Host) -> Settings:
    """What holds where nobody has chosen."""
    return Settings(
        cpus=max(1, host.cpus // 2),
        memory=DEFAULT_MEMORY_MIB,
        disk_size=DEFAULT_DISK_GIB,
        image=DEFAULT_IMAGE,
        username=DEFAULT_USERNAME,
        rootful=False,
        timezone="local",
        volumes=DEFAULT_VOLUMES[host.os],
        accel=AcceleratorChoice.AUTO,
        import_native_ca=False,
        stream_base_url="",
        port_driver=Driver.SLIRP,
    )


# What each may be


@dataclass(frozen=True, kw_only=True)
class Rule:
    """Of one setting: its meaning and what may stand there, for people.

    `read` takes a value of TOML; it raises ValueError for what may not stand there, and BadInputError where it knows
    better words. `parse` makes such a value of a word that a person typed, of which a `repeated` one takes any number.
    """

    meaning: str
    expected: str
    read: Callable[[Any], Value]
    parse: Callable[[str], object] = str
    repeated: bool = False


def _whole_number(meaning: str, least: int, most: int | None = None) -> Rule:
    def read(value: object) -> int:
        # To Python, true is a number.
        if not isinstance(value, int) or isinstance(value, bool) or value < least or (most and value > most):
            raise ValueError(value)
        return value

    def parse(word: str) -> object:
        return int(word) if re.fullmatch(r"-?[0-9]{1,18}", word) else word

    limits = f"from {least} to {most}" if most else f"of at least {least}"
    return Rule(meaning=meaning, expected=f"a whole number {limits}", read=read, parse=parse)


def _switch(meaning: str) -> Rule:
    words = {"true": True, "false": False}

    def read(value: object) -> bool:
        if not isinstance(value, bool):
            raise ValueError(value)
        return value

    return Rule(meaning=meaning, expected="true or false", read=read, parse=lambda word: words.get(word, word))


def _text(meaning: str, check: Callable[[str], str] = str) -> Rule:
    def read(value: object) -> str:
        if not isinstance(value, str):
            raise ValueError(value)
        return check(value)

    return Rule(meaning=meaning, expected="a text in quotes", read=read)


def _texts(meaning: str) -> Rule:
    def read(value: object) -> tuple[str, ...]:
        if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
            raise ValueError(value)
        return tuple(value)

    return Rule(meaning=meaning, expected='a list of texts like ["a", "b"]', read=read, repeated=True)


def _choice(meaning: str, choices: type[StrEnum]) -> Rule:
    return Rule(meaning=meaning, expected=f"one of: {', '.join(choices)}", read=choices)


RULES: Mapping[str, Rule] = {
    "cpus": _whole_number("Number of CPUs", 1),
    "memory": _whole_number("Memory in MiB", MIN_MEMORY_MIB),
    "disk_size": _whole_number("Disk size in GiB", 1, MAX_DISK_GIB),
    "image": _text("What machines are made from; as for `machine init --image`"),
    "username": _text("Name of the guest's user", check_username),
    "rootful": _switch("Prefer root's containers to the user's"),
    "timezone": _text('Time zone of the guest, like "Europe/Stockholm"; "local" is the host\'s'),
    "volumes": _texts("Folders of the host that the guest sees"),
    "accel": _choice("What runs the guest's code", AcceleratorChoice),
    "import_native_ca": _switch("Let guests trust the certificates that this host trusts"),
    "stream_base_url": _text("Mirror of Fedora's stream metadata; empty for Fedora's own"),
    "port_driver": _choice("What carries published TCP ports", Driver),
}
"""By the keys of config.toml, which are the fields of Settings."""


def check_key(key: str) -> str:
    """Raises:
    BadInputError: there is no such setting.
    """
    if key not in RULES:
        raise BadInputError(f'unknown setting "{key}"', hint=f"choose one of: {', '.join(RULES)}")
    return key


def check_value(key: str, value: object) -> Value:
    """The value as Settings has it.

    Raises:
        BadInputError: there is no such setting, or it cannot be this.
    """
    rule = RULES[check_key(key)]
    try:
        return rule.read(value)
    except ValueError as error:
        raise BadInputError(f'"{key}" must be {rule.expected}') from error


def parse_words(key: str, words: Sequence[str]) -> object:
    """What a person typed, as a value of TOML for `check_value`; as with init's flags, empty words make no list.

    Raises:
        BadInputError: there is no such setting, or it takes one word and there are more.
    """
    rule = RULES[check_key(key)]
    if rule.repeated:
        return [rule.parse(word) for word in words if word]
    if len(words) != 1:
        raise BadInputError(f'"{key}" takes one value, {rule.expected}')
    return rule.parse(words[0])


def value_text(value: Value, separator: str = "\n") -> str:
    """A value for people and scripts, without quotes."""
    if isinstance(value, tuple):
        return separator.join(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


# Where each comes from


@dataclass(frozen=True, kw_only=True)
class Layer:
    """What one source says, by keys of Settings, and how the source is called."""

    origin: str
    values: Mapping[str, Value]


@dataclass(frozen=True, kw_only=True)
class EffectiveSetting:
    """The value that holds, and the source that it comes from."""

    key: str
    value: Value
    origin: str


def merge(defaults: Settings, layers: Sequence[Layer]) -> dict[str, EffectiveSetting]:
    """Every setting by its key; later layers overrule earlier ones."""
    merged = {}
    for layer in (Layer(origin=BUILT_IN, values=vars(defaults)), *layers):
        for key, value in layer.values.items():
            merged[key] = EffectiveSetting(key=key, value=value, origin=layer.origin)
    return merged


def settings_of(merged: Mapping[str, EffectiveSetting]) -> Settings:
    values: dict[str, Any] = {key: setting.value for key, setting in merged.items()}
    return Settings(**values)
