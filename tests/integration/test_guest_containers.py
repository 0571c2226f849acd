"""The script by which a guest starts and stops its containers, run here with a podman that the test plays."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from machine.ignition.assets import images_directory

SCRIPT = images_directory() / "ignition" / "files" / "containers.sh"

# Keeps its containers as `ID POLICY STATUS STARTED FINISHED`, and logs what it is asked to do with them. Those
# called `damaged` can neither be inspected nor started.
PODMAN = """
import signal
import sys
import time
from pathlib import Path

here = Path(__file__).parent
containers = [line.split() for line in (here / "containers").read_text().splitlines()]
words = sys.argv[1:]
damaged = [word for word in words if word == "damaged"]


def wanted(key):
    return {word.partition("=")[2] for word in words if word.startswith(f"{key}=")}


match words[:2]:
    case ["ps", *_] if "{{.ID}} {{.Names}}" in words:
        for name, *_ in containers:
            print(name, f"name-of-{name}")
    case ["ps", *_]:
        for name, policy, status, *_ in containers:
            if policy in (wanted("restart-policy") or {policy}) and status in (wanted("status") or {status}):
                print(name)
    case ["container", "inspect"] if damaged:
        sys.exit(f'Error: no link of "{damaged[0]}"')
    case ["container", "inspect"]:
        print("\\n".join(" ".join(each) for each in containers if each[0] in words))
    case _:
        with (here / "log").open("a") as log:
            log.write(" ".join(words) + "\\n")
        if (here / "waits").exists() and words == ["stop", "--all"]:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            while "--time 0" not in (here / "log").read_text():
                time.sleep(0.1)
        sys.exit(125 if (here / "fails").exists() and "--time" not in words else 0)
"""


class Guest:
    """A guest's podman, systemctl and state, in a directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.state = directory / "state"
        self.run_directory = directory / "run"
        self.run_directory.mkdir()
        self.storage = directory / "storage"
        self.has_systemd = True  # which sets variables for its services
        self._write("podman", f"#!{sys.executable} -IS\n{PODMAN}")
        self._write("systemctl", "#!/bin/sh\nexit 0\n")
        self.have()

    def _write(self, name: str, text: str) -> None:
        (self._directory / name).write_text(text)
        (self._directory / name).chmod(0o755)

    def have(self, *containers: str) -> None:
        """Have these containers, each `ID POLICY STATUS STARTED FINISHED`."""
        (self._directory / "containers").write_text("".join(f"{each}\n" for each in containers))
        for container in containers:
            (self.storage / "overlay-containers" / container.split()[0] / "userdata").mkdir(parents=True, exist_ok=True)

    def remove_podman(self) -> None:
        """Have a podman that says that it was run."""
        self._write("podman", "#!/bin/sh\necho run >&2\n")

    def configure_storage(self) -> None:
        """Keep containers where a storage.conf of the user's says."""
        config = self._directory / ".config" / "containers" / "storage.conf"
        config.parent.mkdir(parents=True)
        config.touch()

    def slow_down(self, seconds: int) -> None:
        """Have a podman that takes so long to describe containers."""
        program = self._directory / "podman"
        program.write_text(program.read_text().replace("import time\n", f"import time\ntime.sleep({seconds})\n", 1))

    def log_timeouts(self) -> None:
        """Have a timeout(1) that notes its seconds."""
        self._write("timeout", f'#!/bin/sh\necho "$1" >>{self._directory}/timeouts; shift; exec "$@"\n')

    @property
    def timeouts(self) -> list[int]:
        return [int(line) for line in (self._directory / "timeouts").read_text().split()]

    def fail(self) -> None:
        """Do what is asked, and say that it failed, but for what has a time of its own."""
        (self._directory / "fails").touch()

    def wait_for_containers(self) -> None:
        """Stop containers only when somebody kills them, whoever says that the time is over."""
        (self._directory / "waits").touch()

    def run(self, verb: str, *, says: str = "", script: str | None = None) -> list[str]:
        """Run the script, which must say this on standard error; returns what it has asked podman to do."""
        log = self._directory / "log"
        log.write_text("")
        environment = {
            "PATH": f"{self._directory}:{os.environ['PATH']}",
            "STATE_DIRECTORY": str(self.state),
            "HOME": str(self._directory),
        }
        if self.has_systemd:
            environment |= {"RUNTIME_DIRECTORY": str(self.run_directory), "STORAGE": str(self.storage)}
        text = SCRIPT.read_text() if script is None else script
        command = ["sh", "-c", text, "sh", verb]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
        assert (done.returncode, done.stderr) == (0, says)
        return log.read_text().splitlines()


@pytest.fixture
def guest(tmp_path: Path) -> Guest:
    return Guest(tmp_path)


def test_containers_that_ran_at_the_end_run_after_the_next_boot(guest: Guest) -> None:
    guest.have("a always running 5 0", "u unless-stopped running 5 4", "n no running 5 0", "f on-failure running 5 0")
    assert guest.run("stop") == ["stop --all"]
    guest.have("a always exited 5 9", "u unless-stopped exited 5 9", "n no exited 5 9", "f on-failure exited 5 9")
    assert guest.run("start") == ["start a u"]


