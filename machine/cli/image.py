"""machine image"""

from __future__ import annotations

from pathlib import Path

import click

from machine.cli.common import context


@click.group("image")
def command() -> None:
    """Build the images that machines are made from."""


@command.command("build")
@click.option("--arch", help="Architecture of the guest. [default: the host's]")
@click.option("--suite", default="trixie", show_default=True, help="Debian release that the packages come from.")
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Where the stream is published. [default: the folder that `--image boot2podman` reads]",
)
def build(arch: str | None, suite: str, output: Path | None) -> None:
    """Build the guest image boot2podman from Debian's packages on this host."""
    from machine.cli.terminal import reporter
    from machine.ops.image_build import image_build

    with reporter() as report:
        result = image_build(arch=arch, suite=suite, output=output, context=context(), report=report)
    verb = "is there already" if result.reused else "built"
    click.echo(f"Image boot2podman {result.release} {verb}: {result.disk}")
