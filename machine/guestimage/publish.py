"""Publish a build as a local stream: sign its files, and describe it in Fedora CoreOS's public schema."""

from __future__ import annotations

import datetime as dt
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from machine import runner
from machine.errors import MachineError
from machine.files import DIRECTORY_PRIVATE, FILE_PUBLIC, make_directory, write_atomic
from machine.model.arch import Arch

log = logging.getLogger(__name__)

STREAM = "boot2podman"
PUBLIC_KEY = "boot2podman.gpg"
SECRET_KEY = "boot2podman-secret.gpg"  # noqa: S105 - a file name
RECORD = "build.json"
SIGNER = "boot2podman local images <images@boot2podman.invalid>"
GPG_TIMEOUT_S = 60.0


@dataclass(frozen=True, kw_only=True)
class BuiltFile:
    """A published file. Its signature is in the same folder, in a file with the suffix `.sig`.

    If the file is not compressed, `uncompressed_sha256` is None.
    """

    name: str
    sha256: str
    uncompressed_sha256: str | None = None


@dataclass(frozen=True, kw_only=True)
class Build:
    """One published build, as described in its `build.json`."""

    release: str
    arch: Arch
    recipe_key: str
    disk: BuiltFile
    kernel: BuiltFile
    initramfs: BuiltFile

    @property
    def folder(self) -> str:
        """The path of the build's folder relative to the stream's folder, as in URLs."""
        return f"builds/{self.release}/{self.arch.value}"

    @property
    def files(self) -> tuple[BuiltFile, ...]:
        return (self.disk, self.kernel, self.initramfs)


def file_name(release: str, arch: Arch, kind: str) -> str:
    """Return the name of a published file, in the form that Fedora CoreOS uses."""
    suffix = {"qemu": ".qcow2.xz", "kernel": "", "initramfs": ".img"}[kind]
    return f"{STREAM}-{release}-{kind}.{arch.value}{suffix}"


def artifact(build: Build, file: BuiltFile) -> dict[str, str]:
    """Return the entry of a file in stream metadata. Its URLs are relative, so that the stream can be moved."""
    location = f"{build.folder}/{file.name}"
    entry = {"location": location, "signature": f"{location}.sig", "sha256": file.sha256}
    if file.uncompressed_sha256:
        entry["uncompressed-sha256"] = file.uncompressed_sha256
    return entry


def stream_metadata(old: dict[str, Any], build: Build, now: dt.datetime) -> dict[str, Any]:
    """Return the stream's metadata with a new entry for one architecture, which describes `build`.

    `old` is the stream's present metadata, whose other entries are kept.
    """
    pxe = {"kernel": artifact(build, build.kernel), "initramfs": artifact(build, build.initramfs)}
    qcow2 = {"disk": artifact(build, build.disk)}
    architectures = dict(old.get("architectures", {}))
    architectures[build.arch.value] = {
        "artifacts": {
            "metal": {"release": build.release, "formats": {"pxe": pxe}},
            "qemu": {"release": build.release, "formats": {"qcow2.xz": qcow2}},
        }
    }
    return {
        "stream": STREAM,
        "metadata": {"last-modified": now.strftime("%Y-%m-%dT%H:%M:%SZ"), "generator": "machine image build"},
        "architectures": dict(sorted(architectures.items())),
    }


def releases_by_arch(stream: dict[str, Any]) -> dict[str, str]:
    """Map each architecture in the stream's metadata to the release of its QEMU image. Leave out invalid entries."""
    found: dict[str, str] = {}
    for arch, entry in stream.get("architectures", {}).items():
        release = entry.get("artifacts", {}).get("qemu", {}).get("release")
        if isinstance(release, str):
            found[arch] = release
    return found


def read_stream(output: Path) -> dict[str, Any]:
    """Read the metadata of the stream in the folder `output`.

    If the metadata is missing or damaged, return the metadata of a stream without images.
    """
    try:
        stream = json.loads((output / f"{STREAM}.json").read_text())
        releases_by_arch(stream)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError) as error:
        log.warning("the stream in %s cannot be read and will be replaced: %s", output, error)
        return {}
    return stream if isinstance(stream, dict) else {}


