"""`machine upgrade` and `machine os`: their scripts in a file system of their own, and the way there by a real sshd.

The scripts for packages run under the real apt and dpkg, on a root that the test makes; nothing here has rpm-ostree or
bootc, so stand-ins tell how they were called.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from machine import __version__
from machine.ignition import assets
from machine.store.names import NO_MACHINES
from tests.support.builders import make_record, make_roots, save_machine
from tests.support.processes import children
from tests.support.sshd import Sshd, serving_sshd
from tests.support.start import held_lock
from tests.support.waiting import wait_until
from tests.support.world import COMMAND_S, World, make_world

CANNOT_MOUNT = 77


def in_a_file_system_of_its_own(setup: str, command: str) -> list[str]:
    """A shell that runs `command`, after `setup`, with a /boot and a /run that are nobody else's."""
    mounts = f"mount -t tmpfs tmpfs /boot && mount -t tmpfs tmpfs /run || exit {CANNOT_MOUNT}"
    script = f"{mounts}\n{setup}\nexec {command}\n"
    return ["unshare", "--mount", *([] if os.getuid() == 0 else ["--map-root-user"]), "sh", "-c", script]


def run_script(family: str, *words: str, setup: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        in_a_file_system_of_its_own(setup, shlex.join(["bash", "-s", "--", *words])),
        input=assets.load(f"files/upgrade-{family}.sh"), env={**os.environ, **environment}, capture_output=True,
        text=True, check=False, timeout=COMMAND_S,
    )  # fmt: skip
    if done.returncode == CANNOT_MOUNT:
        pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")
    return done


# Packages


@dataclass(frozen=True, kw_only=True)
class Apt:
    """A root with a package of version 1 whose source has version 2, and what leads apt and dpkg there."""

    root: Path
    environment: dict[str, str]

    @property
    def content(self) -> str:
        return (self.root / "usr" / "share" / "thing").read_text()

    @property
    def settings(self) -> Path:
        return self.root / "etc" / "thing.conf"

    def status(self) -> str:
        database = f"--admindir={self.root}/var/lib/dpkg"
        argv = ["dpkg-query", database, "-W", "-f", "${Version} ${db:Status-Status}", "thing"]
        return subprocess.run(argv, capture_output=True, text=True, check=True).stdout


def package(directory: Path, version: str) -> Path:
    tree = directory / version
    control = ("Package: thing", f"Version: {version}", "Architecture: all", "Maintainer: x <x@x>", "Description: x")
    files = {
        "DEBIAN/control": "\n".join(control) + "\n",
        "DEBIAN/conffiles": "/etc/thing.conf\n",
        "usr/share/thing": version,
        "etc/thing.conf": f"setting of {version}\n",
    }
    for name, text in files.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(text)
    deb = directory / f"thing_{version}_all.deb"
    subprocess.run(["dpkg-deb", "--build", "--root-owner-group", tree, deb], check=True, capture_output=True)
    return deb


@pytest.fixture
def apt(tmp_path: Path) -> Apt:
    if sys.platform == "darwin":
        pytest.skip("needs Linux: apt gives the files of packages to root")
    root, source = tmp_path / "root", tmp_path / "source"
    for name in ("var/lib/dpkg/updates", "var/lib/dpkg/info", "etc/apt", "var/lib/apt/lists/partial", "var/log"):
        (root / name).mkdir(parents=True)
    (root / "var/cache/apt/archives/partial").mkdir(parents=True)
    (root / "var/lib/dpkg/status").touch()
    source.mkdir()
    deb = package(source, "2")
    facts = subprocess.run(["dpkg-deb", "-f", deb], check=True, capture_output=True, text=True).stdout
    digest = subprocess.run(["sha256sum", deb], check=True, capture_output=True, text=True).stdout.split()[0]
    (source / "Packages").write_text(f"{facts}Filename: ./{deb.name}\nSize: {deb.stat().st_size}\nSHA256: {digest}\n")
    (root / "etc/apt/sources.list").write_text(f"deb [trusted=yes] file:{source} ./\n")
    config = tmp_path / "apt.conf"
    config.write_text(
        f'Dir "{root}";\nDir::State::status "{root}/var/lib/dpkg/status";\nAPT::Sandbox::User "root";\n'
        f'DPkg::Options {{ "--force-not-root"; "--force-script-chrootless"; }};\n'
    )
    environment = {"APT_CONFIG": str(config), "DPKG_ROOT": str(root), "DPKG_FORCE": "not-root"}
    old = package(source / "old", "1")
    subprocess.run(["dpkg", "--install", old], env={**os.environ, **environment}, check=True, capture_output=True)
    return Apt(root=root, environment=environment)


