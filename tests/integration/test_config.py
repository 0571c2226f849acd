"""`machine config` and the defaults that `machine init` takes, beside what the real podman makes of the same files."""

from __future__ import annotations

import json
import os
import pty
import re
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.disk_images import Images, qemu_img, sha256
from tests.support.golden import Golden
from tests.support.transcripts import refuse, transcript
from tests.support.world import COMMAND_S, Outcome, World, machine_program, make_world

CPUS = os.cpu_count() or 1
NOBODY = 65534

CONTAINERS_CONF = """\
[containers]
tz = "Asia/Tokyo"
[machine]
cpus = 1
memory = 600
disk_size = 44
image = "testing"
user = "joe"
volumes = ["/srv:/srv", "/etc:/mnt/etc:ro"]
provider = "qemu"
a_key_of_tomorrow = 1
"""


def config_file(world: World) -> Path:
    return world.home / "config" / "config.toml"


def write(world: World, text: str) -> Path:
    path = config_file(world)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def effective(world: World, **environment: str) -> dict[str, tuple[Any, str]]:
    outcome = world.machine("config", "get", "--format", "json", **environment)
    assert (outcome.status, outcome.stderr) == (0, "")
    return {row["Key"]: (row["Value"], row["Origin"]) for row in json.loads(outcome.stdout)}


def editor(world: World, script: str) -> str:
    """A value for $EDITOR: a program that gets the file's path as its word."""
    path = world.root / "editor"
    path.write_text(f"#!/bin/sh\nset -e\n{script}\n")
    path.chmod(0o755)
    return str(path)


def drafts(world: World) -> list[Path]:
    return sorted(config_file(world).parent.glob("config.?*.toml"))


# Which source holds


def test_each_source_overrules_the_one_before(world: World, images: Images) -> None:
    containers = world.root / "containers.conf"
    containers.write_text(CONTAINERS_CONF)
    own = write(world, f'memory = 700\ndisk_size = 9\nimage = "{images.qcow2}"\nrootful = true\naccel = "kvm"\n')
    from_containers, from_own = f"containers.conf: {containers}", f"config.toml: {own}"
    assert effective(world, MACHINE_ACCEL="tcg", MACHINE_PATIENCE="3") == {
        "cpus": (1, from_containers),
        "memory": (700, from_own),
        "disk_size": (9, from_own),
        "image": (str(images.qcow2), from_own),
        "username": ("joe", from_containers),
        "rootful": (True, from_own),
        "timezone": ("Asia/Tokyo", from_containers),
        "volumes": (["/srv:/srv", "/etc:/mnt/etc:ro"], from_containers),
        "accel": ("tcg", "environment: MACHINE_ACCEL"),
        "import_native_ca": (False, "built-in"),
        "stream_base_url": ("", "built-in"),
        "port_driver": ("slirp", "built-in"),
        "allow_wildcard": (True, "built-in"),
        "allow_privileged_ports": (False, "built-in"),
        "max_published_ports": (1024, "built-in"),
        "host_resolver": ("auto", "built-in"),
        "patience": (3, "environment: MACHINE_PATIENCE"),
        "idle_suspend": ("off", "built-in"),
    }
    made = world.machine("init", "--disk-size", "7", "box", MACHINE_ACCEL="tcg")
    assert made.status == 0, made.stderr
    document = world.inspect("box")
    assert document["Machine"]["Mounts"] == [
        {"Source": "/srv", "Target": "/srv", "ReadOnly": False},
        {"Source": "/etc", "Target": "/mnt/etc", "ReadOnly": True},
    ]
    assert document["Resources"]["CPUs"] == 1
    assert document["Resources"]["Memory"] == 700
    assert (document["SSHConfig"]["RemoteUsername"], document["Rootful"]) == ("joe", True)
    assert (document["Machine"]["Timezone"], document["Machine"]["Accelerator"]) == ("Asia/Tokyo", "tcg")
    disk = json.loads(qemu_img("info", "--output=json", world.machines / "box" / "disk.qcow2"))
    assert disk["virtual-size"] == 7 * 1024**3


