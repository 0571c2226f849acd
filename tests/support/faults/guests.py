"""Faults of the guest itself, of its network and of its clock."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.faults.fault import Ask, Fault, Shown
from tests.support.faults.rig import NAME, Rig
from tests.support.waiting import wait_until

# The supervisor asks the guest once a minute, and an emulated guest takes its time to answer.
_ASKED_S = 180.0
_GONE_S = 60.0
_CLOCK_TOLERANCE_S = 5.0
_HOUR_S = 3600


@contextmanager
def podman_socket_masked(rig: Rig) -> Iterator[None]:
    rig.core("systemctl --user mask --now podman.socket")
    yield
    rig.core("systemctl --user unmask podman.socket; systemctl --user start podman.socket")


@contextmanager
def kernel_panicked(rig: Rig) -> Iterator[None]:
    rig.root("nohup sh -c 'sleep 1; echo c >/proc/sysrq-trigger' >/dev/null 2>&1 &")
    yield


@contextmanager
def ssh_server_stopped(rig: Rig) -> Iterator[None]:
    rig.root("systemd-run --quiet --on-active=60 systemctl start ssh.socket ssh")
    rig.root("systemd-run --quiet sh -c 'systemctl stop ssh.socket ssh; pkill -x sshd; pkill -x sshd-session'")
    yield


@contextmanager
def ssh_server_refuses(rig: Rig) -> Iterator[None]:
    """Have sshd refuse everyone for a minute."""
    conf = "/etc/ssh/sshd_config.d/00-faults.conf"
    rig.root(f"systemd-run --quiet --on-active=60 sh -c 'rm {conf}; systemctl reload ssh'")
    rig.root(f"echo 'DenyUsers *' >{conf}; systemctl reload ssh")
    rig.kill(rig.master)
    yield


@contextmanager
def ssh_server_restarted(rig: Rig) -> Iterator[None]:
    rig.root("systemctl restart ssh")
    yield


@contextmanager
def paused(rig: Rig) -> Iterator[None]:
    rig.monitor("stop")
    yield
    rig.monitor("cont")


@contextmanager
def network_gone(rig: Rig) -> Iterator[None]:
    rig.monitor("set_link net0 off")
    yield
    rig.monitor("set_link net0 on")


@contextmanager
def back_in_time(rig: Rig) -> Iterator[None]:
    rig.monitor("savevm before")
    wait_until(rig.works, timeout_s=_GONE_S, what="the machine to work after the snapshot")
    time.sleep(_GONE_S / 2)
    rig.monitor("loadvm before")
    rig.monitor("delvm before")
    yield


@contextmanager
def guests_clock_off(rig: Rig) -> Iterator[None]:
    rig.root("date -s @1600000000")
    yield


def clock_is_right(rig: Rig) -> Iterator[str]:
    """Compare the clocks of guest and host."""
    off_s = float(rig.core("date +%s.%N")) - time.time()
    if abs(off_s) > _CLOCK_TOLERANCE_S:
        yield f"the guest's clock is off by {off_s:.0f} s"


@contextmanager
def rebooted(rig: Rig) -> Iterator[None]:
    rig.root("systemctl --no-block reboot")
    yield


@contextmanager
def disk_full(rig: Rig) -> Iterator[None]:
    rig.root("fallocate -l $(($(stat -f -c '%a*%S' /))) /root/hole")
    yield
    rig.root("rm /root/hole")


@contextmanager
def disk_read_only(rig: Rig) -> Iterator[None]:
    """Remount all file systems read-only, as the kernel does with one that has errors."""
    rig.root("echo u >/proc/sysrq-trigger")
    yield
    rig.root("mount -o remount,rw /")


@contextmanager
def inodes_used_up(rig: Rig) -> Iterator[None]:
    rig.root("mount -o remount,nr_inodes=$(($(stat -f -c '%c-%d' /tmp)+1)) /tmp")
    yield
    rig.root("mount -o remount,nr_inodes=1000000 /tmp")


@contextmanager
def podman_not_executable(rig: Rig) -> Iterator[None]:
    rig.root("chmod -x /usr/bin/podman")
    yield
    rig.root("chmod +x /usr/bin/podman")


_CONF = "/home/core/.config/containers/containers.conf"


@contextmanager
def podmans_configuration_refused(rig: Rig) -> Iterator[None]:
    rig.core(f"mkdir -p {_CONF.rpartition('/')[0]}; printf '[containers]\\nnetns=5\\n' >{_CONF}")
    wait_until(lambda: rig.ask_podman("_ping") != "OK", timeout_s=_GONE_S, what="the Podman to end that works still")
    yield
    rig.core(f"rm {_CONF}")


@contextmanager
def memory_exhausted(rig: Rig) -> Iterator[None]:
    # In pieces that differ, since Perl shares equal ones, and Linux refuses a large one.
    rig.root("systemd-run --quiet --property=OOMScoreAdjust=1000 perl -e 'push @x, \"x\" x (1e6 + @x) while 1'")
    yield


@contextmanager
def clock_of_host_jumps(rig: Rig, seconds: int) -> Iterator[None]:
    """Set the clock that the supervisor sees by an offset in a file, which a module in its Python path adds.

    No namespace has a wall clock of its own, and the host's must stay as it is.
    """
    hook = Path(__file__).with_name("false_clock")
    offset = rig.world.root / "offset"
    offset.write_text("0")
    rig.kill(rig.supervisor)
    rig.world.run(rig.program, "start", NAME, PYTHONPATH=str(hook), FALSE_CLOCK=str(offset))
    wait_until(rig.works, timeout_s=_GONE_S, what="the machine to work under a false clock")
    offset.write_text(str(seconds))
    wait_until(lambda: _off(rig, seconds) < _CLOCK_TOLERANCE_S, timeout_s=_ASKED_S, what="the guest's clock to follow")
    yield
    offset.write_text("0")


@contextmanager
def clock_of_host_ahead(rig: Rig) -> Iterator[None]:
    with clock_of_host_jumps(rig, _HOUR_S):
        yield


@contextmanager
def clock_of_host_behind(rig: Rig) -> Iterator[None]:
    with clock_of_host_jumps(rig, -_HOUR_S):
        yield


def _off(rig: Rig, seconds: int) -> float:
    said = rig.world.machine("ssh", NAME, "date", "+%s").stdout
    return abs(float(said) - time.time() - seconds) if said.strip() else float("inf")


def follows_the_clock_back(rig: Rig) -> Iterator[str]:
    """Wait for the guest's clock, since the supervisor looks at its own now and then."""
    until = time.monotonic() + _ASKED_S
    while (off := _off(rig, 0)) > _CLOCK_TOLERANCE_S:
        if time.monotonic() > until:
            yield f"the guest's clock is off by {off:.0f} s"
            return
        time.sleep(1)


