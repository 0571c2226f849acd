"""A machine's record: what is written comes back, and nothing else is taken for it."""

from __future__ import annotations

import contextlib
import json
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import pytest
from hypothesis import given
from hypothesis import strategies as st

from machine.errors import MachineError
from machine.model.config import FirstBoot, ImageOrigin, Provisioning, Script, UserIgnition, Verified
from machine.model.folders import Folder
from machine.model.host import AcceleratorChoice
from machine.model.ports import parse_forward
from machine.model.record import GuestFacts, MachineRecord, Pending
from machine.model.transport import Transport, TransportChoice
from machine.store import records
from machine.store.fields import FieldError
from machine.store.names import machine_names
from machine.store.record_document import ADDED, NewerSchemaError, completed, dump, parse
from machine.store.records import BrokenRecord
from tests.support.builders import (
    CREATED,
    DIGEST,
    PUBLIC_KEY,
    USER_IGNITION,
    make_record,
    make_remote_config,
    make_roots,
    save_machine,
)

REMOVE = "restore the file, or remove the machine with: machine rm --force box"


def hint(record: Path) -> str:
    return f"restore its last good copy with: cp {record.with_name('record.last-good.json')} {record}"


Document = dict[str, Any]

SCHEMA_1 = Path(__file__).with_name("schema_1")
"""Records that the programs of their time wrote."""

SCHEMA_2 = Path(__file__).with_name("schema_2") / "full.json"
"""The same of this schema; a field that was added since is not in it."""

FULL = make_record(
    accelerator=AcceleratorChoice.TCG,
    rootful=True,
    uid=1001,
    protected=True,
    forwards=tuple(map(parse_forward, ("8080:80", "*:53:53/udp", "/run/host.sock:/run/guest.sock", "[::1]:443:8443"))),
    usbs=("bus=1,devnum=2", "vendor=046d,product=c52b"),
    image=ImageOrigin(
        reference="fcos:stable",
        digest=DIGEST,
        stream="stable",
        release="43.1",
        location="https://example.org/fcos.qcow2.xz",
        verified=Verified.SIGNATURE,
        signer="0123ABCD",
        promised="cd" * 32,
    ),
    swap_mib=512,
    folders=(Folder(source="/a b", target="/é"), Folder(source="/c", target="/d", read_only=True)),
    volume_driver=TransportChoice.NINEP,
    mount_inotify=True,
    timezone_local=True,
    native_ca=True,
    labels=(("org.example/x", ""), ("team", 'a "b"')),
    provisioning=Provisioning.CLOUD_INIT,
    first_boot=FirstBoot(
        ignition=UserIgnition(name="site.ign", text=USER_IGNITION, replaces=True),
        scripts=(
            Script(name="set up.sh", text='#!/bin/sh\necho "a\\b"\n'),
            Script(name="own.sh", text="echo '''\r\n", as_user=True),
        ),
        playbook=Script(name="site.yml", text="- hosts: all\n", as_user=True),
        environment=(("A", "1"), ("B", "ü $x")),
        ssh_keys=(PUBLIC_KEY,),
        hostname="box.example.org",
    ),
    pending=Pending(renamed_from="old", rekey=True, scripts=True, guest_outdated=True),
    guest=GuestFacts(
        provisioned=True,
        last_up=CREATED + timedelta(hours=5),
        transports=frozenset({Transport.SSHFS, Transport.VIRTIOFS}),
        followed="12ab",
        services="34cd",
    ),
)
OLDER = replace(FULL, guest=replace(FULL.guest, services=None))


