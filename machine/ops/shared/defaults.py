"""Find the values of new machines' settings, and the file or flag that each value comes from."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from machine.errors import BadInputError
from machine.image.reference import FileReference
from machine.model.host import ACCEL_VARIABLE, AcceleratorChoice
from machine.model.settings import (
    BUILT_IN,
    PATIENCE_VARIABLE,
    EffectiveSetting,
    Layer,
    Value,
    built_in,
    merge,
    patience_from_environment,
)
from machine.ops.shared.catalogue import find_source
from machine.ops.shared.context import Context
from machine.ops.shared.timezone import resolve_timezone
from machine.podman.conf_files import find_files
from machine.podman.containers_conf import load_layers
from machine.store import settings

COMMAND_LINE = "command line"


def effective(context: Context, *, flags: dict[str, Value] | None = None) -> dict[str, EffectiveSetting]:
    """Return every setting by its key, with the value that applies and the source of the value.

    The sources are, from the weakest to the strongest: the built-in defaults, containers.conf, config.toml, the
    environment, and the command line. `flags` has the values from the command line, by the keys of Settings.

    Raises:
        BadInputError: a file or an environment variable has an invalid value.
    """
    own = settings.load_layer(context.roots)
    check_values(own.values, context, source=context.roots.settings)
    layers = [
        *load_layers(find_files(context.environment, context.home), context.host),
        own,
        *_environment_layers(context.environment),
        Layer(origin=COMMAND_LINE, values=flags or {}),
    ]
    return merge(built_in(context.host), layers)


def _environment_layers(environment: Mapping[str, str]) -> list[Layer]:
    accel, patience = AcceleratorChoice.from_environment(environment), patience_from_environment(environment)
    return [
        Layer(origin=f"environment: {ACCEL_VARIABLE}", values={"accel": accel} if accel else {}),
        Layer(origin=f"environment: {PATIENCE_VARIABLE}", values={"patience": patience} if patience else {}),
    ]


@contextlib.contextmanager
def naming_source_of(setting: EffectiveSetting) -> Iterator[None]:
    """If the value comes from a file or a variable, errors in the block get a hint that names this source."""
    try:
        yield
    except BadInputError as error:
        if setting.origin in (COMMAND_LINE, BUILT_IN):
            raise
        hint = f'the value of "{setting.key}" comes from {setting.origin}'
        raise BadInputError(error.message, hint=hint, page=error.page) from error


def check_values(values: Mapping[str, Value], context: Context, *, source: Path | None = None) -> None:
    """If the values contain an image reference or a time zone, check it. The rules of the settings do not do this.

    If the values come from a file, `source` is the path of that file, and errors name the path.

    Raises:
        BadInputError: the image reference is malformed or not in the catalogue, or the time zone does not exist.
    """
    try:
        if "image" in values:
            image = find_source(str(values["image"]), context)
            if isinstance(image, FileReference) and not image.path.is_absolute():
                raise BadInputError('"image" must be an absolute path or a reference', hint=f"write {image}")
        if "timezone" in values:
            resolve_timezone(str(values["timezone"]), context.environment)
    except BadInputError as error:
        raise BadInputError(f"{source}: {error.message}" if source else error.message, hint=error.hint) from error