def test_flags_overrule_everything(world: World, images: Images) -> None:
    (world.root / "containers.conf").write_text(CONTAINERS_CONF)
    write(world, 'image = "fcos:next"\nrootful = true\naccel = "kvm"\nusername = "ann"\n')
    flags = ("--rootless", "--accel", "auto", "--username", "eve", "--timezone", "UTC", "-v", "", "-m", "550")
    made = world.machine("init", "--image", images.qcow2, *flags, "box", MACHINE_ACCEL="tcg")
    assert made.status == 0, made.stderr
    document = world.inspect("box")
    assert document["Machine"]["Mounts"] == []
    assert (document["SSHConfig"]["RemoteUsername"], document["Rootful"]) == ("eve", False)
    assert document["Resources"]["Memory"] == 550
    assert (document["Machine"]["Timezone"], document["Machine"]["Accelerator"]) == ("UTC", "auto")


def test_folder_that_a_file_asks_for_and_that_is_not_there_is_told_with_the_file(world: World, images: Images) -> None:
    (world.root / "containers.conf").write_text('[machine]\nvolumes = ["/nonexistent"]\n')
    made = world.machine("init", "--image", images.qcow2, "box")
    blamed = f'the value of "volumes" comes from containers.conf: {world.root / "containers.conf"}'
    page = "  see the documentation: troubleshooting#folder\n"
    assert made.stderr == f"Error: the folder /nonexistent does not exist on this host; {blamed}\n{page}"
    assert not world.machines.exists()


@pytest.mark.linux("a Mac shares other folders by default")
@pytest.mark.linux("a Mac shares other folders by default")
def test_home_is_what_nobody_has_to_ask_for(world: World, images: Images) -> None:
    home = world.root / "home"
    assert world.machine("init", "--image", images.qcow2, "--disk-size", "7", "without").status == 0
    assert world.inspect("without")["Machine"]["Mounts"] == []
    home.mkdir()
    assert world.machine("init", "--image", images.qcow2, "--disk-size", "7", "box").status == 0
    assert world.inspect("box")["Machine"]["Mounts"] == [{"Source": str(home), "Target": str(home), "ReadOnly": False}]


def test_configured_image_is_the_one_that_is_pulled(world: World, images: Images) -> None:
    write(world, f'image = "{images.qcow2}"\n')
    pulled = world.machine("image", "pull", "-q")
    assert (pulled.status, pulled.stdout) == (0, f"sha256:{sha256(images.qcow2)}\n")


BAD_VALUES = {
    "containers.conf, many cpus": "[machine]\ncpus = 4096\n",
    "containers.conf, no memory": "[machine]\nmemory = 0\n",
    "containers.conf, unknown image": '[machine]\nimage = "rawhide"\n',
    "containers.conf, root": '[machine]\nuser = "root"\n',
    "containers.conf, unknown timezone": '[containers]\ntz = "Europe/Atlantis"\n',
    "containers.conf, no number": "[machine]\ncpus = 'x'\n",
    "containers.conf, no TOML": "garbage[",
    "config.toml, unknown key": "disk-size = 5\n",
    "config.toml, no number": "cpus = '2'\n",
    "config.toml, no TOML": "garbage[",
    "config.toml, unknown image": 'image = "rawhide"\n',
    "config.toml, relative path": 'image = "./x"\n',
    "config.toml, unknown timezone": 'timezone = "Nowhere"\n',
}


@pytest.mark.parametrize("what", BAD_VALUES)
def test_bad_value_is_told_with_its_file(what: str, world: World, golden: Golden) -> None:
    where = what.partition(",")[0]
    path = config_file(world) if where == "config.toml" else world.root / where
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(BAD_VALUES[what])
    refuse(golden, world, "init", "box")


def test_variable_that_means_nothing_is_told(world: World, golden: Golden) -> None:
    refuse(golden, world, "init", "box", case="MACHINE_ACCEL", MACHINE_ACCEL="warp")
    refuse(golden, world, "init", "box", case="MACHINE_PATIENCE", MACHINE_PATIENCE="long")
    refuse(golden, world, "config", "get", case="CONTAINERS_CONF", CONTAINERS_CONF="/nowhere")


# Beside the real podman


PODMAN_FLAGS = {
    "cpus": "cpus", "disk-size": "disk_size", "image-path": "image", "memory": "memory", "timezone": "timezone",
    "username": "username", "volume": "volumes",
}  # fmt: skip


