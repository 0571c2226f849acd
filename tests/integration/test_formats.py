"""The same templates through Podman and through ours, over Podman's own data: what it prints is what we print."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from machine import __version__
from machine.cli.formats import Documents, Listing, parse_template, print_documents, print_listing, render
from machine.errors import BadInputError
from machine.gotemplate import structure
from machine.model.record import GuestFacts
from tests.support.builders import CREATED, make_record, make_roots, save_machine
from tests.support.world import World

NOBODY = 65534  # podman machine refuses to work for root

# One a line, as they come on a command line.
TEMPLATES = r"""
{{123456.0}} {{1234567.0}} {{123456789.5}} {{0.0001}} {{0.00001}} {{printf "%v %g %s %d" 1e6 1e20 1.5 1.5}}
{{index . "x"}}
{{printf "%q %v %d %s" (split "a,b" ",") (split "a,b" ",") (split "a,b" ",") true}}
{{printf "%z" 1}} {{printf "%"}} {{printf "%5%"}} {{printf "%.2s|%-6q|%6t|%x" "hello" "a" true "hé"}}
{{printf "%*d" 5 3}} {{printf "%[2]d %[1]d" 1 2}}
{{printf "%+v % d %+d %x %X" "a" 5 -5 -255 "hi"}}
{{printf "%U %c %q" 0x1F600 0x1F600 0x1F600}}
{{printf 1}}
{{index "abc" 7}}
{{index (split "a" ",") "x"}}
{{slice (split "a,b,c" ",") 1}}
{{slice 1 2}}
{{slice "abc" 2 1}}
{{slice "abc" -1}}
{{slice "abc" 1 2 3}}
{{truncate "abc" -1}}
{{truncate "abc" "x"}}
{{.Version | truncate 3}}
{{join "a" ","}}
{{join (split "a" ",")}}
{{split "abc" ""}}
{{lt "a" 1}}
{{lt true false}}
{{eq nil nil}}
{{not nil}}
{{if nil}}a{{end}}
{{len "é"}}
{{.Version.Foo.Bar}}
{{(.Version).Foo}}
{{$x := .}}{{$x.Foo}}
{{$x := .}}{{$x.Os.Foo}}
{{with .Os}}{{$.Version}}{{.}}{{end}}
{{range .Os}}x{{end}}
{{upper .}}
{{.Version "a"}}
{{"a" | .Version}}
{{0x}}
{{089}}
{{1e}}
{{99999999999999999999}}
{{'ab'}}
{{'\n'}}
{{'a}}
{{.Ver sion}}
{{$.}}
{{$1}}
{{a:=1}}
{{$a :=}}
{{if 1}}{{else}}{{else}}{{end}}
{{if 1}}{{else foo}}{{end}}
{{end x}}
{{with 1}}{{else with 2}}{{end}}
{{range split "" "" }}{{else}}e{{end}}
{{range $i := 3}}
{{range $i, .}}{{end}}
{{range $i, $j}}{{end}}
{{continue}}
{{break x}}
{{(1) (2)}}
{{(1)(2)}}
{{1(2)}}
{{()}}
{{(.Version) }}
{{.Version}}}
}}
{{{.Version}}}
{{"a"}}{{"b" -}} c
{{- "x" -}}
a{{-"x"-}}b
{{"x"-}}b
{{/*a*/ -}} b
{{ /*a*/}}
{{-/*a*/}}
{{if eq 1 1 | not}}a{{else}}b{{end}}
{{and (eq 1 1) (upper 1)}}
{{and 0 (index "a" 9)}}
{{or 1 (index "a" 9)}}
{{print (1) "a" | printf "%s-%s" "x"}}
{{len (print 1 2)}}
{{printf "%s" .Nope}}
{{if .Nope}}{{end}}
{{.Os | upper | lower | printf "%s!" | len}}
{{title "o\u2019neil a_b 1a"}}
{{truncate "héllo" 3}}
{{"\a\b\x00\u00a0é" | printf "%q"}}
{{(split "a,b" ",")}} {{print (split "a,b" ",") 1}}
{{ .Version | upper
{{foo}}
{{.Version | }}
{{ | .Version}}
{{.Version | printf "%d"}}
{{printf "%5d|%-5s|%05d|%x|%q|%t|%v|%.2f|%c|%%|%T" 3 "a" 7 255 "hi" true .Version 2.5 65 3}}
{{printf "%s"}}
{{printf "%d" 1 2}}
{{1.0}} {{1e3}} {{100000000.0}} {{1e21}} {{0x10}} {{.5}} {{-3}} {{1_000}} {{0b11}} {{0o17}} {{017}}
{{'a'}}
{{"a\tb"}} {{`raw\n`}}
{{print 1 2 "a" "b" 3}}
{{println 1 "a" "b"}}
{{print "a" 1 2 "b"}}
{{split "a,b,c" ","}}
{{range $i, $v := split "a,b" ","}}{{$i}}={{$v}};{{end}}
{{range $v := split "a,b" ","}}{{$v}};{{end}}
{{range split "" ","}}[{{.}}]{{else}}none{{end}}
{{join (split "a,b" ",") "-"}}
{{json (split "a,b" ",")}}
{{title "hello world-foo it's"}}
{{truncate "hello" 3}} {{pad "x" 2 3}}|{{pad "" 2 3}}|
{{truncate "hello" 9}}
{{upper 1}}
{{upper}}
{{upper "a" "b"}}
{{1 | upper}}
{{nil}}
{{eq 1 1.0}}
{{eq "a" "b" "a"}}
{{eq 1}}
{{lt 1 2}} {{gt "b" "a"}} {{le 1 1}} {{ne 1 2}} {{ge 2 3}}
{{and 1 0 "x"}} {{or 0 "" "y"}} {{not 1}}
{{index (split "a,b" ",") 1}}
{{index (split "a,b" ",") 5}}
{{slice "hello" 1 3}} {{slice "hello" 2}} {{slice "hello"}}
{{slice "hello" 3 9}}
{{index "abc" 1}}
{{if false}}a{{else if eq 1 1}}b{{else}}c{{end}}
{{with .Version}}{{.}}{{end}}{{with ""}}x{{else}}none{{end}}
{{$x := 1}}{{$x = 2}}{{$x}}
{{$x = 1}}
{{$y}}
{{/* c */}}a
a {{- /* c */ -}} b
a {{- 1 -}}  b
{{- 1}}
a  {{-1}}
{{- -1}}
{{end}}
{{else}}
{{if}}x{{end}}
{{range}}x{{end}}
{{if 1}}
{{if 1}}a{{else}}b
{{"abc}}
{{`abc}}
{{(1}}
{{1)}}
{{.Version.}}
{{.Version..Foo}}
{{1.Foo}}
{{"a".Foo}}
{{(1).Foo}}
{{#}}
{{@}}
{{1 2}}
{{"a" | 1}}
{{true}} {{false}}
{{break}}
{{range split "a,b,c" ","}}{{if eq . "b"}}{{continue}}{{end}}{{.}}{{end}}
{{range split "a,b,c" ","}}{{if eq . "b"}}{{break}}{{end}}{{.}}{{end}}
{{html "<a>"}}
{{range 3}}x{{end}}
{{.Version.Foo}}
{{len .Version}}
{{len 3}}
{{$.Version}}
{{}}
{{ }}
{{/* unclosed
{{/* c */ x}}
{{range $a, $b, $c := .}}{{end}}
{{$a, $b := 1}}
{{if $x := 1}}{{$x}}{{end}}{{$x}}
{{printf "%v %v" true nil}}
{{printf "%d %s" "x" 3}}
{{lower "ÀB"}}{{title "éa bC"}}
{{json "<a>&é"}}{{json 1.5}}{{json true}}{{json nil}}
{{printf "%6.2f|%+d|%e|%g" 3.14159 5 1234.5 0.0001}}
{{printf "%08.3f|%x|%X|%#x|%o|%b" 3.14159 "hi" 255 255 8 5}}
{{printf "%-8v|%8v|%q" "a" 1 65}}
{{not}}
{{print}}|{{print nil}}
{{and}}
{{.Nope}}
{{ .Version }}	{{.Os}}
x\ty\nz
{{printf "%s\t%s" .Version .Os}}
{{eq .Version "4.3.1" | not}}
{{if and (eq .Os "linux") (ne .Version "")}}yes{{end}}
{{(index (split .Version ".") 0)}}
{{with $v := split .Version "."}}{{index $v 1}}{{end}}
{{"\u00e9\x41\101"}}
{{"\q"}}
{{$x := 5}}{{if gt $x 3}}{{$y := 1}}{{$x = $y}}{{end}}{{$x}}
{{range $i, $v := split "a,b,c" ","}}{{if $i}}, {{end}}{{$v}}{{end}}
{{range $i, $v := split "a,b" ","}}{{range $j, $w := split "x,y" ","}}{{$i}}{{$j}}{{$v}}{{$w}} {{end}}{{end}}
{{with $x := "a"}}{{with $y := "b"}}{{$x}}{{$y}}{{.}}{{end}}{{end}}
{{if not (eq .Os "windows")}}unix{{else}}win{{end}}
{{.OsArch | printf "%-20s|"}}
{{printf "%s/%s" .Os (index (split .OsArch "/") 1)}}
{{range (split .OsArch "/")}}{{println .}}{{end}}
{{json .Version}} {{json .}}
{{.Built}} {{.BuiltTime}} [{{.GitCommit}}]
{{if .GitCommit}}{{.GitCommit}}{{else}}none{{end}}
{{upper (lower (title .Os))}}
{{printf "%q" .Os}}{{printf "%v" .Built}}
{{eq .Built 0}} {{lt .Built 1}}
{{- range $k := split "b,a" "," -}} {{$k}} {{- end -}}
{{`a` | printf `%s-%s` `b`}}
{{(print "x").Foo}}
{{$.Version.Foo}}
{{$v := .Version}}{{$v.Foo}}
{{len (split .Version ".")}}
{{.APIVersion}} {{.GoVersion}}
""".strip("\n").split("\n")
TEMPLATES_OF_LINES = [
    "a\n{{.Nope}}",
    "{{/*\n*/}}{{ foo }}",
    "{{ .Version\n}}",
    "x\n\n{{ upper 3 }}",
    '{{"a\nb"}}',
    "{{`a\nb`}}",
]

LISTING_TEMPLATES = r"""
{{.Name}}
{{.Nope}}
{{.Name}}\t{{.CPUs}}
{{.Name}}\nx
{{.Name}}\x
{{.Name}} \
{{range .}}{{.Name}} {{end}}
{{ range . }}{{.Name}}{{ end }}
{{range .}}{{.Name}}\t{{.CPUs}}\n{{end}}
{{range .}}{{.Nope}}{{end}}
{{range .}}{{end}}
{{.}}
{{len .}}
{{$x := .}}{{$x.Name}}
a {{ .Name -}}   b {{- /* x */ -}}  c
{{json "\n"}}
{{json "\n"}}x
x\n{{json "a"}}
{{json "\t"}}\n
{{printf "%s\n" .Name}}
{{`\n`}}
{{
{{.Name
{{foo .Name}}
{{table .Name}}
{{if 1}}
{{eq .CPUs 4}} {{lt .CPUs 5}}
table {{.Name}}
table {{.Name}}\t{{.CPUs}}\t{{.Running}}
table {{.Name}} {{.CPUs}} {{.IdentityPath}}
table {{.Name}}  {{.CPUs}}
table {{.Name}}\t
table {{.Name}}\n{{.CPUs}}
table {{.Name}}\t{{if eq .Name "box"}}a\tbbbbbbbbbbbbbbbbbb\tc{{else}}d{{end}}
table {{printf "%s %d" .Name .CPUs}}
table {{upper .Name}}\t{{.VMType}}
table {{json .Name}}
table {{.LastUp}}\t{{.DiskSize}}
table {{.Default}}\t{{.RemoteUsername}}
""".strip("\n").split("\n")

INSPECT_TEMPLATES = r"""
{{.Name}}
{{.Created}}
{{.LastUp.Format "2006-01-02"}}
{{.Created.Format "Monday Mon January Jan 01 1 02 2 _2 15 03 3 04 4 05 5 06 2006 PM pm MST Mondays Janet"}}
{{.Created.Format "-0700 -07:00 -07 Z07:00 Z0700 .000 .999999 .000000000 002 __2 05,999 .00x _2006 -07:00:00"}}
{{.Created.Unix}} {{.Created.Year}} {{.Created.Month}} {{.Created.UTC}} {{.Created.Weekday}} {{.LastUp.IsZero}}
{{.LastUp.After .Created}} {{.Created.Format}}
{{.Resources}} {{json .Resources}}
{{json .}}
{{.SSHConfig.Port}}
{{.Foo}}
{{.Resources.Foo}}
{{.Created.Foo}}
{{.Name.Foo}}
{{index . 0}}
{{range .}}{{.Name}}{{end}}
table {{.Name}} {{.SSHConfig.Port}}
""".strip("\n").split("\n")

TIMES = ("Created", "LastUp")
PODMANS_TYPES = {
    "ConfigPath": "machine.VMFile",
    "Resources": "machine.ResourceConfig",
    "SSHConfig": "machine.SSHConfig",
}

Run = Callable[..., subprocess.CompletedProcess[str]]


def podman(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["podman", *words], capture_output=True, text=True, check=False, timeout=60, **options)


@pytest.fixture(scope="session")
def client() -> dict[str, Any]:
    """What `podman version` knows."""
    document: dict[str, Any] = json.loads(podman("version", "--format", "json").stdout)
    client: dict[str, Any] = document["Client"]
    return client


@pytest.fixture
def podman_machine(short_path: Path) -> Run:
    """`podman machine` of podman 4, of a user who is not root and has two machines."""
    if not podman("--version").stdout.startswith("podman version 4."):
        pytest.skip("the records are those of podman 4")
    directory = short_path / "config" / "containers" / "podman" / "machine" / "qemu"
    directory.mkdir(parents=True)
    for name, cpus in (("box", 4), ("dev", 12)):
        (directory / f"{name}.json").write_text(json.dumps(podmans_record(name, cpus, short_path)))
    prefix: list[str] = []
    if os.getuid() == 0:
        prefix = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
        for path in (short_path, *short_path.rglob("*")):
            os.chown(path, NOBODY, NOBODY)
    environment = {
        "PATH": os.environ["PATH"], "HOME": str(short_path), "XDG_RUNTIME_DIR": str(short_path),
        "XDG_CONFIG_HOME": str(short_path / "config"), "XDG_DATA_HOME": str(short_path / "data"),
    }  # fmt: skip

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        argv = [*prefix, "podman", "machine", *words]
        return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60, env=environment)

    return run


def podmans_record(name: str, cpus: int, directory: Path) -> dict[str, Any]:
    def path(ending: str) -> dict[str, str]:
        return {"Path": str(directory / f"{name}{ending}")}

    return {
        "ConfigPath": path(".json"), "CmdLine": ["qemu"], "IgnitionFile": path(".ign"), "ImageStream": "testing",
        "ImagePath": path(".qcow2"), "Name": name, "PidFilePath": path(".pid"), "VMPidFilePath": path("-vm.pid"),
        "QMPMonitor": {"Address": path("-qmp.sock"), "Network": "unix", "Timeout": 2000000000},
        "ReadySocket": path("-ready.sock"), "CPUs": cpus, "DiskSize": 100, "Memory": 2048, "IdentityPath": "/key",
        "Port": 40022, "RemoteUsername": "core", "Created": "2023-01-02T03:04:05.678901+02:00",
        "LastUp": "2023-05-02T13:04:05+02:00", "UID": 1000,
    }  # fmt: skip


def same(theirs: subprocess.CompletedProcess[str], ours: Callable[[], str]) -> None:
    """The same text, or the same mistake; of a mistake, ours prints nothing before it."""
    try:
        text, error = ours(), ""
    except BadInputError as caught:
        text, error = "", f"Error: {caught.line}\n"
    assert (text, error) == (theirs.stdout if theirs.returncode == 0 else "", theirs.stderr)
    assert theirs.returncode == (125 if error else 0)


@pytest.mark.parametrize("template", [*TEMPLATES, *TEMPLATES_OF_LINES])
def test_version_through_a_template_is_podmans(template: str, client: dict[str, Any]) -> None:
    def ours() -> str:
        return render(parse_template("version", template, ranged=False), structure(client, "*define.Version"))

    same(podman("version", "--format", template), ours)


def test_listing_through_a_template_is_podmans(podman_machine: Run, capsys: pytest.CaptureFixture[str]) -> None:
    lines = podman_machine("list", "--format", "{{range .}}{{json .}}\n{{end}}").stdout.splitlines()
    machines = [json.loads(line) for line in lines if line]
    assert [machine["Name"] for machine in machines] == ["box", "dev"]
    listing = Listing(
        name="list", type_name="*entities.ListReporter", columns=(), rows=list, fields=tuple(machines[0]),
        items=lambda: machines, documents=list, headings={"CPUs": "CPUS"},
    )  # fmt: skip
    for template in LISTING_TEMPLATES:

        def ours(template: str = template) -> str:
            print_listing(listing, template)
            return capsys.readouterr().out

        same(podman_machine("list", "--format", template), ours)
        same(podman_machine("list", "--quiet", "--format", template), ours)


def test_inspect_through_a_template_is_podmans(podman_machine: Run, capsys: pytest.CaptureFixture[str]) -> None:
    machines = json.loads(podman_machine("inspect", "box", "dev").stdout)
    documents = [{**machine, **{key: datetime.fromisoformat(machine[key]) for key in TIMES}} for machine in machines]
    found = Documents(
        name="inspect", type_name="machine.InspectInfo", types=PODMANS_TYPES, documents=documents, indent=5
    )
    for template in INSPECT_TEMPLATES:

        def ours(template: str = template) -> str:
            print_documents(found, template)
            return capsys.readouterr().out

        same(podman_machine("inspect", "--format", template, "box", "dev"), ours)
    print_documents(found, None)
    assert capsys.readouterr().out == podman_machine("inspect", "box", "dev").stdout


def test_info_has_podmans_fields_and_podmans_keys_of_today(podman_machine: Run, world: World) -> None:
    theirs = json.loads(podman_machine("info", "--format", "json").stdout)
    ours = json.loads(world.machine("info", "--format", "json").stdout)
    for part in ("Host", "Version"):
        assert kinds(ours[part]) == kinds(theirs[part])
    assert world.machine("info").stdout.splitlines()[:2] == ["host:", f"    arch: {theirs['Host']['Arch']}"]


def kinds(document: Mapping[str, object]) -> dict[str, type]:
    return {key: type(value) for key, value in document.items()}


def test_info_of_this_host(world: World) -> None:
    qemu = subprocess.run(["qemu-system-x86_64", "--version"], capture_output=True, text=True, check=True).stdout
    told = world.machine("info", "--format", "{{.Machine.QEMU.Version}} {{.Machine.QEMU.Path}} {{.Version.Version}}")
    version, path, own = told.stdout.split()
    assert re.search(rf"version {re.escape(version)}\b", qemu)
    assert (path, own) == (str(world.bin / "qemu-system-x86_64"), __version__)
    default = world.machine("info").stdout
    assert default.startswith("host:\n    arch: ")
    assert f"\n        path: {path}\n" in default


def test_installed_program_fills_templates(world: World) -> None:
    save_machine(make_roots(world.home), make_record(guest=GuestFacts(last_up=CREATED)))
    assert (
        world.machine("ls", "--format", "table {{.Name}}\\t{{.Arch}}").stdout
        == "NAME        ARCH\nbox         x86_64\n"
    )
    refused = world.machine("ls", "--format", "{{.Foo}}")
    assert (refused.status, refused.stdout) == (125, "")
    assert refused.stderr == (
        'Error: template: list:1:13: executing "list" at <.Foo>: '
        "can't evaluate field Foo in type *entities.ListReporter\n"
    )
    when = world.machine("inspect", "box", "--format", '{{.LastUp.Format "2006-01-02"}} {{.SSHConfig.Port}}')
    assert when.stdout == "2026-01-02 40022\n"
