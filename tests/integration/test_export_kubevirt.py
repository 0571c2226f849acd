"""`machine export --format kubevirt`: the whole text, and Ignition's own validator on what is in it."""

from __future__ import annotations

import json
import re
import subprocess
import textwrap

import pytest

from tests.support.golden import Golden
from tests.support.transcripts import refuse, transcript
from tests.support.world import Outcome, World

CONTAINER = f"quay.io/fedora/fedora-coreos-kubevirt@sha256:{'ab' * 32}"


@pytest.fixture
def cluster(world: World) -> World:
    """A world with machines of Fedora CoreOS, Debian and an empty disk, and with metadata of a stream."""
    for name, provisioning in (("core", "ignition"), ("deb", "cloud-init"), ("empty", "ignition")):
        words = ("--memory", "700", "--cpus", "1", "--disk-size", "5", "--volume", "", "--label", "team=a")
        world.must("init", "--image", "/dev/null", "--provisioning", provisioning, *words, name)
    world.edit_record("core", config={"image": {**world.record("core")["config"]["image"], "reference": "fcos:stable"}})
    world.edit_record("deb", config={"image": {**world.record("deb")["config"]["image"], "reference": "debian:13"}})
    streams = world.root / "streams"
    streams.mkdir()
    described = {"images": {"kubevirt": {"image": "quay.io/x", "digest-ref": CONTAINER}}}
    document = {"stream": "stable", "architectures": {"x86_64": described}}
    (streams / "stable.json").write_text(json.dumps(document))
    world.must("config", "set", "stream_base_url", streams.as_uri())
    return world


def payload(outcome: Outcome) -> str:
    """The text in the Secret."""
    found = re.search(r"^    userdata: \|\n((?:      .*\n|\n)+)", outcome.stdout, re.MULTILINE)
    assert found
    return textwrap.dedent(found[1])


def without_payload(outcome: Outcome) -> Outcome:
    stdout = outcome.stdout.replace(textwrap.indent(payload(outcome), " " * 6), "      PAYLOAD\n")
    return Outcome(status=outcome.status, stdout=stdout, stderr=outcome.stderr)


@pytest.mark.parametrize(
    "words",
    [("core",), ("--namespace", "lab", "--disk-size", "9", "--storage-class", "fast", "core"), ("deb",)],
    ids=["container", "volume", "cloud-init"],
)
def test_whole_text_is_the_golden_one(words: tuple[str, ...], cluster: World, golden: Golden) -> None:
    line = ("export", "--format", "kubevirt", *words)
    golden.matches(transcript(cluster, without_payload(cluster.must(*line)), *line))


def test_ignition_has_nothing_to_say_of_the_payload(cluster: World) -> None:
    path = cluster.root / "payload.ign"
    path.write_text(payload(cluster.must("export", "--format", "kubevirt", "core")))
    done = subprocess.run(["ignition-validate", path], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_payload_for_cloud_init_is_its_user_data(cluster: World) -> None:
    heading, _, text = payload(cluster.must("export", "--format", "kubevirt", "deb")).partition("\n")
    assert heading == "#cloud-config"
    assert json.loads(text)["packages"] == ["podman"]


@pytest.mark.parametrize(
    "words",
    [
        ("--format", "kubevirt", "empty"),
        ("--format", "kubevirt", "--namespace", "Lab", "core"),
        ("--format", "kubevirt", "--storage-class", "a b", "core"),
        ("--format", "kubevirt", "--disk-size", "0", "core"),
        ("--format", "yaml", "core"),
        ("--namespace", "lab", "core"),
        ("--disk-size", "9", "core"),
    ],
    ids=" ".join,
)
def test_what_cannot_be_exported_is_one_line(words: tuple[str, ...], cluster: World, golden: Golden) -> None:
    refuse(golden, cluster, "export", *words)