def test_packages_become_the_newest_and_changed_files_stay(apt: Apt) -> None:
    assert (apt.content, apt.status()) == ("1", "1 installed")
    apt.settings.write_text("my own setting\n")
    done = run_script("apt", **apt.environment)
    assert (done.returncode, done.stdout) == (0, "complete\n"), done.stderr
    assert "1 upgraded, 0 newly installed" in done.stderr
    assert (apt.content, apt.status()) == ("2", "2 installed")
    assert apt.settings.read_text() == "my own setting\n"
    again = run_script("apt", **apt.environment)
    assert (again.returncode, again.stdout) == (0, "complete\n")
    assert "0 upgraded, 0 newly installed" in again.stderr


def test_what_an_upgrade_that_was_cut_short_has_left_is_finished_first(apt: Apt) -> None:
    deb = apt.root.parent / "source" / "thing_2_all.deb"
    subprocess.run(["dpkg", "--unpack", deb], env={**os.environ, **apt.environment}, check=True, capture_output=True)
    assert apt.status() == "2 unpacked"
    done = run_script("apt", **apt.environment)
    assert done.returncode == 0, done.stderr
    assert apt.status() == "2 installed"


@pytest.mark.parametrize(
    "setup",
    ["touch /run/reboot-required", "sleep 1.1; touch /boot/vmlinuz-9.9", "sleep 1.1; ln -s vmlinuz-9.9 /boot/vmlinuz"],
)
def test_new_kernel_or_a_package_s_word_asks_for_a_restart(setup: str, apt: Apt) -> None:
    assert run_script("apt", setup=setup, **apt.environment).stdout == "restart\n"


def test_failure_of_apt_is_the_script_s_own(apt: Apt) -> None:
    (apt.root.parent / "source" / "Packages").unlink()
    done = run_script("apt", **apt.environment)
    assert (done.returncode, done.stdout) == (100, "")
    assert "does not have a Release file" in done.stderr or "Failed to fetch" in done.stderr
    assert apt.status() == "1 installed"


