"""What the commands share: the name argument, its completion, and who waits at the other end."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import click

from machine.errors import MachineError
from machine.model.image import ImageOptions
from machine.model.names import DEFAULT_MACHINE

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from machine.ops.shared.context import Context
    from machine.report import Reporter


def context() -> Context:
    from machine.ops.shared.context import current_context

    return current_context()


def complete_machines(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG001
    from click.shell_completion import CompletionItem

    return [CompletionItem(name) for name in machines_that_begin(incomplete)]


def machines_that_begin(incomplete: str) -> list[str]:
    """For the shell's completion, at which an error would be in the way: then there are none."""
    from machine.ops.shared.completion import all_names

    try:
        return [name for name in all_names(context()) if name.startswith(incomplete)]
    except (MachineError, OSError):
        return []


def complete_images(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG001
    """What has a name, and the files of this host."""
    from click.shell_completion import CompletionItem

    from machine.ops.shared.completion import image_names

    names = [CompletionItem(name) for name in image_names() if name.startswith(incomplete)]
    # Files first: in bash, that item takes back what was said before it.
    return [CompletionItem(incomplete, type="file"), *names]


def complete_from(words: Iterable[str]) -> Callable[[click.Context, click.Parameter, str], list[str]]:
    """For an option whose bad values have an error text of podman's, which a choice of click's would take from it."""
    return lambda _ctx, _param, incomplete: [word for word in words if word.startswith(incomplete.lower())]


def name_argument() -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The optional NAME that every command of podman machine has."""
    return click.argument("name", default=DEFAULT_MACHINE, shell_complete=complete_machines)


def image_options(command: Callable[..., None]) -> Callable[..., None]:
    """The options of every command that fetches an image; it gets them as `image_options`."""

    @functools.wraps(command)
    def wrapped(
        *arguments: object,
        stream_base_url: str | None,
        image_sha256: str | None,
        offline: bool,
        no_verify_signature: bool,
        tls_verify: bool,
        **others: object,
    ) -> None:
        options = ImageOptions(
            stream_base_url=stream_base_url or None,
            sha256=image_sha256 or None,
            offline=offline,
            verify_signature=not no_verify_signature,
            verify_tls=tls_verify,
        )
        command(*arguments, image_options=options, **others)

    for option in (
        click.option(
            "--tls-verify", is_flag=True, default=True, show_default=True, help="Check servers' certificates."
        ),
        click.option(
            "--no-verify-signature", is_flag=True, help="Take a stream's image without checking its signature."
        ),
        click.option("--offline", is_flag=True, help="Use what is in the cache, and never the network."),
        click.option("--image-sha256", metavar="SHA256", help="What the image's file has to have."),
        click.option("--stream-base-url", metavar="URL", help="Fetch stream metadata from a mirror of Fedora's."),
    ):
        wrapped = option(wrapped)
    return wrapped


def update_connection_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Three states: yes, no, and None for a question where a person sits at a terminal."""
    return click.option(
        "-u",
        "--update-connection",
        is_flag=True,
        default=None,
        help="Make the machine Podman's default connection. [default: ask on a terminal, else leave it]",
    )(command)


def usb_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--usb",
        "usbs",
        multiple=True,
        metavar="DEVICE",
        help='A USB device of the host: bus=B,devnum=D or vendor=HEX,product=HEX; "" for none.',
    )(command)


def volume_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of every command that says which folders a machine has."""
    for option in (
        click.option(
            "--mount-inotify",
            is_flag=True,
            default=None,
            help="Tell the guest of changes that the host makes in its folders.",
        ),
        click.option(
            "--volume-driver",
            metavar="DRIVER",
            help="What carries folders: virtiofs, 9p or sshfs. [default: the first of them that there is]",
        ),
        click.option(
            "-v",
            "--volume",
            "volumes",
            multiple=True,
            metavar="SRC[:DST[:ro]]",
            help='A folder of the host that the guest sees; "" for none.',
        ),
    ):
        command = option(command)
    return command


def native_ca_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--import-native-ca",
        "native_ca",
        is_flag=True,
        default=None,
        help="Let the guest trust the certificates that this host trusts, as they are at each start.",
    )(command)


def tell_networking(report: Reporter, *, wanted: bool | None) -> None:
    """Podman's choice on Windows; here there is one kind."""
    if wanted is False:
        report.notice("Machines always have user-mode networking: --user-mode-networking=false changes nothing")


SURE = "Are you sure you want to continue?"
"""Podman's question before it removes something."""


def confirm(question: str) -> bool:
    """Podman's way of asking: only y means yes, and no answer at all is an error."""
    click.echo(f"{question} [y/N] ", nl=False)
    try:
        answer = sys.stdin.readline() if sys.stdin else ""  # None where it was closed
    except UnicodeDecodeError:
        return False
    if not answer:
        raise click.ClickException("EOF")
    return answer.strip().lower() == "y"
