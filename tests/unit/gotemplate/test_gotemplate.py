"""Go templates: what they print, and Go's words for what is wrong.

tests/integration/test_formats.py holds the same against Podman.
"""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from machine.gotemplate import STRING_MAP, Struct, Template, TemplateError, structure
from machine.gotemplate.values import quoted

CREATED = datetime(2023, 1, 2, 3, 4, 5, 678901, tzinfo=timezone(timedelta(hours=2)))
NEVER = datetime.min.replace(tzinfo=UTC)
BOX = structure(
    {
        "Name": "box",
        "CPUs": 4,
        "Running": False,
        "Tags": ["a", "b"],
        "Nothing": [],
        "Pipe": None,
        "Created": CREATED,
        "LastUp": NEVER,
        "Inner": {"Path": "/x", "Deep": {"Port": 22}},
        "Labels": {"team": "web", "a": "b"},
        "Bare": {},
    },
    "*entities.Box",
    {"Inner": "define.VMFile", "Labels": STRING_MAP, "Bare": STRING_MAP},
)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))


def filled(template: str, data: Struct = BOX) -> str:
    return Template.parse("t", template).execute(data)


def complaint(template: str) -> str:
    with pytest.raises(TemplateError) as caught:
        filled(template)
    return str(caught.value)


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("", ""),
        ("plain }} text", "plain }} text"),
        ("{{.Name}} {{.CPUs}} {{.Running}}", "box 4 false"),
        ("{{.Inner.Path}} {{.Inner.Deep.Port}}", "/x 22"),
        ("{{.Inner}} {{.Tags}} {{.Nothing}} {{.Pipe}}", "{/x {22}} [a b] [] <nil>"),
        ("{{(.Inner).Path}} {{$.Name}} {{with .Inner}}{{.Path}}{{$.CPUs}}{{end}}", "/x box /x4"),
        # Conditions
        ("{{if .Running}}up{{else}}down{{end}}", "down"),
        ("{{if .Nothing}}a{{else if eq .CPUs 4}}b{{else if true}}c{{else}}d{{end}}", "b"),
        ("{{if and .Tags (not .Running)}}yes{{end}}", "yes"),
        ("{{with .Nothing}}some{{else}}none{{end}}", "none"),
        ("{{if .LastUp.IsZero}}never{{end}}", "never"),
        # Loops
        ("{{range .Tags}}<{{.}}>{{end}}", "<a><b>"),
        ("{{range $i, $v := .Tags}}{{if $i}},{{end}}{{$v}}{{end}}", "a,b"),
        ("{{range $v := .Tags}}{{$v}}{{$.Name}}{{end}}", "aboxbbox"),
        ("{{range .Nothing}}x{{else}}{{.Name}}{{end}}", "box"),
        ("{{range .Pipe}}x{{else}}none{{end}}", "none"),
        ("{{range .Tags}}{{if eq . `b`}}{{break}}{{end}}{{.}}{{end}}", "a"),
        ("{{range .Tags}}{{if eq . `a`}}{{continue}}{{end}}{{.}}{{end}}", "b"),
        ("{{range .Tags}}{{range $.Tags}}{{break}}{{end}}{{.}}{{end}}", "ab"),
        # Maps
        ("{{.Labels}} {{.Bare}} {{json .Labels}}", 'map[a:b team:web] map[] {"a":"b","team":"web"}'),
        ("{{.Labels.team}} {{.Labels.x}} {{.Bare.x.y}}", "web <no value> <no value>"),
        ("{{index .Labels `a`}}|{{index .Labels `x`}}|{{index .Bare `x`}}|", "b|||"),
        ("{{range $k, $v := .Labels}}{{$k}}={{$v}};{{end}}", "a=b;team=web;"),
        ("{{range .Labels}}{{.}} {{end}}", "b web "),
        ("{{range .Bare}}x{{else}}none{{end}} {{if .Bare}}some{{end}}", "none "),
        ("{{len .Labels}} {{len .Bare}} {{printf `%v %T` .Labels .Bare}}", "2 0 map[a:b team:web] map[string]string"),
        ("{{if eq (index .Labels `team`) `web`}}yes{{end}}", "yes"),
        # Variables
        ("{{$x := 1}}{{if true}}{{$x = 2}}{{end}}{{$x}}", "2"),
        ("{{$x := 1}}{{if true}}{{$x := 2}}{{end}}{{$x}}", "1"),
        ("{{$b := .Inner}}{{$b.Path}}", "/x"),
        ("{{$i := 0}}{{range $i = .Tags}}{{end}}{{$i}}", "b"),
        # Space and comments
        ("a {{- .Name -}} \n b", "aboxb"),
        ("a {{/* why */ -}}  b {{- /* x */}} c", "a b c"),
        ("{{ .Name\n\t| upper }}", "BOX"),
        ("{{-3}}{{- -3 -}} x", "-3-3x"),
        # Constants
        (r'{{"\u00e9\x41\101\t"}}{{`\t`}}{{true}}{{1_000}}{{0x1F}}{{017}}{{1.50}}', "éAA\t\\ttrue100031151.5"),
        ("{{'a'}} {{1e6}} {{123456.0}} {{.5}} {{1e-5}}", "97 1e+06 123456 0.5 1e-05"),
        # Functions
        ("{{.Name | printf `%-5s|` | upper | len}}", "6"),
        ("{{json .Tags}} {{json .Inner}}", '["a","b"] {"Path":"/x","Deep":{"Port":22}}'),
        ("{{json `<é>`}} {{json .Pipe}} {{json 2.0}}", '"<é>" null 2'),
        ("{{json .Created}} {{json .LastUp}}", '"2023-01-02T03:04:05.678901+02:00" "0001-01-01T00:00:00Z"'),
        ("{{join .Tags `, `}} {{split `a-b` `-`}} {{len (split `é` ``)}}", "a, b [a b] 1"),
        ("{{title `two words_here it's`}} {{lower `ÀB`}}", "Two Words_here It'S àb"),
        ("{{truncate `hello` 3}} {{truncate `hi` 9}} {{pad .Name 1 2}}| {{pad `` 1 2}}|", "hel hi  box  | |"),
        ("{{index .Tags 1}} {{index `abc` 1}} {{slice `hello` 1 3}} {{slice .Tags 1}}", "b 98 el [b]"),
        ("{{and 1 0 `x`}} {{or 0 `` `y`}} {{or 1 (index .Tags 9)}} {{not .Tags}}", "0 y 1 false"),
        ("{{eq 1 2 1}} {{ne 1 2}} {{lt `a` `b`}} {{le 1 1}} {{gt 1 2}} {{ge 2 2}}", "true true true true false true"),
        ("{{print 1 2 `a` `b` 3}}|{{println 1 `a`}}", "1 2ab3|1 a\n"),
        ("{{printf `%5d|%-4s|%04d|%x|%q` 3 `a` 7 255 `é`}}", '    3|a   |0007|ff|"é"'),
        ("{{printf `%t|%v|%.2f|%%|%T|%c|%U` true .Tags 2.5 1 65 233}}", "true|[a b]|2.50|%|int|A|U+00E9"),
        ("{{printf `%d %s` `x` 3}} {{printf `%s`}}", "%!d(string=x) %!s(int=3) %!s(MISSING)"),
        ("{{printf `%5s|%-3t|` 1 `a`}}", "%!s(int=    1)|%!t(string=a  )|"),
        ("{{printf `a` 1}} {{printf `%`}} {{printf `%z` 1}}", "a%!(EXTRA int=1) %!(NOVERB) %!z(int=1)"),
        ("{{printf `%v %s` .Created .Inner}}", "2023-01-02 03:04:05.678901 +0200 +0200 {/x {%!s(int=22)}}"),
        ("{{printf `%*d|%[2]d %[1]d|%9999999d` 4 3 1}}", "   3|3 4|%!(BADWIDTH)3"),
        ("{{html `<a href='x'>`}}", "&lt;a href=&#39;x&#39;&gt;"),
        # Times
        ("{{.Created}} | {{.LastUp}}", "2023-01-02 03:04:05.678901 +0200 +0200 | 0001-01-01 00:00:00 +0000 UTC"),
        ('{{.Created.Format "2006-01-02 15:04"}} {{.Created.UTC.Format "15:04 MST"}}', "2023-01-02 03:04 01:04 UTC"),
        ("{{.Created.Year}} {{.Created.Month}} {{.Created.Weekday}} {{.Created.YearDay}}", "2023 January Monday 2"),
        ("{{.Created.Unix}} {{.Created.UnixMilli}} {{.Created.Nanosecond}}", "1672621445 1672621445678 678901000"),
        ("{{.LastUp.Before .Created}} {{.Created.After .LastUp}} {{eq .Created .Created.UTC}}", "true true true"),
    ],
)  # fmt: skip
def test_template_prints(template: str, text: str) -> None:
    assert filled(template) == text