def test_container_that_the_user_has_stopped_comes_back_only_with_the_policy_always(guest: Guest) -> None:
    guest.have("a always exited 5 6", "u unless-stopped exited 5 6", "r no running 5 0")
    assert guest.run("stop") == ["stop --all"]
    assert guest.run("start") == ["start a"]


def test_container_that_ended_with_the_power_comes_back(guest: Guest) -> None:
    """Nobody has noted that it ran. When it ended before is known, if ever."""
    first, again = "1 unless-stopped exited 1764124958000000000 -6795364578871345152", "2 unless-stopped exited 8 7"
    guest.have(first, again, "3 unless-stopped exited 8 9", "4 unless-stopped configured 0 0", "5 no exited 8 7")
    assert guest.run("start") == ["start 1 2"]


def test_what_ran_at_the_last_end_does_not_count_after_the_boot(guest: Guest) -> None:
    guest.have("u unless-stopped running 5 4")
    guest.run("stop")
    guest.have("u unless-stopped exited 5 9")
    assert guest.run("start") == ["start u"]
    guest.have("u unless-stopped exited 10 11")  # by the user; then the power goes
    assert guest.run("start") == []


def test_guest_without_containers_asks_podman_for_nothing(guest: Guest) -> None:
    guest.remove_podman()
    assert guest.run("start") == []
    assert guest.run("stop") == []


def test_containers_at_a_place_of_the_users_are_looked_for(guest: Guest) -> None:
    guest.have("a always exited 5 6")
    shutil.rmtree(guest.storage)
    assert guest.run("start") == []
    guest.configure_storage()
    assert guest.run("start") == ["start a"]


def test_container_that_ended_while_the_guest_ran_does_not_start(guest: Guest) -> None:
    guest.have("u unless-stopped exited 5 9")
    assert guest.run("stop") == []


def test_paused_containers_are_stopped_too(guest: Guest) -> None:
    guest.have("p unless-stopped paused 5 4", "r no running 5 0")
    assert guest.run("stop") == ["unpause p", "stop --all"]
    guest.have("p unless-stopped exited 5 9", "r no exited 5 9")
    assert guest.run("start") == ["start p"]


def test_containers_that_do_not_stop_in_time_are_killed(guest: Guest) -> None:
    guest.have("r no running 5 0")
    guest.fail()
    assert guest.run("stop") == ["stop --all", "stop --all --time 0"]


def test_stopping_takes_no_longer_than_systemd_allows_when_the_guest_is_slow(guest: Guest) -> None:
    guest.have("r no running 5 0")
    guest.fail()
    guest.log_timeouts()
    guest.slow_down(2)
    guest.run("stop")
    (last,) = guest.timeouts
    assert last <= 64


def test_containers_are_killed_in_time_even_if_podman_waits_for_them(guest: Guest) -> None:
    guest.have("r no running 5 0")
    guest.wait_for_containers()
    done = guest.run("stop", script=SCRIPT.read_text().replace("own_time_s=50", "own_time_s=3"))
    # On a busy host, the second command may note itself before the first one.
    assert sorted(done) == [
        "stop --all", "stop --all --time 0",
    ]  # fmt: skip


def test_container_that_cannot_start_does_not_keep_the_service_from_stopping_the_others(guest: Guest) -> None:
    guest.have("a always exited 5 6")
    guest.fail()
    assert guest.run("start") == ["start a"]
    assert not (guest.state / "running-containers").exists()


def test_damaged_container_keeps_no_other_from_starting_and_is_told(guest: Guest) -> None:
    guest.have("a always exited 5 6", "damaged always exited 5 6", "u unless-stopped exited 8 7")
    problem = 'Error: no link of "name-of-damaged"\n'
    assert guest.run("start", says=problem) == ["start a u"]
    assert (guest.run_directory / "errors").read_text() == problem


def test_guest_without_systemd_starts_its_containers_though_it_has_no_place_for_what_podman_says(guest: Guest) -> None:
    guest.has_systemd = False
    guest.have("a always exited 5 6", "damaged always exited 5 6", "u unless-stopped exited 8 7")
    assert guest.run("start", says='Error: no link of "damaged"\n') == ["start a u"]
    assert not Path("/errors").exists()


def test_damaged_container_does_not_hide_which_others_ran(guest: Guest) -> None:
    guest.have("damaged unless-stopped running 5 4", "u unless-stopped running 5 4")
    assert guest.run("stop", says='Error: no link of "damaged"\n') == ["stop --all"]
    guest.have("u unless-stopped exited 5 9")
    assert guest.run("start") == ["start u"]


# Each has a service of Quadlet's that has failed; the user has another, too.
SYSTEMCTL = """#!/bin/sh
case $* in
*list-jobs*) ;;
"--user list-units --failed"*) printf '%s loaded failed failed X\\n' web.service own.service ;;
"list-units --failed"*) echo 'kube.service loaded failed failed X' ;;
*own.service) echo FragmentPath=/home/core/.config/systemd/user/own.service ;;
*) echo FragmentPath=/run/systemd/generator/x.service ;;
esac
"""


def test_services_of_quadlet_that_have_failed_are_told(tmp_path: Path) -> None:
    for name, text in (("systemctl", SYSTEMCTL), ("setpriv", '#!/bin/sh\nshift 5\nexec "$@"\n')):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    command = ["sh", os.fspath(SCRIPT.with_name("await-containers.sh")), "1", "nobody"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["failed-service root kube.service", "failed-service nobody web.service"]
