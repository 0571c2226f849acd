"""Options of `machine init` that concern hosts over SSH."""

from __future__ import annotations

import pytest

from machine.errors import BadInputError
from machine.ops.init_remote import check_no_remote_options
from machine.ops.init_request import InitRequest


@pytest.mark.parametrize(
    ("file", "hint"),
    [(None, "add: --provider ssh"), ("box.toml", 'add: --provider ssh, or in the file: provider = "ssh"')],
)
def test_host_without_its_provider_is_told_how_to_add_it(file: str | None, hint: str) -> None:
    with pytest.raises(BadInputError) as caught:
        check_no_remote_options(InitRequest(file=file, host="h"))
    assert caught.value.line == f"--host is for hosts that are reached over SSH; {hint}"