@pytest.mark.parametrize(
    ("layout", "text"),
    [
        ("Monday Mon January Jan Mondays Janet", "Monday Mon January Jan Mondays Janet"),
        ("01 1 02 2 _2 __2 002 06 2006 _2006", "01 1 02 2  2   2 002 23 2023 _2023"),
        ("15 03 3 04 4 05 5 PM pm 3PM", "03 03 3 04 4 05 5 AM am 3AM"),
        ("MST -0700 -07:00 -07 Z07:00 Z0700 -07:00:00", "+0200 +0200 +02:00 +02 +02:00 +0200 +02:00:00"),
        ("5.000 5,999 5.000000000 5.999999999 .00x 15.2006", "5.678 5,678 5.678901000 5.678901 .67x 03.2023"),
        ("at 8 o'clock", "at 8 o'clock"),
    ],
)
def test_time_in_gos_layouts(layout: str, text: str) -> None:
    assert filled(f'{{{{.Created.Format "{layout}"}}}}') == text


def test_time_without_an_offset_and_without_a_fraction() -> None:
    data = structure({"At": datetime(2024, 2, 29, 13, 0, tzinfo=UTC)}, "x")
    assert filled('{{.At.Format "Jan 2 3:04PM Z07:00 .999"}}', data) == "Feb 29 1:00PM Z "


