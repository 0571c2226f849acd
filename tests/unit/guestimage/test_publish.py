from __future__ import annotations

import datetime as dt
import json
import shutil
from pathlib import Path

import pytest

from machine import runner
from machine.guestimage.publish import (
    PUBLIC_KEY,
    RECORD,
    Build,
    BuiltFile,
    build_record,
    find_build,
    package_manifest,
    publish,
    read_build,
    read_stream,
    releases_by_arch,
    sign,
    stream_metadata,
)
from machine.model.arch import Arch

NOW = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)


def make_build(release: str = "trixie.aa", arch: Arch = Arch.X86_64, recipe_key: str = "k1") -> Build:
    return Build(
        release=release,
        arch=arch,
        recipe_key=recipe_key,
        disk=BuiltFile(name="disk.qcow2.xz", sha256="11", uncompressed_sha256="22"),
        kernel=BuiltFile(name="kernel", sha256="33"),
        initramfs=BuiltFile(name="initramfs", sha256="44"),
    )


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    folder = tmp_path / "keys"
    folder.mkdir()
    (folder / PUBLIC_KEY).write_bytes(b"public")
    return folder


def publish_build(build: Build, output: Path, keys: Path) -> None:
    staged = output / ".build-x" / "publish"
    shutil.rmtree(staged.parent, ignore_errors=True)
    staged.mkdir(parents=True)
    for file in build.files:
        (staged / file.name).write_text(file.name)
        (staged / f"{file.name}.sig").write_text("signature")
    (staged / RECORD).write_text(build_record(build))
    publish(build, staged, output, keys)


def test_metadata_follows_the_public_schema_with_relative_locations() -> None:
    assert stream_metadata({}, make_build(), NOW) == {
        "stream": "boot2podman",
        "metadata": {"last-modified": "2026-01-02T03:04:05Z", "generator": "machine image build"},
        "architectures": {
            "x86_64": {
                "artifacts": {
                    "metal": {
                        "release": "trixie.aa",
                        "formats": {
                            "pxe": {
                                "kernel": {
                                    "location": "builds/trixie.aa/x86_64/kernel",
                                    "signature": "builds/trixie.aa/x86_64/kernel.sig",
                                    "sha256": "33",
                                },
                                "initramfs": {
                                    "location": "builds/trixie.aa/x86_64/initramfs",
                                    "signature": "builds/trixie.aa/x86_64/initramfs.sig",
                                    "sha256": "44",
                                },
                            }
                        },
                    },
                    "qemu": {
                        "release": "trixie.aa",
                        "formats": {
                            "qcow2.xz": {
                                "disk": {
                                    "location": "builds/trixie.aa/x86_64/disk.qcow2.xz",
                                    "signature": "builds/trixie.aa/x86_64/disk.qcow2.xz.sig",
                                    "sha256": "11",
                                    "uncompressed-sha256": "22",
                                }
                            }
                        },
                    },
                }
            }
        },
    }


def test_record_reads_back_and_a_newer_or_damaged_one_does_not(tmp_path: Path) -> None:
    build = make_build()
    (tmp_path / RECORD).write_text(build_record(build))
    assert read_build(tmp_path) == build
    (tmp_path / RECORD).write_text(build_record(build).replace('"schema": 1', '"schema": 2'))
    assert read_build(tmp_path) is None
    (tmp_path / RECORD).write_text("{")
    assert read_build(tmp_path) is None


def test_second_architecture_joins_the_stream(tmp_path: Path, keys: Path) -> None:
    publish_build(make_build(), tmp_path, keys)
    publish_build(make_build("trixie.bb", Arch.AARCH64), tmp_path, keys)
    assert releases_by_arch(read_stream(tmp_path)) == {"aarch64": "trixie.bb", "x86_64": "trixie.aa"}


def test_new_build_replaces_the_old_one_of_its_architecture_alone(tmp_path: Path, keys: Path) -> None:
    publish_build(make_build(), tmp_path, keys)
    publish_build(make_build(arch=Arch.AARCH64), tmp_path, keys)
    (tmp_path / "builds/not-ours/x86_64").mkdir(parents=True)
    publish_build(make_build("trixie.bb"), tmp_path, keys)
    found = sorted(path.relative_to(tmp_path / "builds").as_posix() for path in tmp_path.glob("builds/*/*"))
    assert found == ["not-ours/x86_64", "trixie.aa/aarch64", "trixie.bb/x86_64"]


def test_same_release_can_be_published_again(tmp_path: Path, keys: Path) -> None:
    publish_build(make_build(), tmp_path, keys)
    publish_build(make_build(), tmp_path, keys)
    assert find_build(tmp_path, keys, Arch.X86_64, "k1") == make_build()


def test_build_is_found_again_by_its_recipe_key(tmp_path: Path, keys: Path) -> None:
    publish_build(make_build(), tmp_path, keys)
    assert find_build(tmp_path, keys, Arch.X86_64, "k1") == make_build()
    assert find_build(tmp_path, keys, Arch.X86_64, "k2") is None
    assert find_build(tmp_path, keys, Arch.AARCH64, "k1") is None


def test_build_with_a_missing_file_or_another_key_is_not_reused(tmp_path: Path, keys: Path) -> None:
    publish_build(make_build(), tmp_path, keys)
    (keys / PUBLIC_KEY).write_bytes(b"another")
    assert find_build(tmp_path, keys, Arch.X86_64, "k1") is None
    (keys / PUBLIC_KEY).write_bytes(b"public")
    (tmp_path / "builds/trixie.aa/x86_64/kernel.sig").unlink()
    assert find_build(tmp_path, keys, Arch.X86_64, "k1") is None


@pytest.mark.parametrize("text", ["{", "[]", json.dumps({"architectures": {"x86_64": 1}})])
def test_damaged_stream_is_made_anew(tmp_path: Path, keys: Path, text: str) -> None:
    (tmp_path / "boot2podman.json").write_text(text)
    assert find_build(tmp_path, keys, Arch.X86_64, "k1") is None
    publish_build(make_build(), tmp_path, keys)
    assert releases_by_arch(read_stream(tmp_path)) == {"x86_64": "trixie.aa"}


def test_manifest_lists_installed_packages_in_order() -> None:
    status = (
        "Package: b\nStatus: install ok installed\nVersion: 2\n\n"
        "Package: gone\nStatus: deinstall ok config-files\nVersion: 1\n\n"
        "Package: a\nStatus: install ok installed\nDescription: x\n Version: no\nVersion: 1:1-1\n"
    )
    assert list(package_manifest(status)) == ["a 1:1-1", "b 2"]


@pytest.mark.skipif(shutil.which("gpg") is None, reason="needs gpg")
def test_signatures_are_good_and_the_key_is_made_once(tmp_path: Path) -> None:
    keys, file, home = tmp_path / "keys", tmp_path / "file", tmp_path / "home"
    file.write_text("content")
    sign([file], keys)
    first = (keys / PUBLIC_KEY).read_bytes()
    sign([file], keys)
    assert (keys / PUBLIC_KEY).read_bytes() == first
    assert keys.stat().st_mode & 0o777 == 0o700
    assert (keys / "boot2podman-secret.gpg").stat().st_mode & 0o777 == 0o600
    home.mkdir(mode=0o700)
    runner.run(
        ["gpg", "--homedir", home, "--batch", "--no-default-keyring", "--keyring", keys / PUBLIC_KEY,
         "--trust-model", "always", "--verify", tmp_path / "file.sig", file],
        timeout_s=30,
    )  # fmt: skip