@pytest.mark.parametrize(
    "record",
    [
        make_record(),
        make_record(
            rootful=True, uid=0, provisioning=Provisioning.CLOUD_INIT, image=ImageOrigin(reference="none", digest=None)
        ),
        make_record(guest=GuestFacts(transports=frozenset())),
        make_record(forwards=tuple(map(parse_forward, ("8080:80", "*:53:53/udp", "/run/a:/run/b", "[::1]:443:8443")))),
        FULL,
    ],
    ids=["new", "without-a-base", "without-transports", "forwards", "full"],
)
def test_record_comes_back_as_it_was_saved(record: MachineRecord, tmp_path: Path) -> None:
    paths = save_machine(make_roots(tmp_path), record)
    assert records.load(make_roots(tmp_path), "box") == record
    assert stat.S_IMODE(paths.record.stat().st_mode) == 0o600


def test_record_is_json_with_a_schema_number_and_three_parts() -> None:
    document = dump(FULL)
    assert json.loads(json.dumps(document)) == document
    assert document["schema"] == 2
    assert document.keys() == {"schema", "config", "pending", "guest"}


def test_record_that_an_earlier_program_of_this_schema_wrote_is_read() -> None:
    assert parse(json.loads(SCHEMA_2.read_bytes())) == OLDER


def places(value: object, *above: str | int) -> Iterator[tuple[str | int, ...]]:
    """Where each field is in a document, but for the objects whose keys are the user's."""
    if isinstance(value, dict) and above[-1:] not in {("labels",), ("environment",)}:
        for key, below in value.items():
            yield (*above, key)
            yield from places(below, *above, key)
    elif isinstance(value, list):
        for index, below in enumerate(value):
            yield from places(below, *above, index)


OPTIONAL_PLACES = {("schema",), *((part, name) for part, fields in ADDED.items() for name in fields)}


@pytest.mark.parametrize("place", [one for one in places(dump(FULL)) if one not in OPTIONAL_PLACES], ids=str)
def test_every_field_of_the_document_is_read(place: tuple[str | int, ...]) -> None:
    document: Document = json.loads(json.dumps(dump(FULL)))
    part: Any = document
    for step in place[:-1]:
        part = part[step]
    del part[place[-1]]
    with pytest.raises(FieldError, match=rf"{place[-1]} is missing$"):
        parse(document)


def test_field_that_came_later_has_its_value_for_records_without_it() -> None:
    document: Document = {"schema": 2, "config": {"name": "box"}, "guest": {"new": 1}}
    added: dict[str, Document] = {"config": {"new": True}, "guest": {"new": 0}, "pending": {"new": None}}
    assert completed(document, added) == {"schema": 2, "config": {"new": True, "name": "box"}, "guest": {"new": 1}}


def without(part: str, key: str) -> Callable[[Document], Document]:
    return lambda document: {**document, part: {name: value for name, value in document[part].items() if name != key}}


def config(**changed: object) -> Callable[[Document], Document]:
    return lambda document: {**document, "config": {**document["config"], **changed}}


def guest(**changed: object) -> Callable[[Document], Document]:
    return lambda document: {**document, "guest": {**document["guest"], **changed}}