@pytest.mark.parametrize(
    ("template", "line"),
    [
        ("{{.Name", "1: unclosed action"),
        ("{{.Name}", "1: bad character U+007D '}'"),
        ("{{}}", "1: missing value for command"),
        ("{{if}}x{{end}}", "1: missing value for if"),
        ("{{()}}", "1: missing value for parenthesized pipeline"),
        ("a\n{{if 1}}", "2: unexpected EOF"),
        ("{{end}}", "1: unexpected {{end}}"),
        ("{{else}}", "1: unexpected {{else}}"),
        ("{{if 1}}{{else}}{{else}}{{end}}", "1: expected end; found {{else}}"),
        ("{{with 1}}{{else if 2}}{{end}}", "1: unexpected <if> in else"),
        ("{{foo .Name}}", '1: function "foo" not defined'),
        ("{{$x}}", '1: undefined variable "$x"'),
        ("{{if $x := 1}}{{end}}{{$x}}", '1: undefined variable "$x"'),
        ("{{.Name.}}", "1: unexpected <.> in operand"),
        ("{{.Name | }}{{ | .Name}}", '1: unexpected "|" in command'),
        ("{{1 | 2}}", "1: non executable command in pipeline stage 2"),
        ("{{(1}}", "1: unclosed left paren"),
        ("{{1)}}", '1: unexpected ")" in command'),
        ('{{"a"."b"}}', "1: unexpected <.> in operand"),
        ('{{"a".B}}', r'1: unexpected . after term "\"a\""'),
        ('{{"a}}', "1: unterminated quoted string"),
        ("{{`a}}", "1: unterminated raw quoted string"),
        ("{{'a}}", "1: unterminated character constant"),
        ("{{'ab'}}", "1: malformed character constant: 'ab'"),
        (r'{{"\q"}}', "1: invalid syntax"),
        (r'{{"\U00110000"}}', "1: invalid syntax"),
        ("{{/* a", "1: unclosed comment"),
        ("{{/* a */ b}}", "1: comment ends before closing delimiter"),
        ("{{1.Foo}}", '1: bad number syntax: "1.F"'),
        ("{{0x}}", '1: illegal number syntax: "0x"'),
        ("{{089}}", '1: integer overflow: "089"'),
        ("{{99999999999999999999}}", '1: integer overflow: "99999999999999999999"'),
        ("{{1e999}}", '1: illegal number syntax: "1e999"'),
        ("{{break}}", "1: {{break}} outside {{range}}"),
        ("{{range $a, $b, $c := .}}{{end}}", "1: too many declarations in range"),
        ("{{$a, $b := 1}}", "1: too many declarations in command"),
        ("{{range $a, .}}{{end}}", "1: range can only initialize variables"),
        ("{{:}}", "1: expected :="),
        ("{{é€}}", "1: bad character U+20AC '€'"),
        ("{{€}}", "1: unrecognized character in action: U+20AC '€'"),
        ('{{define "x"}}{{end}}', "1: {{define}} is not supported"),
    ],
)  # fmt: skip
def test_text_that_is_no_template_is_told_in_gos_words(template: str, line: str) -> None:
    assert complaint(template) == f"template: t:{line}"