def podman_defaults(environment: dict[str, str], *prefix: str) -> dict[str, str]:
    """What `podman machine init --help` shows, by our keys."""
    words = [*prefix, "podman", "machine", "init", "--help"]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    found = re.findall(r'--([a-z-]+) .*\(default "?\[?(.*?)\]?"?\)$', done.stdout, re.MULTILINE)
    return {PODMAN_FLAGS[flag]: value for flag, value in found}


def our_defaults(world: World) -> dict[str, str]:
    """The same of ours, as podman prints it."""
    values = {key: value for key, (value, _) in effective(world).items()}
    return {key: ",".join(value) if isinstance(value, list) else str(value) for key, value in values.items()}


def test_file_that_is_named_means_to_us_what_it_means_to_podman(world: World) -> None:
    (world.root / "containers.conf").write_text(CONTAINERS_CONF)
    theirs = podman_defaults({**world.environment, "PATH": os.environ["PATH"]})
    assert theirs == {
        "cpus": "1", "disk_size": "44", "image": "testing", "memory": "600", "timezone": "Asia/Tokyo",
        "username": "joe", "volumes": "/srv:/srv,/etc:/mnt/etc:ro",
    }  # fmt: skip
    assert theirs.items() <= our_defaults(world).items()


def test_drop_ins_mean_to_us_what_they_mean_to_podman(short_path: Path) -> None:
    """Podman 4 reads a user's files only for an ordinary user, so it runs as one."""
    world = make_world(short_path / "w")
    containers = world.root / "home" / ".config" / "containers"
    runtime = short_path / "run"
    for path in (containers / "containers.conf.d", runtime):
        path.mkdir(parents=True)
    (containers / "containers.conf").write_text(CONTAINERS_CONF)
    (containers / "containers.conf.d" / "10-first.conf").write_text("[machine]\ncpus = 2\nmemory = 1000\n")
    (containers / "containers.conf.d" / "20-second.conf").write_text('[machine]\nmemory = 2000\nvolumes = ["/x:/x"]\n')
    (containers / "containers.conf.d" / "30-no").write_text("[machine]\nmemory = 3000\n")
    world.extra = {"CONTAINERS_CONF": "", "XDG_RUNTIME_DIR": str(runtime)}
    prefix = []
    if os.getuid() == 0:
        prefix = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
        for path in (short_path, *short_path.rglob("*")):
            os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
    theirs = podman_defaults({**world.environment, "PATH": os.environ["PATH"]}, *prefix)
    assert theirs["memory"] == "2000"
    assert theirs["volumes"] == "/x:/x"
    assert theirs.items() <= our_defaults(world).items()


@pytest.mark.parametrize("text", ["garbage[", "[machine]\ncpus = 'x'\n", "[machine]\nvolumes = 1\n"])
def test_file_that_podman_refuses_is_refused(text: str, podman_world: World) -> None:
    world = podman_world
    (world.root / "containers.conf").write_text(text)
    words = ["podman", "machine", "init", "--help"]
    theirs = subprocess.run(words, env=world.environment, capture_output=True, text=True, check=False)
    assert "decode configuration" in theirs.stderr
    assert world.machine("config", "get").status == 125


# get, set, unset, path


def test_table_tells_values_and_origins(world: World) -> None:
    (world.root / "containers.conf").write_text(CONTAINERS_CONF)
    rows = [re.split(r" {2,}", line) for line in world.machine("config", "get").stdout.splitlines()]
    assert rows[0] == ["KEY", "VALUE", "ORIGIN"]
    assert ["volumes", "/srv:/srv, /etc:/mnt/etc:ro", f"containers.conf: {world.root / 'containers.conf'}"] in rows
    assert ["stream_base_url", "-", "built-in"] in rows
    assert world.machine("config", "get", "volumes").stdout == "/srv:/srv\n/etc:/mnt/etc:ro\n"
    assert world.machine("config", "get", "disk-size").stdout == "44\n"
    assert json.loads(world.machine("config", "get", "rootful", "--format", "json").stdout) == {
        "Key": "rootful",
        "Value": False,
        "Origin": "built-in",
    }


def test_set_and_unset_keep_what_a_person_wrote(world: World) -> None:
    path = write(world, "# mine\ncpus = 1 # of two\n\n# more\nmemory = 600\n")
    path.chmod(0o644)
    for words in (("cpus", "2"), ("volumes", "/a:/a", "/b:/b:ro"), ("rootful", "true"), ("image", "boot2podman")):
        outcome = world.machine("config", "set", *words)
        assert (outcome.status, outcome.stdout, outcome.stderr) == (0, "", "")
    assert world.machine("config", "unset", "memory").status == 0
    assert path.read_text() == (
        '# mine\ncpus = 2 # of two\n\n# more\nvolumes = ["/a:/a", "/b:/b:ro"]\nrootful = true\nimage = "boot2podman"\n'
    )
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert world.machine("config", "path").stdout == f"{path}\n"


