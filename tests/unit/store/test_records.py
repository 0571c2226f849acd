"""A machine's record: what is written comes back, and nothing else is taken for it."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from machine.errors import MachineError, NotFoundError
from machine.model.arch import Arch
from machine.model.config import MachineConfig, Provisioning
from machine.model.folders import Folder
from machine.model.host import AcceleratorChoice
from machine.store import records
from machine.store.paths import Roots
from machine.store.records import BrokenRecord
from tests.support.builders import CREATED, make_config, make_full_config, make_roots, save_machine

RECORD = Path("/m/machines/box/record.json")
HINT = "; restore it, or remove the machine with: machine rm --force box"

Document = dict[str, Any]


@pytest.mark.parametrize(
    "config",
    [
        make_config(),
        make_config(last_up=CREATED + timedelta(hours=1), provisioned=True, rootful=True, uid=123456),
        make_config(provisioning=Provisioning.CLOUD_INIT),
        make_config(arch=Arch.AARCH64, accelerator=AcceleratorChoice.TCG, username="me"),
        make_config(swap_mib=512, usbs=("bus=1,devnum=2", "vendor=046d,product=c52b")),
        make_config(
            folders=(Folder(source="/a b", target="/é"), Folder(source="/c", target="/d", read_only=True)),
            volume_driver="9p",
            mount_inotify=True,
            guest_transports=("virtiofs", "sshfs"),
        ),
        make_config(guest_transports=()),
        make_full_config(followed="12ab"),
        make_config(protected=True, guest_outdated=True, renamed_from="old"),
    ],
)
def test_record_comes_back_as_it_was_saved(config: MachineConfig, tmp_path: Path) -> None:
    paths = save_machine(make_roots(tmp_path), config)
    assert records.load(make_roots(tmp_path), "box") == config
    assert stat.S_IMODE(paths.record.stat().st_mode) == 0o600


def test_record_is_json_with_a_schema_number() -> None:
    document = records.dump(make_config())
    assert json.loads(json.dumps(document)) == document
    assert document["schema"] == 1


def without(key: str) -> Callable[[Document], Document]:
    return lambda document: {name: value for name, value in document.items() if name != key}


def with_(**fields: object) -> Callable[[Document], Document]:
    return lambda document: {**document, **fields}


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (without("mac"), "mac is missing"),
        (without("resources"), "resources is missing"),
        (without("schema"), "it has no schema number"),
        (with_(schema=0), "it has no schema number"),
        (with_(schema="1"), "it has no schema number"),
        (with_(ssh_port="22"), "ssh_port is not of type int"),
        (with_(uid=True), "uid is not of type int"),
        (with_(rootful=1), "rootful is not of type bool"),
        (with_(provisioned=None), "provisioned is not of type bool"),
        (with_(provisioning="kickstart"), "'kickstart' is not a valid Provisioning"),
        (with_(protected="no"), "protected is not of type bool"),
        (with_(created="2026-06-01T10:00:00"), "2026-06-01T10:00:00 has no offset from UTC"),
        (with_(arch="vax"), "'vax' is not a valid Arch"),
        (with_(accelerator="warp"), "'warp' is not a valid AcceleratorChoice"),
        (with_(created="yesterday"), "Invalid isoformat string: 'yesterday'"),
        (with_(resources={"cpus": 1.5, "memory_mib": 1, "disk_gib": 1}), "cpus is not of type int"),
        (with_(usbs=[3]), "usbs is not of type str"),
        (with_(swap_mib=-1), "swap_mib cannot be -1"),
        (with_(image=None), "'NoneType' object is not subscriptable"),
    ],
)
def test_damaged_record_is_told_with_its_reason(edit: Callable[[Document], Document], reason: str) -> None:
    with pytest.raises(MachineError) as caught:
        records.parse(edit(records.dump(make_config())), RECORD)
    assert caught.value.line == f"the record {RECORD} is damaged: {reason}{HINT}"


def test_newer_record_is_refused_by_its_number() -> None:
    with pytest.raises(MachineError) as caught:
        records.parse({"schema": 2, "anything": "else"}, RECORD)
    assert caught.value.line == (
        f"{RECORD} was written by a newer version of this program (schema 2, this one reads 1); upgrade boot2podman"
    )


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(), children, max_size=3),
    max_leaves=8,
)


@given(key=st.sampled_from(sorted(records.dump(make_config()))), value=JSON)
def test_record_with_anything_in_any_place_is_read_or_refused(key: str, value: object) -> None:
    document = {**records.dump(make_config()), key: value}
    try:
        told = f"{RECORD}: {records.dump(records.parse(document, RECORD))}"
    except MachineError as error:
        told = error.line
    assert str(RECORD) in told


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not JSON (Expecting value: line 1 column 1 (char 0))"),
        (b"{", "not JSON (Expecting property name enclosed in double quotes: line 1 column 2 (char 1))"),
        (b"\xff\xfe\xfa", None),
        (b"[]", "not a JSON object"),
        (None, "it is missing"),
    ],
)
def test_file_that_is_no_record_is_damaged(content: bytes | None, reason: str | None, tmp_path: Path) -> None:
    roots = make_roots(tmp_path)
    record = save_machine(roots, make_config()).record
    if content is None:
        record.unlink()
    else:
        record.write_bytes(content)
    with pytest.raises(MachineError) as caught:
        records.load(roots, "box")
    assert caught.value.line.startswith(f"the record {record} is damaged: {reason or 'not JSON ('}")
    assert caught.value.line.endswith(HINT)


@pytest.mark.parametrize("name", ["nosuch", "", "..", "../data", "a/b", ".hidden"])
def test_machine_that_is_not_there_is_not_found(name: str, tmp_path: Path) -> None:
    roots = make_roots(tmp_path)
    save_machine(roots, make_config(".hidden"))
    with pytest.raises(NotFoundError) as caught:
        records.load(roots, name)
    assert caught.value.line == f"{name}: VM does not exist"


def test_names_are_those_of_visible_directories_in_order(tmp_path: Path) -> None:
    roots = make_roots(tmp_path)
    assert records.machine_names(roots) == []
    for name in ("b", "a", ".half.tmp"):
        (roots.machines / name).mkdir(parents=True)
    (roots.machines / ".lock").touch()
    (roots.machines / "a-file").touch()
    assert records.machine_names(roots) == ["a", "b"]


def test_one_damaged_record_hides_no_other(tmp_path: Path) -> None:
    roots = make_roots(tmp_path)
    good, other = make_config("a"), make_config("c")
    save_machine(roots, good)
    save_machine(roots, make_config("b")).record.write_text("no")
    save_machine(roots, other)
    first, broken, last = records.load_all(roots)
    assert (first, last) == (good, other)
    assert isinstance(broken, BrokenRecord)
    assert broken.name == "b"


def test_save_replaces_the_record(tmp_path: Path) -> None:
    roots = make_roots(tmp_path)
    config = make_config()
    paths = save_machine(roots, config)
    records.save(paths, replace(config, ssh_port=1))
    assert records.load(roots, "box").ssh_port == 1
    assert [path.name for path in paths.directory.iterdir()] == ["record.json"]


def test_record_from_before_there_was_protection_is_read() -> None:
    document = records.dump(make_config())
    for key in ("protected", "guest_outdated", "renamed_from"):
        del document[key]
    assert records.parse(document, RECORD) == make_config()


def test_machine_has_one_name_at_every_moment_of_a_rename(tmp_path: Path) -> None:
    roots = make_roots(tmp_path)
    old = save_machine(roots, make_config("old"))
    records.edit(old, lambda config: replace(config, name="new", renamed_from="old"))
    assert records.load(roots, "old") == make_config("old")
    old.directory.rename(roots.machine("new").directory)
    assert records.load(roots, "new") == make_config("new", renamed_from="old")
    assert records.machine_names(roots) == ["new"]


def test_edits_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    paths = save_machine(make_roots(tmp_path), make_config())

    def count(_: int) -> None:
        for _ in range(20):
            records.edit(paths, lambda config: replace(config, uid=config.uid + 1))

    with ThreadPoolExecutor() as threads:
        list(threads.map(count, range(4)))
    assert records.load_file(paths.record).uid == 1080


def test_record_of_another_machine_is_damaged(tmp_path: Path) -> None:
    roots = make_roots(tmp_path)
    save_machine(roots, make_config("one")).directory.rename(roots.machine("two").directory)
    with pytest.raises(MachineError, match='it is that of "one"'):
        records.load(roots, "two")


def hint_for(name: str, roots: Roots) -> str | None:
    with pytest.raises(NotFoundError) as caught:
        records.load(roots, name)
    assert caught.value.message == f"{name}: VM does not exist"
    return caught.value.hint


def test_missing_default_machine_names_those_that_exist(tmp_path: Path) -> None:
    roots = make_roots(tmp_path)
    assert hint_for("podman-machine-default", roots) is None
    save_machine(roots, make_config(name="web"))
    save_machine(roots, make_config(name="box"))
    assert hint_for("podman-machine-default", roots) == "add the name of a machine that exists: box, web"


def test_mistyped_name_brings_the_similar_ones(tmp_path: Path) -> None:
    roots = make_roots(tmp_path)
    save_machine(roots, make_config(name="podman-machine-default"))
    save_machine(roots, make_config(name="web"))
    assert hint_for("wbe", roots) is None
    assert hint_for("we", roots) == "did you mean web?"
    assert hint_for("podman", roots) == "did you mean podman-machine-default?"
