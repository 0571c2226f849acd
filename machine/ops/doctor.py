"""`machine doctor`: check, without changing anything, whether machines can be made and started on this host.

The checks of each topic are in a module `doctor_<topic>`. Each of these modules has functions that probe this host, and
pure functions that judge what was found. A check is left out if an earlier failure makes it impossible.
"""

from __future__ import annotations

from datetime import UTC, datetime

from machine.model.doctor_check import Check
from machine.model.settings import built_in, settings_of
from machine.ops.doctor_clients import client_checks, variables_checks
from machine.ops.doctor_directories import directory_checks
from machine.ops.doctor_downloads import clock_check, known_moments, proxies_check, used_certificates_check
from machine.ops.doctor_machines import (
    chosen_settings,
    drafts_check,
    existing_machines_checks,
    listed_machines,
    login_services_check,
    new_machine_resources_checks,
    permissions_checks,
)
from machine.ops.doctor_names import used_names_check
from machine.ops.doctor_programs import installed_ssh_check, qemu_checks, qemu_img_check, signature_checks
from machine.ops.shared.client_variables import choices
from machine.ops.shared.context import Context
from machine.store import drafts


def doctor(context: Context) -> list[Check]:
    """Run all checks, and return their results in the order in which users see them."""
    host = context.host
    chosen, settings = chosen_settings(context)
    listing, unreadable = listed_machines(context)
    return [
        *settings,
        *qemu_checks(context, settings_of(chosen) if chosen else built_in(host)),
        qemu_img_check(host),
        installed_ssh_check(host),
        *signature_checks(context),
        *client_checks(context, {name: context.roots.machine(name) for name in listing.names}),
        *([] if unreadable else variables_checks(choices(context, [each.record.config for each in listing.machines]))),
        *directory_checks(context),
        *(new_machine_resources_checks(chosen, host) if chosen else []),
        *(unreadable or existing_machines_checks(listing, context)),
        login_services_check(context),
        *permissions_checks(listing, context),
        drafts_check(drafts.find_leftovers(context.roots)),
        used_names_check(context, (settings_of(chosen) if chosen else built_in(host)).host_resolver),
        proxies_check(context.environment, host.os),
        used_certificates_check(context),
        clock_check(datetime.now(UTC), known_moments(listing, context), host.os),
    ]