def test_set_makes_the_file(world: World) -> None:
    assert world.machine("config", "set", "memory", "700").status == 0
    assert config_file(world).read_text() == "memory = 700\n"
    assert world.machine("config", "get", "memory").stdout == "700\n"


BAD_SETS = {
    "fraction": ["memory", "1.5"],
    "negative": ["memory", "-1"],
    "two values": ["memory", "1", "2"],
    "accel": ["accel", "warp"],
    "port driver": ["port_driver", "pasta"],
    "image in a registry": ["image", "docker://x/Y"],
    "timezone": ["timezone", "x"],
    "username": ["username", "a b"],
}


@pytest.mark.parametrize("what", BAD_SETS)
def test_set_refuses_before_it_touches_the_file(what: str, world: World, golden: Golden) -> None:
    write(world, "cpus = 1\n")
    refuse(golden, world, "config", "set", *BAD_SETS[what])


def test_broken_file_is_left_alone_and_can_be_mended(world: World) -> None:
    path = write(world, "cpus = \n")
    outcome = world.machine("config", "set", "memory", "700")
    assert outcome.status == 125
    assert outcome.stderr.startswith(f"Error: {path} is not TOML: ")
    assert outcome.stderr.endswith("; correct it with: machine config edit\n")
    assert path.read_text() == "cpus = \n"
    mended = world.machine("config", "edit", EDITOR=editor(world, 'echo "cpus = 1" >"$1"'))
    assert (mended.status, mended.stderr) == (0, "")
    assert path.read_text() == "cpus = 1\n"
    write(world, "cpu = 1\nmemory = 700\n")
    assert world.machine("config", "unset", "cpu").status == 0
    assert path.read_text() == "memory = 700\n"


def test_commands_at_once_lose_nothing(world: World) -> None:
    values = {"cpus": "1", "memory": "600", "disk_size": "9", "username": "joe", "accel": "tcg", "timezone": "UTC"}
    processes = [
        subprocess.Popen([machine_program(), "config", "set", key, value], env=world.environment)
        for key, value in values.items()
    ]
    assert [process.wait(COMMAND_S) for process in processes] == [0] * len(values)
    found = effective(world)
    assert {key: str(found[key][0]) for key in values} == values


def test_file_that_cannot_be_written_is_told(world: World) -> None:
    config_file(world).parent.parent.mkdir()
    config_file(world).parent.write_text("")  # root may write everywhere, but not below a file
    outcome = world.machine("config", "set", "memory", "700")
    assert outcome.status == 125
    assert outcome.stderr == f"Error: {config_file(world).parent}: File exists\n"


@pytest.mark.parametrize("verb", ["get", "set", "unset"])
def test_keys_are_completed(verb: str, world: World) -> None:
    completion = {"_MACHINE_COMPLETE": "bash_complete", "COMP_WORDS": f"machine config {verb} me", "COMP_CWORD": "3"}
    assert world.machine(**completion).stdout == "plain,memory\n"


# edit


def test_edit_begins_with_a_file_that_tells_what_can_be_chosen(world: World) -> None:
    copy = world.root / "seen"
    chosen = editor(world, f"""while read -r line; do echo "$line"; done <"$1" >{copy}; echo 'memory = 700' >>"$1" """)
    outcome = world.machine("config", "edit", VISUAL=chosen, EDITOR="/bin/false")
    assert (outcome.status, outcome.stdout, outcome.stderr) == (0, "", "")
    assert '#port_driver = "slirp"' in copy.read_text().splitlines()
    assert config_file(world).read_text() == copy.read_text() + "memory = 700\n"
    assert drafts(world) == []


def test_edit_that_changes_nothing_leaves_nothing(world: World) -> None:
    outcome = world.machine("config", "edit", EDITOR=editor(world, ":"))
    assert (outcome.status, outcome.stderr) == (0, "Nothing was changed\n")
    assert not config_file(world).exists()
    assert drafts(world) == []


