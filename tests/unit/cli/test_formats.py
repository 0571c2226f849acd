"""`--format` of the listings, of inspect and of info, on records alone; and the shapes of the JSON, frozen."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from machine.cli import image, port
from machine.cli import list as list_command
from machine.cli.formats import Form, Listing, form_of, heading_of, print_listing
from machine.cli.tables import align
from machine.cli.yaml import manifest_text, yaml_text
from machine.errors import BadInputError
from machine.model.host import HostOS
from machine.model.record import GuestFacts
from machine.model.state import STOPPED, MachineState, State
from machine.ops.image import ListedImage, describe_image
from machine.ops.info import go_arch, host_document, version_document
from machine.ops.list import ListedMachine
from machine.ops.list import Listing as Machines
from machine.ops.shared.times import rfc3339
from machine.store.paths import Roots
from tests.support.builders import (
    CREATED,
    make_base,
    make_context,
    make_host,
    make_paths,
    make_record,
    make_roots,
    save_machine,
)
from tests.support.command_line import Machine
from tests.support.golden import Golden

RUNNING, STARTING = MachineState(state=State.RUNNING), MachineState(state=State.STARTING)


@pytest.fixture
def roots(tmp_path: Path) -> Roots:
    """Those that MACHINE_HOME leads to, with two machines."""
    roots = make_roots(tmp_path / "world" / "m")
    save_machine(roots, make_record("box", guest=GuestFacts(last_up=CREATED)))
    save_machine(roots, make_record("longer-name", cpus=16, memory_mib=512, disk_gib=20))
    return roots


@pytest.fixture
def no_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """QEMU is not installed, so that nothing is run."""
    monkeypatch.setenv("PATH", "/nowhere")


def listed(name: str, state: MachineState = STOPPED, *, default: bool = False) -> ListedMachine:
    return ListedMachine(record=make_record(name), state=state, paths=make_paths(Path("/m"), name), default=default)


# What a format means


@pytest.mark.parametrize(
    ("text", "form"),
    [
        (None, Form.DEFAULT),
        ("table", Form.DEFAULT),
        ("json", Form.JSON),
        (" json ", Form.JSON),
        ("{{json .}}", Form.JSON),
        ("{{ json }}", Form.JSON),
        ("{{json .Name}}", Form.TEMPLATE),
        ("table {{.Name}}", Form.TEMPLATE),
        ("", Form.TEMPLATE),
        ("two words", Form.TEMPLATE),
    ],
)
def test_form_of_a_format(text: str | None, form: Form) -> None:
    assert form_of(text, default="table") is form


def test_json_of_each_is_a_template() -> None:
    assert form_of("{{json .}}", json_of_all=False) is Form.TEMPLATE


@pytest.mark.parametrize(
    ("word", "default", "known"),
    [("yaml", "table", "table, json"), ("JSON", "yaml", "yaml, json"), ("table", "", "json")],
)
def test_word_that_is_no_format_is_refused(word: str, default: str, known: str) -> None:
    with pytest.raises(BadInputError) as caught:
        form_of(word, default=default)
    assert caught.value.line == f"unknown format \"{word}\"; choose {known} or a Go template, such as '{{{{json .}}}}'"


# machine list


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["{{.Name}} {{.CPUs}}"], "box 2\nlonger-name 16\n"),
        (["{{.Name}}\\t{{.Memory}}\\n"], "box\t2GiB\nlonger-name\t512MiB\n"),
        (["{{range .}}{{.Name}} {{end}}"], "box longer-name \n"),
        (["{{range $i, $box := .}}{{$i}}={{$box.Name}};{{end}}"], "0=box;1=longer-name;\n"),
        (["{{range .}}{{json .Port}}{{else}}none{{end}}"], "4002240022\n"),
        (['{{printf "%s\\n" .Name}}'], "box\nlonger-name\n"),
        (["table {{.Name}}\\t{{.CPUs}}"], "NAME         CPUS\nbox          2\nlonger-name  16\n"),
        (["table {{.Name}} {{.State}} {{.VMType}}"],
         "NAME         STATE       VM TYPE\nbox          stopped     qemu\nlonger-name  stopped     qemu\n"),
        (["table {{.Name}}\\t{{.LastUp}}", "--noheading"], "box          LAST\nlonger-name  Never\n"),
        (["table {{upper .Name}}", "--quiet"], "BOX\nLONGER-NAME\n"),
        (["{{.CPUs}}", "--quiet"], "2\n16\n"),
        (["{{.DiskSize}} {{.Swap}} {{.Stream}} {{.RemoteUsername}}"], "100GiB 0B stable core\n20GiB 0B stable core\n"),
    ],
)  # fmt: skip
def test_template_of_a_listing(words: list[str], text: str, machine: Machine, roots: Roots) -> None:
    outcome = machine("ls", "--format", *words)
    text = text.replace("LAST\n", f"{machine('ls', '--format', '{{.LastUp}}').stdout.splitlines()[0]}\n")
    assert (outcome.status, outcome.stdout, outcome.stderr) == (0, text, "")


@pytest.mark.parametrize("template", ["{{json .}}", " {{ json . }} "])
def test_json_of_each_machine_is_a_line_with_the_values_of_the_table(
    template: str, machine: Machine, roots: Roots
) -> None:
    lines = machine("ls", "--format", template).stdout.splitlines()
    array = json.loads(machine("ls", "--format", "json").stdout)
    created = machine("ls", "--format", "{{.Created}}").stdout.splitlines()
    up = machine("ls", "--format", "{{.LastUp}}").stdout.splitlines()
    sizes = [
        {"Memory": "2GiB", "Swap": "0B", "DiskSize": "100GiB"},
        {"Memory": "512MiB", "Swap": "0B", "DiskSize": "20GiB"},
    ]
    words = [{"Created": created[n], "LastUp": up[n], **sizes[n]} for n in range(2)]
    assert [json.loads(line) for line in lines] == [{**array[n], **words[n]} for n in range(2)]


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{.Name}}", ""),
        ("{{json .}}", ""),
        ("table {{.Name}}\\t{{.CPUs}}", "NAME        CPUS\n"),
        ("{{range .}}x{{else}}none{{end}}", "none\n"),
    ],
)
def test_template_of_no_machines(template: str, text: str, machine: Machine) -> None:
    assert machine("ls", "--format", template).stdout == text


@pytest.mark.usefixtures("no_programs")
@pytest.mark.parametrize(
    ("words", "template", "place", "message"),
    [
        (["ls"], "{{.Foo}}", "13", "can't evaluate field Foo in type *entities.ListReporter"),
        (["ls"], "table {{.Foo}}", "13", "can't evaluate field Foo in type *entities.ListReporter"),
        (["inspect", "box"], "{{.Foo}}", "13", "can't evaluate field Foo in type machine.InspectInfo"),
        (["inspect", "box"], "{{.SSHConfig.Foo}}", "23", "can't evaluate field Foo in type vmconfigs.SSHConfig"),
        (["info"], "{{.Foo}}", "2", "can't evaluate field Foo in type entities.MachineInfo"),
        (["info"], "{{.Host.Foo}}", "7", "can't evaluate field Foo in type *entities.MachineHostInfo"),
        (["port", "ls", "box"], "{{.Foo}}", "13", "can't evaluate field Foo in type machine.Port"),
    ],
)
def test_field_that_is_not_there_is_told_as_podman_tells_it(
    words: list[str], template: str, place: str, message: str, machine: Machine, roots: Roots
) -> None:
    name = words[1] if words[0] == "port" else words[0].replace("ls", "list")
    part = template.removeprefix("table ")[2:-2]
    line = f'Error: template: {name}:1:{place}: executing "{name}" at <{part}>: {message}\n'
    outcome = machine(*words, "--format", template)
    assert (outcome.status, outcome.stdout, outcome.stderr) == (125, "", line)


@pytest.mark.parametrize(
    ("template", "line"),
    [
        ("{{.Name", "bad character U+007B '{'"),
        ("{{foo}}", 'function "foo" not defined'),
        ("{{if}}", "missing value for if"),
    ],
)
def test_text_that_is_no_template_is_told_as_podman_tells_it(template: str, line: str, machine: Machine) -> None:
    outcome = machine("ls", "--format", template)
    assert (outcome.status, outcome.stdout, outcome.stderr) == (125, "", f"Error: template: list:1: {line}\n")


def test_providers_that_old_podman_asks_for_are_one(machine: Machine, roots: Roots) -> None:
    assert machine("ls", "--all-providers").stdout == machine("ls").stdout


# machine inspect


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{.Name}}", "box\nlonger-name\n"),
        ("{{.SSHConfig.Port}} {{.Resources.CPUs}} {{.State}}", "40022 2 stopped\n40022 16 stopped\n"),
        ('{{.LastUp.Format "2006-01-02"}} {{.Created.Year}}', "2026-01-02 2026\n0001-01-01 2026\n"),
        ("{{.Created}}", "2026-01-02 03:04:05.678901 +0000 UTC\n" * 2),
        ("{{if .LastUp.IsZero}}never{{else}}once{{end}}", "once\nnever\n"),
        ("{{json .Resources.USBs}} {{json .ConnectionInfo.PodmanPipe}}", "[] null\n[] null\n"),
        ("{{.Machine.Image.Release}} {{.Machine.State}}", "43.1 stopped\n43.1 stopped\n"),
        ("{{range .}}{{.Name}},{{end}}", "box,longer-name,\n"),
        ("table {{.Name}}\\t{{.Rootful}}", "box          false\nlonger-name  false\n"),
    ],
)  # fmt: skip
def test_template_of_inspect_is_filled_for_each(template: str, text: str, machine: Machine, roots: Roots) -> None:
    outcome = machine("inspect", "--format", template, "box", "longer-name")
    assert (outcome.status, outcome.stdout, outcome.stderr) == (0, text, "")


def test_json_of_each_has_the_same_content_as_the_array(machine: Machine, roots: Roots) -> None:
    lines = machine("inspect", "--format", "{{json .}}", "box", "longer-name").stdout.splitlines()
    array = json.loads(machine("inspect", "--format", "json", "box", "longer-name").stdout)
    assert [json.loads(line) for line in lines] == array
    assert array == json.loads(machine("inspect", "box", "longer-name").stdout)


def test_inspect_of_one_that_is_missing_fills_the_template_for_the_others(machine: Machine, roots: Roots) -> None:
    outcome = machine("inspect", "--format", "{{.Name}}", "no", "box")
    error = "Error: no: VM does not exist; the machines are: box, longer-name\n"
    assert (outcome.status, outcome.stdout, outcome.stderr) == (125, "box\n", error)


# machine port ls, machine image ls and machine image inspect


def test_template_of_ports(machine: Machine, roots: Roots) -> None:
    words = ("port", "ls", "box", "--format")
    assert machine(*words, "{{.Guest}} {{.Protocol}} {{.Origin}}").stdout.splitlines()[-1] == "22 tcp ssh"
    assert machine(*words, "table {{.Origin}}\\t{{.Host}}").stdout.splitlines()[0] == "ORIGIN      HOST"
    assert machine(*words, "table", "--noheading").stdout == machine(*words, "table").stdout.partition("\n")[2]


def test_listing_of_images_is_in_words(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    documents = [described(tmp_path, "box", "two"), described(tmp_path)]
    listing = Listing(
        name="ls", type_name="machine.Image", columns=(), rows=list, fields=image.FIELDS,
        items=lambda: [image.item(document) for document in documents], documents=lambda: documents,
        headings=image.HEADINGS,
    )  # fmt: skip
    print_listing(listing, "table {{.Reference}} {{.Size}} {{.UsedBy}} {{.Sha256}}")
    assert capsys.readouterr().out == (
        "REFERENCE    SIZE        USED BY     SHA256\n"
        "fcos:stable  0 B         box, two    ab\n"
        "fcos:stable  0 B                     ab\n"
    )


def described(directory: Path, *users: str) -> dict[str, Any]:
    return describe_image(ListedImage(base=make_base(directory, sha256="ab"), users=users))


# machine info


def test_current_machine_is_one_that_is_up(tmp_path: Path) -> None:
    context = make_context(tmp_path)
    for machines, expected in [
        ([], ("", "", "")),
        ([listed("a")], ("", "", "")),
        ([listed("a"), listed("b", default=True)], ("b", "b", "Stopped")),
        ([listed("a", RUNNING), listed("b", default=True)], ("a", "b", "Running")),
        ([listed("a", RUNNING), listed("b", RUNNING, default=True)], ("b", "b", "Running")),
        ([listed("a", STARTING), listed("b", default=True)], ("a", "b", "Starting")),
        ([listed("a", RUNNING), listed("b", STARTING, default=True)], ("a", "b", "Running")),
    ]:
        host = host_document(context, Machines(machines=machines, broken=[]))
        assert (host["CurrentMachine"], host["DefaultMachine"], host["MachineState"]) == expected
        assert host["NumberOfMachines"] == len(machines)


@pytest.mark.parametrize(("machine", "arch"), [("x86_64", "amd64"), ("aarch64", "arm64"), ("riscv64", "riscv64")])
def test_host_is_named_as_go_names_it(machine: str, arch: str) -> None:
    host = make_host(HostOS.MACOS, machine)
    assert go_arch(host) == arch
    assert version_document(host)["OsArch"] == f"darwin/{arch}"


@pytest.mark.usefixtures("no_programs")
def test_info_of_a_host_without_qemu_tells_what_is_missing(machine: Machine) -> None:
    document = json.loads(machine("info", "--format", "json").stdout)
    assert (document["Machine"]["QEMU"]["Path"], document["Machine"]["QEMU"]["Version"]) == ("", "")
    assert "is not installed on this host" in document["Machine"]["QEMU"]["Notice"]


@pytest.mark.usefixtures("no_programs")
def test_info_counts_machines_that_cannot_be_read(machine: Machine, roots: Roots) -> None:
    roots.machine("box").record.write_text("{")
    assert machine("info", "--format", "{{.Host.NumberOfMachines}}").stdout == "2\n"


# The shapes of the JSON: programs read them, so that a change is a choice


@pytest.mark.usefixtures("no_programs")
def test_shape_of_the_listings_and_documents(machine: Machine, roots: Roots, tmp_path: Path, golden: Golden) -> None:
    shapes = {
        "machine list": paths_of(json.loads(machine("ls", "--format", "json").stdout)[0]),
        "machine inspect": paths_of(json.loads(machine("inspect", "box").stdout)[0]),
        "machine info": paths_of(json.loads(machine("info", "--format", "json").stdout)),
        "machine port ls": paths_of(json.loads(machine("port", "ls", "box", "--format", "json").stdout)[0]),
        "machine image ls": paths_of(json.loads(json.dumps(described(tmp_path)))),
        "machine doctor": paths_of(json.loads(machine("doctor", "--format", "json").stdout)[0]),
    }
    text = "".join(f"{name}\n{''.join(f'  {line}{chr(10)}' for line in lines)}" for name, lines in shapes.items())
    golden.matches_file(text, "json-shapes.txt")


def paths_of(document: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """Every key with the kind of its value."""
    for key, value in document.items():
        if isinstance(value, dict):
            yield from paths_of(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}: {'null' if value is None else type(value).__name__}"


def test_templates_know_the_fields_of_the_json(tmp_path: Path, machine: Machine, roots: Roots) -> None:
    now = datetime.now(UTC)
    assert tuple(list_command.as_json(listed("box"), now)) == list_command.FIELDS
    assert tuple(list_command.item(listed("box"), now)) == list_command.FIELDS
    assert tuple(image.item(described(tmp_path))) == image.FIELDS
    (kept, *_) = json.loads(machine("port", "ls", "box", "--format", "json").stdout)
    assert tuple(key.capitalize() for key in kept) == port.FIELDS


# The pieces


@pytest.mark.parametrize(
    ("field", "heading"),
    [("Name", "NAME"), ("LastUp", "LAST UP"), ("VMType", "VM TYPE"), ("IdentityPath", "IDENTITY PATH"),
     ("UserModeNetworking", "USER MODE NETWORKING")],
)  # fmt: skip
def test_heading_is_the_fields_words(field: str, heading: str) -> None:
    assert heading_of(field) == heading


@pytest.mark.parametrize(
    ("text", "aligned"),
    [
        ("", ""),
        ("no tab\n", "no tab\n"),
        ("a\tb\nlonger than it\tc\n", "a               b\nlonger than it  c\n"),
        ("a\tb\n\nlonger than it\tc\n", "a           b\n\nlonger than it  c\n"),
        (
            "a\tb\tc\nlonger than it\td\nx\ty\tz\n",
            "a               b           c\nlonger than it  d\nx               y           z\n",
        ),
        ("a\t\n", "a           \n"),
    ],
)
def test_column_goes_on_as_long_as_each_line_has_it(text: str, aligned: str) -> None:
    assert align(text) == aligned


@given(st.lists(st.lists(st.text("ab", max_size=20), min_size=3, max_size=3), min_size=1, max_size=6))
def test_cells_of_a_column_begin_at_the_same_place(rows: list[list[str]]) -> None:
    lines = align("\n".join("\t".join(row) for row in rows)).split("\n")
    widths = [max(12, *(len(row[column]) + 2 for row in rows)) for column in range(2)]
    assert lines == [f"{row[0]:{widths[0]}}{row[1]:{widths[1]}}{row[2]}" for row in rows]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("plain", "plain"),
        ("/a/path.d/x-y", "/a/path.d/x-y"),
        ("4.3.1", "4.3.1"),
        ("1.5", '"1.5"'),
        ("12", '"12"'),
        ("", '""'),
        ("true", '"true"'),
        ("No", '"No"'),
        ("null", '"null"'),
        ("a: b", '"a: b"'),
        ("a:b", "a:b"),
        ("a #b", '"a #b"'),
        ("Thu Jan  1 00:00:00 1970", "Thu Jan  1 00:00:00 1970"),
        ("- a", '"- a"'),
        ("ends in space ", '"ends in space "'),
        ("two\nlines", r'"two\nlines"'),
        ('"', r'"\""'),
        (0, "0"),
        (True, "true"),
        (None, "null"),
        ({}, "{}"),
    ],
)
def test_simple_value_as_yaml(value: object, text: str) -> None:
    assert yaml_text({"key": value}) == f"key: {text}\n"


def test_mappings_as_yaml_are_as_podmans_of_today() -> None:
    document = {"Host": {"Arch": "amd64", "VMType": {"OS": "f"}}, "Built": 2}
    assert yaml_text(document) == "host:\n    arch: amd64\n    vmtype:\n        os: f\nbuilt: 2\n"


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (None, "0001-01-01T00:00:00Z"),
        (datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), "2026-01-02T03:04:05Z"),
        (datetime(2026, 1, 2, 3, 4, 5, 500000, tzinfo=UTC), "2026-01-02T03:04:05.5Z"),
        (datetime.fromisoformat("2026-01-02T03:04:05.000010+02:00"), "2026-01-02T03:04:05.00001+02:00"),
    ],
)
def test_time_in_json_has_no_more_digits_than_it_needs(moment: datetime | None, text: str) -> None:
    assert rfc3339(moment) == text


def test_manifest_is_written_as_people_write_it() -> None:
    document = {
        "apiVersion": "v1",
        "items": [{"name": "a", "empty": {}, "none": []}, {"sizes": {"memory": "512Mi", "cpus": 2}}],
        "text": "a: b\n\n  c\n",
    }
    assert manifest_text(document) == (
        "apiVersion: v1\nitems:\n- name: a\n  empty: {}\n  none: []\n"
        '- sizes:\n    memory: "512Mi"\n    cpus: 2\ntext: |\n  a: b\n\n    c\n'
    )


@pytest.mark.parametrize("text", ["a\nb", "a\nb\n\n", " a\nb\n", "\na\n", "a\r\nb\n", "a\x1bb\nc\n", "a\u2028b\nc\n"])
def test_text_that_a_block_would_change_is_quoted(text: str) -> None:
    written = manifest_text({"key": text})
    assert json.loads(written.removeprefix("key: ")) == text
