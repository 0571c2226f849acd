"""The transports of this host, for real: virtiofsd and whose files it makes, and the kernel's word of changes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import select
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from machine.folders import confine, idmap, inotify, probe
from machine.folders.changes import ChangeRelay
from machine.folders.guest import mount_command, sshfs_command
from machine.folders.inotify import Watcher
from machine.folders.probe import find_sftp_server, find_virtiofsd, probe_owners, probe_transports, usable_command
from machine.folders.sources import Source, probe_sources
from machine.folders.sshfs import sftp_server_command
from machine.folders.virtiofsd import Flavour, OwnerIds, Virtiofsd, virtiofsd_commands
from machine.ignition import assets
from machine.model.folders import Folder
from machine.model.obstacle import Obstacle
from machine.model.transport import Transport, TransportChoice
from machine.supervisor.helpers import helper_command
from machine.this_host import current_host
from tests.support.disk_images import Images
from tests.support.waiting import WAIT_S
from tests.support.world import World

CONFINE = helper_command(Path(confine.__file__))


def inside(command: str, *, uids: str, gids: str, read_only: str = "") -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-I", "-S", os.fspath(idmap.__file__), uids, gids, read_only]
    return subprocess.run([*program, "/bin/sh", "-c", command], capture_output=True, text=True, check=False, timeout=20)


def test_program_in_a_namespace_makes_files_that_are_ours(tmp_path: Path) -> None:
    uids, gids = (f"4321:{own}:1" for own in (os.getuid(), os.getgid()))
    done = inside(f"id -u; id -g; touch {tmp_path}/made; stat -c %u {tmp_path}/made", uids=uids, gids=gids)
    assert (done.stdout.split(), done.stderr) == (["4321", "4321", "4321"], "")
    assert (tmp_path / "made").stat().st_uid == os.getuid()


def test_program_in_a_namespace_may_open_as_many_files_as_the_host_allows() -> None:
    own = f"0:{os.getuid()}:1", f"0:{os.getgid()}:1"
    program = [sys.executable, "-I", "-S", os.fspath(idmap.__file__), *own, "", "/bin/sh", "-c", "ulimit -n"]
    script = f"ulimit -Sn 256; {shlex.join(program)}"
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    assert subprocess.check_output(["/bin/sh", "-c", script], text=True, timeout=20) == f"{most}\n"


def test_program_in_a_namespace_cannot_write_what_is_protected(tmp_path: Path) -> None:
    own = f"0:{os.getuid()}:1", f"0:{os.getgid()}:1"
    (tmp_path / "my folder").mkdir()
    done = inside(
        f"cd '{tmp_path}/my folder' && ! touch x 2>/dev/null && touch '{tmp_path}/y' && echo good",
        uids=own[0],
        gids=own[1],
        read_only=os.fspath(tmp_path / "my folder"),
    )
    assert (done.stdout, done.stderr) == ("good\n", "")
    assert [path.name for path in sorted(tmp_path.iterdir())][-1:] == ["y"]


def test_namespace_that_cannot_be_had_is_told_and_nothing_runs(tmp_path: Path) -> None:
    done = inside(f"touch {tmp_path}/made", uids="0:0:1,0:5:1", gids="0:0:1")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("cannot map owners in a user namespace: ")
    assert not (tmp_path / "made").exists()


@pytest.mark.linux("virtiofsd is Linux's")
@pytest.mark.parametrize("read_only", [False, True])
def test_virtiofsd_of_this_host_serves(tmp_path: Path, read_only: bool) -> None:
    daemon = find_virtiofsd(current_host())
    assert isinstance(daemon, Virtiofsd)
    (tmp_path / "a, b é").mkdir()
    folder = Folder(source=os.fspath(tmp_path / "a, b é"), target="/x", read_only=read_only)
    command = usable_command(virtiofsd_commands(daemon, probe_owners(1000), folder))
    assert not isinstance(command, Obstacle), command


def test_way_that_does_not_work_is_passed_over_and_the_last_reason_told() -> None:
    broken = ["/bin/sh", "-c", "echo not here >&2; exit 3"]
    assert usable_command([broken]) == Obstacle("virtiofsd does not run: not here")
    missing = Obstacle("virtiofsd does not run: /nonexistent is not installed on this host")
    assert usable_command([["/nonexistent"]]) == missing
    none = Obstacle("virtiofsd does not run: this user has no subordinate IDs for the guest's users (see subuid(5))")
    assert usable_command([]) == none
    daemon = Virtiofsd(path="/bin/false", flavour=Flavour.RUST, has_readonly=False)
    ways = virtiofsd_commands(daemon, OwnerIds(uid=1, gid=1, guest=1), Folder(source="/", target="/x"))
    assert usable_command(ways) == Obstacle("virtiofsd does not run: it exited with status 1")


@pytest.mark.linux("only Linux confines a program")
def test_sftp_server_reaches_its_folder_and_nothing_else_of_the_users(tmp_path: Path) -> None:
    for name in ("mine", "other"):
        (tmp_path / name / "below").mkdir(parents=True)
        (tmp_path / name / "file").write_text(f"{name}\n")
    server = find_sftp_server()
    assert server
    folder = Folder(source=os.fspath(tmp_path / "mine"), target="/x")
    command = sftp_server_command(server, folder, current_host().os, CONFINE)
    lines = [
        f"-get {tmp_path}/mine/file {tmp_path}/got-mine",
        f"-get {tmp_path}/other/file {tmp_path}/got-other",
        f"-put {tmp_path}/mine/file {tmp_path}/mine/below/put",
        f"-rename {tmp_path}/mine/below/put {tmp_path}/mine/moved",
        f"-put {tmp_path}/mine/file {tmp_path}/other/put",
        f"-rm {tmp_path}/other/file",
    ]
    client = ["sftp", "-b", "-", "-D", shlex.join(command)]
    done = subprocess.run(client, input="\n".join(lines), capture_output=True, text=True, check=False, timeout=60)
    assert (tmp_path / "got-mine").read_text() == "mine\n", done.stderr
    assert (tmp_path / "mine" / "moved").read_text() == "mine\n", done.stderr
    assert "ermission denied" in done.stderr
    assert not (tmp_path / "got-other").exists()
    assert sorted(path.name for path in (tmp_path / "other").iterdir()) == ["below", "file"]


@pytest.mark.linux("only Linux confines a program")
def test_sftp_server_does_not_serve_what_a_link_leads_to_that_was_put_in_the_folders_place(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "mine").symlink_to("other")
    server = find_sftp_server()
    assert server
    folder = Folder(source=os.fspath(tmp_path / "mine"), target="/x")
    command = sftp_server_command(server, folder, current_host().os, CONFINE)
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (1, f"{tmp_path}/mine: Too many levels of symbolic links\n")


def changed(watcher: Watcher, act: Callable[[], object]) -> set[str]:
    """What a watcher tells of one act, until it falls silent."""
    act()
    told: set[str] = set()
    while select.select([watcher.descriptor], [], [], 0.2)[0]:
        told |= watcher.read()
    return told


def test_watcher_tells_of_every_kind_of_change(tmp_path: Path) -> None:
    (tmp_path / "old" / "deep").mkdir(parents=True)
    file = tmp_path / "old" / "deep" / "my é"
    file.write_text("1")
    watcher = Watcher(os.fspath(tmp_path))
    watcher.watch_all()
    assert changed(watcher, lambda: file.write_text("2")) == {"old/deep/my é"}
    assert changed(watcher, lambda: file.chmod(0o600)) == set()
    assert changed(watcher, lambda: file.rename(tmp_path / "new")) == {"old/deep", "new"}
    assert changed(watcher, (tmp_path / "new").unlink) == {"."}

    def unpack() -> None:
        (tmp_path / "x" / "y").mkdir(parents=True)
        (tmp_path / "x" / "y" / "z").write_text("")

    assert {"x", "x/y/z"} <= changed(watcher, unpack)
    assert changed(watcher, lambda: (tmp_path / "x" / "y" / "z").write_text("3")) == {"x/y/z"}
    (tmp_path / "link").symlink_to("/")
    changed(watcher, lambda: None)
    assert not watcher.is_full
    watcher.close()


def test_watcher_has_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inotify, "MAX_DIRECTORIES", 3)
    for name in "abcde":
        (tmp_path / name).mkdir()
    watcher = Watcher(os.fspath(tmp_path))
    watcher.watch_all()
    assert watcher.is_full
    assert changed(watcher, lambda: (tmp_path / "file").write_text("")) == {"file"}
    watcher.close()


def test_changes_are_passed_on_to_whoever_watches_the_other_side(tmp_path: Path) -> None:
    """Here both sides are one directory: the script changes attributes, which is not followed in turn."""
    folder = Folder(source=os.fspath(tmp_path), target=os.fspath(tmp_path))
    file = tmp_path / "my file"
    file.write_text("")
    os.utime(file, (1, 1))

    async def follow() -> os.stat_result:
        changes = ChangeRelay(lambda command: ["sh", "-c", command], assets.load("files/folder-changes.sh"))
        await changes.follow([folder])
        before = file.stat()
        with file.open("a"):  # closed after writing nothing: the time of its content stays
            pass
        async with asyncio.timeout(WAIT_S):
            while file.stat().st_ctime_ns == before.st_ctime_ns:
                await asyncio.sleep(0.05)
        after = file.stat()
        await changes.end()
        return after

    after = asyncio.run(follow())
    assert (after.st_mtime, after.st_size) == (1, 0)


def test_folders_of_a_stopped_machine_are_in_its_record(world: World, images: Images, tmp_path: Path) -> None:
    world.init("box", images.qcow2, "--disk-size", "7")
    (tmp_path / "a b").mkdir()
    added = world.machine("mount", "add", "box", f"{tmp_path}/a b:/mnt/a b:ro")
    assert (added.status, added.stdout, added.stderr) == (0, "", "")
    again = world.machine("mount", "add", "box", f"{tmp_path}:/mnt/a b/c")
    assert again.stderr == (
        'Error: machine mount destinations "/mnt/a b" and "/mnt/a b/c" overlap; '
        "mount each folder at a path of its own\n"
    )
    listed = world.machine("mount", "ls", "box", "--format", "{{.Source}} {{.Target}} {{.Mode}}")
    assert listed.stdout == f"{tmp_path}/a b /mnt/a b ro\n"
    assert world.machine("mount", "rm", "box", "/nowhere").stderr == (
        "Error: box has no folder at /nowhere; see: machine mount ls box\n"
    )
    assert world.machine("set", "--volume", f"{tmp_path}:/x", "box").status == 0
    assert world.inspect("box")["Machine"]["Mounts"] == [{"Source": str(tmp_path), "Target": "/x", "ReadOnly": False}]
    assert world.machine("mount", "rm", "box", "/x/").status == 0
    assert world.inspect("box")["Machine"]["Mounts"] == []


def shared(world: World) -> list[tuple[str, str]]:
    return [(mount["Source"], mount["Target"]) for mount in world.inspect("box")["Machine"]["Mounts"]]


def test_source_is_resolved_once_and_its_target_stays_as_written(world: World, images: Images, tmp_path: Path) -> None:
    for name in ("real", "other"):
        (tmp_path / name).mkdir()
    link = tmp_path / "link"
    link.symlink_to("real")
    world.init("box", images.qcow2, "--disk-size", "7", "--volume", f"{link}")
    assert shared(world) == [(f"{tmp_path}/real", f"{link}")]
    assert world.machine("set", "box", "--volume", f"{link}:/a", "--volume", f"{tmp_path}:/b").status == 0
    assert world.machine("mount", "add", "box", f"{link}:/c").status == 0
    link.unlink()
    link.symlink_to("other")
    assert shared(world) == [(f"{tmp_path}/real", "/a"), (f"{tmp_path}", "/b"), (f"{tmp_path}/real", "/c")]


def test_folder_over_the_guests_policy_is_told_once(world: World, images: Images, tmp_path: Path) -> None:
    volume = f"{tmp_path}:/etc/containers"
    told = (
        f"{tmp_path} hides the guest's directory /etc/containers. Its own policy.json then decides which images the "
        "guest's Podman accepts, and Podman before version 6 needs one\n"
    )
    assert world.init("box", images.qcow2, "--disk-size", "7", "--volume", volume).stderr.endswith(told)
    world.must("mount", "rm", "box", "/etc/containers")
    assert world.must("mount", "add", "box", volume).stderr == told
    assert world.must("set", "--volume", volume, "box").stderr == told
    assert world.must("set", "--cpus", "2", "box").stderr == ""


@pytest.mark.linux("a Mac shares other folders by default")
def test_home_that_is_a_link_is_shared_by_default_at_its_own_path(world: World, images: Images, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    link = tmp_path / "home"
    link.symlink_to("real")
    made = world.machine("init", "--image", str(images.qcow2), "--disk-size", "7", "box", HOME=str(link))
    assert made.status == 0, made.stderr
    assert shared(world) == [(f"{tmp_path}/real", f"{link}")]


def test_source_that_cannot_be_shared_is_refused_with_the_reason(world: World, images: Images, tmp_path: Path) -> None:
    world.init("box", images.qcow2, "--disk-size", "7")
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "a:b").mkdir()
    (tmp_path / "colon").symlink_to("a:b")
    reasons = {
        "loop": f"{tmp_path}/loop is a loop of symbolic links; share the directory itself",
        "pipe": f"{tmp_path}/pipe is a FIFO; only directories can be shared",
        "colon": (
            f'invalid volume "{tmp_path}/colon": it is a symbolic link to {tmp_path}/a:b; '
            "paths must be UTF-8 without colons or control characters"
        ),
    }
    for name, reason in reasons.items():
        for words in (("mount", "add", "box", f"{tmp_path}/{name}:/x"), ("set", "box", "-v", f"{tmp_path}/{name}:/x")):
            refused = world.machine(*words)
            assert (refused.status, refused.stderr.splitlines()[0]) == (125, f"Error: {reason}")
    assert shared(world) == []


@pytest.mark.linux("virtiofsd is Linux's")
@pytest.mark.parametrize("place", [Path("/dev/shm"), Path("/")], ids=["a file system in memory", "a tree of mounts"])
def test_source_on_another_file_system_is_served_by_virtiofsd(place: Path) -> None:
    daemon = find_virtiofsd(current_host())
    assert isinstance(daemon, Virtiofsd)
    with tempfile.TemporaryDirectory(dir=place) if place.name else contextlib.nullcontext("/") as source:
        folder = Folder(source=source, target="/x")
        facts = probe_transports(TransportChoice.VIRTIOFS, probe_sources([folder]), guest_uid=1000, host=current_host())
    assert not isinstance(facts.virtiofsd_for(folder), Obstacle)


@pytest.mark.linux("virtiofsd is Linux's")
def test_folder_that_virtiofsd_refuses_decides_for_itself_alone(tmp_path: Path) -> None:
    """A link in its place, as one that is made after links were followed."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    good, bad = (Folder(source=f"{tmp_path}/{name}", target=f"/{name}") for name in ("real", "link"))
    unresolved = {folder: Source(path=folder.source, directory_id=(0, 0)) for folder in (good, bad)}
    facts = probe_transports(TransportChoice.AUTO, unresolved, guest_uid=1000, host=current_host())
    assert isinstance(facts.virtiofsd_for(bad), Obstacle)
    assert not isinstance(facts.virtiofsd_for(good), Obstacle)
    resolved = probe_sources([good, bad])
    facts = probe_transports(TransportChoice.AUTO, resolved, guest_uid=1000, host=current_host())
    assert not isinstance(facts.virtiofsd_for(bad), Obstacle)


