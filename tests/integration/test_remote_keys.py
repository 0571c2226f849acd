"""The keys of machines whose guest is a host over SSH: those of the user, and the host's own."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from machine.ssh import keys
from tests.support.machines_elsewhere import MARKS, PAGE, init, made, nothing_is_left, started
from tests.support.remote_host import USER, RemoteHost
from tests.support.waiting import wait_until
from tests.support.world import World

pytestmark = MARKS


def test_agent_with_twenty_keys(world: World, host: RemoteHost, tmp_path: Path) -> None:
    agent = str(host.directory / "agent.sock")
    with subprocess.Popen(["ssh-agent", "-D", "-a", agent], stdout=subprocess.DEVNULL) as process:
        wait_until(lambda: Path(agent).exists(), "the agent")
        paths = [tmp_path / f"key{number}" for number in range(19)]
        for path in paths:
            keys.generate(path, comment=path.name)
        for path in (*paths, host.identity):
            subprocess.run(["ssh-add", "-q", path], check=True, env={**os.environ, "SSH_AUTH_SOCK": agent})
        place = ("--provider", "ssh", "--host", f"{USER}@127.0.0.1:{host.port}", "--host-key", host.host_key)
        world.extra["SSH_AUTH_SOCK"] = agent
        world.must("init", *place, "far")
        host.identity.rename(tmp_path / "away")
        world.must("rename", "far", "farther")
        world.must("rename", "farther", "far")
        world.must("start", "far")
        assert world.must("ssh", "far", "id", "-un").stdout == f"{USER}\n"
        world.must("rm", "--force", "far")
        process.kill()


def test_host_key_is_checked_first_and_then_pinned(world: World, host: RemoteHost, tmp_path: Path) -> None:
    refused = init(world, host, "--accept-new-host-key", "--host-key", host.host_key)
    assert refused.stderr == "Error: choose one of --host-key and --accept-new-host-key\n"
    unknown = world.machine(
        "init", "--provider", "ssh", "--host", f"{USER}@127.0.0.1:{host.port}", "--identity", str(host.identity), "far"
    )
    assert unknown.status == 125
    assert f"the host key of 127.0.0.1:{host.port} is not known: ssh-ed25519 SHA256:" in unknown.stderr
    assert unknown.stderr.endswith(PAGE)
    assert nothing_is_left(world)
    other = keys.generate(tmp_path / "other", comment="other")
    wrong = init(world, host, "--host-key", other)
    assert wrong.status == 125
    assert "does not have the host key that is known for it, so nothing was sent to it; if it was" in wrong.stderr
    assert nothing_is_left(world)
    made(world, host, "--accept-new-host-key")
    (world.machines / "far" / "known_hosts").write_text(f"machine-far {' '.join(other.split()[:2])}\n")
    changed = world.machine("start", "far")
    assert changed.status == 125
    assert "does not have the host key of far, so nothing was sent to it; if it was given a new" in changed.stderr
    assert world.state("far") == ("stopped", "")


def test_host_that_comes_back_with_another_key_is_not_spoken_to(world: World, host: RemoteHost) -> None:
    started(world, host)
    host.go_down()
    for path in (host.directory / "host_key", host.directory / "host_key.pub"):
        path.unlink()
    keys.generate(host.directory / "host_key", comment="another")
    host.go_up()
    reason = (
        f"the server on 127.0.0.1:{host.port} does not have the host key of far, so nothing was sent to it; if it was "
        "given a new one on purpose: machine rm far, and init again"
    )
    wait_until(
        lambda: world.state("far") == ("degraded", f"SSH connection failed: {reason}"), "the other key to be noticed"
    )
    assert f"degraded (SSH connection failed: {reason})" in world.must("ls").stdout
    refused = world.machine("ssh", "far", "true")
    assert refused.status == 125
    assert refused.stderr.endswith(f"Error: {reason}\n{PAGE}")


def test_key_that_ssh_cannot_use_is_told_with_the_reason(world: World, host: RemoteHost, tmp_path: Path) -> None:
    text = host.identity.read_text()
    for name, content, mode, told in (
        ("garbage", "no key\n", 0o600, ": "),
        ("open", text, 0o644, f": bad permissions; chmod 600 {tmp_path}/open\n"),
    ):
        path = tmp_path / name
        path.write_text(content)
        path.chmod(mode)
        outcome = init(world, host, "--identity", str(path))
        assert outcome.status == 125
        assert f"Error: ssh cannot use the key {path}{told}" in outcome.stderr
        assert outcome.stderr.endswith(PAGE)
    assert nothing_is_left(world)
