"""Where the environment variables of Podman's and Docker's clients lead."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from machine.model.provider import RootAccess
from machine.ops.shared.client_variables import choices
from tests.support.builders import make_config, make_context, make_remote_config


def test_variables_that_are_not_set_choose_nothing(tmp_path: Path) -> None:
    assert list(choices(make_context(tmp_path, DOCKER_HOST=""), [make_config()])) == []


def test_root_of_a_machine_whose_user_cannot_become_root_is_no_machine(tmp_path: Path) -> None:
    far = make_remote_config()
    assert far.remote
    far = replace(far, remote=replace(far.remote, root_access=RootAccess.NONE))
    paths = make_context(tmp_path).roots.machine("far")
    found = choices(
        make_context(
            tmp_path,
            DOCKER_HOST=f"unix://{paths.podman_socket}",
            CONTAINER_HOST=f"unix://{paths.podman_root_socket}",
            CONTAINER_CONNECTION="far",
        ),
        [make_config("box"), far],
    )
    assert [(choice.variable, choice.machine) for choice in found] == [
        ("DOCKER_HOST", "far"),
        ("CONTAINER_HOST", None),
        ("CONTAINER_CONNECTION", "far"),
    ]
