"""Options of `machine init` that concern hosts over SSH."""

from __future__ import annotations

from pathlib import Path

import pytest

from machine.errors import BadInputError
from machine.ops.init_remote import check_no_remote_options, plan_remote
from machine.ops.init_request import InitRequest
from tests.support.builders import make_context


@pytest.mark.parametrize(
    ("file", "hint"),
    [(None, "add: --provider ssh"), ("box.toml", 'add: --provider ssh, or in the file: provider = "ssh"')],
)
def test_host_without_its_provider_is_told_how_to_add_it(file: str | None, hint: str) -> None:
    with pytest.raises(BadInputError) as caught:
        check_no_remote_options(InitRequest(file=file, host="h"))
    assert caught.value.line == f"--host is for hosts that are reached over SSH; {hint}"


@pytest.mark.parametrize(
    ("file", "hint"),
    [
        (None, "add: --host [USER@]HOST[:PORT]"),
        ("box.toml", 'add: --host [USER@]HOST[:PORT], or in the file: host = "[USER@]HOST[:PORT]"'),
    ],
)
def test_provider_without_a_host_is_told_how_to_name_it(tmp_path: Path, file: str | None, hint: str) -> None:
    with pytest.raises(BadInputError) as caught:
        plan_remote("far", InitRequest(file=file, provider="ssh"), make_context(tmp_path), lambda _: False)
    assert caught.value.line == f"the provider ssh needs a host; {hint}"
