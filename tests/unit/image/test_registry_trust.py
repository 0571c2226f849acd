"""How a registry is trusted by the settings of container tools."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from machine.image.reference import RegistryReference
from machine.image.registry_trust import RegistryTrust, is_insecure, registry_trust

REFERENCE = RegistryReference(registry="lan:5000", name="a/b", version="1")
INSECURE = '[[registry]]\nlocation = "{}"\ninsecure = true\n'
SECURE = '[[registry]]\nlocation = "{}"\n'


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ([], False),
        ([INSECURE.format("lan:5000")], True),
        ([INSECURE.format("lan:5000/a")], True),
        ([INSECURE.format("lan:5000/a/b")], True),
        ([INSECURE.format("lan:50")], False),
        ([INSECURE.format("lan")], True),
        ([INSECURE.format("other")], False),
        ([SECURE.format("lan:5000")], False),
        ([INSECURE.format("lan:5000") + SECURE.format("lan:5000/a")], False),
        ([INSECURE.format("lan:5000"), SECURE.format("lan:5000")], False),
        (['[[registry]]\nprefix = "lan:5000"\nlocation = "mirror"\ninsecure = true\n'], True),
        (["[[registry]]\ninsecure = true\n", "registry = 5\n"], False),
    ],
)
def test_entry_with_the_longest_prefix_decides(texts: list[str], *, expected: bool) -> None:
    assert is_insecure("lan:5000/a/b", [tomllib.loads(text) for text in texts]) is expected


def test_star_stands_for_the_names_below_a_domain() -> None:
    documents = [tomllib.loads('[[registry]]\nprefix = "*.lan"\ninsecure = true\n')]
    assert is_insecure("a.lan:5000/b", documents)
    assert not is_insecure("lan:5000/b", documents)


def test_files_are_found_where_podman_finds_them(tmp_path: Path) -> None:
    user, system = tmp_path / "user", tmp_path / "system"
    for directory in (user, system):
        (directory / "registries.conf.d").mkdir(parents=True)
    assert registry_trust(REFERENCE, user, {}, system=system) == RegistryTrust()

    (system / "registries.conf").write_text(INSECURE.format("lan:5000"))
    assert registry_trust(REFERENCE, user, {}, system=system).is_insecure
    (user / "registries.conf").touch()  # in place of the system's
    assert not registry_trust(REFERENCE, user, {}, system=system).is_insecure
    variable = {"CONTAINERS_REGISTRIES_CONF": str(system / "registries.conf")}
    assert registry_trust(REFERENCE, user, variable, system=system).is_insecure
    (user / "registries.conf.d" / "a.conf").write_text(INSECURE.format("lan:5000"))
    (user / "registries.conf.d" / "b.conf").write_text("no TOML")
    assert registry_trust(REFERENCE, user, {}, system=system).is_insecure

    for directory in (system, user):
        (directory / "certs.d" / "lan:5000").mkdir(parents=True)
        (directory / "certs.d" / "lan:5000" / "ca.crt").touch()
        expected = (directory / "certs.d" / "lan:5000" / "ca.crt",)
        assert registry_trust(REFERENCE, user, {}, system=system).authorities == expected
