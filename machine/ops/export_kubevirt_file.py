"""`machine export --format kubevirt -f FILE`: describe the machine of a file, which need not be on this host."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from machine.errors import BadInputError, MachineError
from machine.files import disk_errors, fsync_directory, fsync_file
from machine.ignition.provision import Keys
from machine.model.provider import Capability, check_capability
from machine.ops.export_kubevirt import ClusterOptions, Manifest, choose_disk, describe, read_keys
from machine.ops.init import PlannedMachine, plan_machine
from machine.ops.init_checks import checked_name
from machine.ops.init_file import read_keys as read_file_keys
from machine.ops.init_file import read_toml, request_of
from machine.ops.init_request import InitRequest
from machine.ops.shared.context import Context
from machine.ops.shared.creation import make_keys
from machine.ops.up_file import chosen_names, parse_tables, read_machines
from machine.report import Reporter
from machine.store.paths import MachinePaths, make_private


def export_file(
    file: str, name: str | None, options: ClusterOptions, context: Context, report: Reporter
) -> tuple[str, Manifest]:
    """Describe the machine of a file for a cluster, and return its name, too. The path `-` stands for standard input.

    The machine is checked as `machine init -f` checks it, but may have more CPUs and memory than this host. Its guest
    has the keys of the last export of this name, or new ones, which are kept.

    Raises:
        BadInputError: something in the file or the options is invalid, or cannot be on a cluster.
        MachineError: the keys cannot be read or written, or the image's metadata cannot be fetched.
    """
    request = request_in(file, name)
    name, provider = checked_name(request, context)
    check_capability(name, provider, Capability.KUBEVIRT)
    planned = plan_machine(request, None, _as_on_a_large_host(context, request), report)
    assert isinstance(planned, PlannedMachine)
    config = planned.config
    disk = choose_disk(config, planned.image, options, context, report)
    paths = context.roots.exported(name)
    with _keys(name, paths, report) as keys:
        return name, describe(config, planned.image.source, disk, options, keys, paths)


def request_in(file: str, name: str | None) -> InitRequest:
    """Read the request for the machine `name` from a file for `machine init -f`, or from one for `machine up`.

    Raises:
        BadInputError: the file cannot be read, something in it is invalid, or it describes several machines and `name`
            is None or none of them.
        MachineError: a value names a Butane file, but butane is not installed.
    """
    toml = read_toml(file)
    if not isinstance(toml.document.get("machine"), dict):
        request = request_of(read_file_keys(toml.document, toml.shown_path, toml.base))
        return request if name is None else replace(request, name=name)
    machines = parse_tables(toml, None)
    if name is None and len(machines.machines) == 1:
        (name,) = machines.machines
    if name is None:
        names = ", ".join(machines.machines)
        raise BadInputError(f"{toml.shown_path} describes several machines", hint=f"add the name of one: {names}")
    (chosen,) = chosen_names(machines, [name])
    return read_machines(machines)[chosen].request


def _as_on_a_large_host(context: Context, request: InitRequest) -> Context:
    """Return the context with a host that has as many CPUs and as much memory as the request names."""
    host = context.host
    cpus, memory_mib = max(host.cpus, request.cpus or 0), max(host.memory_mib, request.memory_mib or 0)
    return replace(context, host=replace(host, cpus=cpus, memory_mib=memory_mib))


@contextlib.contextmanager
def _keys(name: str, paths: MachinePaths, report: Reporter) -> Iterator[Keys]:
    """Read the keys at `paths`. If there are none, make them, and keep them if the block ends without an error.

    Raises:
        MachineError: the keys cannot be read or written.
    """
    directory = paths.directory
    if directory.exists():
        yield read_keys(paths)
        report.notice(f'The keys are those of an earlier export of "{name}", in {directory}')
        return
    parent = make_private(directory.parent)
    with disk_errors(directory), tempfile.TemporaryDirectory(prefix=f".{name}.", dir=parent) as scratch:
        draft = MachinePaths(directory=make_private(Path(scratch, "keys")), runtime=paths.runtime)
        yield make_keys(name, draft)
        _keep(draft.directory, directory)
    report.notice(f"Made keys in {directory}. Keep them, as they log in to the guest; later exports have the same")


def _keep(draft: Path, directory: Path) -> None:
    """Give the directory of new keys its final name.

    Raises:
        MachineError: another command has done so meanwhile.
        OSError: the directory cannot be written.
    """
    for path in draft.iterdir():
        fsync_file(path)
    fsync_directory(draft)
    try:
        draft.rename(directory)
    except OSError as error:
        if directory.exists():
            raise MachineError("another command has made the keys meanwhile", hint="try again") from error
        raise
    fsync_directory(directory.parent)
