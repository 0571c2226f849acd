"""Machines of a host over SSH, whose network is lost, or is reached by the user's own configuration of ssh."""

from __future__ import annotations

import shutil
import signal
import time
from pathlib import Path

import pytest

from machine.ssh.command import SSH_FAILED
from machine.store.ssh_ports import choose
from machine.supervisor.intervals import USUAL
from tests.support.machines_elsewhere import MARKS, read_port, started, times_up
from tests.support.network_link import linked
from tests.support.remote_host import USER, RemoteHost
from tests.support.sshd import serving_sshd
from tests.support.waiting import wait_until
from tests.support.world import World

pytestmark = MARKS

HEAL_S = 60
SILENCE_S = 70


def replace_ssh(world: World, text: str) -> None:
    """Put a shell script in place of ssh, in which $SSH is the real one."""
    ssh = shutil.which("ssh")
    (world.bin / "ssh").unlink()
    (world.bin / "ssh").write_text(f"#!/bin/sh\nSSH={ssh}\n{text}\n")
    (world.bin / "ssh").chmod(0o755)


def await_answer(port: int, answer: str) -> None:
    wait_until(lambda: read_port(port) == answer, f"port {port}")


def test_connection_lasts_as_long_as_nothing_ends_it(world: World, host: RemoteHost) -> None:
    """A user who cannot become root on the host has one socket, and is not connected anew for want of the other."""
    started(world, host)
    time.sleep(2 * USUAL.heartbeat_s + 1)
    assert world.state("far") == ("running", "")
    assert times_up(world) == 1


def test_network_that_is_silent_for_long_comes_back(world: World, host: RemoteHost) -> None:
    """Nothing ends the connections, so ssh itself has to notice. It asks five times as often here as usual."""
    faster = "s/ServerAliveInterval=5$/ServerAliveInterval=1/"
    replace_ssh(
        world,
        f"""for word; do
    shift
    set -- "$@" "$(printf %s "$word" | /usr/bin/sed '{faster}')"
done
exec $SSH "$@" """,
    )
    started(world, host)
    port, late = choose(()), choose(())
    host.serves(port, "from afar")
    host.serves(late, "later")
    host.publishes(("127.0.0.1", port, "tcp"))
    await_answer(port, "from afar")
    host.fall_silent()
    wait_until(lambda: world.state("far")[0] == "degraded", "the silence to be noticed")
    assert "removed" not in world.state("far")[1]
    refused = world.machine("ssh", "far", "true")
    assert refused.status in (125, SSH_FAILED)
    host.publishes(("127.0.0.1", port, "tcp"), ("127.0.0.1", late, "tcp"))
    host.speak_again()
    wait_until(lambda: world.state("far") == ("running", ""), "the machine to heal", timeout_s=HEAL_S)
    await_answer(port, "from afar")
    await_answer(late, "later")  # published in the silence
    assert world.must("ssh", "far", "id", "-un").stdout == f"{USER}\n"


@pytest.mark.long
def test_network_that_loses_all_packets_for_a_minute_comes_back(world: World, host: RemoteHost) -> None:
    with linked(host) as link:
        place = ("--host", f"{USER}@{link.far}", "--identity", str(host.identity), "--host-key", host.host_key)
        world.must("init", "--provider", "ssh", *place, "--now", "far")
        port, late, own = choose(()), choose(()), choose(())
        host.serves(port, "from afar")
        host.serves(late, "later")
        host.publishes(("127.0.0.1", port, "tcp"))
        world.must("port", "add", "far", f"127.0.0.1:{own}:{port}")
        await_answer(port, "from afar")
        await_answer(own, "from afar")
        link.lose_packets()
        came_back = time.monotonic() + SILENCE_S
        wait_until(lambda: world.state("far")[0] == "degraded", "the silence to be noticed", timeout_s=HEAL_S)
        host.publishes(("127.0.0.1", port, "tcp"), ("127.0.0.1", late, "tcp"))
        while time.monotonic() < came_back:
            assert world.state("far")[0] == "degraded"
            time.sleep(1)
        link.carry_packets()
        wait_until(lambda: world.state("far") == ("running", ""), "the machine to heal", timeout_s=HEAL_S)
        for each, answer in ((port, "from afar"), (own, "from afar"), (late, "later")):
            await_answer(each, answer)
        assert world.must("ssh", "far", "id", "-un").stdout == f"{USER}\n"
        world.must("rm", "--force", "far")


def test_jump_host_of_the_users_configuration_leads_to_it(world: World, host: RemoteHost, short_path: Path) -> None:
    # OpenSSH looks for this file in the home that passwd has.
    config = world.root / "ssh_config"
    replace_ssh(world, f'case " $* " in *" -F "*) exec $SSH "$@" ;; esac\nexec $SSH -F {config} "$@"')
    keys, settings = short_path / "jump-keys", short_path / "jump"
    keys.mkdir()
    settings.mkdir()
    known = world.root / "known_hosts"
    with serving_sshd(keys, settings) as jump:
        jump_key = (keys / "host_key.pub").read_text()
        known.write_text(f"[127.0.0.1]:{host.port} {host.host_key}\n[127.0.0.1]:{jump.target.port} {jump_key}")
        config.write_text(
            f"UserKnownHostsFile {known}\nHostName 127.0.0.1\n"
            f"Host inside\n  Port {host.port}\n  User {USER}\n  IdentityFile {host.identity}\n  ProxyJump gate\n"
            f"Host gate\n  Port {jump.target.port}\n  IdentityFile {jump.target.identity}\n"
        )
        world.must("init", "--provider", "ssh", "--host", "inside", "--now", "far")
        assert f"Accepted publickey for {jump.target.username} " in (settings / "log").read_text()
        port = choose(())
        host.serves(port, "from inside")
        host.publishes(("127.0.0.1", port, "tcp"))
        await_answer(port, "from inside")
        (world.root / "x").write_text("hello")
        world.must("cp", "-q", "x", f"far:{host.directory}/home/y")
        assert (host.directory / "home" / "y").read_text() == "hello"
        jump.signal_sessions(signal.SIGKILL)
    wait_until(lambda: world.state("far")[0] == "degraded", "the end of the jump host")
    world.must("stop", "far")