def top(**changed: object) -> Callable[[Document], Document]:
    return lambda document: {**document, **changed}


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (lambda _: {"config": {}}, "it has no schema number"),
        (top(schema=0), "it has no schema number"),
        (top(schema="1"), "it has no schema number"),
        (top(schema=True), "it has no schema number"),
        (top(config=None), "config is not a JSON object"),
        (top(pending=[]), "pending is not a JSON object"),
        (without("config", "mac"), "config.mac is missing"),
        (without("config", "resources"), "config.resources is missing"),
        (without("pending", "rekey"), "pending.rekey is missing"),
        (config(ssh_port="22"), "config.ssh_port is not an integer"),
        (config(ssh_port=65536), "config.ssh_port is 65536, but must be 1 to 65535"),
        (config(uid=True), "config.uid is not an integer"),
        (config(rootful=1), "config.rootful is not true or false"),
        (config(provisioning="kickstart"),
         'config.provisioning is "kickstart", but must be one of: ignition, cloud-init'),
        (config(created="2026-06-01T10:00:00"), "config.created has no offset from UTC"),
        (config(created="yesterday"), 'config.created is "yesterday", which is not a time'),
        (config(volume_driver="nfs"), 'config.volume_driver is "nfs", but must be one of: auto, virtiofs, 9p, sshfs'),
        (config(resources={"cpus": 1.5, "memory_mib": 1, "disk_gib": 1}), "config.resources.cpus is not an integer"),
        (config(usbs=[3]), "config.usbs[0] is not a string"),
        (config(usbs="bus=1"), "config.usbs is not a list"),
        (config(swap_mib=-1), "config.swap_mib is -1, but must be at least 0"),
        (config(swap_mib=2**53), f"config.swap_mib is {2**53}, but must be 0 to {2**53 - 1}"),
        (config(folders=["nonsense"]), 'config.folders: "nonsense" is not SRC[:DST[:ro]] with absolute paths'),
        (config(folders=["/a:/b:ro:rw"]), 'config.folders: "/a:/b:ro:rw" is not SRC[:DST[:ro]] with absolute paths'),
        (config(username="a\ud800"), "config.username has half of a surrogate pair, U+D800, which is no character"),
        (config(labels={"\udfff": ""}),
         "a name in config.labels has half of a surrogate pair, U+DFFF, which is no character"),
        (config(image=None), "config.image is not a JSON object"),
        (config(labels={"a": 1}), "config.labels.a is not a string"),
        (guest(provisioned=None), "guest.provisioned is not true or false"),
        (guest(transports=["9p", "nfs"]), 'guest.transports[1] is "nfs", but must be one of: virtiofs, 9p, sshfs'),
        (guest(last_up=5), "guest.last_up is not a string"),
    ],
)  # fmt: skip
def test_damaged_record_is_reported_with_its_field(
    edit: Callable[[Document], Document], reason: str, tmp_path: Path
) -> None:
    record = save_machine(make_roots(tmp_path), make_record()).record
    record.write_text(json.dumps(edit(dump(make_record()))))
    with pytest.raises(MachineError) as caught:
        records.load_file(record)
    assert caught.value.line == f"the record {record} is damaged: {reason}; {hint(record)}"


@pytest.mark.parametrize("key", ["folders", "forwards"])
def test_damaged_entry_of_a_list_is_reported_with_its_field(key: str) -> None:
    with pytest.raises(FieldError, match=f"^config.{key}: "):
        parse(config(**{key: ["/a:b"]})(dump(make_record())))


def test_newer_record_is_refused_by_its_number(tmp_path: Path) -> None:
    record = tmp_path / "record.json"
    record.write_text('{"schema": 4, "anything": "else"}')
    with pytest.raises(MachineError) as caught:
        records.load_file(record)
    assert caught.value.line == (
        f"{record} was written by a newer version of this program (schema 4, this one reads up to 3); "
        "upgrade boot2podman"
    )


def test_fields_of_a_newer_program_outlive_an_edit(tmp_path: Path) -> None:
    path = save_machine(make_roots(tmp_path), FULL).record
    document = json.loads(path.read_bytes())
    document["audit"] = {"by": "me"}
    document["config"]["colour"] = "red"
    document["config"]["resources"]["gpus"] = [1, None]
    document["config"]["first_boot"]["playbook"]["tags"] = "all"
    document["config"]["labels"]["team"] = "x"
    document["guest"]["kernel"] = {"version": "6.1", "args": []}
    path.write_text(json.dumps(document))
    paths = make_roots(tmp_path).machine("box")
    records.edit(paths, lambda record: replace(record, config=replace(record.config, protected=False, labels=())))
    document["config"] |= {"protected": False, "labels": {}}
    assert json.loads(path.read_bytes()) == document
    records.edit(
        paths,
        lambda record: replace(
            record, config=replace(record.config, first_boot=replace(record.config.first_boot, playbook=None))
        ),
    )
    document["config"]["first_boot"]["playbook"] = None
    assert json.loads(path.read_bytes()) == document


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(), children, max_size=3),
    max_leaves=8,
)


