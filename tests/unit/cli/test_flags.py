"""Command lines as pflag reads them, by a command that prints what it got."""

from __future__ import annotations

from typing import Any

import click
import pytest

from machine.cli.flags import WHOLE_NUMBER, Command, Group

Read = dict[str, Any]


@click.command("it", cls=Command)
@click.argument("name", default="none")
@click.option("-f", "--force", is_flag=True)
@click.option("-q", "--quiet", is_flag=True)
@click.option("-u", "--update", is_flag=True, default=None)
@click.option("--verify", is_flag=True, default=True)
@click.option("--rootful/--rootless", default=None)
@click.option("-m", "--memory", type=WHOLE_NUMBER)
@click.option("--image", default="")
@click.option("-v", "--volume", multiple=True)
def it(**values: object) -> Read:
    return {key: value for key, value in values.items() if value != DEFAULTS[key]}


DEFAULTS: Read = {
    "name": "none", "force": False, "quiet": False, "update": None, "verify": True, "rootful": None, "memory": None,
    "image": "", "volume": (),
}  # fmt: skip


def read(*words: str) -> Read:
    values: Read = it.main(list(words), prog_name="it", standalone_mode=False)
    return values


@pytest.mark.parametrize(
    ("line", "values"),
    [
        ("", {}),
        ("box", {"name": "box"}),
        ("--force box", {"force": True, "name": "box"}),
        ("box --force", {"force": True, "name": "box"}),
        ("box -fq", {"force": True, "quiet": True, "name": "box"}),
        ("--force=true", {"force": True}),
        ("-f=1", {"force": True}),
        ("--force=T -q=TRUE", {"force": True, "quiet": True}),
        ("--force --force=false", {}),
        ("--force=0 -f", {"force": True}),
        ("--force false", {"force": True, "name": "false"}),
        ("--update", {"update": True}),
        ("-u=false", {"update": False}),
        ("--verify=false", {"verify": False}),
        ("--verify", {}),
        ("--rootful", {"rootful": True}),
        ("--rootful=false", {"rootful": False}),
        ("--rootless", {"rootful": False}),
        ("--rootless=false", {"rootful": True}),
        ("-m 7", {"memory": 7}),
        ("-m7", {"memory": 7}),
        ("-m=7", {"memory": 7}),
        ("-fm 7 box", {"force": True, "memory": 7, "name": "box"}),
        ("--memory 7", {"memory": 7}),
        ("--memory=7", {"memory": 7}),
        ("--memory -7", {"memory": -7}),
        ("--memory 7 --memory 8", {"memory": 8}),
        ("--image --force", {"image": "--force"}),
        ("--image -- box", {"image": "--", "name": "box"}),
        ("--image=a=b", {"image": "a=b"}),
        ("--image=", {}),
        ("-v /a -v=/b --volume /c", {"volume": ("/a", "/b", "/c")}),
        ("-f -- -q", {"force": True, "name": "-q"}),
        ("-", {"name": "-"}),
    ],
)
def test_line_means_what_pflag_takes_it_for(line: str, values: Read) -> None:
    assert read(*line.split()) == values


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--nosuch", "unknown flag: --nosuch"),
        ("--nosuch=1", "unknown flag: --nosuch"),
        ("--forse", "unknown flag: --forse; did you mean --force?"),
        ("-x", "unknown shorthand flag: 'x' in -x"),
        ("-fxq", "unknown shorthand flag: 'x' in -xq"),
        ("--=x", "bad flag syntax: --=x"),
        ("---force", "bad flag syntax: ---force"),
        ("--memory", "flag needs an argument: --memory"),
        ("-m", "flag needs an argument: 'm' in -m"),
        ("-fm", "flag needs an argument: 'm' in -m"),
        ("--force=maybe", 'invalid argument "maybe" for "-f, --force" flag: must be true or false'),
        ("--force=", 'invalid argument "" for "-f, --force" flag: must be true or false'),
        ("--rootful=yes", 'invalid argument "yes" for "--rootful" flag: must be true or false'),
        ("-m seven", 'invalid argument "seven" for "-m, --memory" flag: must be a whole number'),
        ("-m 1_000", 'invalid argument "1_000" for "-m, --memory" flag: must be a whole number'),
        ("a b", "accepts at most 1 arg(s), received 2"),
        ("a b --nosuch", "unknown flag: --nosuch"),
    ],
)
def test_line_that_means_nothing(line: str, message: str) -> None:
    with pytest.raises(click.UsageError) as caught:
        read(*line.split())
    assert caught.value.message == message


def test_help_is_given_whatever_else_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    read("a", "b", "--help", "-f")
    assert capsys.readouterr().out.startswith("Usage: it")


@click.group("outer", cls=Group)
@click.option("-l", "--loud", is_flag=True)
def outer(loud: bool) -> None:
    click.echo(f"loud={loud}")


@outer.command("none")
def none() -> None: ...


@outer.command("two")
@click.argument("a")
@click.argument("b")
def two(a: str, b: str) -> None:
    click.echo(f"{a} {b}")


@outer.command("some")
@click.argument("words", nargs=-1, required=True)
@click.option("-l", is_flag=True)
def some(words: tuple[str, ...], l: bool) -> None:  # noqa: E741
    click.echo(f"{' '.join(words)} {l}")


@outer.command("rest", context_settings={"allow_interspersed_args": False})
@click.argument("words", nargs=-1, type=click.UNPROCESSED)
def rest(words: tuple[str, ...]) -> None:
    click.echo(" ".join(words))


@pytest.mark.parametrize(
    ("line", "output"),
    [
        ("two a b", "loud=False\na b\n"),
        ("-l two a b", "loud=True\na b\n"),
        ("--loud=false two -- -a -b", "loud=False\n-a -b\n"),
        ("some a -l b", "loud=False\na b True\n"),
        ("rest ls -l --all=x -- -", "loud=False\nls -l --all=x -- -\n"),
        ("rest -- ls", "loud=False\nls\n"),
    ],
)
def test_group_reads_what_is_before_its_command(line: str, output: str, capsys: pytest.CaptureFixture[str]) -> None:
    outer.main(line.split(), prog_name="outer", standalone_mode=False)
    assert capsys.readouterr().out == output


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("nosuch", "unrecognized command `outer nosuch`"),
        ("twoo", "unrecognized command `outer twoo`; did you mean two?"),
        ("-x two", "unknown shorthand flag: 'x' in -x"),
        ("none a", "`outer none` takes no arguments"),
        ("two", "accepts 2 arg(s), received 0"),
        ("two a b c", "accepts 2 arg(s), received 3"),
        ("some", "requires at least 1 arg(s), only received 0"),
        ("rest -x ls", "unknown shorthand flag: 'x' in -x"),
    ],
)
def test_group_refuses_what_it_has_not(line: str, message: str) -> None:
    with pytest.raises(click.UsageError) as caught:
        outer.main(line.split(), prog_name="outer", standalone_mode=False)
    assert caught.value.message == message
