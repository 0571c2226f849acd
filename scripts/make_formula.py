"""Creates the archive that Homebrew installs, and its formula; called by scripts/make-formula."""

from __future__ import annotations

import argparse
import gzip
import hashlib
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
TEMPLATE = REPOSITORY / "Formula" / "boot2podman.rb"
LOCKS = REPOSITORY / "requirements"

# Dependencies that Homebrew provides or that its Python does not need.
BREWED = {"cffi", "cryptography", "pycparser", "backports-zstd"}
# Dependencies with C code are included as sources, all others as pure Python wheels.
COMPILED = {"bcrypt", "psutil", "pynacl"}
BUILD_TOOLS = {"hatchling", "packaging", "pathspec", "pluggy", "trove-classifiers"}


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/make-formula")
    parser.add_argument("--url", help="the archive's future URL [default: that of the local file]")
    parser.add_argument("--output", type=Path, default=REPOSITORY / "dist", help="[default: dist]")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="make-formula-") as directory:
        work = Path(directory)
        vendor = work / "vendor"
        fetch_sources(vendor, work)
        archive = bundle(build_sdist(work), vendor, arguments.output.resolve())
    text = formula(TEMPLATE.read_text(), arguments.url or archive.as_uri(), archive.read_bytes())
    written = arguments.output / TEMPLATE.name
    written.write_text(text)
    print(f"{archive}\n{written}")


def build_sdist(work: Path) -> Path:
    run([sys.executable, "-m", "hatchling", "build", "--target", "sdist", "--directory", work])
    (sdist,) = work.glob("boot2podman-*.tar.gz")
    return sdist


def fetch_sources(vendor: Path, work: Path) -> None:
    """Download all packages that the formula's pip needs, in their locked versions."""
    runtime = locked((LOCKS / "runtime.lock").read_text())
    tools = locked((LOCKS / "dev.lock").read_text())
    formula_lock = locked((LOCKS / "formula.lock").read_text())
    wheels = [text for name, text in runtime.items() if name not in BREWED | COMPILED]
    wheels += [tools[name] for name in sorted(BUILD_TOOLS)]
    sources = {name: runtime[name] for name in COMPILED} | formula_lock
    wheels.append(sources.pop("setuptools"))
    python = re.findall(r"python@(\d+\.\d+)", TEMPLATE.read_text())[0]
    plain = ["--platform=any", f"--python-version={python}", "--implementation=py", "--abi=none"]
    download(wheels, ["--only-binary=:all:", *plain], vendor, work)
    # To read their metadata, pip builds sources with tools that it installs as wheels.
    download(sources.values(), [f"--no-binary={','.join(sources)}"], vendor, work)


def download(requirements: Iterable[str], options: list[str], vendor: Path, work: Path) -> None:
    listed = work / "requirements.txt"
    listed.write_text("".join(requirements))
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
    run([*pip, *options, "--dest", vendor, "--requirement", listed])


def locked(text: str) -> dict[str, str]:
    """Return the entries of a lock file by name, with hashes but without markers and comments."""
    entries = re.findall(r"^([a-z0-9-]+)(==[^\s;]+)[^\n]*\\\n((?:    --hash=\S+(?: \\)?\n)+)", text, re.MULTILINE)
    return {name: f"{name}{version} \\\n{hashes}" for name, version, hashes in entries}


def bundle(sdist: Path, vendor: Path, output: Path) -> Path:
    """Add `vendor/` to the source distribution; the archive is reproducible."""
    target = output / sdist.name
    with (
        tarfile.open(sdist) as source,
        target.open("wb") as raw,
        gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w") as out,
    ):
        members = source.getmembers()
        for member in members:
            out.addfile(member, source.extractfile(member) if member.isfile() else None)
        root, moment = members[0].name.partition("/")[0], members[0].mtime
        for path in sorted(vendor.iterdir()):
            member = tarfile.TarInfo(f"{root}/vendor/{path.name}")
            member.size, member.mtime, member.mode = path.stat().st_size, moment, 0o644
            with path.open("rb") as content:
                out.addfile(member, content)
    return target


def formula(template: str, url: str, archive: bytes) -> str:
    """Fill in the template, and drop its first line, which describes the template itself."""
    _, _, text = template.partition("\n")
    return text.replace("@URL@", url).replace("@SHA256@", hashlib.sha256(archive).hexdigest())


def run(argv: list[str | Path]) -> None:
    subprocess.run(argv, check=True, cwd=REPOSITORY)


if __name__ == "__main__":
    main()