def test_upgrade_goes_on_when_nobody_reads_along_any_more(apt: Apt, tmp_path: Path) -> None:
    """As when the connection is lost: the pipes break, and no signal comes."""
    slow = tmp_path / "slow"
    hook = f'DPkg::Pre-Invoke {{ "touch {slow}; sleep 2; seq 100000"; }};\n'
    with (tmp_path / "apt.conf").open("a") as config:
        config.write(hook)
    with subprocess.Popen(
        in_a_file_system_of_its_own("", "bash -s --"), env={**os.environ, **apt.environment},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.write(assets.load("files/upgrade-apt.sh").encode())
        process.stdin.close()
        wait_until(lambda: slow.exists() or process.poll() is not None, "the upgrade to begin")
        if process.poll() == CANNOT_MOUNT:
            pytest.skip("nothing can be mounted here")
        process.stdout.close()
        process.stderr.close()
        process.wait(COMMAND_S)
    assert apt.status() == "2 installed"


# Images

STAND_IN = """\
#!/bin/sh
echo "${0##*/} $*" >>"$RECORD"
cat >&2  # a script that is read on standard input would be eaten here
case "$*" in
"status --json") echo '{"deployments": [{"booted": true, "checksum": "abc", "version": "44.1"}]}' ;;
"status --format json") echo '{"status": {"booted": {"image": {"imageDigest": "sha256:1"}}}}' ;;
*--check*) echo checking; exit "${CHECK:-0}" ;;
*) echo working; exit "${STATUS:-0}" ;;
esac
"""


@dataclass(frozen=True, kw_only=True)
class StandIns:
    directory: Path
    record: Path

    @property
    def environment(self) -> dict[str, str]:
        return {"PATH": f"{self.directory}:/usr/bin:/bin", "RECORD": str(self.record)}

    def calls(self) -> list[str]:
        return self.record.read_text().splitlines()


def stand_ins(base: Path, *tools: str) -> StandIns:
    directory = base / "tools"
    directory.mkdir()
    for tool in tools:
        (directory / tool).write_text(STAND_IN)
        (directory / tool).chmod(0o755)
    return StandIns(directory=directory, record=base / "record")


STAGE = "mkdir /run/ostree; touch /run/ostree/staged-deployment"
BYPASS = "--bypass-driver"


@pytest.mark.parametrize(
    ("tools", "words", "call"),
    [
        (["rpm-ostree", "bootc"], ["upgrade"], f"rpm-ostree upgrade {BYPASS} --unchanged-exit-77"),
        (["bootc"], ["upgrade"], "bootc upgrade"),
        (
            ["rpm-ostree", "bootc"],
            ["apply", "registry", "quay.io/x:1"],
            f"rpm-ostree rebase {BYPASS} ostree-unverified-registry:quay.io/x:1",
        ),
        (
            ["rpm-ostree"],
            ["apply", "oci-archive", "/var/tmp/os.tar"],
            f"rpm-ostree rebase {BYPASS} ostree-unverified-image:oci-archive:/var/tmp/os.tar",
        ),
        (["bootc"], ["apply", "oci", "/var/tmp/os"], "bootc switch --transport oci /var/tmp/os"),
    ],
)
def test_image_is_staged_by_the_tool_that_is_there(
    tools: list[str], words: list[str], call: str, tmp_path: Path
) -> None:
    guest = stand_ins(tmp_path, *tools)
    done = run_script("ostree", *words, **guest.environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, "complete\n", "working\n")
    assert guest.calls() == [call]
    assert run_script("ostree", *words, setup=STAGE, **guest.environment).stdout == "restart\n"


@pytest.mark.parametrize(("status", "expected"), [("77", 0), ("1", 1), ("70", 70)])
def test_nothing_new_is_no_failure_and_a_failure_is_passed_on(status: str, expected: int, tmp_path: Path) -> None:
    guest = stand_ins(tmp_path, "rpm-ostree")
    done = run_script("ostree", "upgrade", STATUS=status, **guest.environment)
    assert (done.returncode, done.stdout) == (expected, "" if expected else "complete\n")


@pytest.mark.parametrize("status", ["0", "77"])
def test_check_prints_what_is_booted_and_what_was_found(status: str, tmp_path: Path) -> None:
    guest = stand_ins(tmp_path, "rpm-ostree")
    done = run_script("ostree", "check", CHECK=status, **guest.environment)
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert json.loads(first)["deployments"][0]["checksum"] == "abc"
    assert second == "checking"
    assert guest.calls() == ["rpm-ostree status --json", f"rpm-ostree upgrade {BYPASS} --check --unchanged-exit-77"]


SIGNED = "ostree-image-signed:docker://quay.io/fedora/fedora-coreos:stable"
SKOPEO = """#!/bin/sh
echo "skopeo $* $REGISTRY_AUTH_FILE" >>"$RECORD"
test "${FAIL:-}" = "" || { echo 'cannot reach the registry' >&2; exit 1; }
printf '{"manifests": [\n]}\n'
"""
RPM_OSTREE = """#!/bin/sh
echo "rpm-ostree $*" >>"$RECORD"
printf '{"deployments": [\n'
for reference in $REFERENCES; do
    case $reference in booted=*) booted=true ;; *) booted=false ;; esac
    printf '{"serial": 0, "packages": ["a }", "\\"{"], "base": {"booted": false},\n "booted" : %s,\n' $booted
    printf ' "container-image-reference" : "%s",\n' "${reference#booted=}"
    printf ' "container-image-reference-digest" : "x"\n},'
done
echo '{"booted": false}], "cached-update": null}'
"""
GONE = "ostree-unverified-image:oci-archive:/var/tmp/os.tar"


@pytest.mark.parametrize(
    ("references", "asked"),
    [
        ([f"booted={SIGNED}", SIGNED], "docker://quay.io/fedora/fedora-coreos:stable"),
        ([f"booted={SIGNED}", GONE], "docker://quay.io/fedora/fedora-coreos:stable"),
        ([GONE, f"booted={SIGNED}", GONE], "docker://quay.io/fedora/fedora-coreos:stable"),
        (["booted=ostree-image-signed:registry:quay.io/x@sha256:1"], "docker://quay.io/x@sha256:1"),
        (["booted=ostree-unverified-registry:localhost:5000/x:1"], "docker://localhost:5000/x:1"),
        (["booted=ostree-remote-registry:fedora:quay.io/x:1"], "docker://quay.io/x:1"),
        (["booted=ostree-remote-image:fedora:docker://quay.io/x:1"], "docker://quay.io/x:1"),
        ([f"booted={GONE}"], "oci-archive:/var/tmp/os.tar"),
    ],
)
def test_check_asks_for_the_booted_image_alone(references: list[str], asked: str, tmp_path: Path) -> None:
    guest = stand_ins(tmp_path, "rpm-ostree", "skopeo")
    (guest.directory / "skopeo").write_text(SKOPEO)
    (guest.directory / "rpm-ostree").write_text(RPM_OSTREE)
    environment = {**guest.environment, "REFERENCES": " ".join(references)}
    done = run_script("ostree", "check", **environment)
    assert done.returncode == 0, done.stderr
    assert guest.calls() == ["rpm-ostree status --json", f"skopeo inspect --raw {asked} "]
    manifest = '{"manifests": [\n]}\n'
    digest = hashlib.sha256(manifest.encode()).hexdigest()
    (booted,) = (reference[7:] for reference in references if reference.startswith("booted="))
    assert f"\nimage {booted} sha256:{digest} {os.uname().machine}\n{manifest}" in done.stdout
    failed = run_script("ostree", "check", FAIL="1", **environment)
    assert (failed.returncode, failed.stderr) == (1, "cannot reach the registry\n")


def test_image_that_is_not_booted_is_not_asked_for(tmp_path: Path) -> None:
    guest = stand_ins(tmp_path, "rpm-ostree", "skopeo")
    (guest.directory / "rpm-ostree").write_text(RPM_OSTREE)
    done = run_script("ostree", "check", **guest.environment, REFERENCES=GONE)
    assert done.returncode == 0, done.stderr
    assert guest.calls() == ["rpm-ostree status --json", f"rpm-ostree upgrade {BYPASS} --check --unchanged-exit-77"]


@pytest.mark.parametrize(("tool", "is_told"), [("bootc", True), ("rpm-ostree", False)])
def test_upgrade_says_that_the_hosts_policy_decides(tool: str, is_told: bool, tmp_path: Path) -> None:
    guest = stand_ins(tmp_path, tool)
    setup = "mkdir -p /etc/containers && mount -t tmpfs tmpfs /etc/containers"
    done = run_script("ostree", "upgrade", setup=setup, **guest.environment)
    assert (done.returncode, done.stdout) == (0, "complete\n")
    assert ("/etc/containers is a folder of the host: its policy.json decides" in done.stderr) is is_told


def test_check_by_bootc_prints_its_status_alone(tmp_path: Path) -> None:
    guest = stand_ins(tmp_path, "bootc")
    done = run_script("ostree", "check", **guest.environment)
    assert json.loads(done.stdout)["status"]["booted"]["image"]["imageDigest"] == "sha256:1"
    assert done.stderr == "checking\n"


# The whole way


@dataclass(frozen=True, kw_only=True)
class Guest:
    """A machine `box` whose guest is an sshd of this host, with another /run and /etc/os-release and these tools."""

    world: World
    sshd: Sshd
    tools: StandIns


COREOS = 'ID=fedora\nPRETTY_NAME="Fedora CoreOS 44"\n'
DEBIAN = 'ID=debian\nPRETTY_NAME="Debian GNU/Linux 13 (trixie)"\n'
IMAGE_BASED = "mkdir /run/ostree; touch /run/ostree-booted"

MakeGuest = Callable[..., Guest]


@pytest.fixture
def make_guest(short_path: Path) -> Iterator[MakeGuest]:
    if os.getuid() != 0:
        pytest.skip("an sshd that lets root in is root's alone")
    with contextlib.ExitStack() as stack:

        def make(release: str, setup: str = "", **environment: str) -> Guest:
            world = make_world(short_path / "w")
            tools = stand_ins(short_path, "rpm-ostree", "bootc")
            settings = short_path / "etc"
            settings.mkdir()
            (settings / "os-release").write_text(release)
            paths = make_roots(world.home).machine("box")
            paths.directory.mkdir(parents=True)
            variables = (
                f"export {key}={shlex.quote(value)}" for key, value in {**tools.environment, **environment}.items()
            )
            prepared = "\n".join([f"mount --bind {settings}/os-release /etc/os-release", setup, *variables])
            wrapper = short_path / "guest"
            argv = in_a_file_system_of_its_own(prepared, 'bash -c "$SSH_ORIGINAL_COMMAND"')
            wrapper.write_text(f"#!/bin/sh\nexec {shlex.join(argv)}\n")
            wrapper.chmod(0o755)
            sshd = stack.enter_context(serving_sshd(paths.directory, settings, f"ForceCommand {wrapper}"))
            record = save_machine(make_roots(short_path / "aside"), make_record(ssh_port=sshd.target.port)).record
            record.rename(paths.record)
            stack.enter_context(held_lock(paths))
            return Guest(world=world, sshd=sshd, tools=tools)

        yield make


def test_packages_of_a_guest_are_upgraded_over_ssh(apt: Apt, make_guest: MakeGuest) -> None:
    guest = make_guest(DEBIAN, "touch /run/reboot-required", **apt.environment)
    done = guest.world.machine("upgrade", "box")
    assert (done.status, done.stdout) == (
        0,
        'Machine "box" upgraded successfully\nRestart the machine to use the upgrade: machine restart box\n',
    ), done.stderr
    assert done.stderr.startswith('Upgrading Debian GNU/Linux 13 (trixie) in "box"\n')
    assert "1 upgraded, 0 newly installed" in done.stderr
    assert apt.status() == "2 installed"


def test_exit_status_of_what_failed_in_the_guest_is_passed_on(apt: Apt, make_guest: MakeGuest) -> None:
    (apt.root.parent / "source" / "Packages").unlink()
    done = make_guest(DEBIAN, **apt.environment).world.machine("upgrade", "--restart", "box")
    assert (done.status, done.stdout) == (100, "")
    assert done.stderr.endswith(
        '\nError: unable to upgrade the OS of "box": '
        "the guest's tools failed with exit status 100; see the messages above\n"
    )


def test_upgrade_that_needs_no_restart_restarts_nothing(apt: Apt, make_guest: MakeGuest) -> None:
    done = make_guest(DEBIAN, **apt.environment).world.machine("upgrade", "--restart", "box")
    assert (done.status, done.stdout) == (0, 'Machine "box" upgraded successfully\nNo restart is needed\n'), done.stderr


def test_interrupted_upgrade_says_that_it_goes_on(apt: Apt, make_guest: MakeGuest, tmp_path: Path) -> None:
    slow = tmp_path / "slow"
    with (tmp_path / "apt.conf").open("a") as config:
        config.write(f'DPkg::Pre-Invoke {{ "touch {slow}; sleep 2; seq 100000"; }};\n')
    guest = make_guest(DEBIAN, **apt.environment)
    with guest.world.popen("upgrade", "box") as process:
        wait_until(lambda: slow.exists() or process.poll() is not None, "the upgrade to begin")
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does it: to ssh too
        _, stderr = process.communicate(timeout=COMMAND_S)
    assert process.returncode == 130
    assert stderr.endswith('The upgrade continues in the guest of "box"\n\n')
    assert apt.status() == "1 installed"
    wait_until(lambda: apt.status() == "2 installed", "upgrade in the guest")


@pytest.mark.parametrize(
    ("words", "calls", "stdout"),
    [
        (
            ["upgrade", "box"],
            [f"rpm-ostree upgrade {BYPASS} --unchanged-exit-77"],
            'Machine "box" upgraded successfully\nRestart the machine to use the upgrade: machine restart box\n',
        ),
        (
            ["os", "upgrade", "box"],
            [f"rpm-ostree upgrade {BYPASS} --unchanged-exit-77"],
            'Machine "box" upgraded successfully\nRestart the machine to use the upgrade: machine restart box\n',
        ),
        (
            ["os", "apply", "containers-storage:localhost/os:1", "box"],
            [f"rpm-ostree rebase {BYPASS} ostree-unverified-image:containers-storage:localhost/os:1"],
            "Restart the machine to use the upgrade: machine restart box\n",
        ),
    ],
)
def test_image_of_a_guest_is_replaced_over_ssh(
    words: list[str], calls: list[str], stdout: str, make_guest: MakeGuest
) -> None:
    guest = make_guest(COREOS, f"{IMAGE_BASED}\ntouch /run/ostree/staged-deployment")
    done = guest.world.machine(*words)
    assert (done.status, done.stdout) == (0, stdout), done.stderr
    assert done.stderr.endswith("\nworking\n")
    assert guest.tools.calls() == calls


def test_dry_run_tells_and_changes_nothing(make_guest: MakeGuest) -> None:
    guest = make_guest(COREOS, IMAGE_BASED, CHECK="77")
    human = guest.world.machine("os", "upgrade", "--dry-run", "box")
    assert (human.status, human.stdout, human.stderr) == (0, 'The OS of machine "box" is up to date\n', "")
    told = guest.world.machine("os", "upgrade", "--format", "json", "box")
    assert (told.status, told.stderr) == (0, "")
    assert json.loads(told.stdout) == {
        "host": {"version": __version__},
        "machine": {"current_hash": "abc", "new_hash": "abc", "version": "44.1", "inband_update_available": False},
    }
    assert not [call for call in guest.tools.calls() if "--check" not in call and "status" not in call]


NOT_IMAGE_BASED = (
    'unsupported OS: "box" runs Debian GNU/Linux 13 (trixie), which is not an image-based OS; '
    "upgrade its packages with: machine upgrade box"
)
UNKNOWN_TRANSPORT = (
    'unknown transport "ftp" given; '
    "choose docker://IMAGE, registry:IMAGE, oci:PATH, oci-archive:PATH or containers-storage:IMAGE"
)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["os", "upgrade", "box"], NOT_IMAGE_BASED),
        (["os", "apply", "quay.io/x", "box"], NOT_IMAGE_BASED),
        (["os", "apply", "ftp://x", "box"], UNKNOWN_TRANSPORT),
    ],
)
def test_what_a_guest_cannot_do_is_refused_before_anything_runs(
    words: list[str], line: str, make_guest: MakeGuest
) -> None:
    guest = make_guest(DEBIAN)
    done = guest.world.machine(*words)
    assert (done.status, done.stdout, done.stderr) == (125, "", f"Error: {line}\n")
    assert not guest.tools.record.exists()


