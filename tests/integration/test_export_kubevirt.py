"""`machine export --format kubevirt`: the whole text, and Ignition's own validator on what is in it."""

from __future__ import annotations

import json
import subprocess
import textwrap

import pytest

from tests.support.golden import Golden
from tests.support.manifests import payload_of
from tests.support.transcripts import refuse, transcript
from tests.support.world import Outcome, World

CONTAINER = f"quay.io/fedora/fedora-coreos-kubevirt@sha256:{'ab' * 32}"


@pytest.fixture
def streams(world: World) -> World:
    """A world with metadata of a stream."""
    directory = world.root / "streams"
    directory.mkdir()
    described = {"images": {"kubevirt": {"image": "quay.io/x", "digest-ref": CONTAINER}}}
    document = {"stream": "stable", "architectures": {"x86_64": described}}
    (directory / "stable.json").write_text(json.dumps(document))
    world.must("config", "set", "stream_base_url", directory.as_uri())
    return world


@pytest.fixture
def cluster(streams: World) -> World:
    """A world with machines of Fedora CoreOS, Debian and an empty disk, and with metadata of a stream."""
    world = streams
    for name, provisioning in (("core", "ignition"), ("deb", "cloud-init"), ("empty", "ignition")):
        words = ("--memory", "700", "--cpus", "1", "--disk-size", "5", "--volume", "", "--label", "team=a")
        world.must("init", "--image", "/dev/null", "--provisioning", provisioning, *words, name)
    world.edit_record("core", config={"image": {**world.record("core")["config"]["image"], "reference": "fcos:stable"}})
    world.edit_record("deb", config={"image": {**world.record("deb")["config"]["image"], "reference": "debian:13"}})
    return world


def without_payload(outcome: Outcome) -> Outcome:
    stdout = outcome.stdout.replace(textwrap.indent(payload_of(outcome.stdout), " " * 6), "      PAYLOAD\n")
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
    path.write_text(payload_of(cluster.must("export", "--format", "kubevirt", "core").stdout))
    done = subprocess.run(["ignition-validate", path], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_payload_for_cloud_init_is_its_user_data(cluster: World) -> None:
    heading, _, text = payload_of(cluster.must("export", "--format", "kubevirt", "deb").stdout).partition("\n")
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


# Without a machine

EXPORT = ("export", "--format", "kubevirt")


@pytest.fixture
def described(streams: World) -> World:
    """A world without machines, and with files that describe some."""
    world = streams
    defaults = 'volume = [""]\nmemory = 700\n'
    texts = {
        "box.toml": f'name = "box"\nimage = "fcos:stable"\ncpus = 64\nprovision = ["a.sh"]\n{defaults}',
        "machines.toml": f'[defaults]\n{defaults}cpus = 1\n[machine.web]\n[machine.db]\nimage = "debian:13"\n',
        "far.toml": 'provider = "ssh"\nhost = "far.example"\n',
        "local.toml": 'image = "/dev/null"\nvolume = [""]\n',
        "unknown.toml": "memroy = 700\n",
        "large.toml": 'volume = [""]\nimage = "fcos:stable"\nprovision = ["large.sh"]\n',
        "a.sh": "true\n",
        "large.sh": f"# {'x' * 1024 * 1024}\n",
    }
    for name, text in texts.items():
        (world.root / name).write_text(text)
    return world


def test_file_needs_no_machine_and_its_keys_are_kept(described: World, golden: Golden) -> None:
    world, line = described, (*EXPORT, "-f", "box.toml")
    first = world.must(*line)
    golden.matches(transcript(world, without_payload(first), *line))
    keys = world.home / "data" / "exported" / "box"
    assert keys.stat().st_mode & 0o777 == 0o700
    assert {path.name: oct(path.stat().st_mode & 0o077) for path in keys.glob("*key")} == {
        "ssh_host_ed25519_key": "0o0"
    }
    text = payload_of(first.stdout)
    assert (keys / "id_ed25519.pub").read_text().split()[1] in text.replace("\\u002b", "+")
    again = world.must(*line)
    assert again.stdout == first.stdout
    assert again.stderr.startswith('The keys are those of an earlier export of "box", in ')
    assert world.must("ls", "--quiet").stdout == ""
    (world.root / "payload.ign").write_text(text)
    done = subprocess.run(
        ["ignition-validate", world.root / "payload.ign"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_name_on_the_command_line_names_the_machine_and_its_keys(described: World) -> None:
    assert "\n    name: other\n" in described.must(*EXPORT, "-f", "box.toml", "other").stdout
    text = (described.root / "box.toml").read_text()
    outcome = described.machine(*EXPORT, "-f", "-", stdin=text)
    assert (outcome.status, "\n    name: box\n" in outcome.stdout) == (0, True)
    assert sorted(path.name for path in (described.home / "data" / "exported").iterdir()) == ["box", "other"]


def test_machine_of_a_machines_file(described: World) -> None:
    found = described.must(*EXPORT, "-f", "machines.toml", "db").stdout
    assert "\n    name: db\n" in found
    assert 'guest: "700Mi"' in found
    assert "cloudInitNoCloud" in found


def test_only_machine_of_a_file_needs_no_name(described: World) -> None:
    (described.root / "machines.toml").write_text('[machine.only]\nimage = "fcos:stable"\nvolume = ""\nmemory = 700\n')
    assert "\n    name: only\n" in described.must(*EXPORT, "-f", "machines.toml").stdout


def test_keys_that_are_damaged_are_not_replaced(described: World) -> None:
    described.must(*EXPORT, "-f", "box.toml")
    host_key = described.home / "data" / "exported" / "box" / "ssh_host_ed25519_key"
    host_key.unlink()
    outcome = described.machine(*EXPORT, "-f", "box.toml")
    assert (outcome.status, outcome.stdout) == (125, "")
    assert outcome.stderr == f"Error: cannot read the keys in {host_key.parent}: No such file or directory\n"


@pytest.mark.parametrize(
    "words",
    [
        ("-f", "absent.toml"),
        ("-f", "unknown.toml"),
        ("-f", "far.toml", "far"),
        ("-f", "local.toml"),
        ("-f", "large.toml"),
        ("-f", "machines.toml"),
        ("-f", "machines.toml", "wbe"),
        ("-f", "box.toml", "--namespace", "Lab"),
        ("-f", "box.toml", "-a"),
        ("--format", "toml", "-f", "box.toml"),
    ],
    ids=" ".join,
)
def test_file_that_cannot_be_exported_is_one_line(words: tuple[str, ...], described: World, golden: Golden) -> None:
    refuse(golden, described, *EXPORT, *words)