@given(part=st.sampled_from(["config", "pending", "guest"]), data=st.data(), value=JSON)
def test_record_with_anything_in_any_place_is_read_or_refused(part: str, data: st.DataObject, value: object) -> None:
    document: Document = dump(FULL)
    key = data.draw(st.sampled_from(sorted(document[part])))
    with contextlib.suppress(FieldError):
        dump(parse({**document, part: {**document[part], key: value}}))


@given(key=st.sampled_from(sorted(json.loads((SCHEMA_1 / "full.json").read_bytes()))), value=JSON)
def test_old_record_with_anything_in_any_place_is_read_or_refused(key: str, value: object) -> None:
    document = {**json.loads((SCHEMA_1 / "full.json").read_bytes()), key: value}
    with contextlib.suppress(FieldError, NewerSchemaError):
        dump(parse(document))


# Older schemas


def old(name: str) -> Document:
    document: Document = json.loads((SCHEMA_1 / name).read_bytes())
    return document


def test_record_of_schema_1_with_everything_in_it_is_migrated() -> None:
    assert parse(old("full.json")) == OLDER


def test_record_of_the_oldest_program_is_migrated() -> None:
    image = ImageOrigin(reference="/images/own.qcow2", digest=DIGEST, location="/images/own.qcow2")
    assert parse(old("oldest.json")) == make_record(image=image)


def test_old_record_without_a_base_image_is_migrated() -> None:
    empty = {"reference": "none", "digest": "", "stream": "", "release": "", "location": ""}
    record = parse({**old("oldest.json"), "image": empty})
    assert record.config.image == ImageOrigin(reference="none", digest=None)


def test_old_record_is_written_anew_by_an_edit_and_not_before(tmp_path: Path) -> None:
    roots = make_roots(tmp_path)
    path = save_machine(roots, make_record()).record
    path.write_bytes((SCHEMA_1 / "oldest.json").read_bytes())
    before = path.read_bytes()
    record = records.load(roots, "box")
    assert path.read_bytes() == before
    records.edit(roots.machine("box"), lambda record: record)
    assert json.loads(path.read_bytes()) == dump(record)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"ssh_port": "22"}, "config.ssh_port is not an integer"),
        ({"image": None}, "config.image is not a JSON object"),
        ({"first_boot": 5}, "config.first_boot is not a JSON object"),
        ({"identity_pending": 1}, "pending.rekey is not true or false"),
        ({"guest_transports": "9p"}, "guest.transports is not a list"),
    ],
)
def test_damaged_old_record_is_reported_with_its_field(changed: Document, reason: str) -> None:
    with pytest.raises(FieldError) as caught:
        parse({**old("full.json"), **changed})
    assert str(caught.value) == reason


@pytest.mark.parametrize("key", ["name", "mac", "provisioned", "last_up", "image"])
def test_field_that_every_old_record_had_is_missed(key: str) -> None:
    document = old("oldest.json")
    del document[key]
    with pytest.raises(FieldError, match=f"{key} is missing"):
        parse(document)


# Files


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
    record = save_machine(roots, make_record()).record
    if content is None:
        record.unlink()
    else:
        record.write_bytes(content)
    with pytest.raises(MachineError) as caught:
        records.load(roots, "box")
    assert caught.value.line.startswith(f"the record {record} is damaged: {reason or 'not JSON ('}")
    assert caught.value.hint == hint(record)


def test_damaged_record_without_a_copy_can_only_be_restored_otherwise(tmp_path: Path) -> None:
    paths = save_machine(make_roots(tmp_path), make_record())
    paths.record.write_text("{")
    paths.last_good_record.unlink()
    with pytest.raises(MachineError) as caught:
        records.load_file(paths.record)
    assert caught.value.hint == REMOVE


