"""Find the factor by which the deadlines of a start or a stop are longer than usual."""

from __future__ import annotations

import logging

from machine.errors import BadInputError, MachineError
from machine.model.settings import built_in, patience_from_environment
from machine.ops.shared.context import Context
from machine.store.settings import load_patience, load_settings

log = logging.getLogger(__name__)


def start_patience(context: Context) -> int:
    """Return the factor for a start.

    Raises:
        BadInputError: the value of $MACHINE_PATIENCE is not valid, or config.toml is damaged.
    """
    return load_patience(context.roots, context.host, context.environment)


def stop_patience(context: Context) -> int:
    """Return the factor for a stop. A damaged config.toml counts as empty, so that it does not keep a machine running.

    Raises:
        BadInputError: the value of $MACHINE_PATIENCE is not valid.
    """
    given = patience_from_environment(context.environment)
    try:
        return given or load_settings(context.roots, context.host).patience
    except MachineError as error:
        log.info("the usual deadlines are used: %s", error.line)
        return built_in(context.host).patience


def kill_patience(context: Context) -> int:
    """Return the factor for the end of a machine whose guest is not shut down. Nothing invalid prevents it."""
    try:
        return stop_patience(context)
    except BadInputError as error:
        log.info("the usual deadlines are used: %s", error.line)
        return built_in(context.host).patience
