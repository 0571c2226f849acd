"""The linter of Ignition configs: every mistake with its place, and no word about a good config."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from machine.ignition.lint import lint, minor_version
from machine.ignition.located import Located, SyntaxProblemError, parse
from machine.ignition.provision import provision
from tests.support.builders import KEYS, make_config

GOOD = """\
{"ignition": {"version": "3.4.0", "timeouts": {"httpTotal": 5}},
 "kernelArguments": {"shouldExist": ["quiet"]},
 "passwd": {"users": [{"name": "eve", "groups": ["wheel"], "uid": null}], "groups": [{"name": "staff", "gid": 7}]},
 "storage": {"files": [{"path": "/a", "mode": 2541, "contents": {"source": "data:,a"}, "user": {"name": "eve"}},
                       {"path": "/b", "append": [{"source": "https://example.com/b"}]}],
             "links": [{"path": "/c", "target": "/a", "hard": true}],
             "luks": [{"name": "data", "device": "/dev/vdb", "discard": true}]},
 "systemd": {"units": [{"name": "a.service", "dropins": [{"name": "b.conf", "contents": ""}]}]}}
"""


def config(body: str, version: str = "3.2.0") -> str:
    """Line 1 has the version, line 2 the body."""
    return f'{{"ignition": {{"version": "{version}"}},\n{body}}}'


def first(text: str) -> str:
    problem, *_ = lint(text)
    return f"{problem.line}:{problem.column}: {problem.text}"


def test_good_configs_have_no_problem() -> None:
    assert lint(GOOD) == []
    assert minor_version(GOOD) == 4
    assert lint(provision(make_config(username="me", swap_mib=5), KEYS).to_json()) == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "1:1: not JSON: expecting value"),
        ('{"ignition": {"version": "3.2.0"},\n}', "2:1: not JSON: expecting property name enclosed in double quotes"),
        ("[]", "1:1: a config must be an object"),
        ("{}", '1:1: the config needs the key "ignition"'),
        ('{"ignition": {}}', '1:14: ignition needs the key "version"'),
        ('{"ignition": {"version": 3}}', "1:26: ignition.version must be a string"),
        ('{"ignition": {"version": "2.3.0"}}', '1:26: version "2.3.0" is not supported (3.0.0 to 3.5.0)'),
        ('{"ignition": {"version": "3.6.0"}}', '1:26: version "3.6.0" is not supported (3.0.0 to 3.5.0)'),
        (config('"storagee": {}'), '2:1: unused key "storagee"; did you mean "storage"?'),
        (config('"storage": {"files": [{"path": "/a", "foo": 1}]}'), '2:38: unused key "foo" in storage.files[0]'),
        (config('"storage": {"files": {}}'), "2:22: storage.files must be a list"),
        (
            config('"storage": {"files": [{"path": "a"}]}'),
            '2:32: storage.files[0].path must be an absolute path, not "a"',
        ),
        (config('"storage": {"files": [{}]}'), '2:23: storage.files[0] needs the key "path"'),
        (
            config('"storage": {"files": [{"path": "/a", "mode": "0644"}]}'),
            "2:46: storage.files[0].mode must be a whole number",
        ),
        (
            config('"storage": {"files": [{"path": "/a", "mode": 644}]}'),
            "2:46: storage.files[0].mode is not a file mode in decimal; for the octal 644",
        ),
        (
            config('"storage": {"files": [{"path": "/a", "overwrite": 1}]}'),
            "2:51: storage.files[0].overwrite must be true or false",
        ),
        (
            config('"storage": {"files": [{"path": "/a", "contents": {"source": "data:nothing"}}]}'),
            "2:61: storage.files[0].contents.source must be a URL with one of the schemes data, http,",
        ),
        (
            config('"storage": {"files": [{"path": "/a"}],\n "links": [{"path": "/a", "target": "b"}]}'),
            '3:12: "/a" is given twice in storage',
        ),
        (
            config('"systemd": {"units": [{"name": "a"}]}'),
            "2:32: systemd.units[0].name must end in a unit type such as .service",
        ),
        (
            config('"systemd": {"units": [{"name": "a.service", "dropins": [{"name": "b"}]}]}'),
            "2:66: systemd.units[0].dropins[0].name must end in .conf",
        ),
        (
            config('"passwd": {"users": [{"name": "eve"},\n {"name": "eve"}]}'),
            '3:2: "eve" is given twice in passwd.users',
        ),
        (
            config('"kernelArguments": {}'),
            "2:1: kernelArguments requires version 3.3.0, but this config has version 3.2.0",
        ),
        (config('"passwd": {}, "passwd": {}'), '2:15: the key "passwd" is given twice'),
        ("[" * 100_000, "1:1: nested too deeply"),
    ],
)
def test_mistake_is_told_with_its_place(text: str, problem: str) -> None:
    assert first(text).startswith(problem)


def test_problems_come_in_the_order_of_the_text() -> None:
    text = config('"passwd": {"b": 1},\n "a": 1,\n "storage": 5')
    assert [problem.line for problem in lint(text)] == [2, 3, 4]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def plain(value: Located) -> Any:
    match value.value:
        case list() as entries:
            return [plain(entry) for entry in entries]
        case dict() as members:
            return {name: plain(member) for name, member in members.items()}
        case scalar:
            return scalar


@given(JSON, st.sampled_from([None, 1]))
def test_parsed_with_places_is_what_json_says(value: Any, indent: int | None) -> None:
    text = json.dumps(value, indent=indent)
    located = parse(text)
    assert plain(located) == value
    assert located.offset == 0


@given(st.text(alphabet='{}[],:"1a \\\n', max_size=20))
def test_nonsense_is_refused_or_parsed(text: str) -> None:
    try:
        wanted = json.loads(text)
    except ValueError:
        with pytest.raises(SyntaxProblemError):
            parse(text)
    else:
        assert plain(parse(text)) == wanted


@given(JSON)
def test_linter_has_an_answer_to_everything(value: Any) -> None:
    assert lint(json.dumps(value)) != []
    assert isinstance(lint(json.dumps({"ignition": {"version": "3.2.0"}, "storage": value, "systemd": value})), list)