def test_editor_may_have_words_of_its_own(world: World) -> None:
    chosen = editor(world, '[ "$1" = --wait ]; echo "memory = 700" >"$2"')
    assert world.machine("config", "edit", EDITOR=f"'{chosen}' --wait").status == 0
    assert config_file(world).read_text() == "memory = 700\n"


def test_edit_keeps_what_cannot_be_installed(world: World, golden: Golden) -> None:
    path = write(world, "memory = 700\n")
    outcome = world.machine("config", "edit", EDITOR=editor(world, 'echo "memory = 70" >"$1"'))
    golden.matches(transcript(world, outcome, "config", "edit"))
    (draft,) = drafts(world)
    assert draft.read_text() == "memory = 70\n"
    assert path.read_text() == "memory = 700\n"


def test_edit_does_not_undo_what_another_command_did_meanwhile(world: World, golden: Golden) -> None:
    path = write(world, "memory = 700\n")
    script = f'{machine_program()} config set cpus 1; echo "memory = 800" >"$1"'
    outcome = world.machine("config", "edit", EDITOR=editor(world, script))
    golden.matches(transcript(world, outcome, "config", "edit"))
    (draft,) = drafts(world)
    assert draft.read_text() == "memory = 800\n"
    assert path.read_text() == "memory = 700\ncpus = 1\n"


@pytest.mark.parametrize("chosen", ["/nowhere/ed", "/bin/false", "ed 'x"], ids=["missing", "fails", "bad quotes"])
def test_editor_that_does_not_run_leaves_nothing(chosen: str, world: World, golden: Golden) -> None:
    write(world, "memory = 700\n")
    (config_file(world).parent / ".lock").touch()
    refuse(golden, world, "config", "edit", EDITOR=chosen)


def test_editor_that_gives_up_after_typing_loses_nothing(world: World) -> None:
    path = write(world, "memory = 700\n")
    outcome = world.machine("config", "edit", EDITOR=editor(world, 'echo "memory = 800" >"$1"; exit 3'))
    (draft,) = drafts(world)
    assert outcome.status == 125
    assert "ended with exit status 3; nothing was changed" in outcome.stderr
    assert (path.read_text(), draft.read_text()) == ("memory = 700\n", "memory = 800\n")


def test_interrupt_is_the_editors(world: World) -> None:
    """^C reaches the whole foreground group; an editor has a meaning of its own for it."""
    script = 'trap "" INT; kill -INT 0; echo "memory = 800" >"$1"'
    outcome = world.machine("config", "edit", EDITOR=editor(world, script))
    assert (outcome.status, outcome.stderr) == (0, "")
    assert config_file(world).read_text() == "memory = 800\n"


def test_person_at_a_terminal_may_edit_again(world: World, golden: Golden) -> None:
    path = write(world, "memory = 700\n")
    chosen = editor(
        world, 'read -r line <"$1"; [ "$line" = "memory = 70" ] && new=800 || new=70; echo "memory = $new" >"$1"'
    )
    controller, terminal = pty.openpty()
    with subprocess.Popen(
        [machine_program(), "config", "edit"],
        env={**world.environment, "EDITOR": chosen},
        stdin=terminal,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        os.write(controller, b"y\n")
        stdout, stderr = process.communicate(timeout=COMMAND_S)
    os.close(controller)
    os.close(terminal)
    assert process.returncode == 0
    golden.matches(transcript(world, Outcome(status=0, stdout=stdout, stderr=stderr), "config", "edit", stdin="y\n"))
    assert stderr.count("\n") == 1
    assert path.read_text() == "memory = 800\n"
    assert drafts(world) == []


@pytest.mark.parametrize("word", ["-1", "0", "abc"])
def test_wrong_patience_keeps_nobody_from_a_kill_and_is_shown(box: World, word: str) -> None:
    assert box.machine("kill", "box", MACHINE_PATIENCE=word).status == 0
    told = box.machine("info", "--format", "json", MACHINE_PATIENCE=word)
    assert json.loads(told.stdout)["Machine"]["Defaults"]["patience"] == {
        "Value": word,
        "Origin": f'environment, invalid: MACHINE_PATIENCE="{word}" is not a whole number from 1 to 100',
    }
    refused = box.machine("stop", "box", MACHINE_PATIENCE=word)
    assert refused.stderr.startswith(f'Error: MACHINE_PATIENCE="{word}" is not a whole number')
