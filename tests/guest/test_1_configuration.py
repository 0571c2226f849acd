"""A guest as its user wants it, made of a file; what changes with the host is in the later chapters, at later boots."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.guest_machines import FIRST_PROXY, SecondMachine
from tests.support.waiting import wait_until
from tests.support.world import World

pytestmark = pytest.mark.usefixtures("box2")

# Measured: 141 after a first boot with logins.
USED_MIB = 175
GREETING = 'he said "100 %" $HOME'


def guest(world: World, script: str) -> list[str]:
    return world.must("ssh", "box2", script).stdout.splitlines()


def test_users_config_is_there_with_ours_intact(ordinary_world: World) -> None:
    script = (
        "cat /etc/own && echo; stat -c %a /etc/own; id -u eve; cat /run/own; id -nG core; "
        "systemctl is-active own.service; cat /etc/subuid; systemctl is-enabled podman.socket; hostname; "
        "readlink /etc/localtime"
    )
    assert guest(ordinary_world, script) == [
        "own", "600", "4242", "eve", guest(ordinary_world, "id -nG core")[0], "active", "core:100000:1000000",
        "enabled", "own.example.org", "../usr/share/zoneinfo/Asia/Tokyo",
    ]  # fmt: skip
    assert {"adm", "core"} <= set(guest(ordinary_world, "id -nG core")[0].split())


def test_scripts_have_run_in_their_order_with_what_follows_the_host(ordinary_world: World) -> None:
    assert guest(ordinary_world, "cat /etc/provisioned ~core/provisioned; ls /etc/never 2>&1 | grep -o 'No such'") == [
        f"root /root {GREETING} http://host.containers.internal:3128", f"core /home/core {GREETING} true", "No such",
    ]  # fmt: skip


def test_start_tells_which_script_failed_and_its_last_lines(
    second_machine: SecondMachine, ordinary_world: World
) -> None:
    assert "fails.sh failed with exit status 3; its last lines:\nwhat is wrong\nnever.sh did not run\n" in (
        second_machine.stderr
    )
    report = guest(ordinary_world, "boot2podman-provision report")
    assert [line.split()[0] for line in report if not line.startswith("|")] == ["0", "0", "3", "waiting"]


def test_start_tells_which_unit_failed_on_the_console(second_machine: SecondMachine) -> None:
    assert second_machine.stderr.count("The guest's console: Failed to start fails.service - A unit that fails\n") == 1


def test_variables_are_everywhere_in_the_guest(second_machine: SecondMachine, ordinary_world: World) -> None:
    inner = """'echo "$GREETING"; echo "$ftp_proxy $NO_PROXY"'"""
    service = f"systemd-run --quiet --wait --pipe --expand-environment=no sh -c {inner}"
    second_machine.run(FIRST_PROXY)
    expected = [GREETING, "http://host.containers.internal:3128 a,b"]
    assert guest(ordinary_world, inner.strip("'")) == expected
    assert guest(ordinary_world, f"bash -lc {inner}") == expected
    assert guest(ordinary_world, service) == expected
    # Root's own session bus is not the user's.
    session = "env -u DBUS_SESSION_BUS_ADDRESS XDG_RUNTIME_DIR=/run/user/$(id -u core)"
    user = f"runuser -u core -- {session} {service.replace('run ', 'run --user ', 1)}"
    assert guest(ordinary_world, user) == expected


def test_ignition_runs_with_systemd_where_its_config_names_file_systems(ordinary_world: World) -> None:
    assert stages(ordinary_world, "box2") == ["fetch-offline", "kargs", "disks", "mount", "files", "umount"]


@pytest.mark.usefixtures("box")
def test_ignition_runs_without_systemd_where_its_config_has_files_and_units_alone(world: World) -> None:
    assert stages(world, "box") == ["fetch-offline", "files"]


def stages(world: World, name: str) -> list[str]:
    """The stages of Ignition at the first boot, from the guest's journal."""
    return world.must("ssh", name, "sudo journalctl -t ignition -o cat | sed -n 's/.*Stage: //p'").stdout.split()


def test_small_variant_says_what_it_lacks(ordinary_world: World) -> None:
    lacking = ordinary_world.machine("ssh", "box2", "sudo skopeo --version")
    assert (lacking.status, lacking.stdout) == (127, "")
    assert "machine image build --variant full" in lacking.stderr
    # The beginning of a program of another architecture, which the guest opens before it looks at the rest.
    header = r"\177ELF\002\001\001" + r"\000" * 9 + r"\002\000\363\000" + r"\000" * 108
    script = f"printf '{header}' >/tmp/foreign && chmod +x /tmp/foreign && /tmp/foreign"
    # A minute after the boot.
    registered = ("ssh", "box2", "systemctl is-active --quiet boot2podman-lacking.service")
    wait_until(lambda: ordinary_world.machine(*registered).status == 0, timeout_s=300, what="the message")
    foreign = ordinary_world.machine("ssh", "box2", script)
    assert foreign.status == 127
    assert "runs no programs of another architecture, machine image build --variant full does" in foreign.stderr


def test_idle_guest_needs_little_memory(ordinary_world: World) -> None:
    (used,) = guest(ordinary_world, "free --mebi | awk '/^Mem:/ {print $3}'")
    assert int(used) <= USED_MIB


def test_exported_machine_is_made_again_from_the_text_alone(ordinary_world: World) -> None:
    text = ordinary_world.must("export", "box2").stdout
    path = ordinary_world.root / "exported" / "box2.toml"
    path.parent.mkdir(mode=0o755)
    path.write_text(text)
    path.parent.chmod(0o755)
    ordinary_world.must("init", "-f", str(path), "twin")

    def record(name: str) -> dict[str, Any]:
        document = json.loads((ordinary_world.machines / name / "record.json").read_bytes())
        config: dict[str, Any] = document["config"]
        own = {"name", "created", "mac", "ssh_port"}
        return {key: value for key, value in config.items() if key not in own}

    assert record("twin") == record("box2")
    ordinary_world.must("rm", "--force", "twin")
