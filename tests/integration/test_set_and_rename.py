"""`machine set` and `machine rename`: real disks, records and clients' files."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from tests.support.clients import connections_of, docker_meta
from tests.support.disk_images import Images, qemu_img
from tests.support.golden import Golden
from tests.support.start import starting
from tests.support.transcripts import refuse, transcript
from tests.support.world import COMMAND_S, World

GIB = 1024**3


def record(world: World, name: str = "box") -> Path:
    return world.machines / name / "record.json"


def virtual_gib(world: World, name: str = "box") -> float:
    document = json.loads(qemu_img("info", "--output=json", world.machines / name / "disk.qcow2"))
    return float(document["virtual-size"]) / GIB


# set


def test_set_changes_what_is_asked_for_in_silence(box: World) -> None:
    assert box.must("set", "--cpus", "1", "--memory", "700", "box").stderr == ""
    resources = box.inspect("box")["Resources"]
    assert (resources["CPUs"], resources["Memory"], resources["DiskSize"]) == (1, 700, 7)
    assert box.must("set", "box").stderr == ""


def test_set_grows_the_disk_of_a_machine_that_has_been_up(box: World, golden: Golden) -> None:
    box.edit_record("box", guest={"provisioned": True})
    grown = box.must("set", "--disk-size", "9", "box")
    golden.matches(transcript(box, grown, "set", "--disk-size", "9", "box"))
    assert (virtual_gib(box), box.inspect("box")["Resources"]["DiskSize"]) == (9, 9)


def test_disk_of_a_machine_that_never_was_up_has_the_new_size_at_its_start(box: World) -> None:
    assert box.must("set", "--disk-size", "9", "box").stderr == ""
    with starting(box) as process:
        box.machine("kill", "box")
        process.communicate(timeout=COMMAND_S)
    assert virtual_gib(box) == 9


def test_set_of_a_disk_that_grew_before_a_kill_ends_what_was_begun(box: World, golden: Golden) -> None:
    box.edit_record("box", guest={"provisioned": True})
    qemu_img("resize", "-q", box.machines / "box" / "disk.qcow2", "9G")
    refuse(golden, box, "set", "--disk-size", "8", "box")
    box.must("set", "--disk-size", "9", "box")
    assert (virtual_gib(box), box.inspect("box")["Resources"]["DiskSize"]) == (9, 9)


BAD_CHANGES = {
    "equal disk": ["--disk-size", "7"],
    "smaller disk": ["--disk-size", "6"],
    "one bad thing of several": ["--disk-size", "9", "--cpus", "99999"],
    "memory": ["--memory", "99999999"],
    "username": ["--username", "me"],
    "boolean as pflag would not read it": ["--rootful", "false"],
}


@pytest.mark.parametrize("what", BAD_CHANGES)
def test_change_that_is_refused_changes_nothing(what: str, box: World, golden: Golden) -> None:
    box.edit_record("box", guest={"provisioned": True})
    refuse(golden, box, "set", *BAD_CHANGES[what], "box")
    assert virtual_gib(box) == 7


def test_set_with_a_damaged_connections_file_changes_nothing(box: World, golden: Golden) -> None:
    box.edit_record("box", guest={"provisioned": True})
    (box.root / "podman-connections.json").write_text("{")
    before = box.files()
    outcome = box.machine("set", "--rootful", "--disk-size", "9", "box")
    golden.matches(transcript(box, outcome, "set", "--rootful", "--disk-size", "9", "box"))
    assert {name for name, content in box.files().items() if before.get(name) != content} == set()


def test_rootful_moves_what_leads_clients_to_the_machine(box: World) -> None:
    sockets = box.inspect("box")["Machine"]["Sockets"]
    assert box.connections["Default"] == "box"
    for words, default, socket in ((["--rootful"], "box-root", "Rootful"), (["--rootful=false"], "box", "Rootless")):
        box.must("set", *words, "box")
        assert box.connections["Default"] == default
        endpoint = json.loads(docker_meta(box, "box").read_bytes())["Endpoints"]["docker"]["Host"]
        assert endpoint == f"unix://{sockets[socket]}"
        assert box.inspect("box")["ConnectionInfo"]["PodmanSocket"]["Path"] == sockets[socket]
    assert json.loads(record(box).read_bytes())["pending"]["guest_outdated"] is True


def test_rootful_leaves_a_default_that_is_another_machines(box: World, images: Images) -> None:
    box.init("other", images.qcow2)
    box.must("set", "--rootful", "other")
    assert box.connections["Default"] == "box"


def test_rootful_moves_the_default_of_an_old_podman(podman_world: World, images: Images) -> None:
    world = podman_world
    world.init("box", images.qcow2)
    world.must("set", "--rootful", "box")
    assert connections_of(world)["box-root"][1] == "true"
    world.must("rename", "box", "bax")
    assert sorted(connections_of(world)) == ["bax", "bax-root"]
    assert connections_of(world)["bax-root"][1] == "true"


def test_user_mode_networking_is_all_there_is(box: World, golden: Golden) -> None:
    assert box.must("set", "--user-mode-networking", "box").stderr == ""
    refused = box.must("set", "--user-mode-networking=false", "box")
    golden.matches(transcript(box, refused, "set", "--user-mode-networking=false", "box"))


# rename


def test_rename_takes_everything_along(box: World) -> None:
    disk = (box.machines / "box" / "disk.qcow2").stat().st_ino
    assert box.must("rename", "box", "bax").stderr == ""
    assert box.machine("ls", "-q").stdout == "bax*\n"
    assert (box.machines / "bax" / "disk.qcow2").stat().st_ino == disk
    assert (box.machines / "bax" / "known_hosts").read_text().startswith("machine-bax ssh-ed25519 ")
    sockets = box.inspect("bax")["Machine"]["Sockets"]
    assert Path(sockets["Rootless"]).parent.name == "bax"
    assert box.connections == {
        "Default": "bax",
        "Connections": {
            "bax": {"URI": f"unix://{sockets['Rootless']}"},
            "bax-root": {"URI": f"unix://{sockets['Rootful']}"},
        },
    }
    assert not docker_meta(box, "box").exists()
    assert json.loads(docker_meta(box, "bax").read_bytes())["Endpoints"]["docker"]["Host"].endswith("/bax/podman.sock")
    document = json.loads(record(box, "bax").read_bytes())
    assert document["config"]["name"] == "bax"
    assert document["pending"] == {
        "renamed_from": None,
        "rekey": False,
        "scripts": False,
        "guest_outdated": True,
        "restoring": None,
    }


BAD_RENAMES = {
    "of nothing": ["nosuch", "bax"],
    "to itself": ["box", "box"],
    "to another machine": ["box", "other"],
    "to a bad name": ["box", "a/b"],
    "to a reserved name": ["box", "qemu"],
    "to a long name": ["box", "n" * 31],
    "to another connection": ["box", "far"],
    "to nothing": ["box"],
}


@pytest.mark.parametrize("what", BAD_RENAMES)
def test_rename_that_cannot_be(what: str, box: World, images: Images, golden: Golden) -> None:
    box.init("other", images.qcow2)
    path = box.root / "podman-connections.json"
    document = json.loads(path.read_bytes())
    document["Connection"]["Connections"]["far"] = {"URI": "ssh://far"}
    path.write_text(json.dumps(document))
    refuse(golden, box, "rename", *BAD_RENAMES[what])


def test_rename_that_was_killed_before_the_directory_had_moved(box: World) -> None:
    box.edit_record("box", config={"name": "bax"}, pending={"renamed_from": "box"})
    assert box.machine("ls", "-q").stdout == "box*\n"
    box.must("set", "--cpus", "1", "box")
    assert json.loads(record(box).read_bytes())["config"]["name"] == "box"
    box.must("rename", "box", "bax")


@pytest.mark.parametrize("verb", ["set", "rm --force", "rename"])
def test_rename_that_was_killed_after_the_directory_had_moved(verb: str, box: World) -> None:
    box.edit_record("box", config={"name": "bax"}, pending={"renamed_from": "box"})
    (box.machines / "box").rename(box.machines / "bax")
    assert box.machine("ls", "-q").stdout == "bax\n"
    done = box.must(*verb.split(), "bax", *(["bex"] if verb == "rename" else []))
    assert 'Finishing the rename of "box" to "bax"\n' in done.stderr
    assert sorted(box.connections["Connections"]) == {
        "set": ["bax", "bax-root"], "rm --force": [], "rename": ["bex", "bex-root"],
    }[verb]  # fmt: skip
    assert not docker_meta(box, "box").exists()


def test_rename_that_is_killed_at_any_moment_leaves_one_machine(box: World) -> None:
    name, other = "box", "bax"
    for step in range(14):
        with box.popen("rename", name, other) as process:
            time.sleep(0.15 + 0.02 * step)
            process.kill()
            process.communicate()
        (found,) = box.machine("ls", "-q").stdout.split()
        name = found.rstrip("*")
        other = {"box": "bax", "bax": "box"}[name]
        box.must("set", "--cpus", "1", name)
        sockets = box.inspect(name)["Machine"]["Sockets"]
        assert box.connections["Connections"] == {
            name: {"URI": f"unix://{sockets['Rootless']}"},
            f"{name}-root": {"URI": f"unix://{sockets['Rootful']}"},
        }
        assert docker_meta(box, name).exists()
        assert not docker_meta(box, other).exists()
