"""Define what several commands share, such as arguments, options, completion and a question to the user."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeVar

import click

from machine.errors import MachineError
from machine.model.names import DEFAULT_MACHINE

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from machine.ops.shared.context import Context
    from machine.report import Reporter

_E = TypeVar("_E", bound=StrEnum)


def current_context() -> Context:
    from machine.ops.shared import context

    return context.current_context()


def complete_machines(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG001
    from click.shell_completion import CompletionItem

    return [CompletionItem(name) for name in machines_beginning_with(incomplete)]


def machines_beginning_with(incomplete: str) -> list[str]:
    """Return the machines whose names begin with `incomplete`, for shell completion. On an error, return none."""
    from machine.ops.shared.completion import all_names

    try:
        return [name for name in all_names(current_context()) if name.startswith(incomplete)]
    except (MachineError, OSError):
        return []


def complete_images(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG001
    """Complete the name of an image, or the path of a file on this host."""
    from click.shell_completion import CompletionItem

    from machine.ops.shared.completion import image_names

    names = [CompletionItem(name) for name in image_names() if name.startswith(incomplete)]
    # Files come first, because in bash this item discards the items before it.
    return [CompletionItem(incomplete, type="file"), *names]


def complete_from(words: Iterable[str]) -> Callable[[click.Context, click.Parameter, str], list[str]]:
    """Return a function that completes an option's value from `words`.

    This is for options that cannot be a click.Choice, because podman has its own error message for a wrong value.
    """
    return lambda _ctx, _param, incomplete: [word for word in words if word.startswith(incomplete.lower())]


def none_if_empty(ctx: click.Context, param: click.Parameter, value: Any) -> Any:  # noqa: ANN401, ARG001
    """Return the value of an option, or None if the value is empty. An empty value counts as not given, as in Podman.

    This is a callback of click options.
    """
    return value or None


def member_of(kind: type[_E]) -> Callable[[click.Context, click.Parameter, str | None], _E | None]:
    """Return a callback that turns the word of a click.Choice into a member of an enum."""
    return lambda _ctx, _param, word: None if word is None else kind(word)


def format_option() -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add the option `--format` to a command that prints a listing."""
    return click.option("--format", "format_", metavar="FORMAT", help="table, json or a Go template. [default: table]")


def noheading_option() -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add the option `--noheading` to a command that prints a listing."""
    return click.option("-n", "--noheading", is_flag=True, help="Do not print the heading.")


def listing_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options `--format` and `--noheading` to a command that prints a listing."""
    return format_option()(noheading_option()(command))


def name_argument() -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add the optional argument NAME. Its default is podman's name for the default machine."""
    return click.argument("name", default=DEFAULT_MACHINE, shell_complete=complete_machines)


def image_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of commands that fetch an image. The command gets the options' values as `image_options`."""

    @functools.wraps(command)
    def wrapped(
        *arguments: object,
        stream_base_url: str | None,
        image_sha256: str | None,
        offline: bool,
        no_verify_signature: bool,
        tls_verify: bool | None,
        **others: object,
    ) -> None:
        from machine.model.image import ImageOptions  # not needed for shell completion

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
            "--tls-verify",
            is_flag=True,
            default=None,
            show_default="true, unless registries.conf calls the registry insecure",
            help="Verify the certificates of servers.",
        ),
        click.option("--no-verify-signature", is_flag=True, help="Do not verify the signature of a stream's image."),
        click.option("--offline", is_flag=True, help="Use only the cache, never the network."),
        click.option("--image-sha256", metavar="SHA256", help="The expected SHA-256 of the image file."),
        click.option("--stream-base-url", metavar="URL", help="Fetch stream metadata from this mirror of Fedora's."),
    ):
        wrapped = option(wrapped)
    return wrapped


def update_connection_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the option `--update-connection`, which makes the machine Podman's default connection.

    If the option is not given, a user at a terminal is asked.
    """
    return click.option(
        "-u",
        "--update-connection",
        is_flag=True,
        default=None,
        help="Make the machine Podman's default connection. [default: ask on a terminal, else no]",
    )(command)


def usb_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--usb",
        "usbs",
        multiple=True,
        callback=none_if_empty,
        metavar="DEVICE",
        help='Pass a USB device of the host: bus=B,devnum=D or vendor=HEX,product=HEX; "" means none.',
    )(command)


def idle_suspend_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--idle-suspend",
        metavar="TIME",
        help="Suspend the machine when nobody has used it for this time, such as 15m (1m to 30d, in s, m, h or d), "
        "but not in the first five minutes after a start; with 15m,containers, also while containers run; off means "
        "never.",
    )(command)


def volume_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of commands that set a machine's folders."""
    for option in (
        click.option(
            "--mount-inotify",
            is_flag=True,
            default=None,
            help="Notify the guest of changes that the host makes in the folders.",
        ),
        click.option(
            "--volume-driver",
            metavar="DRIVER",
            help="How folders reach the guest: virtiofs, 9p or sshfs. [default: the first that works]",
        ),
        click.option(
            "-v",
            "--volume",
            "volumes",
            multiple=True,
            callback=none_if_empty,
            metavar="SRC[:DST[:ro]]",
            help='Mount a folder of the host in the guest; "" means none.',
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
        help="Make the guest trust the certificate authorities that the host trusts at each start.",
    )(command)


def warn_about_networking(report: Reporter, *, wanted: bool | None) -> None:
    """Warn that --user-mode-networking has no effect. Podman has this option for Windows."""
    if wanted is False:
        report.notice("Machines always use user-mode networking, so --user-mode-networking=false has no effect")


def is_sure() -> bool:
    """Ask what Podman asks before it removes something, and return whether the answer is y."""
    return confirm("Are you sure you want to continue?", unanswered="EOF; to go on without a question, add --force")


def confirm(question: str, *, unanswered: str = "EOF") -> bool:
    """Ask a yes-or-no question as podman does, and return whether the answer is y.

    The end of input is the error `unanswered`.
    """
    click.echo(f"{question} [y/N] ", nl=False)
    try:
        answer = sys.stdin.readline() if sys.stdin else ""  # None if it is closed
    except UnicodeDecodeError:
        return False
    if not answer:
        raise click.ClickException(unanswered)
    return answer.strip().lower() == "y"
