"""Define the defaults that users can set, their valid values, and which of several sources wins (pure)."""

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
from machine.model.idle import OFF, check_idle_suspend
from machine.model.names import check_username
from machine.model.network import ResolverChoice
from machine.model.ports import DEFAULT_MAX_PUBLISHED_PORTS, Driver

_MAX_PATIENCE = 100

Value = bool | int | str | tuple[str, ...]

BUILT_IN = "built-in"
PATIENCE_VARIABLE = "MACHINE_PATIENCE"

# The same as Podman's.
DEFAULT_VOLUMES = {
    HostOS.LINUX: ("$HOME:$HOME",),
    HostOS.MACOS: ("/Users:/Users", "/private:/private", "/var/folders:/var/folders"),
}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """A value for each setting."""

    cpus: int
    memory: int
    """The memory in MiB."""

    disk_size: int
    """The size of the disk in GiB."""

    image: str
    username: str
    rootful: bool
    timezone: str
    volumes: tuple[str, ...]
    accel: AcceleratorChoice
    import_native_ca: bool
    stream_base_url: str
    """The URL from which the metadata of Fedora CoreOS's streams is fetched; empty for Fedora's own servers."""

    port_driver: Driver
    """The driver that forwards published TCP ports."""

    allow_wildcard: bool
    """Whether containers may publish a port on every address of the host."""

    allow_privileged_ports: bool
    """Whether containers may publish ports below 1024 of the host if the machine runs as root."""

    max_published_ports: int
    """How many ports of the host the containers of one machine may publish together."""

    host_resolver: ResolverChoice
    """Whether this host answers guests' questions about names, instead of QEMU's network."""

    idle_suspend: str
    """When a machine is suspended because nobody uses it."""

    patience: int
    """The factor by which every deadline of a start and a stop is longer than usual."""


def built_in(host: Host) -> Settings:
    """Return the built-in defaults for a host."""
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
        allow_wildcard=True,
        allow_privileged_ports=False,
        max_published_ports=DEFAULT_MAX_PUBLISHED_PORTS,
        host_resolver=ResolverChoice.AUTO,
        idle_suspend=OFF,
        patience=1,
    )


# Which values are valid


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What a setting means, and which values are valid for it."""

    meaning: str
    expected: str
    """What the value must be, as the end of the error message '"cpus" must be …'."""

    read: Callable[[Any], Value]
    """Converts a TOML value to a setting's value. Raises ValueError or BadInputError if the TOML value is invalid."""

    parse: Callable[[str], object] = str
    """Converts a word of the command line to a TOML value."""

    repeated: bool = False
    """Whether the setting takes several words."""


def _whole_number(meaning: str, minimum: int, maximum: int | None = None) -> Rule:
    def read(value: object) -> int:
        # bool is a subclass of int.
        if not isinstance(value, int) or isinstance(value, bool) or value < minimum or (maximum and value > maximum):
            raise ValueError(value)
        return value

    def parse(word: str) -> object:
        return int(word) if re.fullmatch(r"-?[0-9]{1,18}", word) else word

    limits = f"from {minimum} to {maximum}" if maximum else f"of at least {minimum}"
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

    return Rule(meaning=meaning, expected="a string in quotes", read=read)


def _texts(meaning: str) -> Rule:
    def read(value: object) -> tuple[str, ...]:
        if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
            raise ValueError(value)
        return tuple(value)

    return Rule(meaning=meaning, expected='a list of strings like ["a", "b"]', read=read, repeated=True)


def _choice(meaning: str, choices: type[StrEnum]) -> Rule:
    return Rule(meaning=meaning, expected=f"one of: {', '.join(choices)}", read=choices)