@pytest.mark.parametrize(
    ("template", "place", "part", "message"),
    [
        ("é{{.Foo}}", "1:4", ".Foo", "can't evaluate field Foo in type *entities.Box"),
        ("a\nb {{.Foo}}", "2:4", ".Foo", "can't evaluate field Foo in type *entities.Box"),
        ("{{.Inner.Foo}}", "1:8", ".Inner.Foo", "can't evaluate field Foo in type define.VMFile"),
        ("{{.Inner.Deep.Foo}}", "1:8", ".Inner.Deep.Foo", "can't evaluate field Foo in type machine.Deep"),
        ("{{.Name.Foo}}", "1:7", ".Name.Foo", "can't evaluate field Foo in type string"),
        ("{{.Tags.Foo}}", "1:7", ".Tags.Foo", "can't evaluate field Foo in type []string"),
        ("{{.Created.Foo}}", "1:10", ".Created.Foo", "can't evaluate field Foo in type time.Time"),
        ("{{index .Labels 1}}", "1:2", "index .Labels 1", "error calling index: value has type int; should be string"),
        ("{{.Labels.a.b}}", "1:9", ".Labels.a.b", "can't evaluate field b in type string"),
        ("{{.Pipe.Path}}", "1:7", ".Pipe.Path", "nil pointer evaluating interface {}.Path"),
        ('{{.Name "a"}}', "1:2", ".Name", "Name has arguments but cannot be invoked as function"),
        ("{{1 2}}", "1:2", "1", "can't give argument to non-function 1"),
        ("{{(1) (2)}}", "1:2", "(1) (2)", "can't give argument to non-function 1"),
        ("{{nil}}", "1:2", "nil", "nil is not a command"),
        ("{{$x = 1}}", "1:7", "1", "undefined variable: $x"),
        ("{{range .Name}}{{end}}", "1:8", ".Name", "range can't iterate over box"),
        ("{{upper 1}}", "1:8", "1", "expected string; found 1"),
        ("{{truncate `a` `b`}}", "1:15", "`b`", "expected integer; found `b`"),
        ("{{upper nil}}", "1:8", "nil", "cannot assign nil to string"),
        ("{{join `a` `b`}}", "1:7", "`a`", "can't handle `a` for arg of type []string"),
        ("{{1 | upper}}", "1:6", "upper", "wrong type for value; expected string; got int"),
        ("{{upper .CPUs}}", "1:8", ".CPUs", "wrong type for value; expected string; got int"),
        ("{{upper}}", "1:2", "upper", "wrong number of args for upper: want 1 got 0"),
        ("{{printf}}", "1:2", "printf", "wrong number of args for printf: want at least 1 got 0"),
        ("{{and}}", "1:2", "and", "wrong number of args for and: want at least 1 got 0"),
        ("{{.Created.Format}}", "1:10", ".Created.Format", "wrong number of args for Format: want 1 got 0"),
        ("{{len .CPUs}}", "1:2", "len .CPUs", "error calling len: len of type int"),
        ("{{len .}}", "1:2", "len .", "error calling len: len of type entities.Box"),
        ("{{index .Tags 2}}", "1:2", "index .Tags 2", "error calling index: index out of range: 2"),
        ("{{index . 2}}", "1:2", "index . 2", "error calling index: can't index item of type entities.Box"),
        ("{{slice `abc` 2 1}}", "1:2", "slice `abc` 2 1", "error calling slice: invalid slice index: 2 > 1"),
        ("{{slice `abc` 1 2 3}}", "1:2", "slice `abc` 1 2 3", "error calling slice: cannot 3-index slice a string"),
        ("{{eq 1 `a`}}", "1:2", "eq 1 `a`", "error calling eq: incompatible types for comparison"),
        ("{{lt true false}}", "1:2", "lt true false", "error calling lt: invalid type for comparison"),
        ("{{index nil}}", "1:2", "index nil", "error calling index: index of untyped nil"),
        ("{{eq 1 .Tags}}", "1:2", "eq 1 .Tags", "error calling eq: incompatible types for comparison"),
        ("{{eq 1}}", "1:2", "eq 1", "error calling eq: missing argument for comparison"),
    ],
)  # fmt: skip
def test_template_that_does_not_fit_the_data_is_told_in_gos_words(
    template: str, place: str, part: str, message: str
) -> None:
    assert complaint(template) == f'template: t:{place}: executing "t" at <{part}>: {message}'