_PAUSED = f'the guest of "{NAME}" is paused'

GUESTS = (
    Fault(
        name="guest paused",
        provoke=paused,
        shown=Shown(state="paused"),
        asks=(
            Ask(words=("ssh", NAME, "true"), says=_PAUSED),
            Ask(words=("cp", "docker/config.json", f"{NAME}:/tmp"), says=_PAUSED),
            Ask(words=("console", NAME), says=_PAUSED),
            Ask(words=("mount", "add", NAME, "docker:/mnt/added"), says="cannot be reached: it is paused"),
        ),
    ),
    Fault(
        name="network gone",
        provoke=network_gone,
        shown=Shown(state="degraded", reason="SSH", within_s=60),
        asks=(Ask(words=("ssh", NAME, "true"), says="does not answer"),),
    ),
    Fault(name="SSH server restarted", provoke=ssh_server_restarted),
    Fault(
        name="SSH server stopped",
        provoke=ssh_server_stopped,
        shown=Shown(state="degraded", reason="the SSH server refuses connections", within_s=30),
        asks=(Ask(words=("ssh", NAME, "true"), says="does not answer"),),
        is_long=True,
    ),
    Fault(
        name="SSH server refuses",
        provoke=ssh_server_refuses,
        shown=Shown(state="degraded", reason="rejects the machine's key", within_s=30),
        is_long=True,
    ),
    Fault(name="guest back in time", provoke=back_in_time, check=clock_is_right),
    # It is set as soon as it is seen to be off, so `ls` hardly shows it.
    Fault(name="guest's clock off", provoke=guests_clock_off, check=follows_the_clock_back, is_long=True),
    Fault(name="host's clock an hour ahead, and back", provoke=clock_of_host_ahead, check=follows_the_clock_back),
    Fault(
        name="host's clock an hour behind, and back",
        provoke=clock_of_host_behind,
        check=follows_the_clock_back,
        is_long=True,
    ),
    Fault(
        name="guest's disk full",
        provoke=disk_full,
        shown=Shown(state="degraded", reason="the guest's disk is full", within_s=_ASKED_S),
        back_within_s=_ASKED_S,
        is_long=True,
    ),
    Fault(
        name="guest's memory exhausted",
        provoke=memory_exhausted,
        # Until the kernel has killed something, the guest may not even answer.
        shown=Shown(state="degraded", reason="out of memory", within_s=600),
        back_within_s=500,  # a kill is news for five minutes
        is_long=True,
    ),
    Fault(
        name="podman.socket masked",
        provoke=podman_socket_masked,
        shown=Shown(state="degraded", reason="podman.socket of core is masked", within_s=_ASKED_S),
        asks=(Ask(words=("port", "ls", NAME), says="podman.socket of core is masked", status=0),),
        back_within_s=_ASKED_S,
        is_long=True,
    ),
    Fault(
        name="podman may not be executed",
        provoke=podman_not_executable,
        shown=Shown(state="degraded", reason="Podman fails in the guest: ", within_s=_ASKED_S),
        back_within_s=_ASKED_S,
        is_long=True,
    ),
    Fault(
        name="podman refuses its configuration",
        provoke=podmans_configuration_refused,
        shown=Shown(state="degraded", reason=f"Podman refuses line 2 of the guest's {_CONF}", within_s=_ASKED_S),
        back_within_s=_ASKED_S,
        is_long=True,
    ),
    Fault(
        name="guest's disk read-only",
        provoke=disk_read_only,
        shown=Shown(state="degraded", reason="the guest's disk is read-only", within_s=_ASKED_S),
        back_within_s=_ASKED_S,
        is_long=True,
    ),
    Fault(
        name="inodes of the guest used up",
        provoke=inodes_used_up,
        shown=Shown(state="degraded", reason="the guest's /tmp has no free inodes", within_s=_ASKED_S),
        back_within_s=_ASKED_S,
        is_long=True,
    ),
    Fault(
        name="kernel panicked",
        provoke=kernel_panicked,
        shown=Shown(state="degraded", reason="the guest's kernel panicked: sysrq triggered crash", within_s=20),
        asks=(Ask(words=("ssh", NAME, "true"), says="the guest's kernel panicked"),),
        back_within_s=600,
        reboots=True,
        is_long=True,
    ),
    Fault(
        name="guest rebooted",
        provoke=rebooted,
        shown=Shown(state="degraded", reason="the guest is rebooting", within_s=120),
        back_within_s=600,
        reboots=True,
        is_long=True,
    ),
)
