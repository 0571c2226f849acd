"""A repository with packages of Debian, for guests that reach no server but those on this host."""

from __future__ import annotations

import subprocess
from pathlib import Path

from machine.files import sha256_of

_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_DOWNLOAD_S = 600.0


def make_repository(directory: Path, suite: str, status: Path, *packages: str) -> None:
    """Download what apt would for these packages, on a system with dpkg's `status`, and index that for `flat_source`.

    It is this host's apt, so the system has the same architecture.
    """
    state, archives = directory / "state", directory / "archives"
    for needed in (state / "lists" / "partial", archives / "partial"):
        needed.mkdir(parents=True)
    sources = directory / "sources.list"
    sources.write_text(f"deb [signed-by={_KEYRING}] {_mirror()} {suite} main\n")
    settings = (
        f"Dir::State={state}", f"Dir::State::status={status}", f"Dir::Cache={directory}",
        f"Dir::Etc::SourceList={sources}", "Dir::Etc::SourceParts=/dev/null", "Dir::Etc::Preferences=/dev/null",
        "Dir::Etc::PreferencesParts=/dev/null", "APT::Sandbox::User=root", "Acquire::Languages=none",
    )  # fmt: skip
    apt = ["apt-get", "-q", *(word for setting in settings for word in ("-o", setting))]
    for words in (["update"], ["install", "--yes", "--download-only", *packages]):
        subprocess.run([*apt, *words], check=True, timeout=_DOWNLOAD_S, stdout=subprocess.DEVNULL)
    index = [_stanza(package, directory) for package in sorted(archives.glob("*.deb"))]
    (directory / "Packages").write_text("\n".join(index))


def _mirror() -> str:
    """Return the address from which this host gets Debian's packages."""
    argv = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Identifier: Packages", "Label: Debian"]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.split()[0]


def flat_source(url: str) -> str:
    """Return the line for /etc/apt/sources.list that names a repository of `make_repository`."""
    return f"deb [trusted=yes] {url} ./"


def _stanza(package: Path, root: Path) -> str:
    fields = subprocess.run(["dpkg-deb", "--field", package], check=True, capture_output=True, text=True).stdout
    where = f"Filename: ./{package.relative_to(root)}\nSize: {package.stat().st_size}\nSHA256: {sha256_of(package)}\n"
    return fields.rstrip() + "\n" + where
