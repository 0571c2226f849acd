"""The real ignition-validate reads what we write, and has nothing to say of it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from machine.ignition.provision import provision
from machine.model.config import MachineConfig
from tests.builders import KEYS, make_config, make_full_config
from tests.integration.conftest import Images, World


def validate(path: Path) -> tuple[int, str]:
    done = subprocess.run(["ignition-validate", path], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    "config",
    [
        make_config(),
        make_config("my_box", username="me", uid=501, timezone="UTC"),
        make_config(rootful=True),
        make_config(uid=200_000),
        make_full_config(),
    ],
    ids=["default", "other-user", "rootful", "uid-in-subordinate-range", "first-boot"],
)
def test_config_is_valid_without_a_warning(config: MachineConfig, tmp_path: Path) -> None:
    path = tmp_path / "config.ign"
    path.write_text(provision(config, KEYS).to_json())
    assert validate(path) == (0, "")


def test_config_of_a_machine_is_valid_without_a_warning(world: World, images: Images) -> None:
    world.init("box", images.qcow2)
    assert validate(world.machines / "box" / "config.ign") == (0, "")


def test_validator_does_tell_of_a_mistake(tmp_path: Path) -> None:
    path = tmp_path / "config.ign"
    document = json.loads(provision(make_config(), KEYS).to_json())
    document["storage"]["files"][0]["contents"]["source"] = "nonsense"
    path.write_text(json.dumps(document))
    status, text = validate(path)
    assert status != 0
    assert "nonsense" in text or "url" in text.lower()