def test_guest_that_nobody_knows_is_left_to_its_owner(make_guest: MakeGuest) -> None:
    done = make_guest("ID=alpine\nPRETTY_NAME='Alpine Linux v3.24'\n").world.machine("upgrade", "box")
    assert done.status == 125
    assert done.stderr == (
        'Error: "box" runs Alpine Linux v3.24, which this program cannot upgrade; '
        "upgrade the OS yourself: machine ssh --username root box\n"
    )


def test_lost_connection_is_told(apt: Apt, make_guest: MakeGuest, tmp_path: Path) -> None:
    slow = tmp_path / "slow"
    with (tmp_path / "apt.conf").open("a") as config:
        config.write(f'DPkg::Pre-Invoke {{ "touch {slow}; sleep 2"; }};\n')
    guest = make_guest(DEBIAN, **apt.environment)
    with guest.world.popen("upgrade", "box") as process:
        wait_until(lambda: slow.exists() or process.poll() is not None, "the upgrade to begin")
        for session in children(guest.sshd.pid):
            session.kill()
        _, stderr = process.communicate(timeout=COMMAND_S)
    assert process.returncode == 125
    assert stderr.endswith('Error: the connection to the guest of "box" was lost; see: machine logs box\n')
    wait_until(lambda: apt.status() == "2 installed", "upgrade in the guest")


@pytest.mark.parametrize("words", [["upgrade"], ["os", "upgrade"], ["os", "apply", "x"], ["os", "upgrade", "-n"]])
def test_machine_that_does_not_run_is_refused(words: list[str], short_path: Path) -> None:
    world = make_world(short_path / "w")
    assert world.machine(*words, "box").stderr == f"Error: box: VM does not exist; {NO_MACHINES}\n"
    save_machine(make_roots(world.home), make_record())
    before = world.files()
    done = world.machine(*words, "box")
    line = 'Error: vm "box" is not running; start it with: machine start box\n'
    assert (done.status, done.stdout, done.stderr) == (125, "", line)
    assert world.files() == before