RULES: Mapping[str, Rule] = {
    "cpus": _whole_number("Number of CPUs", 1),
    "memory": _whole_number("Memory in MiB", MIN_MEMORY_MIB),
    "disk_size": _whole_number("Disk size in GiB", 1, MAX_DISK_GIB),
    "image": _text("The image that machines are made from, as in `machine init --image`"),
    "username": _text("Name of the guest's user", check_username),
    "rootful": _switch("Prefer rootful containers to rootless ones"),
    "timezone": _text('Time zone of the guest, like "Europe/Stockholm"; "local" follows the host'),
    "volumes": _texts("Host folders that are mounted in the guest"),
    "accel": _choice("The accelerator that runs the guest", AcceleratorChoice),
    "import_native_ca": _switch("Make guests trust the certificate authorities that this host trusts"),
    "stream_base_url": _text("Mirror of Fedora's stream metadata; empty for Fedora's own servers"),
    "port_driver": _choice("The driver that forwards published TCP ports", Driver),
    "allow_wildcard": _switch("Let containers publish ports on every address of this host"),
    "allow_privileged_ports": _switch("Let containers publish ports below 1024 if the machine runs as root"),
    "max_published_ports": _whole_number("How many ports of this host the containers of a machine may publish", 0),
    "host_resolver": _choice("Whether this host answers guests' questions about names", ResolverChoice),
    "idle_suspend": Rule(
        meaning="When idle machines are suspended, like 15m; with 15m,containers, also while containers run",
        expected=f"a whole number of s, m, h or d from 1m to 30d, like 15m or 15m,containers, or {OFF}",
        read=lambda value: check_idle_suspend(str(value)),
    ),
    "patience": _whole_number("How many times as long as usual a start and a stop may take", 1, _MAX_PATIENCE),
}
"""The rule for each key of config.toml. The keys are the fields of Settings."""


def check_key(key: str) -> str:
    """Check that there is a setting of this name.

    Raises:
        BadInputError: there is no setting of this name.
    """
    if key not in RULES:
        raise BadInputError(f'unknown setting "{key}"', hint=f"choose one of: {', '.join(RULES)}")
    return key


def check_value(key: str, value: object) -> Value:
    """Check a setting's value, and return the value in the form that Settings stores.

    Raises:
        BadInputError: there is no such setting, or the value is not valid for the setting.
    """
    rule = RULES[check_key(key)]
    try:
        return rule.read(value)
    except ValueError as error:
        raise BadInputError(f'"{key}" must be {rule.expected}') from error


def parse_words(key: str, words: Sequence[str]) -> object:
    """Convert the words of a command line to a TOML value for `check_value`. A list consists of all non-empty words.

    Raises:
        BadInputError: there is no such setting, or the setting takes exactly one word, but there is none or more than
            one.
    """
    rule = RULES[check_key(key)]
    if rule.repeated:
        return [rule.parse(word) for word in words if word]
    if len(words) != 1:
        raise BadInputError(f'"{key}" takes one value, {rule.expected}')
    return rule.parse(words[0])


def patience_from_environment(environment: Mapping[str, str]) -> int | None:
    """Return the number in $MACHINE_PATIENCE, or None if it is not set.

    Raises:
        BadInputError: the value of $MACHINE_PATIENCE is not a valid patience.
    """
    word = environment.get(PATIENCE_VARIABLE)
    if not word:
        return None
    rule = RULES["patience"]
    try:
        patience = rule.read(rule.parse(word))
    except ValueError as error:
        raise BadInputError(
            f'{PATIENCE_VARIABLE}="{word}" is not {rule.expected}', hint=f"write, for example, {PATIENCE_VARIABLE}=5"
        ) from error
    assert isinstance(patience, int)
    return patience


def value_text(value: Value, separator: str = "\n") -> str:
    """Format a value for people and scripts, without quotes."""
    if isinstance(value, tuple):
        return separator.join(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


# Which source wins


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A source of settings: its name, and the values that it sets. The keys of the values are those of Settings."""

    origin: str
    values: Mapping[str, Value]


@dataclass(frozen=True, kw_only=True)
class EffectiveSetting:
    """The value of a setting, and the source of the value."""

    key: str
    value: Value
    origin: str


def merge(defaults: Settings, layers: Sequence[Layer]) -> dict[str, EffectiveSetting]:
    """Return every setting by its key. The last layer that has the setting gives the value, or else `defaults` does."""
    merged = {}
    for layer in (Layer(origin=BUILT_IN, values=vars(defaults)), *layers):
        for key, value in layer.values.items():
            merged[key] = EffectiveSetting(key=key, value=value, origin=layer.origin)
    return merged


def settings_of(merged: Mapping[str, EffectiveSetting]) -> Settings:
    values: dict[str, Any] = {key: setting.value for key, setting in merged.items()}
    return Settings(**values)
