"""How other programs reach a machine, asked of the installed command and tried on real clients."""

from __future__ import annotations

import subprocess

from tests.support.disk_images import Images
from tests.support.world import World


def test_env_leads_the_shell_to_the_machine(world: World, images: Images) -> None:
    world.init("box", images.qcow2)
    sockets = world.inspect("box")["Machine"]["Sockets"]
    env = world.machine("env", "--shell", "sh", "box").stdout
    shell = subprocess.run(
        ["/bin/sh", "-c", f"{env}\n/usr/bin/printenv DOCKER_HOST CONTAINER_HOST MACHINE_NAME"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert shell.stdout.split() == [f"unix://{sockets['Rootless']}"] * 2 + ["box"]
    assert f"unix://{sockets['Rootful']}" in world.machine("env", "--rootful", "box").stdout
    override = "TESTCONTAINERS_DOCKER_SOCKET_OVERRIDE=/run/"  # in the guest
    assert f"{override}user/{world.inspect('box')['Machine']['Uid']}/podman/podman.sock\n" in env
    assert f"{override}podman/podman.sock\n" in world.machine("env", "--rootful", "box").stdout
    assert "unset DOCKER_HOST\n" in world.machine("env", "--shell", "sh", "--unset", "box").stdout
    assert world.machine("env", "nosuch").stderr == "Error: nosuch: VM does not exist; the only machine is box\n"


def test_one_line_for_scripts(world: World, images: Images) -> None:
    world.init("one", images.qcow2)
    world.init("two", images.qcow2, "--rootful")
    sockets = world.inspect("two")["Machine"]["Sockets"]
    url = f"unix://{sockets['Rootful']}"
    assert world.machine("url", "two").stdout == f"{url}\n"
    assert world.machine("url", "--rootless", "two").stdout == f"unix://{sockets['Rootless']}\n"
    assert world.machine("ip", "one").stdout == "127.0.0.1\n"
    assert world.machine("active").stdout == "one\n"
    assert world.machine("active", DOCKER_HOST=url).stdout == "two\n"
    elsewhere = world.machine("active", DOCKER_HOST="unix:///run/docker.sock")
    assert (
        elsewhere.stderr
        == "Error: DOCKER_HOST points to unix:///run/docker.sock, which is not the socket of a machine\n"
    )


def test_ssh_reads_the_block_that_is_meant_for_it(world: World, images: Images) -> None:
    world.init("box", images.qcow2)
    config = world.root / "ssh_config"
    config.write_text(world.machine("ssh-config", "box").stdout)
    shown = subprocess.run(["ssh", "-F", config, "-G", "machine-box"], capture_output=True, text=True, check=True)
    options = dict(line.split(" ", 1) for line in shown.stdout.splitlines())
    document = world.inspect("box")["SSHConfig"]
    assert (options["hostname"], options["port"]) == ("127.0.0.1", str(document["Port"]))
    assert (options["user"], options["identityfile"]) == ("core", document["IdentityPath"])
    assert options["hostkeyalias"] == "machine-box"
