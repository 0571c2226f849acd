"""The steps that init and clone share: make keys, choose a MAC address and an SSH port, and register with clients."""

from __future__ import annotations

import secrets
from dataclasses import replace

from machine.files import write_atomic
from machine.ignition.provision import Keys
from machine.model.config import MachineConfig
from machine.model.record import MachineRecord
from machine.ops.shared.client_registration import ClientRegistration
from machine.ops.shared.context import Context
from machine.ops.shared.machine_events import send_event
from machine.podman.machine_events import Event
from machine.report import Reporter, SilentReporter
from machine.ssh import keys as ssh_keys
from machine.ssh.command import known_hosts_line
from machine.store import drafts, records, ssh_ports
from machine.store.paths import MachinePaths

# QEMU and libvirt use this range for guests. It is locally administered in the sense of IEEE 802.
_MAC_PREFIX = "52:54:00"

_GUEST_UID_OF_ROOT = 1000


def guest_uid(host_uid: int) -> int:
    """Return the uid of the guest's user. `host_uid` is the uid of the user who runs this program.

    The two uids are the same, so that files in folders have the same owner on both sides. But if root runs this
    program, the guest's user has the uid 1000.
    """
    return host_uid or _GUEST_UID_OF_ROOT


def fresh_mac() -> str:
    return _MAC_PREFIX + "".join(f":{byte:02x}" for byte in secrets.token_bytes(3))


def make_keys(name: str, paths: MachinePaths) -> Keys:
    """Make two SSH key pairs in the machine's directory, one to log in to the guest, and one as the guest's host key.

    Raises:
        MachineError: a file cannot be written.
    """
    authorized = ssh_keys.generate(paths.identity, comment=f"machine-{name}")
    host_public = ssh_keys.generate(paths.host_key, comment=f"host-key-of-{name}")
    write_atomic(paths.known_hosts, known_hosts_line(name, host_public))
    return Keys(authorized=authorized, host_private=paths.host_key.read_text(), host_public=host_public)


def publish(
    record: MachineRecord, paths: MachinePaths, registration: ClientRegistration, context: Context, report: Reporter
) -> MachineConfig:
    """Turn a draft into a machine, and register it with clients. For a virtual machine, choose an unused SSH port.

    Raises:
        BadInputError: another command has made a machine of that name meanwhile.
        MachineError: a file of the machine or of a client cannot be written, so the machine is not made.
    """
    roots = context.roots
    # Only one command at a time does this, because a port is reserved, and old Podman clients do not lock their files.
    with drafts.names_lock(roots):
        drafts.remove_leftovers(roots)
        config = record.config
        if config.remote is None:
            config = replace(config, ssh_port=ssh_ports.choose(ssh_ports.reserved_ports(roots)))
        records.save(paths, replace(record, config=config))
        drafts.publish(paths, roots, config.name)
        try:
            registration.register(config, report)
        except BaseException:
            # The user should see the first error, not one of the clean-up.
            registration.unregister(config.name, SilentReporter())
            drafts.remove(roots, config.name)
            raise
    send_event(Event.INIT, config.name, context)
    return config
