"""The command `machine export`."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

import click

from machine.cli.common import complete_machines, current_context, member_of, none_if_empty
from machine.cli.flags import WHOLE_NUMBER, Command
from machine.model.names import DEFAULT_MACHINE

if TYPE_CHECKING:
    from machine.ops.export_kubevirt import Manifest


class Format(StrEnum):
    """The format of an export."""

    TOML = "toml"
    KUBEVIRT = "kubevirt"


@click.command("export", cls=Command)
@click.argument("name", required=False, shell_complete=complete_machines)
@click.option(
    "--format",
    "format_",
    type=click.Choice([choice.value for choice in Format]),
    callback=member_of(Format),
    default=Format.TOML.value,
    help="toml, or kubevirt for a virtual machine on a Kubernetes cluster. [default: toml]",
)
@click.option(
    "-f",
    "--file",
    metavar="FILE",
    callback=none_if_empty,
    help="With --format kubevirt, export the machine that FILE describes, as for init -f or up -f, without making it.",
)
@click.option("--namespace", callback=none_if_empty, help="The cluster's namespace, with --format kubevirt.")
@click.option(
    "--disk-size",
    type=WHOLE_NUMBER,
    metavar="GIB",
    help="With --format kubevirt, keep the disk in a volume of this size, which the cluster makes.",
)
@click.option("--storage-class", metavar="CLASS", callback=none_if_empty, help="The storage class of that volume.")
def command(
    name: str | None,
    format_: Format,
    file: str | None,
    namespace: str | None,
    disk_size: int | None,
    storage_class: str | None,
) -> None:
    """Print a machine as a TOML file from which `machine init -f` makes an equal one.

    The file includes the scripts and the variables that were given to init, which may contain secrets.

    With --format kubevirt, print objects for `kubectl apply` instead, which make a virtual machine with the same
    settings and keys on a cluster with KubeVirt. They contain the guest's private host key. A volume needs KubeVirt's
    Containerized Data Importer. With -f, the machine need not be on this host. Its keys are then made and kept for
    later exports.

    \b
    Examples:
      machine export box >box.toml
      machine export box | machine init -f - other
      machine export --format kubevirt --disk-size 20 box >box.yaml
      machine export --format kubevirt -f box.toml >box.yaml
    """
    if format_ is Format.TOML:
        if any(option is not None for option in (file, namespace, disk_size, storage_class)):
            raise click.UsageError("--file, --namespace, --disk-size and --storage-class go with --format kubevirt")
        from machine.ops.export import export

        click.echo(export(name or DEFAULT_MACHINE, current_context()), nl=False)
        return
    from machine.cli.terminal import NoticeReporter
    from machine.ops.export_kubevirt import ClusterOptions, export_kubevirt
    from machine.ops.export_kubevirt_file import export_file

    options = ClusterOptions(namespace=namespace, disk_gib=disk_size, storage_class=storage_class)
    if file is None:
        name = name or DEFAULT_MACHINE
        found = export_kubevirt(name, options, current_context(), NoticeReporter())
    else:
        name, found = export_file(file, name, options, current_context(), NoticeReporter())
    click.echo(manifest_of(name, found), nl=False)
    for part in found.lost:
        click.echo(f"The cluster does not have {part}", err=True)


def manifest_of(name: str, found: Manifest) -> str:
    """Return the text of the manifest, which begins with comments for people."""
    from machine.cli.yaml import manifest_text

    comments = [
        f"{name} for KubeVirt. It contains the private host key of its guest.",
        "",
        *found.usage,
        *(["", "The cluster does not have"] if found.lost else []),
        *(f"- {part}" for part in found.lost),
    ]
    # The path of a folder may contain line feeds.
    lines = [f"# {' '.join(line.splitlines())}" if line.strip() else "#" for line in comments]
    return "\n".join(lines) + "\n" + manifest_text(found.objects)
