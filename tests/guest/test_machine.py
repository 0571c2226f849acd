"""The acceptance of part 1: the main job on real guests, and what may happen to them.

The tests hand `box` and `box2` on to each other in the order in which they stand.
"""

from __future__ import annotations

import contextlib
import functools
import http.server
import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
import urllib.request
from pathlib import Path

import pytest

from machine.image.layout import base_image
from machine.model.ports import Endpoint, Protocol
from machine.ports.holder import why_not_free
from machine.qemu.firmware import FirmwareFiles
from machine.store.ssh_ports import choose
from tests.guest.conftest import QuietHandler, World, processes_of, qemu_pid, supervisor_pid, wait_until

BOOT_S = 900


@pytest.fixture(scope="module", autouse=True)
def two_machines(world: World, ordinary_world: World, mirror: str) -> None:
    """Two first boots at once: of an image from a mirror of Fedora's, and of an ordinary user's local one."""
    init = ("init", "--disk-size", "12", "--memory", "1536", "--now")
    from tests.conftest import machine_program

    boots = [
        (world, world.popen([machine_program(), *init, "--stream-base-url", mirror, "--cpus", "2", "box"])),
        (
            ordinary_world,
            ordinary_world.popen(
                [machine_program(), *init, "--image", "boot2podman", "--rootful", "--cpus", "1", "box2"]
            ),
        ),
    ]
    for owner, process in boots:
        out, err = process.communicate(timeout=2 * BOOT_S)
        assert process.returncode == 0, f"{owner}: {out}\n{err}"


def test_both_machines_run_at_once(world: World, ordinary_world: World) -> None:
    assert world.state("box") == ("running", "")
    assert ordinary_world.state("box2") == ("running", "")
    assert "Currently running" in world.machine("ls").stdout


def test_the_guest_is_the_image_that_was_built(world: World) -> None:
    release = world.machine("ssh", "box", "--", "cat", "/etc/os-release").stdout
    assert "VARIANT_ID=boot2podman" in release.replace('"', "")


def test_the_image_from_the_mirror_is_verified(world: World, mirror: str) -> None:
    image = world.inspect("box")["Machine"]["Image"]
    assert image["Reference"] == "fcos:stable"
    assert image["Location"].startswith(mirror)
    assert image["Verified"] == "signature"


def test_ssh_passes_words_raw_and_the_remote_status_on(world: World) -> None:
    assert world.machine("ssh", "box", "echo $((6*7)); exit 23", check=False).returncode == 23
    assert world.machine("ssh", "box", "echo", "$((6*7))").stdout == "42\n"
    assert world.machine("ssh", "box", "--", "ls", "-d", "/").stdout == "/\n"


def test_ssh_logs_in_as_the_user_of_the_machine_or_another(world: World, ordinary_world: World) -> None:
    assert world.machine("ssh", "box", "id", "-un").stdout == "core\n"
    assert world.machine("ssh", "--username", "root", "box", "id", "-un").stdout == "root\n"
    assert ordinary_world.machine("ssh", "box2", "id", "-un").stdout == "root\n"


def test_ssh_is_not_misled_by_a_hostile_configuration(world: World) -> None:
    config = world.root / "home" / ".ssh" / "config"
    config.parent.mkdir(mode=0o700)
    config.write_text("Host *\n  User nobody\n  Port 1\n  ProxyCommand false\n  IdentityFile /nonexistent\n")
    assert world.machine("ssh", "box", "id", "-un").stdout == "core\n"


def test_the_guest_has_the_host_key_that_the_host_made(world: World) -> None:
    expected = (world.machines / "box" / "ssh_host_ed25519_key.pub").read_text().split()[1]
    assert world.machine("ssh", "box", "cat", "/etc/ssh/ssh_host_ed25519_key.pub").stdout.split()[1] == expected


def test_the_guest_is_provisioned_as_asked(world: World, ordinary_world: World) -> None:
    script = (
        "id -u core; cat /etc/subuid; systemctl is-enabled podman.socket;"
        "test ! -e /boot/ignition.firstboot && echo done;"
        "sudo grep -c '^core:[!*]' /etc/shadow; hostname"
    )
    uid = 1000 if world.uid == 0 else world.uid
    assert world.machine("ssh", "box", script).stdout.split() == [
        str(uid), "core:100000:1000000", "enabled", "done", "1", "box",
    ]  # fmt: skip
    uid = ordinary_world.uid or 1000
    assert ordinary_world.machine("ssh", "box2", "id", "-u", "core").stdout.strip() == str(uid)