_SLOW_DAEMON = """#!/usr/bin/python3
import socket, sys, time
[descriptor] = [int(word.partition("=")[2]) for word in sys.argv if word.startswith("--fd=")]
client, _ = socket.socket(fileno=descriptor).accept()
client.recv(12)
time.sleep(1)
client.sendall(bytes(12))
time.sleep(60)
"""


def test_slow_virtiofsd_is_used_with_more_patience(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    daemon = tmp_path / "virtiofsd"
    daemon.write_text(_SLOW_DAEMON)
    daemon.chmod(0o755)
    monkeypatch.setattr(probe, "_VIRTIOFSD_ANSWER_S", 0.5)
    assert isinstance(usable_command([[str(daemon)]]), Obstacle)
    assert usable_command([[str(daemon)]], patience=60) == [str(daemon)]


# What the guest does with what it is told, run here in a file system of its own.

BUSYBOX = ("cat", "grep", "mkdir", "sed", "tail", "umount")
# Nothing is a device here: a file system in memory has its name and its mode.
MOUNT = """#!/bin/sh
echo "mount $*" >>"$RECORD"
test "$2" != tmpfs || exec busybox mount "$@"
case $6$ALLOWED in */refused) echo 'mount: no such device' >&2; exit 32 ;; esac
exec busybox mount -t tmpfs -o "${4%%,*}" "$5" "$6"
"""


def _report(text: str) -> list[str]:
    return [line for line in text.splitlines() if not line.startswith("can ")]


@pytest.mark.skipif(shutil.which("busybox") is None, reason="BusyBox is what Alpine has")
def test_guest_without_systemd_mounts_by_itself_with_busyboxs_tools(tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in BUSYBOX:
        (tools / name).symlink_to(str(shutil.which("busybox")))
    (tools / "busybox").symlink_to(str(shutil.which("busybox")))
    (tools / "sh").symlink_to("/bin/sh")  # BusyBox's own would take its own mount
    (tools / "mountpoint").symlink_to(str(shutil.which("mountpoint")))  # Debian's BusyBox has none
    (tools / "modprobe").write_text("#!/bin/sh\n")
    (tools / "mount").write_text(MOUNT)
    for name in ("modprobe", "mount"):
        (tools / name).chmod(0o755)
    plain, spaced, refused, connected = (tmp_path / name for name in ("a", "b c\\d", "refused", "s"))
    first = [
        (Folder(source="/1", target=os.fspath(plain)), Transport.VIRTIOFS),
        (Folder(source="/2", target=os.fspath(spaced), read_only=True), Transport.NINEP),
        (Folder(source="/3", target=os.fspath(refused)), Transport.VIRTIOFS),
        (Folder(source="/4", target=os.fspath(connected)), Transport.SSHFS),
    ]
    script = assets.load("files/folders.sh")
    (tmp_path / "script").write_text(script)
    show = f"grep ' {tmp_path}' /proc/mounts | sed 's/ tmpfs \\([a-z]*\\),.*/ \\1/'; echo ---"
    write = "for place in refused s; do ! busybox touch $PLACES/$place/x 2>/dev/null || echo written; done"
    runs = [mount_command(first), mount_command(first, [first[3][0]]), f"ALLOWED=1 {mount_command(first)}"]
    steps = [f"{run} <{tmp_path}/script; {write}; {show}" for run in (*runs, mount_command(first[:1]))]
    namespace = [str(shutil.which("unshare")), "--mount", *([] if os.getuid() == 0 else ["--map-root-user"])]
    done = subprocess.run(
        [*namespace, "sh", "-c", "; ".join(steps)],
        env={"PATH": str(tools), "RECORD": str(tmp_path / "asked"), "PLACES": str(tmp_path), "ALLOWED": ""},
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    told, again, allowed, less, _ = done.stdout.split("---\n")
    tags = [folder.tag for folder, _ in first]
    mounts = [f"{tags[0]} {plain} rw", f"{tags[1]} {tmp_path}/b\\040c\\134d ro"]
    guards = [f"{tags[2]}-none {refused} ro", f"{tags[3]}-none {connected} ro"]
    failed = ["mounted 0", "mounted 1", "failed 2 mount: no such device"]
    assert _report(told) == [*failed, f"ready 3 {connected}", "done", *mounts, *guards]
    assert _report(again) == [*failed, "done", *mounts, *reversed(guards)]
    mended = f"{tags[2]} {refused} rw"
    assert _report(allowed) == [
        "mounted 0", "mounted 1", "mounted 2", f"ready 3 {connected}", "done", "written", *mounts, guards[1], mended
    ]  # fmt: skip
    assert _report(less) == ["mounted 0", "done", "written", "written", mounts[0]]
    asked = (tmp_path / "asked").read_text().splitlines()
    assert len([line for line in asked if line.endswith(str(plain))]) == 1
    ninep = f"mount -t 9p -o ro,trans=virtio,version=9p2000.L,msize=524288,cache=mmap {tags[1]} {spaced}"
    assert [line.replace(",context=system_u:object_r:nfs_t:s0", "") for line in asked if " 9p " in line] == [ninep]


# This host's own file system with a layer over it is the guest's root directory, and systemctl only notes what it does.
OSTREE = """
mount -t tmpfs tmpfs "$1" && cd "$1" && mkdir upper work root || exit 77
mount -t overlay overlay -o lowerdir=/,upperdir=upper,workdir=work root || exit 77
mount --rbind /proc root/proc && mount --rbind /dev root/dev
for place in run tmp etc/systemd/system; do mount -t tmpfs tmpfs root/$place; done
for program in systemctl modprobe; do ln -s /bin/true root/tmp/$program; done
mkdir root/run/ostree; : >root/run/ostree-booted
$2 || exit 77
PATH="/tmp:$PATH" chroot root sh -c "$3"
ls -d root/src root/data/x 2>/dev/null
lsattr -d root | cut -d " " -f 1 | tr -d -
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root takes off what makes a directory immutable")
@pytest.mark.parametrize(
    ("sealing", "told"),
    [
        ("chattr +i root", ["mounted 0", "mounted 1", "mounted 2", "done", "root/data/x", "root/src", "i"]),
        (
            "mount -o remount,ro root",
            ["sealed 0", "sealed 1", "failed 2 mkdir: cannot create directory '/usr/x': Read-only file system", "done"],
        ),
    ],
    ids=["without composefs", "with composefs"],
)
def test_guest_whose_root_directory_nobody_writes_to(sealing: str, told: list[str], tmp_path: Path) -> None:
    targets = ("/src", "/data/x", "/usr/x")
    folders = [(Folder(source="/s", target=target), Transport.VIRTIOFS) for target in targets]
    (tmp_path / "m").mkdir()
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", OSTREE, "sh", tmp_path / "m", sealing, mount_command(folders)],
        input=assets.load("files/folders.sh"), env={**os.environ, "LC_ALL": "C"},
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    if done.returncode == 77:
        pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")
    assert [line for line in _report(done.stdout) if line] == told, done.stderr


# A guest whose image has rules for signatures, with the folders of the first command and then those of the second.
RULES = """
for place in /etc /run; do mount -t tmpfs tmpfs $place || exit 77; done
mkdir -p /etc/systemd/system /run/bin /run/upper/etc/containers /run/work
test -z "$1" || touch /run/upper/etc/containers/policy.json
mount -t overlay overlay -o lowerdir=/usr,upperdir=/run/upper,workdir=/run/work /usr || exit 77
for program in systemctl modprobe; do ln -s /bin/true /run/bin/$program; done
cat >/run/folders.sh
for command in "$2" "$3"; do
    PATH="/run/bin:$PATH" sh -c "$command" </run/folders.sh
    cat /etc/systemd/system/rpm-ostreed.service.d/* 2>/dev/null | grep =
done
"""


@pytest.mark.parametrize(
    ("has_rules", "told"),
    [(True, ["BindReadOnlyPaths=/usr/etc/containers:/etc/containers"]), (False, [])],
    ids=["image with rules", "image without"],
)
def test_rpm_ostree_keeps_the_images_rules_for_signatures(has_rules: bool, told: list[str]) -> None:
    """Over them, an empty policy.json would come from systemd, and Fedora CoreOS would refuse its own upgrades."""
    before, after = (
        mount_command([(Folder(source="/s", target=target), Transport.VIRTIOFS)])
        for target in ("/etc/containers", "/etc/containers/x")
    )
    words = ["sh", "has rules" if has_rules else "", before, after]
    done = subprocess.run(
        ["unshare", "--mount", *([] if os.getuid() == 0 else ["--map-root-user"]), "sh", "-c", RULES, *words],
        input=assets.load("files/folders.sh"), capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    if done.returncode == 77:
        pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")
    assert _report(done.stdout) == ["mounted 0", "done", *told, "mounted 0", "done"]


# Stands for a systemd that knows the unit of a path, and tells its name.
HASHING = """
for place in /run /etc/systemd/system; do mount -t tmpfs tmpfs $place || exit 77; done
mkdir /run/bin
printf '#!/bin/sh\ntest "$1" != show || echo hashed_0.mount\n' >/run/bin/systemctl
ln -s /bin/true /run/bin/modprobe
chmod 755 /run/bin/systemctl
PATH="/run/bin:$PATH" sh -c "$1"
cd /etc/systemd/system && ls *.mount local-fs.target.wants && grep -h ^Where= *.mount
"""


def mount_where_systemd_has_names(target: str) -> list[str]:
    """What the script says of a folder, and then the units that it has made."""
    command = mount_command([(Folder(source="/s", target=target), Transport.VIRTIOFS)])
    done = subprocess.run(
        ["unshare", "--mount", *([] if os.getuid() == 0 else ["--map-root-user"]), "sh", "-c", HASHING, "sh", command],
        input=assets.load("files/folders.sh"), capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    if done.returncode == 77:
        pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")
    assert done.stderr == ""
    return _report(done.stdout)


def test_long_path_is_mounted_by_the_unit_that_systemd_has_for_it(tmp_path: Path) -> None:
    """Each byte that is not plain takes four characters in a unit's name, which has 255 at most."""
    target = f"{tmp_path}/{'é' * 30}"
    units = ["hashed_0.mount", "", "local-fs.target.wants:", "hashed_0.mount", f"Where={target}"]
    assert mount_where_systemd_has_names(target) == ["mounted 0", "done", *units]


@pytest.mark.skipif(shutil.which("systemd-escape") is None, reason="systemd-escape is not installed")
@pytest.mark.parametrize("target", ["/run/c1", "/run/a_B/c1/2", "/run/a-b/.c", "/run/ü x"])
def test_unit_has_the_name_that_systemd_wants_for_its_path(target: str) -> None:
    unit = subprocess.check_output(["systemd-escape", "--path", "--suffix=mount", "--", target], text=True).strip()
    units = [unit, "", "local-fs.target.wants:", unit, f"Where={target}"]
    assert mount_where_systemd_has_names(target) == ["mounted 0", "done", *units]


# Stands for the guest's sshfs: a file system in memory, or what it says of a folder that the host does not have.
SSHFS = """#!/bin/sh
if test "$1" = -h; then echo "    -o $KNOWN allow all targets"; exit; fi
printf %s "$5" >"$RECORD"
case $1 in :/gone) echo "$1: No such file or directory" >&2; exit 1 ;; esac
mount -t tmpfs none "$2" && exec sleep 1
"""


@pytest.mark.parametrize(
    ("known", "source", "told", "options"),
    [
        ("no_contain_symlinks", "/there", "mounted", ["no_contain_symlinks"]),
        ("contain_nothing", "/there", "mounted", []),
        ("no_contain_symlinks", "/gone", ":/gone: No such file or directory", ["no_contain_symlinks"]),
    ],
    ids=["newer sshfs", "older sshfs", "no such folder"],
)
def test_guest_connects_a_folder_whose_links_lead_anywhere(
    tmp_path: Path, known: str, source: str, told: str, options: list[str]
) -> None:
    (tmp_path / "sshfs").write_text(SSHFS)
    (tmp_path / "sshfs").chmod(0o755)
    (tmp_path / "target").mkdir()
    folder = Folder(source=source, target="/x")
    command = sshfs_command(assets.load("files/folder-sshfs.sh"), folder, uid=0, where=f"{tmp_path}/target")
    done = subprocess.run(
        ["unshare", "--mount", *([] if os.getuid() == 0 else ["--map-root-user"]), *shlex.split(command)],
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "KNOWN": known, "RECORD": f"{tmp_path}/asked"},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.stderr == f"{told}\n"
    asked = (tmp_path / "asked").read_text().split(",")
    assert [option for option in asked if "links" in option] == options


@pytest.mark.linux("virtiofsd is Linux's")
@pytest.mark.parametrize(("directory", "has_handles"), [("/dev/shm", True), ("/proc", False)])
def test_state_is_passed_on_where_the_file_system_has_handles(directory: str, *, has_handles: bool) -> None:
    able = Virtiofsd(path="/v", flavour=Flavour.TRANSLATING, has_readonly=True, passes_state_on=True)
    source = Source(path=directory, directory_id=(0, 0))
    assert probe.for_source(able, source) == replace(able, passes_state_on=has_handles)