def read_build(folder: Path) -> Build | None:
    """Read the build.json in a build's folder. Return None if the file is missing, damaged or of another schema."""
    try:
        fields = json.loads((folder / RECORD).read_text())
        if fields["schema"] != 1:
            return None
        return Build(
            release=fields["release"],
            arch=Arch(fields["arch"]),
            recipe_key=fields["recipe_key"],
            **{kind: BuiltFile(**fields[kind]) for kind in ("disk", "kernel", "initramfs")},
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def build_record(build: Build) -> str:
    def entry(file: BuiltFile) -> dict[str, str | None]:
        return {"name": file.name, "sha256": file.sha256, "uncompressed_sha256": file.uncompressed_sha256}

    fields = {
        "schema": 1,
        "release": build.release,
        "arch": build.arch.value,
        "recipe_key": build.recipe_key,
        "disk": entry(build.disk),
        "kernel": entry(build.kernel),
        "initramfs": entry(build.initramfs),
    }
    return json.dumps(fields, indent=2) + "\n"


def find_build(output: Path, keys: Path, arch: Arch, recipe_key: str) -> Build | None:
    """Return the published build that has been made from the recipe with this key.

    Return None if there is no such build, or if it is incomplete or not signed with the signing key in `keys`.
    """
    release = releases_by_arch(read_stream(output)).get(arch.value)
    build = read_build(output / "builds" / release / arch.value) if release else None
    if build is None or build.recipe_key != recipe_key or not has_same_key(output, keys):
        return None
    folder = output / build.folder
    names = [name for file in build.files for name in (file.name, f"{file.name}.sig")]
    return build if all((folder / name).is_file() for name in names) else None


def has_same_key(output: Path, keys: Path) -> bool:
    try:
        return (output / PUBLIC_KEY).read_bytes() == (keys / PUBLIC_KEY).read_bytes()
    except OSError:
        return False


def publish(build: Build, staged: Path, output: Path, keys: Path) -> None:
    """Move a finished build into the stream's folder, add it to the stream's metadata, and delete older builds.

    Raises:
        MachineError: the disk is full or `output` cannot be written.
    """
    target = output / build.folder
    make_directory(target.parent)
    if target.exists():
        target.rename(staged.parent / "replaced")
    staged.rename(target)
    write_atomic(output / PUBLIC_KEY, (keys / PUBLIC_KEY).read_bytes(), mode=FILE_PUBLIC)
    stream = stream_metadata(read_stream(output), build, dt.datetime.now(dt.UTC))
    write_atomic(output / f"{STREAM}.json", json.dumps(stream, indent=2) + "\n", mode=FILE_PUBLIC)
    remove_old_builds(output, releases_by_arch(stream)[build.arch.value], build.arch)


def remove_old_builds(output: Path, current: str, arch: Arch) -> None:
    """Delete all builds of `arch` except the `current` release. Folders without a build.json are kept."""
    for release in sorted((output / "builds").iterdir()):
        folder = release / arch.value
        if release.name != current and (folder / RECORD).is_file():
            shutil.rmtree(folder, ignore_errors=True)
            if not any(release.iterdir()):
                release.rmdir()


def sign(files: list[Path], keys: Path) -> None:
    """Sign each file with the key in the folder `keys`, and write the signature beside the file.

    If there is no key yet, generate one.

    Raises:
        MachineError: gpg failed, or `keys` cannot be written.
    """
    make_directory(keys, mode=DIRECTORY_PRIVATE)
    with GpgHome() as gpg:
        if (keys / SECRET_KEY).is_file():
            gpg.run("--import", keys / SECRET_KEY)
        else:
            gpg.run("--passphrase", "", "--quick-generate-key", SIGNER, "ed25519", "sign", "never")
            gpg.run("--output", gpg.path / "secret", "--export-secret-keys")
            write_atomic(keys / SECRET_KEY, (gpg.path / "secret").read_bytes())
        gpg.run("--output", gpg.path / "public", "--export")
        write_atomic(keys / PUBLIC_KEY, (gpg.path / "public").read_bytes(), mode=FILE_PUBLIC)
        for file in files:
            gpg.run("--yes", "--output", file.with_name(f"{file.name}.sig"), "--detach-sign", file)


class GpgHome:
    """A temporary home directory for GnuPG, whose path is short enough for the socket of gpg-agent.

    When the block ends, the agent is stopped.
    """

    def __init__(self) -> None:
        self.path = Path()

    def __enter__(self) -> GpgHome:
        self.path = Path(tempfile.mkdtemp(prefix="b2p-gpg-", dir="/tmp"))
        return self

    def __exit__(self, *_: object) -> None:
        try:
            runner.run(["gpgconf", "--homedir", self.path, "--kill", "gpg-agent"], timeout_s=GPG_TIMEOUT_S)
        except MachineError as error:
            log.warning("the gpg-agent of %s may still be running: %s", self.path, error)
        shutil.rmtree(self.path, ignore_errors=True)

    def run(self, *words: str | os.PathLike[str]) -> None:
        options = ["--batch", "--quiet", "--no-tty", "--pinentry-mode", "loopback"]
        runner.run(["gpg", "--homedir", self.path, *options, *words], timeout_s=GPG_TIMEOUT_S)


def package_manifest(dpkg_status: str) -> Iterator[str]:
    """List `name version` of each installed package in dpkg's status file, sorted."""
    name = version = ""
    installed = False
    lines = []
    for line in [*dpkg_status.splitlines(), ""]:
        key, _, value = line.partition(": ")
        match key:
            case "Package":
                name = value
            case "Version":
                version = value
            case "Status":
                installed = value == "install ok installed"
            case "" if name:
                if installed:
                    lines.append(f"{name} {version}")
                name, version, installed = "", "", False
    yield from sorted(lines)
