"""Hosts that are reached over SSH in a machines file."""

from __future__ import annotations

import resource

from tests.support.machines_elsewhere import MARKS
from tests.support.remote_host import RemoteHost
from tests.support.world import Outcome, World, machine_program

pytestmark = MARKS


def test_machines_file_makes_and_starts_them(world: World, host: RemoteHost) -> None:
    (world.root / "machines.toml").write_text(
        f"[defaults]\ncpus = 2\n[machine.far]\n{host.table}[machine.farther]\n{host.table}"
        '[machine.near]\nimage = "/dev/null"\nvolume = ""\ncpus = 1\nmemory = 512\n'
    )
    both = ("far", "farther")
    first = world.must("up", *both)
    assert rows(first) == [f"{name} running made and started" for name in both]
    assert "Starting 2 machines, all at once: far, farther\n" in first.stderr
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    again = world.run(machine_program(), "up", *both)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert (rows(again), again.stderr) == ([f"{name} running unchanged" for name in both], "")
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime <= 1
    world.must("rm", "--force", "farther")
    plan = world.must("up", "--dry-run")
    assert rows(plan) == ["far running nothing", "farther - make and start", "near - make and start"]
    assert rows(world.must("up", *both)) == ["far running unchanged", "farther running made and started"]
    exported = world.must("export", "far").stdout
    assert 'provider = "ssh"' in exported
    assert "cpus" not in exported
    assert rows(world.must("down")) == ["far stopped", "farther stopped", "near not made"]
    assert world.state("far") == ("stopped", "")
    (world.root / "machines.toml").write_text(f"[machine.far]\n{host.table}")
    pruned = world.machine("up", "--prune", stdin="n\n")
    assert pruned.stdout == (
        "The following machines will be forgotten; their hosts, reached over SSH, stay as they are:\n\nfarther\n\n"
        "Are you sure you want to continue? [y/N] "
    )
    assert rows(world.must("up", "--prune", "--force")) == ["far running started", "farther - removed"]


def test_file_with_a_malformed_host_key_or_without_provider_makes_nothing(world: World, host: RemoteHost) -> None:
    malformed = host.table.replace(host.host_key, "ssh-ed25519 AAAA")
    without = host.table.replace('provider = "ssh"\n', "")
    before = world.files()
    for table, message in (
        (
            malformed,
            '"ssh-ed25519 AAAA" is not a host key; write the type and the key: "ssh-ed25519 AAAA…"',
        ),
        (without, '"host" is for hosts that are reached over SSH; add: provider = "ssh"'),
    ):
        (world.root / "machines.toml").write_text(f"[machine.far]\n{host.table}[machine.farther]\n{table}")
        for words in (("up",), ("up", "--dry-run")):
            outcome = world.machine(*words)
            assert (outcome.status, outcome.stderr) == (125, f"Error: machines.toml: [machine.farther]: {message}\n")
        (world.root / "machines.toml").unlink()
    assert world.files() == before


def rows(outcome: Outcome) -> list[str]:
    """The rows of a table, without the heading, and with single spaces."""
    return [" ".join(line.split()) for line in outcome.stdout.splitlines()[1:]]
