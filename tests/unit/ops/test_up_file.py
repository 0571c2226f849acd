"""What a machines file says, and what it cannot say."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from machine.errors import BadInputError, MachineError
from machine.ops.up_file import check_made_from, chosen_names, find_file, has_moved, load_file, read_machines
from tests.support.builders import make_config


def written(directory: Path, text: str, name: str = "machines.toml") -> str:
    path = directory / name
    path.write_text(text)
    return str(path)


def test_machine_has_its_own_keys_and_the_defaults(tmp_path: Path) -> None:
    text = """
        [defaults]
        memory = 600
        disk-size = 10
        env = {A = "1", B = "2"}

        [machine.web]
        memory = 700
        env = {A = "3"}

        [machine."d.b"]
        volume = "src:/src"
    """
    file = load_file(written(tmp_path, text))
    web, db = read_machines(file).values()
    assert (web.request.name, web.request.memory_mib, web.request.disk_gib) == ("web", 700, 10)
    assert web.request.first_boot.environment == ("A=3",)
    assert sorted(web.keys) == ["disk_size", "env", "memory"]
    assert (db.request.name, db.request.memory_mib) == ("d.b", 600)
    assert db.request.volumes == (f"{tmp_path}/src:/src",)
    assert {web.request.machines_file, db.request.machines_file} == {f"{tmp_path}/machines.toml"}


@pytest.mark.parametrize(
    ("own", "sha256"),
    [("", "a"), ('image = "b.img"', None), ('image = "b.img"\nimage_sha256 = "b"', "b"), ('image_sha256 = "c"', "c")],
)
def test_sha256_among_the_defaults_is_that_of_their_image(tmp_path: Path, own: str, sha256: str | None) -> None:
    text = f'[defaults]\nimage = "a.img"\nimage_sha256 = "a"\n[machine.box]\n{own}\n'
    (wanted,) = read_machines(load_file(written(tmp_path, text))).values()
    assert wanted.request.image_options.sha256 == sha256


def test_empty_value_takes_the_place_of_a_default(tmp_path: Path) -> None:
    (tmp_path / "x.yml").write_text("- hosts: all\n")
    text = '[defaults]\nplaybook = "x.yml"\n[machine.box]\nplaybook = ""\n'
    (wanted,) = read_machines(load_file(written(tmp_path, text))).values()
    assert wanted.request.first_boot.playbook is None


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", " describes no machine; add a table such as [machine.box]"),
        ("[defaults]\ncpus = 1\n", " describes no machine; add a table such as [machine.box]"),
        ("cpus = 1\n", ': "cpus" is in no table; keys belong below [defaults] or [machine.NAME]'),
        ("machine = 1\n", ': "machine" must be a table; keys belong below [defaults] or [machine.NAME]'),
        ("[defaults]\n[[machine]]\n", ': "machine" must be a table; keys belong below [defaults] or [machine.NAME]'),
        ("[machine]\ncpus = 1\n", ': "cpus" is in no machine\'s table; keys belong below [defaults] or [machine.NAME]'),
        ("[machines.box]\n", ": unknown table [machines]; did you mean machine?"),
        ("[x]\n", ": unknown table [x]; keys belong below [defaults] or [machine.NAME]"),
        (
            '[machine."a b"]\n',
            ': invalid name "a b": names must match [a-zA-Z0-9][a-zA-Z0-9_.-]*: invalid argument',
        ),
        ("[machine.qemu]\n", ': cannot use "qemu" for a machine name'),
        (
            "[machine.a-root]\n[machine.a]\n",
            (
                ': the name "a-root" is taken by the connection to root\'s Podman in a; '
                "rename one of the two: [machine.a] or [machine.a-root]"
            ),
        ),
        ("[machine.box]\ncpsu = 1\n", ': [machine.box]: unknown key "cpsu"; did you mean cpus?'),
        (
            "[defaults]\nzzz = 1\n[machine.box]\n",
            ': [defaults]: unknown key "zzz"; the keys are the flags of init; see: machine init --help',
        ),
        ("[machine.box]\ncpus = true\n", ': [machine.box]: "cpus" must be a whole number of at least 1'),
        (
            '[machine.box]\nhost = "h"\n',
            ': [machine.box]: "host" is for hosts that are reached over SSH; add: provider = "ssh"',
        ),
        (
            '[machine.box]\nprovider = "ssh"\n',
            ': [machine.box]: the provider ssh needs a host; add: host = "[USER@]HOST[:PORT]"',
        ),
        (
            '[defaults]\nprovider = "ssh"\n[machine.box]\nhost = "h"\nmemory = 1024\n',
            ': [machine.box]: "memory" does not apply to a host that is reached over SSH',
        ),
        ('[machine.box]\nrootful = "no"\n', ': [machine.box]: "rootful" must be true or false'),
        ("[machine.box]\ndisk-size = 3\ndisk_size = 3\n", ': [machine.box]: "disk_size" is given twice'),
        (
            '[machine.box]\nname = "x"\n',
            ': [machine.box]: "name" is not a key here; a machine has its table\'s name: [machine.NAME]',
        ),
        (
            '[defaults]\nname = "x"\n[machine.box]\n',
            ': [defaults]: "name" is not a key here; a machine has its table\'s name: [machine.NAME]',
        ),
    ],
)
def test_what_a_file_cannot_say(tmp_path: Path, text: str, line: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(BadInputError) as caught:
        read_machines(load_file(path))
    assert caught.value.line == f"{path}{line}"


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "latin.toml").write_bytes(b'[machine.box]\nlabel = {a = "\xe9"}\n')
    (tmp_path / "folder.toml").mkdir()
    lines = {
        "latin.toml": f"{tmp_path}/latin.toml is not UTF-8 text",
        "folder.toml": f"cannot read {tmp_path}/folder.toml: Is a directory",
        "toml.toml": f"{tmp_path}/toml.toml is not TOML: ",
        "absent.toml": f"cannot read {tmp_path}/absent.toml: No such file or directory",
    }
    written(tmp_path, "[machine.box\n", "toml.toml")
    for name, text in lines.items():
        with pytest.raises(BadInputError) as caught:
            load_file(f"{tmp_path}/{name}")
        assert caught.value.line.startswith(text)


def test_names_are_those_of_the_file_each_once(tmp_path: Path) -> None:
    file = load_file(written(tmp_path, "[machine.web]\n[machine.db]\n"))
    assert chosen_names(file, []) == ["web", "db"]
    assert chosen_names(file, ["db", "db"]) == ["db"]
    with pytest.raises(BadInputError) as caught:
        chosen_names(file, ["webb"])
    assert caught.value.line == f'{tmp_path}/machines.toml has no machine "webb"; did you mean web?'


def test_file_is_looked_for_upwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    path = written(tmp_path / "a", "")
    monkeypatch.chdir(below)
    assert find_file(None, os.getuid()) == path
    assert find_file("other.toml", os.getuid()) == "other.toml"
    monkeypatch.chdir(tmp_path / "a")
    assert find_file(None, os.getuid()) == "machines.toml"


def test_found_file_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, "")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Path, "stat", lambda _: os.stat_result((0o644, 1, 1, 1, 4321, 0, 0, 0, 0, 0)))
    with pytest.raises(BadInputError) as caught:
        find_file(None, 1000)
    assert caught.value.line == (
        f"{path} was found, but it belongs to another user; if you trust it, name it with: -f {path}"
    )


def test_machine_that_another_file_has_made_is_not_this_files(tmp_path: Path) -> None:
    file = load_file(written(tmp_path, "[machine.box]\n"))
    other = written(tmp_path, "", "other.toml")
    check_made_from(make_config(), file)
    check_made_from(make_config(machines_file=file.identity), file)
    assert not has_moved(make_config(machines_file=file.identity), file)
    gone = make_config(machines_file=f"{tmp_path}/gone.toml")
    check_made_from(gone, file)
    assert has_moved(gone, file)
    with pytest.raises(MachineError) as caught:
        check_made_from(make_config(machines_file=other), file)
    assert caught.value.line == (
        f'"box" belongs to another file, {other}; give it another name in {tmp_path}/machines.toml'
    )
