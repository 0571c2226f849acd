"""A program that is installed as Homebrew installs it, and can be upgraded while its machines run."""

from __future__ import annotations

import shutil
import sys
import sysconfig
from pathlib import Path

import machine

PACKAGE = Path(machine.__file__).parent
PROGRAM = "import sys; from machine.cli.entry import main; sys.exit(main())"


class Brewed:
    """A directory like Homebrew's, in which each version of a package has a folder, and `opt` links to the newest."""

    def __init__(self, prefix: Path) -> None:
        self.prefix = prefix

    def install_python(self, version: str) -> None:
        keg = self._keg("python", version)
        (keg / "bin").mkdir(parents=True)
        (keg / "bin" / "python3").symlink_to(Path(sys.executable).resolve())
        self._link("python", version)

    def install(self, version: str) -> None:
        """Install this program in a virtual environment whose Python is the one that `opt` links to."""
        keg = self._keg("boot2podman", version)
        packages = keg / "libexec" / "lib" / f"python{sysconfig.get_python_version()}" / "site-packages"
        shutil.copytree(PACKAGE, packages / "machine", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copytree(PACKAGE.parent / "images", packages / "machine" / "_data")
        (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
        python = keg / "libexec" / "bin" / "python3"
        python.parent.mkdir()
        python.symlink_to(self.prefix / "opt" / "python" / "bin" / "python3")
        home = Path(sys.executable).resolve().parent
        (keg / "libexec" / "pyvenv.cfg").write_text(f"home = {home}\ninclude-system-site-packages = false\n")
        program = keg / "bin" / "machine"
        program.parent.mkdir()
        program.write_text(f"#!{python}\n{PROGRAM}\n")
        program.chmod(0o755)
        self._link("boot2podman", version)

    def remove(self, name: str, version: str) -> None:
        shutil.rmtree(self._keg(name, version))

    def upgrade(self) -> None:
        """Install the next version of the program and of its Python, and remove the versions before."""
        self.install_python("3.0_1")
        self.remove("python", "3.0")
        self.install("1.1")
        self.remove("boot2podman", "1.0")

    @property
    def program(self) -> Path:
        return self.prefix / "opt" / "boot2podman" / "bin" / "machine"

    def _keg(self, name: str, version: str) -> Path:
        return self.prefix / "Cellar" / name / version

    def _link(self, name: str, version: str) -> None:
        link = self.prefix / "opt" / name
        link.parent.mkdir(exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(Path("..", "Cellar", name, version))


def brewed_program(prefix: Path) -> Brewed:
    """Return the directory after the program and its Python were installed for the first time."""
    brewed = Brewed(prefix)
    brewed.install_python("3.0")
    brewed.install("1.0")
    return brewed