def test_the_root_file_system_has_grown_to_the_disk(world: World) -> None:
    size = int(world.machine("ssh", "box", "df --output=size -B1 / | tail -1").stdout)
    assert size > 11 * 1024**3


def test_podman_of_the_host_runs_a_container(world: World, busybox: Path) -> None:
    assert "arch: amd64" in world.podman("box", "info").stdout
    world.podman("box", "import", "--quiet", str(busybox), "busybox")
    assert world.podman("box", "run", "--rm", "busybox", "echo", "hello").stdout == "hello\n"
    # It stays, for the tests that end the supervisor under it.
    world.podman("box", "run", "--detach", "--name", "sleeper", "busybox", "sleep", "100000")


SERVE = "mkdir /www; echo hello >/www/index.html; exec httpd -f -p 80 -h /www"
# busybox has no server for UDP; the guest's own Perl has.
ECHO = """
use IO::Socket::INET;
my $s = IO::Socket::INET->new(LocalPort => 53, Proto => "udp") or die;
while ($s->recv(my $data, 1500)) { $s->send($data); }
"""


def test_published_ports_answer_on_the_host_as_asked(world: World) -> None:
    """Every form of `-p` that has a counterpart on the host."""
    every, one, six, udp, first = (choose(set()) for _ in range(5))
    world.podman(
        "box", "run", "--detach", "--name", "web",
        "-p", f"{every}:80", "-p", f"127.0.0.1:{one}:80", "-p", f"[::1]:{six}:80",
        "busybox", "sh", "-c", SERVE,
    )  # fmt: skip
    for address in (f"127.0.0.1:{every}", f"127.0.0.2:{every}", f"[::1]:{every}", f"127.0.0.1:{one}", f"[::1]:{six}"):
        assert fetch(address) == "hello\n", address
    assert not reachable("127.0.0.2", one)
    echo = ("chroot", "/guest", "perl", "-e", ECHO)
    world.podman(
        "box", "run", "--detach", "--name", "echo", "-p", f"{udp}:53/udp", "-v", "/:/guest:ro", "busybox", *echo
    )
    assert echoed(udp) == b"ping"
    world.podman("box", "rm", "--force", "--time", "1", "echo")
    assert not why_not_free(Endpoint(protocol=Protocol.UDP, address="", port=udp))
    conflict = world.podman("box", "run", "-p", f"127.0.0.1:{first}:80", "busybox", "echo", check=False)
    assert conflict.returncode == 0, conflict.stderr
    wait_until(lambda: not reachable("127.0.0.1", first), timeout_s=60, what="the port of a container that ended")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", first))
        taken.listen()
        conflict = world.podman("box", "run", "-p", f"127.0.0.1:{first}:80", "busybox", "echo", check=False)
    assert conflict.returncode != 0
    assert f"cannot publish 127.0.0.1:{first}/tcp: the port is taken by " in conflict.stderr


def test_users_own_forwards_reach_the_guest(world: World) -> None:
    host, published = choose(set()), int(web_addresses(world)[0].rpartition(":")[2])
    world.machine("port", "add", "box", f"{host}:{published}")
    assert fetch(f"127.0.0.1:{host}") == "hello\n"
    listed = json.loads(world.machine("port", "ls", "--format", "json", "box").stdout)
    assert {"host": f"127.0.0.1:{host}", "guest": str(published), "protocol": "tcp", "origin": "user"} in listed
    assert {port["origin"] for port in listed} == {"user", "published", "api", "ssh"}
    world.machine("port", "rm", "box", f"{host}:{published}")
    assert not reachable("127.0.0.1", host)


