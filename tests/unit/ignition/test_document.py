"""The builder of Ignition configs."""

from __future__ import annotations

import json
from urllib.parse import unquote

from hypothesis import given
from hypothesis import strategies as st

from machine.ignition.document import Appended, Document, File, Link, Unit, User, data_url


@given(st.text())
def test_data_url_holds_the_text_whatever_it_is(text: str) -> None:
    url = data_url(text)
    assert url.isascii()
    assert unquote(url.removeprefix("data:,"), errors="strict") == text


def test_data_url_escapes_what_ends_or_splits_a_url() -> None:
    assert data_url("a,b;c#d e%f\n/") == "data:,a%2Cb%3Bc%23d%20e%25f%0A%2F"


def test_empty_document_is_a_whole_config() -> None:
    assert json.loads(Document().to_json()) == {
        "ignition": {"version": "3.2.0"},
        "passwd": {"users": []},
        "storage": {"directories": [], "files": [], "links": []},
        "systemd": {"units": []},
    }


def test_fields_that_are_left_to_the_image_are_left_out() -> None:
    assert User(name="root").node() == {"name": "root"}
    assert User(name="core", should_exist=False, uid=5).node() == {"name": "core", "shouldExist": False}
    assert Unit(name="a.service").node() == {"name": "a.service"}
    assert Unit(name="a.service", enabled=False).node() == {"name": "a.service", "enabled": False}
    assert Unit(name="a.service", mask=True).node() == {"name": "a.service", "mask": True}


def test_file_is_owned_by_root_unless_told() -> None:
    assert File(path="/a", contents="x", mode=0o600).node() == {
        "path": "/a",
        "overwrite": True,
        "mode": 384,
        "contents": {"source": "data:,x"},
    }
    node = File(path="/a", contents="", owner="me").node()
    assert (node["user"], node["group"]) == ({"name": "me"}, {"name": "me"})


def test_appended_text_and_links() -> None:
    assert Appended(path="/a", contents="b").node() == {"path": "/a", "append": [{"source": "data:,b"}]}
    assert Link(path="/a", target="b").node() == {"path": "/a", "target": "b", "hard": False, "overwrite": True}