def test_copy_of_a_record_has_the_last_edit(tmp_path: Path) -> None:
    roots = make_roots(tmp_path)
    paths = save_machine(roots, make_record())
    edited = records.edit(paths, lambda record: replace(record, config=replace(record.config, protected=True)))
    paths.record.write_text("")
    assert records.load_last_good(paths) == edited
    assert records.find(roots, "box") == BrokenRecord(name="box", error=ANY, last_good=edited)


@pytest.mark.parametrize("has_copy", [False, True])
def test_damaged_record_is_restored_from_its_copy_or_else_from_memory(has_copy: bool, tmp_path: Path) -> None:
    paths = save_machine(make_roots(tmp_path), make_record())
    remembered = make_record(ssh_port=1)
    assert not records.restore(paths, remembered)
    paths.record.write_text("{")
    if not has_copy:
        paths.last_good_record.write_text("{")
    assert records.restore(paths, remembered)
    restored = make_record() if has_copy else remembered
    assert records.load_file(paths.record) == records.load_file(paths.last_good_record) == restored
    assert paths.damaged_record.read_text() == "{"


def test_missing_record_is_restored(tmp_path: Path) -> None:
    paths = save_machine(make_roots(tmp_path), make_record())
    paths.record.unlink()
    assert records.restore(paths, make_record())
    assert records.load_file(paths.record) == make_record()


def test_record_of_a_newer_program_is_not_restored(tmp_path: Path) -> None:
    paths = save_machine(make_roots(tmp_path), make_record())
    paths.record.write_text('{"schema": 99}')
    with pytest.raises(MachineError, match="newer version"):
        records.restore(paths, make_record())
    assert paths.record.read_text() == '{"schema": 99}'


def test_one_damaged_record_hides_no_other(tmp_path: Path) -> None:
    roots = make_roots(tmp_path)
    good, other = make_record("a"), make_record("c")
    save_machine(roots, good)
    save_machine(roots, make_record("b")).record.write_text("no")
    save_machine(roots, other)
    first, broken, last = records.load_all(roots)
    assert (first, last) == (good, other)
    assert isinstance(broken, BrokenRecord)
    assert broken.name == "b"


def test_save_replaces_the_record(tmp_path: Path) -> None:
    roots = make_roots(tmp_path)
    paths = save_machine(roots, make_record())
    records.save(paths, make_record(ssh_port=1))
    assert records.load(roots, "box") == make_record(ssh_port=1)
    assert sorted(path.name for path in paths.directory.iterdir()) == ["record.json", "record.last-good.json"]


def test_machine_has_one_name_at_every_moment_of_a_rename(tmp_path: Path) -> None:
    roots = make_roots(tmp_path)
    old = save_machine(roots, make_record("old"))
    both = make_record("new", pending=Pending(renamed_from="old"))
    records.edit(old, lambda _: both)
    assert records.load(roots, "old") == make_record("old")
    old.directory.rename(roots.machine("new").directory)
    assert records.load(roots, "new") == both
    assert machine_names(roots) == ["new"]


def test_edits_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    paths = save_machine(make_roots(tmp_path), make_record())

    def count(_: int) -> None:
        for _ in range(20):
            records.edit(
                paths, lambda record: replace(record, config=replace(record.config, uid=record.config.uid + 1))
            )

    with ThreadPoolExecutor() as threads:
        list(threads.map(count, range(4)))
    assert records.load_file(paths.record).config.uid == 1080


def test_record_of_another_machine_is_damaged(tmp_path: Path) -> None:
    roots = make_roots(tmp_path)
    save_machine(roots, make_record("one")).directory.rename(roots.machine("two").directory)
    with pytest.raises(MachineError, match='it belongs to the machine "one"'):
        records.load(roots, "two")


def test_host_over_ssh_has_a_schema_that_older_programs_refuse() -> None:
    record = MachineRecord(config=make_remote_config())
    document = dump(record)
    assert document["schema"] == 3
    assert parse(json.loads(json.dumps(document))) == record
    assert dump(make_record())["schema"] == 2
