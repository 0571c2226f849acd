"""What a setting may be, and which source it comes from."""

from __future__ import annotations

from dataclasses import fields

import pytest

from machine.errors import BadInputError
from machine.model.host import AcceleratorChoice
from machine.model.ports import Driver
from machine.model.settings import (
    RULES,
    EffectiveSetting,
    Layer,
    Settings,
    Value,
    built_in,
    check_value,
    merge,
    parse_words,
    patience_from_environment,
    settings_of,
    value_text,
)
from tests.support.builders import make_host

DEFAULTS = built_in(make_host(cpus=6))


def test_every_setting_has_a_rule_that_takes_its_default() -> None:
    assert list(RULES) == [field.name for field in fields(Settings)]
    for key, value in vars(DEFAULTS).items():
        assert check_value(key, list(value) if isinstance(value, tuple) else value) == value


def test_built_in_cpus_are_half_of_the_hosts() -> None:
    assert DEFAULTS.cpus == 3
    assert built_in(make_host(cpus=1)).cpus == 1


def test_without_layers_everything_is_built_in() -> None:
    merged = merge(DEFAULTS, [])
    assert {setting.origin for setting in merged.values()} == {"built-in"}
    assert settings_of(merged) == DEFAULTS


def test_last_layer_that_says_something_holds() -> None:
    layers = [
        Layer(origin="low", values={"cpus": 1, "memory": 1000, "volumes": ("/a:/a", "/b:/b")}),
        Layer(origin="silent", values={}),
        Layer(origin="high", values={"memory": 3000, "volumes": (), "rootful": False}),
    ]
    merged = merge(DEFAULTS, layers)
    assert merged["cpus"] == EffectiveSetting(key="cpus", value=1, origin="low")
    assert merged["memory"] == EffectiveSetting(key="memory", value=3000, origin="high")
    assert merged["volumes"] == EffectiveSetting(key="volumes", value=(), origin="high")
    assert merged["rootful"].origin == "high"  # also where it says what is built in
    assert merged["image"] == EffectiveSetting(key="image", value="fcos:stable", origin="built-in")
    assert list(merged) == list(RULES)


@pytest.mark.parametrize(
    ("key", "words", "value"),
    [
        ("cpus", ["4"], 4),
        ("memory", ["512"], 512),
        ("rootful", ["true"], True),
        ("rootful", ["false"], False),
        ("username", ["1234"], "1234"),
        ("volumes", ["/a:/b", "/c:/d:ro"], ("/a:/b", "/c:/d:ro")),
        ("volumes", [""], ()),
        ("accel", ["tcg"], AcceleratorChoice.TCG),
        ("port_driver", ["ssh"], Driver.SSH),
        ("allow_wildcard", ["false"], False),
        ("max_published_ports", ["0"], 0),
        ("patience", ["5"], 5),
        ("stream_base_url", [""], ""),
    ],
)
def test_words_that_a_person_types(key: str, words: list[str], value: Value) -> None:
    read = check_value(key, parse_words(key, words))
    assert (read, type(read)) == (value, type(value))


@pytest.mark.parametrize(
    ("key", "value", "line"),
    [
        ("cpus", 0, '"cpus" must be a whole number of at least 1'),
        ("cpus", True, '"cpus" must be a whole number of at least 1'),
        ("cpus", 1.5, '"cpus" must be a whole number of at least 1'),
        ("memory", "2048", '"memory" must be a whole number of at least 512'),
        ("memory", 511, '"memory" must be a whole number of at least 512'),
        ("disk_size", 2097153, '"disk_size" must be a whole number from 1 to 2097152'),
        ("rootful", 1, '"rootful" must be true or false'),
        ("image", 1, '"image" must be a string in quotes'),
        ("volumes", "/a:/b", '"volumes" must be a list of strings like ["a", "b"]'),
        ("volumes", ["/a:/b", 1], '"volumes" must be a list of strings like ["a", "b"]'),
        ("accel", "warp", '"accel" must be one of: auto, kvm, hvf, tcg'),
        ("accel", [], '"accel" must be one of: auto, kvm, hvf, tcg'),
        ("port_driver", "pasta", '"port_driver" must be one of: slirp, ssh'),
        ("allow_privileged_ports", "yes", '"allow_privileged_ports" must be true or false'),
        ("max_published_ports", -1, '"max_published_ports" must be a whole number of at least 0'),
        ("patience", 0, '"patience" must be a whole number from 1 to 100'),
        ("patience", 101, '"patience" must be a whole number from 1 to 100'),
        ("username", "root", 'invalid username "root": root always exists in the guest; use --rootful'),
        (
            "disk-size",
            1,
            f'unknown setting "disk-size"; choose one of: {", ".join(RULES)}',
        ),
    ],
)
def test_what_may_not_stand_there(key: str, value: object, line: str) -> None:
    with pytest.raises(BadInputError) as caught:
        check_value(key, value)
    assert caught.value.line == line


@pytest.mark.parametrize("word", ["two", "1.5", "", "9" * 30, "0x10", "\u0661"])
def test_words_that_are_no_numbers(word: str) -> None:
    with pytest.raises(BadInputError, match='"memory" must be a whole number'):
        check_value("memory", parse_words("memory", [word]))


def test_one_value_is_one_word() -> None:
    with pytest.raises(BadInputError) as caught:
        parse_words("memory", ["2", "GiB"])
    assert caught.value.line == '"memory" takes one value, a whole number of at least 512'


def test_values_as_text() -> None:
    texts = [value_text(value) for value in (4, True, "a b", ("/a:/a", "/b:/b"), (), AcceleratorChoice.KVM)]
    assert texts == ["4", "true", "a b", "/a:/a\n/b:/b", "", "kvm"]
    assert value_text(("/a:/a", "/b:/b"), ", ") == "/a:/a, /b:/b"


@pytest.mark.parametrize(
    ("environment", "patience"),
    [({}, None), ({"MACHINE_PATIENCE": ""}, None), ({"MACHINE_PATIENCE": "1"}, 1), ({"MACHINE_PATIENCE": "100"}, 100)],
)
def test_patience_of_the_environment(environment: dict[str, str], patience: int | None) -> None:
    assert patience_from_environment(environment) == patience


@pytest.mark.parametrize("word", ["0", "-1", "101", "1.5", "5s", " ", "ten", "\u0661"])
def test_patience_that_is_none_of_those_numbers(word: str) -> None:
    with pytest.raises(BadInputError) as caught:
        patience_from_environment({"MACHINE_PATIENCE": word})
    assert caught.value.line == (
        f'MACHINE_PATIENCE="{word}" is not a whole number from 1 to 100; write, for example, MACHINE_PATIENCE=5'
    )