def test_heading_without_a_field_has_no_value() -> None:
    heading = {"Name": "NAME"}
    assert Template.parse("t", "{{.Name}} {{.Foo}} {{.Foo.Bar}}").execute(heading) == "NAME <no value> <no value>"


@pytest.mark.parametrize(
    "template", ["{{" + "(" * 20000 + "1" + ")" * 20000 + "}}", "{{if 1}}" * 20000 + "{{end}}" * 20000]
)
def test_template_that_is_nested_without_end_is_refused(template: str) -> None:
    assert complaint(template).endswith("nested too deeply")


@given(TEXTS.filter(lambda text: "{{" not in text))
def test_text_without_actions_stays_as_it_is(text: str) -> None:
    assert filled(text) == text


@given(TEXTS)
def test_every_text_can_be_a_constant(text: str) -> None:
    assert filled(f"{{{{{quoted(text)}}}}}") == text
    assert filled("{{printf `%s` .}}", structure({"x": text}, "x")) == f"{{{text}}}"


@given(st.text("{}()|.$\",`'\\- \n\t:=*/aN1", max_size=30), st.text('(|.$",`- 1aN)', max_size=20))
def test_any_text_is_a_template_or_a_mistake(text: str, inside: str) -> None:
    for template in (text, f"{{{{{inside}}}}}", f"{{{{range .Tags}}}}{{{{{inside}}}}}{{{{end}}}}"):
        with contextlib.suppress(TemplateError):
            filled(template)


@given(st.integers(-(2**62), 2**62), st.integers(0, 30))
def test_whole_numbers_print_as_pythons_do(number: int, width: int) -> None:
    for form in (f"{width}d", f"0{width}d", f"+{width}d", "x", "X", "o", "b"):
        assert filled(f"{{{{printf `%{form}` {number}}}}}") == format(number, form)


@given(st.datetimes(), st.integers(-14 * 60, 14 * 60))
def test_times_can_be_read_back(moment: datetime, offset: int) -> None:
    local = moment.replace(tzinfo=timezone(timedelta(minutes=offset)))
    text = filled('{{.At.Format "2006-01-02T15:04:05.000000-07:00"}}', structure({"At": local}, "x"))
    assert datetime.fromisoformat(text) == local