def test_names_of_the_host_lead_to_it(world: World) -> None:
    handler = functools.partial(QuietHandler, directory=str(world.root / "docker"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = f"http://host.containers.internal:{server.server_address[1]}/config.json"
        inside = world.podman("box", "run", "--rm", "busybox", "wget", "-q", "-O", "-", url)
        guest = world.machine("ssh", "box", "curl", "-s", url.replace("containers", "docker"))
        server.shutdown()
        thread.join()
    assert inside.stdout == guest.stdout == "{}"


def fetch(address: str) -> str:
    with urllib.request.urlopen(f"http://{address}/", timeout=60) as answer:
        return str(answer.read().decode())


def reachable(address: str, port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((address, port)) == 0


def echoed(port: int) -> bytes:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.connect(("127.0.0.1", port))
        client.settimeout(5)
        for _ in range(6):
            with contextlib.suppress(TimeoutError, ConnectionRefusedError):
                client.send(b"ping")
                return client.recv(100)
    return b""


def test_the_root_connection_reaches_roots_containers(world: World) -> None:
    assert world.podman("box-root", "info", "--format", "{{.Host.Security.Rootless}}").stdout == "false\n"
    assert world.podman("box", "info", "--format", "{{.Host.Security.Rootless}}").stdout == "true\n"


def test_podman_5_finds_the_machine_in_podman_connections_json(world: World, podman_5: list[str]) -> None:
    names = world.run(*podman_5, "system", "connection", "list", "--format", "{{.Name}} {{.Default}}").stdout
    assert names.splitlines() == ["box true", "box-root false"]
    assert "sleeper" in world.run(*podman_5, "--connection", "box", "ps").stdout


def test_the_docker_api_lists_the_container(world: World) -> None:
    socket = world.inspect("box")["ConnectionInfo"]["PodmanSocket"]["Path"]
    listed = world.run("curl", "--silent", "--fail", "--unix-socket", socket, "http://d/v1.41/containers/json").stdout
    assert ["/sleeper"] in [container["Names"] for container in json.loads(listed)]
    meta = next((world.root / "docker" / "contexts" / "meta").glob("*/meta.json"))
    assert json.loads(meta.read_text())["Endpoints"]["docker"]["Host"] == f"unix://{socket}"


def test_a_rootful_machine_prefers_the_root_socket(ordinary_world: World) -> None:
    socket = ordinary_world.inspect("box2")["ConnectionInfo"]["PodmanSocket"]["Path"]
    assert socket.endswith("/podman-root.sock")
    assert ordinary_world.podman("box2-root", "info", "--format", "{{.Host.Security.Rootless}}").stdout == "false\n"


def test_starting_or_removing_a_running_machine_is_refused(world: World) -> None:
    again = world.machine("start", "box", check=False)
    assert (again.returncode, again.stderr) == (125, 'Error: unable to start "box": already running\n')
    removal = world.machine("rm", "box", check=False)
    assert removal.returncode == 125
    assert removal.stderr.startswith('Error: running vm "box" cannot be destroyed')


def test_only_private_files_and_sockets_are_made(world: World) -> None:
    for directory in (world.machines / "box", world.root / "m" / "run" / "box"):
        assert directory.stat().st_mode & 0o077 == 0
    secrets = ("id_ed25519", "ssh_host_ed25519_key", "config.ign", "record.json", "disk.qcow2", "serial.log")
    for name in secrets:
        assert (world.machines / "box" / name).stat().st_mode & 0o077 == 0, name


def test_start_takes_a_guest_over_whose_supervisor_was_killed(world: World) -> None:
    os.kill(supervisor_pid(world, "box"), signal.SIGKILL)
    wait_until(lambda: world.state("box")[0] == "degraded", timeout_s=10, what="ls to notice")
    assert world.state("box")[1] == "its supervisor has ended"
    started = world.machine("start", "box")
    assert "taking the running guest over" in started.stderr
    assert world.state("box") == ("running", "")
    # The same guest, not another boot of it: what ran goes on running.
    assert "sleeper" in world.podman("box", "ps", "--format", "{{.Names}}").stdout
    assert all(fetch(address) == "hello\n" for address in web_addresses(world))


def web_addresses(world: World) -> list[str]:
    """Where the container `web` answers on the host."""
    mappings = world.podman("box", "port", "web", "80").stdout.split()
    assert len(mappings) >= 3
    return [mapping.replace("0.0.0.0", "127.0.0.1") for mapping in mappings]


def test_the_sockets_come_back_when_the_ssh_master_is_killed(world: World) -> None:
    masters = [pid for pid, words in processes_of(world.root / "m" / "run" / "box").items() if words.startswith("ssh ")]
    assert len(masters) == 1
    os.kill(masters[0], signal.SIGKILL)
    wait_until(lambda: world.state("box")[0] == "running" and _answers(world, "box"), timeout_s=60, what="the sockets")
    # Also those that the master carried.
    assert all(fetch(address) == "hello\n" for address in web_addresses(world))


def test_the_sockets_work_again_after_a_reboot_from_inside(world: World) -> None:
    before = world.machine("ssh", "box", "cat", "/proc/sys/kernel/random/boot_id").stdout
    addresses = web_addresses(world)
    world.machine("ssh", "box", "sudo", "systemctl", "--no-block", "reboot", check=False)
    wait_until(lambda: world.state("box")[0] == "degraded", timeout_s=120, what="ls to notice the reboot")
    wait_until(lambda: world.state("box")[0] == "running", timeout_s=BOOT_S, what="the machine to be up again")
    assert _answers(world, "box")
    assert world.machine("ssh", "box", "cat", "/proc/sys/kernel/random/boot_id").stdout != before
    # The reboot has ended the container and freed its ports; they come back with it.
    ports = [int(address.rpartition(":")[2]) for address in addresses]
    assert not any(reachable("127.0.0.1", port) for port in ports)
    world.podman("box", "start", "web")
    assert all(fetch(address) == "hello\n" for address in addresses)
    world.podman("box", "rm", "--force", "--time", "1", "web")
    assert not any(reachable("127.0.0.1", port) for port in ports)


def test_a_machine_without_qemu_is_stopped_and_starts_again(ordinary_world: World) -> None:
    os.kill(qemu_pid(ordinary_world, "box2"), signal.SIGKILL)
    wait_until(lambda: ordinary_world.state("box2")[0] == "stopped", timeout_s=10, what="ls to notice")
    wait_until(lambda: not processes_of(ordinary_world.root), timeout_s=10, what="its processes to end")


def test_stop_ends_a_machine_whose_supervisor_was_killed(world: World) -> None:
    os.kill(supervisor_pid(world, "box"), signal.SIGKILL)
    stopped = world.machine("stop", "box")
    assert stopped.stdout == 'Machine "box" stopped successfully\n'
    # Powered down, neither told to quit nor killed.
    assert stopped.stderr == "Waiting for VM to exit...\n"
    assert world.state("box") == ("stopped", "")
    assert not processes_of(world.root)


def test_stopping_a_stopped_machine_is_success(world: World) -> None:
    assert world.machine("stop", "box").stdout == 'Machine "box" stopped successfully\n'


def test_ssh_into_a_stopped_machine_is_refused(world: World) -> None:
    refused = world.machine("ssh", "box", "true", check=False)
    assert (refused.returncode, refused.stderr) == (125, 'Error: vm "box" is not running\n')


def test_a_second_boot_chooses_another_port_and_grows_a_resized_disk(world: World, ordinary_world: World) -> None:
    """Also: the second boot after QEMU was killed, at the same time, for it costs a boot."""
    import socket

    from tests.conftest import machine_program

    port = world.inspect("box")["SSHConfig"]["Port"]
    subprocess.run(["qemu-img", "resize", "-q", str(world.machines / "box" / "disk.qcow2"), "16G"], check=True)
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections of the last boot linger
        holder.bind(("127.0.0.1", port))
        holder.listen()
        other = ordinary_world.popen([machine_program(), "start", "--quiet", "box2"])
        started = world.machine("start", "box")
    assert f"detected port conflict on machine ssh port [{port}], reassigning" in started.stderr
    assert world.inspect("box")["SSHConfig"]["Port"] != port
    out, err = other.communicate(timeout=BOOT_S)
    assert (out, other.returncode) == ('Machine "box2" started successfully\n', 0), err
    size = int(world.machine("ssh", "box", "df --output=size -B1 / | tail -1").stdout)
    assert size > 15 * 1024**3


def test_stop_does_not_wait_for_a_container_that_ignores_sigterm(world: World) -> None:
    world.podman("box", "start", "sleeper")
    began = time.monotonic()
    stopped = world.machine("stop", "box")
    assert stopped.stderr == "Waiting for VM to exit...\n"
    # Not a measurement: systemd's own default would be 90 s.
    assert time.monotonic() - began < 80


def test_a_guest_that_powers_itself_off_is_stopped(ordinary_world: World) -> None:
    assert ordinary_world.state("box2") == ("running", "")
    ordinary_world.machine("ssh", "box2", "systemctl", "--no-block", "poweroff", check=False)
    wait_until(lambda: ordinary_world.state("box2")[0] == "stopped", timeout_s=180, what="the guest to power off")
    wait_until(lambda: not processes_of(ordinary_world.root), timeout_s=10, what="its processes to end")


def test_a_start_in_the_foreground_lasts_as_long_as_its_machine(world: World) -> None:
    """What systemd and launchd do with it: SIGTERM stops the machine, and the exit status says that all went well."""
    from tests.conftest import machine_program

    process = world.popen([machine_program(), "start", "--foreground", "--no-info", "box"])
    wait_until(lambda: world.state("box")[0] == "running", timeout_s=BOOT_S, what="the machine to be up")
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=300)
    assert (process.returncode, out.splitlines()[-1]) == (0, 'Machine "box" stopped'), err
    assert world.state("box") == ("stopped", "")


def test_rm_leaves_nothing(world: World) -> None:
    world.machine("rm", "--force", "box")
    assert not (world.machines / "box").exists()
    assert not (world.root / "m" / "run" / "box").exists()
    assert "box" not in (world.root / "podman-connections.json").read_text()
    assert "box" not in world.run("podman", "system", "connection", "list").stdout
    assert not list((world.root / "docker" / "contexts" / "meta").iterdir())
    assert not processes_of(world.root)


def test_a_broken_ignition_config_fails_the_start_with_ignitions_own_error(world: World) -> None:
    world.machine("init", "--image", "boot2podman", "--disk-size", "12", "--memory", "1024", "broken")
    config = world.machines / "broken" / "config.ign"
    document = json.loads(config.read_text())
    # It passes validation; at run time the content is not what its hash says.
    bad = {"source": "data:,hello", "verification": {"hash": "sha256-" + "0" * 64}}
    document["storage"]["files"].append({"path": "/etc/broken", "contents": bad})
    config.write_text(json.dumps(document))
    failed = world.machine("start", "broken", check=False)
    assert failed.returncode == 125
    first, *details = failed.stderr[failed.stderr.index("Error: ") :].splitlines()
    assert first.startswith('Error: unable to start "broken": in phase boot: Ignition failed')
    assert "hash" in first
    assert any("serial.log" in line for line in details)
    assert world.state("broken") == ("stopped", "")
    assert not processes_of(world.root)
    world.machine("rm", "--force", "broken")


def test_the_image_boots_under_uefi_too(world: World, streams: Path, tmp_path: Path) -> None:
    """x86_64 machines start with SeaBIOS; who takes the image elsewhere may not."""
    published = json.loads((streams / "boot2podman.json").read_text())
    disk = published["architectures"]["x86_64"]["artifacts"]["qemu"]["formats"]["qcow2.xz"]["disk"]
    base = base_image(world.root / "m" / "cache" / "images", disk["uncompressed-sha256"])
    firmware = FirmwareFiles(
        code=Path("/usr/share/OVMF/OVMF_CODE_4M.fd"), variables=Path("/usr/share/OVMF/OVMF_VARS_4M.fd")
    )
    variables, serial = tmp_path / "vars.fd", tmp_path / "serial.log"
    shutil.copyfile(firmware.variables, variables)
    qemu = [
        "qemu-system-x86_64", "-machine", "q35", "-m", "1024", "-display", "none", "-net", "none", "-snapshot",
        "-drive", f"if=pflash,format=raw,readonly=on,file={firmware.code}",
        "-drive", f"if=pflash,format=raw,file={variables}",
        "-drive", f"if=virtio,format=qcow2,file={base}",
        "-serial", f"file:{serial}",
    ]  # fmt: skip
    with subprocess.Popen(qemu, stdin=subprocess.DEVNULL) as process:
        try:
            wait_until(
                lambda: serial.exists() and b"systemd[1]: " in serial.read_bytes(),
                timeout_s=BOOT_S,
                what="the initramfs",
            )
        finally:
            process.kill()


def test_an_interrupted_start_leaves_no_process_and_the_next_one_boots_afresh(world: World) -> None:
    from tests.conftest import machine_program

    world.machine("init", "--image", "boot2podman", "--disk-size", "12", "--memory", "1024", "halted")
    # Whoever started the tests in the background has made their children deaf to ^C.
    process = world.popen(
        [machine_program(), "start", "halted"],
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    wait_until(lambda: world.state("halted")[0] == "starting", timeout_s=30, what="the start to begin")
    serial = world.machines / "halted" / "serial.log"
    wait_until(lambda: serial.exists() and serial.stat().st_size > 2000, timeout_s=BOOT_S, what="the kernel to speak")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert world.state("halted") == ("stopped", "")
    assert not processes_of(world.root)
    world.machine("rm", "--force", "halted")


def _answers(world: World, connection: str) -> bool:
    return world.podman(connection, "info", "--format", "{{.Host.Arch}}", check=False).stdout == "amd64\n"
