"""How often a supervisor checks various things, and how long it waits for others."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Intervals:
    """How often a supervisor checks various things, and how long it waits for others, in seconds."""

    heartbeat_s: float = 5.0
    evidence_s: float = 0.5
    evidence_patience_s: float = 10.0
    """How long to wait for Ignition's journal after the console has shown that the guest is in emergency mode."""

    kernel_s: float = 1.0
    """How often the console is checked for a panic of the guest's kernel, or its lack of memory."""

    prompt_patience_s: float = 6.0
    """How long a guest may show a login prompt before it reports that it is ready. The time scale multiplies this."""

    job_patience_s: float = 15.0
    """How long a unit may be starting before the start tells of it. The time scale multiplies this."""

    silent_boot_s: float = 5.0
    """How long a boot may show nothing before the base image is checked. The time scale multiplies this."""

    lock_s: float = 1.0
    guest_s: float = 60.0
    """How often a guest is asked what is wrong with it."""

    guest_max_share: float = 0.05
    """The share of its time that a guest may spend on answering this question."""

    guest_start_s: float = 3.0
    """How often the guest is asked while a start waits for Podman. The accelerator's time scale multiplies this."""

    silent_s: float = 1.0
    """How long a start waits for containers before it says so."""


USUAL = Intervals()
